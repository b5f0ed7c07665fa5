"""Whoever has a mailbox, and what is sent to the server for it."""

from __future__ import annotations

import imaplib
import os

import mailflow
from mailflow.mailboxes import Database
from mailflow.testing.dovecot import Dovecot

SECRET = "canary-8d31-secret"


def post(subject: str = "Hello", *fields: str, body: str = "hello\r\n") -> bytes:
    head = ["From: Ann <ann@example.org>", "To: Ben <ben@example.com>", f"Subject: {subject}"]
    return "".join(f"{line}\r\n" for line in (*head, *fields)).encode() + b"\r\n" + body.encode()


class User:
    """A new mailbox of `dovecot`."""

    def __init__(self, dovecot: Dovecot) -> None:
        self.dovecot = dovecot
        self.name = f"u{os.urandom(6).hex()}"
        dovecot.add_user(self.name, SECRET)

    @property
    def url(self) -> str:
        return f"imap://{self.name}@127.0.0.1:{self.dovecot.imap_port}?tls=none&timeout=20s"

    def deliver(self, *messages: bytes, folder: str = "INBOX") -> None:
        self.dovecot.deliver(self.name, *messages, folder=folder)

    def messages(self, folder: str = "INBOX") -> list[bytes]:
        return self.dovecot.messages(self.name, folder)

    def open(self, more: str = "", **words: object) -> Database:
        return mailflow.mailbox(self.url + more, password=SECRET, **words)  # type: ignore[arg-type]

    def program(self) -> imaplib.IMAP4:
        """Another mail program."""
        session = imaplib.IMAP4("127.0.0.1", self.dovecot.imap_port, timeout=20)
        session.login(self.name, SECRET)
        return session


def sent(said: list[str], *keywords: str) -> list[str]:
    return [line for line in said if line.startswith(keywords)]
