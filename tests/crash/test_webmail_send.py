"""Through a webmail's form: killed before any step, each mail goes once and is never lost, since
what is in doubt is looked for among what was sent."""

from __future__ import annotations

import email
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest

from mailflow.testing.crash import Trip, killed_before_each_step
from mailflow.testing.webmail import TestBed

from .conftest import KILLS, SEED

pytestmark = [
    pytest.mark.crash,
    pytest.mark.usefixtures("watched"),
    pytest.mark.timeout(900),
]

PARTS = 1 if KILLS >= 100 else 36
"""`make crash` tries every step; else a run tries one step in so many, others each time."""

COUNT = 3


def message(number: int) -> bytes:
    return (
        "From: demo@example.org\r\nTo: bob@example.org\r\n"
        f"Subject: {number}\r\nMessage-ID: <{number}@trip>\r\n\r\nhello\r\n"
    ).encode()


class ByForm(Trip):
    """From a Maildir into the form of the test bed."""

    def __init__(self, home: Path, bed: TestBed) -> None:
        self.bed = bed
        self.near = home / "near"
        super().__init__(home)

    def prepare(self) -> str:
        for folder in (self.bed.bed.outgoing, self.bed.bed.folders["Sent"]):
            folder.delete([each.uid for each in folder.letters()])
        for name in ("tmp", "new", "cur"):
            (self.near / name).mkdir(parents=True)
        for number in range(COUNT):
            (self.near / "new" / f"{number}.1.host").write_bytes(message(number))
        secret = self.home / "secret"
        secret.write_text("demo\n")
        secret.chmod(0o600)
        return f"""
            [[fetch]]
            use = "maildir"
            path = "{self.near}"
            keep = "0d"
            [[process]]
            use = "filter.recipients"
            set = ["bob@example.org"]
            [[distribute]]
            use = "webmail"
            site = "testbed"
            url = "{self.bed.url}"
            user = "demo"
            password = {{ file = "{secret}" }}
            """

    def expected(self) -> Sequence[bytes]:
        return [b"<%d@trip>" % number for number in range(COUNT)]

    def left(self) -> Sequence[bytes]:
        return [file.read_bytes() for file in self.near.glob("[nc]*/*")]

    def arrived(self) -> Sequence[bytes]:
        outgoing = self.bed.bed.outgoing
        sent = [b"".join(outgoing.source(each)) for each in outgoing.letters()]
        return [email.message_from_bytes(each)["Message-ID"].encode() for each in sent]


@pytest.fixture(scope="module")
def bed(tmp_path_factory: pytest.TempPathFactory) -> Iterator[TestBed]:
    outgoing = tmp_path_factory.mktemp("out") / "outgoing"
    outgoing.touch()
    with TestBed(["Sent"], outgoing=str(outgoing)) as bed:
        yield bed


def test_killed_before_any_step_each_mail_is_sent_once(bed: TestBed, tmp_path: Path) -> None:
    share = (SEED % PARTS, PARTS)
    found = killed_before_each_step(
        lambda home: ByForm(home, bed), tmp_path, thorough=KILLS >= 100, share=share
    )
    assert found == [], f"MAILFLOW_SEED={SEED}"
