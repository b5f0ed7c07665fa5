from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from mailflow.kinds import Runtime, Ticket
from mailflow.log import Logger
from mailflow.mail import Envelope, Mail, Octets
from mailflow.net import Halt
from mailflow.options import Pattern
from mailflow.verdicts import Report
from mailflow_maildir.distributor import MaildirDistributor, MaildirOptions


class Maildir:
    """A Maildir under test: delivers as the engine does, and reads as a mail reader does."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.halt = Halt()
        self.runtime = Runtime("maildir", "test", self.halt, Logger(), str(path.parent))

    def distributor(self, folder: str = "", create: bool = True) -> MaildirDistributor:
        values = {"path": str(self.path), "folder": Pattern(folder), "create": create}
        return MaildirDistributor(MaildirOptions(values), self.runtime)

    def deliver(
        self, *mails: Mail, folder: str = "", create: bool = True, resumed: bool = False
    ) -> list[Report]:
        """Each under the ticket of its id, in one group; finished if all were sent."""
        jobs = [(mail, Ticket(mail.id, (), resumed=resumed)) for mail in mails]
        with self.distributor(folder, create) as distributor:
            reports = list(distributor.distribute_many(jobs))
        assert {ticket for ticket, _ in reports} == {ticket for _, ticket in jobs}
        order = {mail.id: number for number, mail in enumerate(mails)}
        return [report for _, report in sorted(reports, key=lambda each: order[each[0].key])]

    def files(self, place: str = "new", folder: str = "") -> list[Path]:
        directory = self.path / (f".{folder}" if folder else "") / place
        return sorted(directory.iterdir()) if directory.exists() else []

    def octets(self, place: str = "new", folder: str = "") -> list[bytes]:
        return sorted(file.read_bytes() for file in self.files(place, folder))


def make_mail(
    number: int = 1, data: bytes = b"Subject: one\r\n\r\nHello\r\n", **notes: str
) -> Mail:
    return Mail(f"1763690000.{number:06d}.4f2a", Envelope(), Octets(data), notes)


@pytest.fixture
def maildir(tmp_path: Path) -> Iterator[Maildir]:
    maildir = Maildir(tmp_path / "Maildir")
    yield maildir
    maildir.halt.close()


@pytest.fixture
def mail() -> Callable[..., Mail]:
    return make_mail
