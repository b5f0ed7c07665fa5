"""An account on a real IMAP server, a pipeline that reads it, and what others see of it.

Rule of the file: what another mail program would do is done by Python's imaplib, which has
no line in common with what is tested.
"""

from __future__ import annotations

import imaplib
import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from mailflow.lines import to_crlf
from mailflow.testing.cyrus import Cyrus
from mailflow.testing.dovecot import Dovecot
from mailflow.testing.maildirs import folder_name

from .fetching import Fetching

PASSWORD = "canary-5e11-secret"

Server = Dovecot | Cyrus


def message(subject: str, body: bytes = b"hello\r\n", *fields: str) -> bytes:
    head = ["From: ben@example.com", f"Subject: {subject}", f"Message-ID: <{subject}@example.com>"]
    return "".join(f"{line}\r\n" for line in (*head, *fields)).encode() + b"\r\n" + body


class Account(Fetching):
    """A new user of `server`, and a pipeline from there to a Maildir in `home`."""

    def __init__(self, server: Server, home: Path) -> None:
        self.server = server
        self.home = home
        self.user = f"u{os.urandom(6).hex()}"
        server.add_user(self.user, PASSWORD)

    def deliver(self, *messages: bytes, folder: str = "INBOX") -> None:
        self.server.deliver(self.user, *messages, folder=folder)

    def left(self, folder: str = "INBOX") -> list[bytes]:
        """The messages in a folder there, as they are on the wire."""
        return [to_crlf(each) for each in self.server.messages(self.user, folder)]

    def source(self, **options: object) -> dict[str, object]:
        """A [[fetch]] of this account."""
        return {
            "use": "imap", "host": self.server.host, "port": self.server.imap_port,
            "tls": "none", "user": self.user, "password": PASSWORD, "timeout": "10s", **options,
        }  # fmt: skip

    def fetched(self) -> list[bytes]:
        """What has come so far, as it was on the wire, sorted."""
        return sorted(map(to_crlf, super().fetched()))

    @contextmanager
    def program(self, folder: str = "INBOX") -> Iterator[imaplib.IMAP4]:
        """Another mail program, with this folder open."""
        with imaplib.IMAP4(self.server.host, self.server.imap_port, timeout=20) as session:
            session.login(self.user, PASSWORD)
            answer, _ = session.select(self.name(folder))
            assert answer == "OK", folder
            yield session

    def name(self, folder: str) -> str:
        """A folder as it is written in a command."""
        return f'"{folder_name(self.server.folder(folder))}"'

    def flags(self, folder: str = "INBOX") -> list[set[str]]:
        """The flags of each message, in the order of their UIDs, without \\Recent."""
        with self.program(folder) as session:
            answers: Sequence[object] = session.uid("FETCH", "1:*", "(FLAGS)")[1]
            lines = [each for each in answers if isinstance(each, bytes)]
            found = [{flag.decode() for flag in imaplib.ParseFlags(line)} for line in lines]
            return [flags - {"\\Recent"} for flags in found]

    def mark(self, number: int, flag: str, folder: str = "INBOX") -> None:
        """Another program sets a flag of the message with this number."""
        with self.program(folder) as session:
            answer, _ = session.store(str(number), "+FLAGS", flag)
            assert answer == "OK"
