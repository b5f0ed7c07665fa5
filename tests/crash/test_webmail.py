"""From a webmail and through its form: killed before any step, each message is there once, nothing
is removed that is not here, and each mail goes once, since what is in doubt is looked for."""

from __future__ import annotations

import email
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

COUNT = 3
"""Mails that are sent."""

LARGE = 1_100_000
"""Octets of the last message: it passes through a file."""


def message(number: int) -> bytes:
    body = b"x" * (LARGE if number == 2 else 10)
    return b"Subject: %d\nMessage-ID: <%d@trip>\n\n%b\n" % (number, number, body)


class AtBed(Trip):
    """It asks a test bed."""

    parts = 100
    """`make crash` tries every step; else a run tries one step in so many, others each time."""

    def __init__(self, home: Path, bed: TestBed) -> None:
        self.bed = bed
        super().__init__(home)

    def account(self) -> str:
        """The options that say which webmail it is, and who logs in."""
        secret = self.home / "secret"
        secret.write_text("demo\n")
        secret.chmod(0o600)
        return f"""
            use = "webmail"
            site = "testbed"
            url = "{self.bed.url}"
            user = "demo"
            password = {{ file = "{secret}" }}
            """


class FromPage(AtBed):
    """All of a folder to a Maildir; then `on_done` with each."""

    on_done = "delete"
    keep = "0d"
    count = 3

    def prepare(self) -> str:
        for folder in ("INBOX", "Trash"):
            self.bed.delete(folder, *self.bed.uids(folder))
        self.bed.put("INBOX", *map(message, range(self.count)))
        return f"""
            [[fetch]]
            {self.account()}
            keep = "{self.keep}"
            on_done = "{self.on_done}"
            parallel = 1
            [[distribute]]
            use = "maildir"
            path = "{self.home}/far"
            """

    def expected(self) -> Sequence[bytes]:
        return [message(number) for number in range(self.count)]

    def left(self) -> Sequence[bytes]:
        return self.bed.messages("INBOX")

    def arrived(self) -> Sequence[bytes]:
        return [file.read_bytes() for file in (self.home / "far").glob("[nc]*/*")]


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


def mail(number: int) -> bytes:
    return (
        "From: demo@example.org\r\nTo: bob@example.org\r\n"
        f"Subject: {number}\r\nMessage-ID: <{number}@trip>\r\n\r\nhello\r\n"
    ).encode()


class ByForm(AtBed):
    """From a Maildir into the form."""

    parts = 36

    def prepare(self) -> str:
        for folder in (self.bed.bed.outgoing, self.bed.bed.folders["Sent"]):
            folder.delete([each.uid for each in folder.letters()])
        near = self.home / "near"
        for name in ("tmp", "new", "cur"):
            (near / name).mkdir(parents=True)
        for number in range(COUNT):
            (near / "new" / f"{number}.1.host").write_bytes(mail(number))
        return f"""
            [[fetch]]
            use = "maildir"
            path = "{near}"
            keep = "0d"
            [[process]]
            use = "filter.recipients"
            set = ["bob@example.org"]
            [[distribute]]
            {self.account()}
            """

    def expected(self) -> Sequence[bytes]:
        return [b"<%d@trip>" % number for number in range(COUNT)]

    def left(self) -> Sequence[bytes]:
        return [file.read_bytes() for file in (self.home / "near").glob("[nc]*/*")]

    def arrived(self) -> Sequence[bytes]:
        outgoing = self.bed.bed.outgoing
        sent = [b"".join(outgoing.source(each)) for each in outgoing.letters()]
        return [email.message_from_bytes(each)["Message-ID"].encode() for each in sent]


@pytest.fixture(scope="module")
def bed(tmp_path_factory: pytest.TempPathFactory) -> Iterator[TestBed]:
    outgoing = tmp_path_factory.mktemp("out") / "outgoing"
    outgoing.touch()
    with TestBed(["INBOX", "Sent", "Trash"], outgoing=str(outgoing)) as bed:
        yield bed


@pytest.mark.parametrize("trip", [FromPage, Trashed, Due, ByForm])
def test_d04_killed_before_any_step_each_message_is_there_once(
    trip: type[AtBed], bed: TestBed, tmp_path: Path
) -> None:
    thorough = KILLS >= 100
    found = killed_before_each_step(
        lambda home: trip(home, bed),
        tmp_path,
        thorough=thorough,
        share=(0, 1) if thorough else (SEED % trip.parts, trip.parts),
    )
    assert found == [], f"MAILFLOW_SEED={SEED}"
