"""From Dovecot's POP3 server to mailflow, on the same Maildir and with the same passwd-file."""

from __future__ import annotations

import poplib
from collections.abc import Iterator
from pathlib import Path

import pytest

from mailflow.testing.dovecot import Dovecot
from mailflow.testing.serving import Serving, free_ports

from .readers import PASSWORD, PLAIN, READERS, Door, Fdm, Fetchmail, Mpop, Poplib, Reader

pytestmark = [pytest.mark.interop("dovecot-pop3d"), pytest.mark.timeout(120)]

PIPELINE = """
[maildrop."*"]
use = "maildir"
path = "{maildir}"
passwords = "{passwords}"

[[serve]]
use = "pop3"
listen = ["127.0.0.1:{port}"]
"""

MESSAGES = [
    b"From: ben@example.com\r\nSubject: %d\r\nMessage-ID: <%d@example.com>\r\n\r\n.\r\n%d\r\n"
    % (number, number, number)
    for number in range(5)
]


class Move:
    """Both servers: Dovecot as it was, mailflow beside it."""

    def __init__(self, dovecot: Dovecot, home: Path) -> None:
        self.dovecot = dovecot
        (self.port,) = free_ports(1)
        home.mkdir()
        file = home / "pop3.toml"
        maildir = Path(dovecot.maildir("ann"))
        users = home / "users"
        users.write_text(f"ann:{{PLAIN}}{PASSWORD}:1000:1000::{maildir.parent}::\n")
        users.chmod(0o600)
        text = PIPELINE.format(maildir=maildir, passwords=users, port=self.port)
        file.write_text(text)
        self.serving = Serving(file)

    def listing(self, port: int) -> list[tuple[bytes, bytes, bytes]]:
        """The UIDL, the size and the octets of each message."""
        box = poplib.POP3("127.0.0.1", port, timeout=10)
        box.user("ann")
        box.pass_(PASSWORD)
        uidls = [line.split()[1] for line in box.uidl()[1]]
        sizes = [line.split()[1] for line in box.list()[1]]
        octets = [b"\r\n".join(box.retr(n + 1)[1]) for n in range(len(uidls))]
        box.quit()
        return list(zip(uidls, sizes, octets, strict=True))


@pytest.fixture
def move(tmp_path: Path) -> Iterator[Move]:
    with Dovecot(tmp_path / "dovecot") as dovecot:
        dovecot.add_user("ann", PASSWORD)
        dovecot.deliver("ann", *MESSAGES)
        move = Move(dovecot, tmp_path / "mailflow")
        with move.serving:
            yield move


def test_p3s_12_each_message_keeps_the_uidl_that_dovecot_gave_it(move: Move) -> None:
    before = move.listing(move.dovecot.pop3_port)
    assert len(before) == len(MESSAGES)
    assert move.listing(move.port) == before


@pytest.mark.parametrize(
    "kind",
    [
        pytest.param(kind, id=kind.__name__.lower(), marks=pytest.mark.interop(*kind.packages))
        for kind in READERS if kind in (Poplib, Fetchmail, Mpop, Fdm)
    ],
)  # fmt: skip
def test_p3s_12_a_client_that_moves_fetches_nothing_twice(
    move: Move, kind: type[Reader], tmp_path: Path
) -> None:
    """These know a server by its name, and not by its port."""
    reader = kind(tmp_path / "reader")
    try:
        old, new = (
            Door(PLAIN, port, move.dovecot.ca_file) for port in (move.dovecot.pop3_port, move.port)
        )
        assert reader.read(old, keep=True) == 0, reader.said
        first = reader.brought()
        assert len(first) == len(MESSAGES)
        move.dovecot.deliver("ann", MESSAGES[0].replace(b"<0@", b"<later@"))
        assert reader.read(new, keep=True) == 0, reader.said
        assert len(reader.brought()) == len(MESSAGES) + 1, reader.said
        assert reader.read(old, keep=True) == 0, reader.said
    finally:
        reader.close()


def test_what_is_deleted_is_gone_for_dovecot_too(move: Move) -> None:
    move.listing(move.dovecot.pop3_port)
    box = poplib.POP3("127.0.0.1", move.port, timeout=10)
    box.user("ann")
    box.pass_(PASSWORD)
    box.dele(2)
    box.quit()
    left = move.listing(move.dovecot.pop3_port)
    assert [octets for _, _, octets in left] == [
        octets.removesuffix(b"\r\n") for number, octets in enumerate(MESSAGES) if number != 1
    ]
