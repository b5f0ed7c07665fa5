"""Clients of POP3 read what lies on an IMAP or a POP3 server, live, through a real `mailflow serve`
with the names and passwords of that server."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from pathlib import Path

import pytest

from mailflow.testing.dovecot import Dovecot
from mailflow.testing.serving import Serving, free_ports

from .readers import (
    MESSAGES,
    PASSWORD,
    PLAIN,
    WANTED,
    Door,
    Fetchmail,
    Getmail,
    Mpop,
    Poplib,
    Reader,
    reads_leaves_and_deletes,
)

pytestmark = [
    pytest.mark.timeout(120),
    pytest.mark.interop("dovecot-imapd", "dovecot-pop3d"),
]

PIPELINE = """
[maildrop."imap*"]
use = "imap"
host = "127.0.0.1"
port = {imap}
login = "passthrough"

[maildrop."pop*"]
use = "pop3"
host = "127.0.0.1"
port = {pop3}
login = "passthrough"

[[serve]]
use = "pop3"
workers = {workers}
listen = ["127.0.0.1:{port}"]
"""

_NUMBERS = itertools.count(1)


class Hall:
    """Dovecot, and a server of POP3 before it."""

    def __init__(self, home: Path, dovecot: Dovecot, workers: int = 0) -> None:
        home.mkdir()
        (self.port,) = free_ports(1)
        self.dovecot = dovecot
        file = home / "live.toml"
        file.write_text(PIPELINE.format(
            imap=dovecot.imap_port, pop3=dovecot.pop3_port, port=self.port, workers=workers,
        ))  # fmt: skip
        self.serving = Serving(file)

    def door(self, kind: str) -> Door:
        """That of somebody new, with mail there."""
        user = f"{kind}{next(_NUMBERS)}"
        self.dovecot.add_user(user, PASSWORD)
        self.dovecot.deliver(user, *MESSAGES)
        return Door(PLAIN, self.port, "", user=user)


@pytest.fixture(scope="module")
def dovecot(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Dovecot]:
    with Dovecot(tmp_path_factory.mktemp("dovecot"), imap=True) as dovecot:
        yield dovecot


@pytest.fixture(scope="module")
def hall(tmp_path_factory: pytest.TempPathFactory, dovecot: Dovecot) -> Iterator[Hall]:
    hall = Hall(tmp_path_factory.mktemp("live") / "hall", dovecot)
    with hall.serving:
        yield hall


@pytest.mark.parametrize("there", ["imap", "pop3"])
@pytest.mark.parametrize(
    "kind",
    [pytest.param(each, marks=pytest.mark.interop(*each.packages), id=each.__name__.lower())
     for each in (Fetchmail, Getmail, Mpop, Poplib)],
)  # fmt: skip
def test_p3s_08_a_client_reads_leaves_and_deletes(
    hall: Hall, tmp_path: Path, kind: type[Reader], there: str
) -> None:
    door = hall.door(there)
    reads_leaves_and_deletes(kind, door, tmp_path, there=lambda: hall.dovecot.messages(door.user))


def test_processes_that_share_the_clients_pass_them_on(tmp_path: Path, dovecot: Dovecot) -> None:
    hall = Hall(tmp_path / "shared", dovecot, workers=2)
    with hall.serving:
        for there in ("imap", "pop3"):
            door = hall.door(there)
            for number in range(3):
                reader = Poplib(tmp_path / f"{there}{number}")
                assert reader.read(door, keep=number < 2) == 0, reader.said
                assert sorted(reader.brought()) == WANTED, reader.said
            assert dovecot.messages(door.user) == []
