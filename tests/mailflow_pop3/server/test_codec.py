"""A session without a socket: however its octets arrive, the answers are the same octets."""

from __future__ import annotations

from itertools import pairwise

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from mailflow.accounts import Account, Accounts
from mailflow.mail import Octets, chunks
from mailflow.testing.engine import LogDouble
from mailflow.testing.gateway import answers, plain
from mailflow_pop3 import reply
from mailflow_pop3.server import Policy, ServerSession

from .dialogue import sasl
from .ours import AT_ONCE
from .shelf import Shelf

MESSAGES = [
    b"Subject: one\r\n\r\n.dot\r\n..\r\n",
    b"Subject: two\r\n\r\n" + b"x" * 200_000 + b"\r\n.\r\n",
    b"Subject: three",
]

SCRIPT = [
    b"CAPA", b"USER ann", b"PASS sesame", b"STAT", b"LIST", b"UIDL", b"LIST 2", b"RETR 1",
    b"RETR 2", b"TOP 2 0", b"RETR 3", b"XYZZY", b"", b"DELE 2", b"RETR 2", b"NOOP " + b"x" * 300,
    b"RSET", b"DELE 1", b"LIST", b"QUIT", b"NOOP",
]  # fmt: skip

OCTETS = b"".join(line + b"\r\n" for line in SCRIPT)

AUTH = [
    b"AUTH PLAIN", b"*", b"AUTH PLAIN", b"!!!", b"AUTH LOGIN", b"YW5u", b"d3Jvbmc=", b"AUTH PLAIN",
    sasl("", "ann", "sesame").encode(), b"STAT", b"QUIT",
]  # fmt: skip


def fresh() -> ServerSession:
    account = Account("ann", Shelf(*MESSAGES), secret=plain("sesame"))
    log = LogDouble()
    accounts = Accounts([account], pace=AT_ONCE, log=log)  # type: ignore[arg-type]
    ways = ("user", "plain", "login")  # without the timestamp of APOP, which is never the same
    session = ServerSession(Policy(lambda: accounts, log, ways=ways))  # type: ignore[arg-type]
    session.greet()
    return session


def cut(octets: bytes, step: int) -> list[bytes]:
    return [octets[at : at + step] for at in range(0, len(octets), step)]


@pytest.mark.parametrize("lines", [SCRIPT, AUTH], ids=["a-session", "sasl"])
def test_octet_by_octet_and_in_one_lump_a_session_is_the_same(lines):
    octets = b"".join(line + b"\r\n" for line in lines)
    at_once = answers(fresh(), [octets])
    assert at_once.count(b"+OK") >= 4
    for step in (1, 2, 3, 7, 64, 255, 256):
        assert answers(fresh(), cut(octets, step)) == at_once


@given(st.lists(st.integers(1, len(OCTETS)), max_size=30))
def test_wherever_the_octets_are_cut_a_session_is_the_same(places):
    bounds = sorted({0, len(OCTETS), *(each % len(OCTETS) for each in places)})
    pieces = [OCTETS[low:high] for low, high in pairwise(bounds)]
    assert answers(fresh(), pieces) == answers(fresh(), [OCTETS])


LINES = st.sampled_from(
    [b"USER ann", b"PASS sesame", b"PASS x", b"STAT", b"LIST", b"UIDL 1", b"RETR 1", b"TOP 3 9",
     b"DELE 2", b"RSET", b"NOOP", b"CAPA", b"\xff", b"", b"x" * 400, b"AUTH PLAIN", b"*", b"\0"]
)  # fmt: skip


@given(st.lists(LINES, max_size=25), st.sampled_from([b"\r\n", b"\n"]), st.integers(1, 50))
@example([b"AUTH PLAIN", b"x" * 20_000, b"NOOP"], b"\r\n", 7)
def test_whatever_is_said_each_line_has_one_answer_however_it_arrives(lines, end, step):
    octets = b"".join(line + end for line in lines)
    session = fresh()
    said = answers(session, [octets])
    assert answers(fresh(), cut(octets, step)) == said
    for line in statuses(said):
        assert line[:3] == b"+OK" or line[:4] == b"-ERR" or line[:2] == b"+ "
        assert len(line) <= 510


def statuses(said: bytes) -> list[bytes]:
    """The status lines of what was said: bodies, which begin where one is multi-line, left out."""
    found, body = [], False
    lines = said.split(b"\r\n")[:-1]
    for number, line in enumerate(lines):
        if body:
            body = line != b"."
            continue
        found.append(line)
        after = lines[number + 1] if number + 1 < len(lines) else b"+OK"
        body = line[:3] == b"+OK" and not after.startswith((b"+OK", b"-ERR", b"+ "))
    return found


BODY = st.lists(
    st.sampled_from([b"\r\n", b"\r", b"\n", b".", b"..", b"x", b"\0", b"\xff", b"\r\n."]),
    max_size=40,
).map(b"".join)


class Pieces:
    """Content that is read in pieces of `step` octets."""

    def __init__(self, octets: bytes, step: int) -> None:
        self.size = len(octets)
        self._octets = octets
        self._step = step

    def open(self):
        import io

        outer = self

        class Reader(io.BytesIO):
            def read(self, size=-1):
                return super().read(min(size, outer._step) if size >= 0 else -1)

        return Reader(self._octets)


@given(BODY, st.integers(1, 9))
@example(b"a\r\n.", 3)
@example(b".", 1)
@example(b"", 1)
def test_a_message_is_stuffed_alike_however_it_is_read(octets, step):
    whole = b"".join(reply.pieces(Octets(octets)))
    assert b"".join(reply.pieces(Pieces(octets, step))) == whole
    plain_octets = octets.replace(b"\r\n", b"\n").replace(b"\n", b"\r\n")
    if plain_octets and not plain_octets.endswith(b"\r\n"):
        plain_octets += b"\r\n"
    lines = plain_octets.split(b"\r\n")[:-1]
    stuffed = b"".join((b"." if line[:1] == b"." else b"") + line + b"\r\n" for line in lines)
    assert whole == stuffed + b".\r\n"


@given(BODY, st.integers(1, 9), st.integers(0, 5))
@example(b"a\r\n\r\n\r\nb", 3, 1)
def test_the_first_lines_are_the_same_however_it_is_read(octets, step, count):
    whole = b"".join(reply.pieces(Octets(octets), count))
    assert b"".join(reply.pieces(Pieces(octets, step), count)) == whole
    assert b"".join(chunks(Pieces(octets, step))) == octets
