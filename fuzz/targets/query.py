"""The query language: what is read prints and reads back, and its opposite says the opposite."""

from __future__ import annotations

from mailflow.mail import Envelope, Mail, Octets
from mailflow.query import MailFacts, QueryError, parse

WORDS = [
    b"from",
    b"to",
    b"subject",
    b"size",
    b"age",
    b"seen",
    b"header",
    b"created",
    b" and ",
    b" or ",
    b"not ",
    b" is ",
    b" contains ",
    b" matches ",
    b" in ",
    b" exists",
    b"older than",
    b"2MB",
    b"30d",
    b"today",
    b"2026-01-01",
    b"(",
    b")",
    b'"',
    b"'",
    b"<=",
    b"starts with",
    b"\\",
]
SEEDS = [
    b'from contains "ann@" and not (size > 2MB or age > 30d)\0From: ann@example.org\r\n\r\nhello',
    b'header "List-Id" exists or subject matches "^Re: [a-z]+"\0Subject: Re: x\r\n\r\n',
    b'created >= 2026-01-01 and to in ("a@b", "c@d") and content contains "x"\0To: a@b\n\nx',
]


def one(data: bytes) -> None:
    text, _, octets = data.partition(b"\0")
    try:
        query = parse(text.decode("utf-8", "replace"))
    except QueryError as error:
        assert str(error)
        return
    assert parse(str(query)) == query
    mail = Mail("1", Envelope(), Octets(octets))
    found = query.decide(MailFacts(mail, now=1.8e9))
    opposite = (~query).decide(MailFacts(mail, now=1.8e9))
    assert opposite == (None if found is None else not found)
