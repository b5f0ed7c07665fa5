"""Servers that the points are asked of: ours, Dovecot, or one that listens elsewhere.

Rule of the file: a test fills a maildrop with messages and talks to whoever serves it; it
does not know whom it meets.
"""

from __future__ import annotations

import itertools
import os
import socket
import ssl
import time
from abc import ABC, abstractmethod
from pathlib import Path
from typing import ClassVar, NamedTuple

from mailflow.testing.dovecot import Dovecot

from .dialogue import Dialogue


class Drop(NamedTuple):
    """A maildrop that a test may use alone."""

    login: str
    password: str


class Listener:
    """Where somebody serves; `ca_file` is whom the certificate there needs."""

    host = "127.0.0.1"
    port = 0
    tls_port = 0
    ca_file = ""

    def connect(self, *, implicit: bool = False) -> Dialogue:
        """A connection, greeted; with `implicit` TLS on the port for that."""
        if not implicit:
            return Dialogue(socket.create_connection((self.host, self.port), 20))
        if not self.tls_port:
            import pytest

            pytest.skip("no port with TLS is known of this server")
        sock = socket.create_connection((self.host, self.tls_port), 20)
        return Dialogue(self.context().wrap_socket(sock, server_hostname="localhost"))

    def enter(self, drop: Drop, *, utf8: bool = False) -> Dialogue:
        """A session in the TRANSACTION state, after UTF8 where that is asked for and offered.
        A lock that is being given back is awaited: the server sees the end of a connection a
        little later than its client."""
        deadline = time.monotonic() + 20
        while time.monotonic() < deadline:
            dialogue = self.connect()
            if utf8 and "UTF8" in dialogue.capabilities():
                assert dialogue.say("UTF8").ok
            answer = dialogue.log_in(*drop)
            if answer.ok:
                return dialogue
            assert answer.code == "IN-USE", answer.line
            dialogue.drop()
            time.sleep(0.001)  # nothing tells when
        raise AssertionError(f"{drop.login} stays locked")

    def context(self) -> ssl.SSLContext:
        if not self.ca_file:
            import pytest

            pytest.skip("nobody is known to trust for this server's certificate")
        return ssl.create_default_context(cafile=self.ca_file)


class Server(Listener, ABC):
    """What serves, and the store behind it. `name` stands in test ids."""

    name = ""

    @abstractmethod
    def fill(self, *messages: bytes, password: str = "sesame") -> Drop:
        """A maildrop that holds these messages."""

    @abstractmethod
    def deliver(self, drop: Drop, message: bytes) -> None:
        """One message more, at the end."""

    @abstractmethod
    def remove(self, drop: Drop, number: int) -> None:
        """Take a message away behind the server's back."""

    @abstractmethod
    def left(self, drop: Drop) -> int:
        """How many messages there are in the store."""

    def open(self, *messages: bytes, utf8: bool = False) -> Dialogue:
        """A session with a maildrop of its own that holds these messages."""
        return self.enter(self.fill(*messages), utf8=utf8)


class MaildirServer(Server):
    """One that serves Maildirs: what they hold is put there and looked at."""

    _numbers = itertools.count(1)

    @abstractmethod
    def maildir(self, drop: Drop) -> Path: ...

    def deliver(self, drop: Drop, message: bytes) -> None:
        number = next(self._numbers)
        path = self.maildir(drop)
        name = f"{1700000000 + number}.M{number:06d}P{os.getpid()}.test"
        (path / "tmp" / name).write_bytes(message)
        owner = path.stat()
        os.chown(path / "tmp" / name, owner.st_uid, owner.st_gid)
        os.rename(path / "tmp" / name, path / "new" / name)

    def remove(self, drop: Drop, number: int) -> None:
        self.files(drop)[number - 1].unlink()

    def left(self, drop: Drop) -> int:
        return len(self.files(drop))

    def files(self, drop: Drop) -> list[Path]:
        """The files of the messages, oldest first."""
        found = [
            path for folder in ("new", "cur") for path in (self.maildir(drop) / folder).iterdir()
        ]
        return sorted(found, key=lambda path: path.name)


class DovecotServer(MaildirServer):
    """Dovecot as its defaults have it; Debian's package."""

    name = "dovecot"

    def __init__(self, dovecot: Dovecot) -> None:
        self.dovecot = dovecot
        self.host, self.port = dovecot.host, dovecot.pop3_port
        self.tls_port, self.ca_file = dovecot.pop3s_port, dovecot.ca_file

    def fill(self, *messages: bytes, password: str = "sesame") -> Drop:
        drop = Drop(f"user{next(self._numbers)}", password)
        self.dovecot.add_user(*drop)
        for message in messages:
            self.deliver(drop, message)
        return drop

    def maildir(self, drop: Drop) -> Path:
        return Path(self.dovecot.maildir(drop.login))


class ForeignServer(MaildirServer):
    """One that listens elsewhere, with one account. Its maildrop can be filled where it is
    a Maildir here; `fill` empties it first. One is made for each test, and ends
    what the one before has left open."""

    _open: ClassVar[list[Dialogue]] = []

    def __init__(
        self, place: str, login: str, maildir: str | None, tls_port: int | None, ca_file: str
    ) -> None:
        self.host, _, port = place.rpartition(":")
        self.port = int(port)
        self.tls_port = tls_port or 0
        self.name = place
        self.ca_file = ca_file
        self._drop = Drop(*login.split(":", 1))
        self._maildir = maildir
        self._filled = False
        while self._open:
            self._open.pop().drop()  # what a test that failed has left

    def connect(self, *, implicit: bool = False) -> Dialogue:
        dialogue = super().connect(implicit=implicit)
        self._open.append(dialogue)
        return dialogue

    def fill(self, *messages: bytes, password: str = "sesame") -> Drop:
        import pytest

        if self._filled:
            pytest.skip("needs more accounts than one")
        self._filled = True
        for path in self.files(self._drop):
            path.unlink()
        for message in messages:
            self.deliver(self._drop, message)
        return self._drop

    def maildir(self, drop: Drop) -> Path:
        import pytest

        if self._maildir is None:
            pytest.skip("the maildrop of this server cannot be filled: no --server-maildir")
        path = Path(self._maildir)
        for folder in ("tmp", "new", "cur"):
            (path / folder).mkdir(parents=True, exist_ok=True)
        return path
