"""Our gateway, as the service that `mailflow serve` runs, with maildrops that a test fills.

Rule of the file: answers to wrong passwords are not kept back here, or the tests would wait;
that they are is shown where it is the subject.
"""

from __future__ import annotations

import itertools
import os
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Self

from mailflow.accounts import Account, Accounts
from mailflow.halt import Halt
from mailflow.kinds import Distributor, Maildrop, Runtime, Ticket
from mailflow.mail import Content
from mailflow.testing.dovecot import Dovecot
from mailflow.testing.engine import LogDouble, mail
from mailflow.testing.gateway import AT_ONCE, Gateway, plain
from mailflow.testing.tls import Certificate
from mailflow.testing.webmail import TestBed

from .dialogue import Dialogue
from .servers import Drop, Listener, MaildirServer, Server
from .shelf import Shelf


class OurServer(Server):
    """Two listeners, one for STLS and one with TLS from the first octet, and an account for
    each maildrop that is filled."""

    KEPT = 40
    """Accounts at a time: a test has few, and those of the tests before are over."""

    def __init__(self, certificate: Certificate, ca_file: str) -> None:
        self.ca_file = ca_file
        self.accounts: list[Account] = []
        self._clear = Gateway({}, certificate=certificate, tls="starttls")
        self._secure = Gateway({}, certificate=certificate, tls="implicit")
        self._numbers = itertools.count(1)
        self._stack = ExitStack()

    def __enter__(self) -> Self:
        self._stack.enter_context(self._clear)
        self._stack.enter_context(self._secure)
        self.port, self.tls_port = self._clear.port, self._secure.port
        return self

    def __exit__(self, *_: object) -> None:
        self._stack.close()

    def grant(self, maildrop: Maildrop, password: str) -> Drop:
        drop = Drop(f"user{next(self._numbers)}", password)
        account = Account(drop.login, maildrop, secret=plain(password))
        self.accounts = [*self.accounts[-self.KEPT :], account]
        for gateway in (self._clear, self._secure):
            gateway.service_host.accounts = Accounts(self.accounts, pace=AT_ONCE, log=gateway.log)
        return drop

    def maildrop(self, drop: Drop) -> Maildrop:
        return next(each.maildrop for each in self.accounts if each.name == drop.login)


class MemoryServer(OurServer):
    """Ours, with mail in memory."""

    name = "memory"

    def fill(self, *messages: bytes, password: str = "sesame") -> Drop:
        return self.grant(Shelf(*messages), password)

    def shelf(self, drop: Drop) -> Shelf:
        found = self.maildrop(drop)
        assert isinstance(found, Shelf)
        return found

    def deliver(self, drop: Drop, message: bytes) -> None:
        self.shelf(drop).deliver(message)

    def remove(self, drop: Drop, number: int) -> None:
        shelf = self.shelf(drop)
        del shelf.messages[list(shelf.messages)[number - 1]]

    def left(self, drop: Drop) -> int:
        return len(self.shelf(drop).messages)


NEVER = Halt()
"""Nothing stops these components."""


class Component:
    """A maildrop or distributor of a plugin, made as the engine makes it."""

    def __init__(self, directory: Path) -> None:
        self._runtime = Runtime("points", "points", NEVER, LogDouble(), str(directory))  # type: ignore[arg-type]

    def __call__(self, kind: str, use: str, **options: object) -> object:
        from mailflow.engine.registry import Registry

        component = Registry().component(kind, use)
        return component(component.options.read(options), self._runtime)


class OurMaildirServer(OurServer, MaildirServer):
    """Ours, with Maildirs as they lie on the disk."""

    name = "maildir"

    def __init__(self, certificate: Certificate, ca_file: str, directory: Path) -> None:
        super().__init__(certificate, ca_file)
        self._directory = directory
        self._make = Component(directory)
        self._paths = itertools.count(1)
        self._places: dict[str, Path] = {}

    def fill(self, *messages: bytes, password: str = "sesame") -> Drop:
        path = self._directory / f"Maildir{next(self._paths)}"
        for folder in ("tmp", "new", "cur"):
            (path / folder).mkdir(parents=True)
        maildrop: Maildrop = self._make("maildrop", "maildir", path=str(path))  # type: ignore[assignment]
        drop = self.grant(maildrop, password)
        self._places[drop.login] = path
        for message in messages:
            self.deliver(drop, message)
        return drop

    def maildir(self, drop: Drop) -> Path:
        return self._places[drop.login]

    def truncate(self, drop: Drop, number: int, octets: int) -> None:
        os.truncate(self.files(drop)[number - 1], octets)


class LiveServer(OurServer, MaildirServer):
    """Ours, with mailboxes of Dovecot, each session a live one there, over the protocol that
    `name` is."""

    def __init__(
        self, certificate: Certificate, ca_file: str, directory: Path, dovecot: Dovecot, name: str
    ) -> None:
        super().__init__(certificate, ca_file)
        self.name = name
        self.dovecot = dovecot
        self._make = Component(directory)
        self._users = itertools.count(1)
        self._places: dict[str, Path] = {}

    def fill(self, *messages: bytes, password: str = "sesame") -> Drop:
        dovecot = self.dovecot
        user = f"{self.name}{next(self._users)}"
        dovecot.add_user(user, "there")
        port = dovecot.imap_port if self.name == "imap" else dovecot.pop3_port
        maildrop: Maildrop = self._make(
            "maildrop", self.name, host=dovecot.host, port=port, user=user, password="there"
        )  # type: ignore[assignment]
        drop = self.grant(maildrop, password)
        self._places[drop.login] = Path(dovecot.maildir(user))
        for message in messages:
            self.deliver(drop, message)
        return drop

    def maildir(self, drop: Drop) -> Path:
        return self._places[drop.login]


class WebmailServer(OurServer):
    """Ours, with folders of a webmail, each session a live one there."""

    name = "webmail"

    FOLDERS = 500
    """More than there are tests."""

    def __init__(self, certificate: Certificate, ca_file: str, directory: Path) -> None:
        super().__init__(certificate, ca_file)
        self._make = Component(directory)
        folders = [f"box{number}" for number in range(self.FOLDERS)]
        self._bed = self._stack.enter_context(TestBed(folders))
        self._folders = iter(folders)
        self._names: dict[str, str] = {}

    def fill(self, *messages: bytes, password: str = "sesame") -> Drop:
        bed, name = self._bed, next(self._folders)
        maildrop: Maildrop = self._make(
            "maildrop", "webmail", site="testbed", url=bed.url, user=bed.user,
            password=bed.password, folders=name,
        )  # type: ignore[assignment]  # fmt: skip
        drop = self.grant(maildrop, password)
        self._names[drop.login] = name
        bed.put(name, *messages)
        return drop

    def deliver(self, drop: Drop, message: bytes) -> None:
        self._bed.put(self._names[drop.login], message)

    def remove(self, drop: Drop, number: int) -> None:
        name = self._names[drop.login]
        self._bed.delete(name, self._bed.uids(name)[number - 1])

    def left(self, drop: Drop) -> int:
        return len(self._bed.messages(self._names[drop.login]))


class SpoolServer(OurServer):
    """Ours, with the spool: filled by its distributor, as pipelines do it."""

    name = "spool"

    def __init__(self, certificate: Certificate, ca_file: str, directory: Path) -> None:
        super().__init__(certificate, ca_file)
        self.directory = directory
        self._make = Component(directory)
        self._drops = itertools.count(1)
        self._tickets = itertools.count(1)
        self._names: dict[str, str] = {}

    def fill(self, *messages: bytes, password: str = "sesame") -> Drop:
        name = f"drop{next(self._drops)}"
        maildrop: Maildrop = self._make("maildrop", "spool", path=str(self.directory), drop=name)  # type: ignore[assignment]
        drop = self.grant(maildrop, password)
        self._names[drop.login] = name
        self._put(drop, messages)
        return drop

    def deliver(self, drop: Drop, message: bytes) -> None:
        self._put(drop, [message])

    def _put(self, drop: Drop, messages: Sequence[bytes]) -> None:
        distributor: Distributor = self._make(
            "distribute", "spool", path=str(self.directory), drop=self._names[drop.login]
        )  # type: ignore[assignment]
        with distributor:
            for message in messages:
                ticket = Ticket(f"points-{next(self._tickets)}", ("",))
                assert list(distributor.distribute(mail(message), ticket))

    def remove(self, drop: Drop, number: int) -> None:
        """As an expiry does it, in a drop whose messages have the numbers 1 and so on."""
        from mailflow_spool.store import Store

        store = Store(str(self.directory))
        found = store.drop(self._names[drop.login])
        assert found is not None
        store.remove(found, [number])
        store.close()

    def truncate(self, drop: Drop, number: int, octets: int) -> None:
        """The largest file is what a large message lies in."""
        found = self.directory.rglob("*")
        files = [path for path in found if path.is_file() and "index" not in path.name]
        os.truncate(max(files, key=lambda path: path.stat().st_size), octets)

    def left(self, drop: Drop) -> int:
        from mailflow.kinds import Credentials

        opened = self.maildrop(drop).login(Credentials(drop.login, checked=True))
        try:
            return len(opened.items())
        finally:
            opened.close()


class Running:
    """A gateway of a test's own, with one account; `shelf` is what it serves."""

    def __init__(
        self, gateway: Gateway, shelf: Shelf, drop: Drop, place: tuple[str, int], ca_file: str
    ) -> None:
        self.gateway = gateway
        self.shelf = shelf
        self.drop = drop
        self._server = Listener()
        self._server.host, self._server.port = place
        self._server.tls_port, self._server.ca_file = place[1], ca_file
        self.context = self._server.context

    def connect(self, *, implicit: bool = False) -> Dialogue:
        return self._server.connect(implicit=implicit)

    def enter(self) -> Dialogue:
        return self._server.enter(self.drop)

    def logged(self) -> list[str]:
        """What was logged so far, as a log has it: one text for each line."""
        return [
            " ".join([line.level, line.event, *(f"{k}={v}" for k, v in line.facts.items())])
            for line in self.gateway.log.lines
        ]


def reach(gateway: Gateway) -> Listener:
    """A gateway, as its clients see it."""
    server = Listener()
    server.host, server.port = gateway.host, gateway.port
    return server


def shelf_of(messages: Sequence[bytes | Content | Shelf]) -> Shelf:
    """The one shelf that was given, or one with these messages."""
    first = messages[0] if messages else None
    if isinstance(first, Shelf):
        return first
    return Shelf(*[each for each in messages if not isinstance(each, Shelf)])
