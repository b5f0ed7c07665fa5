"""POP3, the server's side: a session answers the same however a client's octets come."""

from __future__ import annotations

from collections.abc import Collection, Sequence

from mailflow.accounts import Account, Accounts
from mailflow.kinds import Credentials, Item
from mailflow.mail import Content, Octets
from mailflow.testing.engine import LogDouble
from mailflow.testing.gateway import AT_ONCE, answers, plain
from mailflow_pop3.server import Policy, ServerSession

PACKAGES = ["mailflow_pop3"]
WORDS = [
    b"USER ann\r\n", b"PASS sesame\r\n", b"STAT\r\n", b"LIST", b"UIDL", b"RETR 1", b"TOP 1 0",
    b"DELE 2", b"RSET", b"NOOP", b"QUIT", b"CAPA", b"AUTH PLAIN", b"AUTH LOGIN", b"*\r\n",
    b"AGFubgBzZXNhbWU=", b"YW5u", b"\r\n", b"\n", b"UTF8", b"LANG", b"STLS", b"APOP ann ",
]  # fmt: skip
SEEDS = [
    b"\x01USER ann\r\nPASS sesame\r\nSTAT\r\nLIST\r\nUIDL 1\r\nRETR 1\r\nDELE 2\r\nQUIT\r\n",
    b"\x07CAPA\r\nAUTH PLAIN AGFubgBzZXNhbWU=\r\nTOP 2 1\r\nRSET\r\nDELE 1\r\nLIST\r\nQUIT\r\n",
    b"\x02AUTH LOGIN\r\nYW5u\r\nc2VzYW1l\r\nUIDL\r\nRETR 3\r\nNOOP\r\n",
]
MESSAGES = [b"Subject: 1\r\n\r\n.a\r\n..\r\n", b"Subject: 2\r\n\r\n" + b"x" * 9000 + b"\r\n",
            b"Subject: 3\r\n\r\n"]  # fmt: skip


class Shelf:
    """Three messages; what QUIT removed is noted."""

    def __init__(self) -> None:
        self.removed: list[str] = []

    def login(self, who: Credentials) -> OpenShelf:
        return OpenShelf(self)


class OpenShelf:
    prompt = False

    def __init__(self, shelf: Shelf) -> None:
        self._shelf = shelf

    def items(self) -> Sequence[Item]:
        return [Item(f"key-{n}", len(each), flags=frozenset()) for n, each in enumerate(MESSAGES)]

    def read(self, key: str) -> Content:
        return Octets(MESSAGES[int(key[4:])])

    def close(self, delete: Collection[str] = ()) -> None:
        self._shelf.removed += delete


def told(pieces: Sequence[bytes]) -> tuple[bytes, list[str]]:
    """All that is said to a client, and what is gone afterwards."""
    shelf, log = Shelf(), LogDouble()
    accounts = Accounts([Account("ann", shelf, secret=plain("sesame"))], pace=AT_ONCE, log=log)  # type: ignore[arg-type]
    session = ServerSession(Policy(lambda: accounts, log, ways=("user", "plain", "login")))  # type: ignore[arg-type]
    session.greet()
    return answers(session, pieces), shelf.removed


def one(data: bytes) -> None:
    step, octets = 1 + (data[0] if data else 0) % 64, data[1:]
    in_pieces = told([octets[at : at + step] for at in range(0, len(octets), step)])
    assert in_pieces == told([octets])
    said, removed = in_pieces
    assert b"sesame" not in said
    assert not removed or b"quit" in octets.lower()
