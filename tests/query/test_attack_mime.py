"""MIME that is made to keep a query busy is looked at for seconds."""

from __future__ import annotations

import time

import pytest

from mailflow.mail import Envelope, Mail, Octets
from mailflow.query import MailFacts, Query
from mailflow.query.facts import BODY_LIMIT, LINE_LIMIT

PATIENCE = 30.0  # seconds; it took minutes


def nested(depth: int) -> bytes:
    """The beginning of a message of so many multiparts, each in the one before."""
    parts = [
        b'--b%d\r\nContent-Type: multipart/mixed; boundary="b%d"\r\n\r\n' % (number, number + 1)
        for number in range(depth)
    ]
    return b'Content-Type: multipart/mixed; boundary="b0"\r\n\r\n' + b"".join(parts)


def facts(octets: bytes) -> MailFacts:
    return MailFacts(Mail("m", Envelope(), Octets(octets)))


@pytest.mark.parametrize("line", [b"\n", b"-\r\n", b"\r"], ids=["lf", "dash", "cr"])
def test_g07_many_short_lines_in_many_nested_parts(line: bytes) -> None:
    bomb = nested(150) + line * (BODY_LIMIT // len(line))
    began = time.monotonic()
    assert not Query('content contains "needle"').matches(facts(bomb))
    assert time.monotonic() - began < PATIENCE


def test_a_large_attachment_has_fewer_lines_than_are_looked_at() -> None:
    coded = b"x" * 76 + b"\r\n"
    count = BODY_LIMIT // len(coded) - 10
    assert count < LINE_LIMIT
    message = (
        b'Content-Type: multipart/mixed; boundary="b"\r\n\r\n--b\r\n'
        b'Content-Disposition: attachment; filename="a.bin"\r\n\r\n'
        + coded
        * count
        + b"\r\n--b\r\n"
        b'Content-Disposition: attachment; filename="b.exe"\r\n\r\n\r\n--b--\r\n'
    )
    assert Query('attachment ends with "b.exe"').matches(facts(message))
