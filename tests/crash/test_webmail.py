"""From a webmail: killed or cut off before any step, each message is there once, and nothing is
removed that is not here."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest

from mailflow.testing.crash import Strike, Trip, killed_before_each_step
from mailflow.testing.kill import Step
from mailflow.testing.webmail import TestBed

from .conftest import KILLS, SEED

pytestmark = [
    pytest.mark.crash,
    pytest.mark.usefixtures("watched"),
    pytest.mark.timeout(900),
]

PARTS = 1 if KILLS >= 100 else 100
"""`make crash` tries every step; else a run tries one step in so many, others each time."""

LARGE = 1_100_000
"""Octets of the last message: it passes through a file."""


def message(number: int) -> bytes:
    body = b"x" * (LARGE if number == 2 else 10)
    return b"Subject: %d\nMessage-ID: <%d@trip>\n\n%b\n" % (number, number, body)


class FromPage(Trip):
    """All of a folder to a Maildir; then `on_done` with each."""

    on_done = "delete"
    keep = "0d"
    count = 3

    def __init__(self, home: Path, bed: TestBed) -> None:
        self.bed = bed
        self.far = home / "far"
        super().__init__(home)

    def prepare(self) -> str:
        for folder in ("INBOX", "Trash"):
            self.bed.delete(folder, *self.bed.uids(folder))
        self.bed.put("INBOX", *map(message, range(self.count)))
        secret = self.home / "secret"
        secret.write_text("demo\n")
        secret.chmod(0o600)
        return f"""
            [[fetch]]
            use = "webmail"
            site = "testbed"
            url = "{self.bed.url}"
            user = "demo"
            password = {{ file = "{secret}" }}
            keep = "{self.keep}"
            on_done = "{self.on_done}"
            parallel = 1
            [[distribute]]
            use = "maildir"
            path = "{self.far}"
            """

    def expected(self) -> Sequence[bytes]:
        return [message(number) for number in range(self.count)]

    def left(self) -> Sequence[bytes]:
        return self.bed.messages("INBOX")

    def arrived(self) -> Sequence[bytes]:
        return [file.read_bytes() for file in self.far.glob("[nc]*/*")]


class Trashed(FromPage):
    on_done = "trash"

    def complaints(self) -> list[str]:
        there = Counter(octets.replace(b"\r\n", b"\n") for octets in self.bed.messages("Trash"))
        lost = [] if there == Counter(self.expected()) else [f"in the trash: {there.values()}"]
        return super().complaints() + lost


class Due(FromPage):
    """What a first visit fetched and left is due at the second, which finds new messages, too."""

    keep = "forever"
    count = 2

    def session(self, strike: Strike) -> None:
        self.start(None, "run", "--now", str(self.file))
        self.file.write_text(self.file.read_text().replace('"forever"', '"0d"'))
        self.bed.put("INBOX", message(2), message(3))
        self.count = 4
        super().session(strike)

    @property
    def first_steps(self) -> list[Step]:
        return self.outcomes[1].steps


@pytest.fixture(scope="module")
def bed() -> Iterator[TestBed]:
    with TestBed(["INBOX", "Trash"]) as bed:
        yield bed


@pytest.mark.parametrize("trip", [FromPage, Trashed, Due])
def test_d04_killed_before_any_step_each_message_is_there_once(
    trip: type[FromPage], bed: TestBed, tmp_path: Path
) -> None:
    share = (SEED % PARTS, PARTS)
    found = killed_before_each_step(
        lambda home: trip(home, bed), tmp_path, thorough=KILLS >= 100, share=share
    )
    assert found == [], f"MAILFLOW_SEED={SEED}"
