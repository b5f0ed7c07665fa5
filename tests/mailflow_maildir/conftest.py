from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from mailflow.kinds import Credentials, Runtime, Ticket
from mailflow.log import Logger
from mailflow.mail import Envelope, Mail, Octets, read
from mailflow.net import Halt
from mailflow.options import Pattern
from mailflow.testing.engine import LogDouble
from mailflow.verdicts import Report
from mailflow_maildir.distributor import MaildirDistributor, MaildirOptions
from mailflow_maildir.maildrop import MaildirDrop, MaildirDropOptions
from mailflow_maildir.opened import OpenMaildir

LIST = "mailflow-uidlist"


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


class Drop:
    """A Maildir under test, with a maildrop of each "process" that opens it."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.halt = Halt()
        self.log = LogDouble()
        for place in ("new", "cur", "tmp"):
            (path / place).mkdir(parents=True)

    def add(self, name: str, data: bytes = b"Subject: x\n\nhello\n") -> Path:
        """`name` is new/1 or cur/1:2,S."""
        file = self.path / name
        file.write_bytes(data)
        return file

    def maildrop(self, **table: object) -> MaildirDrop:
        options = MaildirDropOptions.read({"path": str(self.path), **table})
        log: Any = self.log
        return MaildirDrop(options, Runtime("drop", "test", self.halt, log, "/nonexistent"))

    def enter(self, **table: object) -> OpenMaildir:
        return self.maildrop(**table).login(Credentials("ann", checked=True))

    def listed(self, **table: object) -> dict[str, int]:
        """Size by UIDL, as one session sees them."""
        drop = self.enter(**table)
        found = {item.key: item.size or 0 for item in drop.items()}
        drop.close()
        return found

    def delete(self, *keys: str) -> None:
        drop = self.enter()
        drop.close(keys)

    def files(self) -> list[str]:
        return sorted(
            f"{place}/{file.name}"
            for place in ("new", "cur")
            for file in (self.path / place).iterdir()
        )

    @property
    def told(self) -> str:
        return (self.path / LIST).read_text()


@pytest.fixture
def drop(tmp_path: Path) -> Iterator[Drop]:
    drop = Drop(tmp_path / "Maildir")
    yield drop
    drop.halt.close()


@pytest.fixture
def fails(monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
    """Have a call of os fail, where its first argument is one of `paths` or a descriptor."""

    def fail(call: str, code: int, *paths: str) -> None:
        real = getattr(os, call)

        def failing(what: Any, *more: Any, **named: Any) -> Any:
            if not paths or (isinstance(what, str) and what.endswith(paths)):
                raise OSError(code, os.strerror(code), what)
            return real(what, *more, **named)

        monkeypatch.setattr(os, call, failing)

    return fail


def rest(drop: Drop) -> None:
    """Nobody has changed the Maildir for long."""
    for place in ("new", "cur"):
        os.utime(drop.path / place, (1, 1))


def read_all(drop: Drop, key: str) -> bytes:
    session = drop.enter()
    try:
        return read(session.read(key))
    finally:
        session.close()
