"""A mailbox as a database on a real server."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from mailflow.mailboxes import Database
from mailflow.net import Wire
from mailflow.testing.dovecot import Dovecot

from .user import User


@pytest.fixture(scope="package")
def dovecot(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Dovecot]:
    with Dovecot(tmp_path_factory.mktemp("dovecot"), imap=True) as dovecot:
        yield dovecot


@pytest.fixture
def user(dovecot: Dovecot) -> User:
    return User(dovecot)


@pytest.fixture
def box(user: User) -> Iterator[Database]:
    with user.open() as box:
        yield box


@pytest.fixture
def said(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Each command that is sent from now on, without its tag."""
    lines: list[str] = []
    write = Wire.write

    def tapped(self: Wire, data: bytes) -> None:
        lines.extend(
            line.partition(" ")[2] for line in data.decode("latin-1").split("\r\n") if line
        )
        write(self, data)

    monkeypatch.setattr(Wire, "write", tapped)
    return lines
