"""MIME that strangers wrote is read in bounded time: what would take longer is not looked at."""

from __future__ import annotations

from email import message_from_bytes

import pytest

from mailflow.mail import Envelope, Mail, Octets
from mailflow.mailboxes.parts import split
from mailflow.mime import FIELD_LIMIT, decoded, parsed
from mailflow.query import MailFacts, Query

SLOW = ["punycode", "idna", "unicode_escape", "raw_unicode_escape", "undefined", "zlib"]
"""Python's codecs that are no charset; of a megabyte the first two make an hour's work."""


@pytest.mark.parametrize("charset", SLOW)
def test_g07_what_is_no_charset_is_not_decoded_as_one(charset: str) -> None:
    octets = b"Content-Type: text/plain; charset=%b\r\n\r\nab-\\N{x}zz" % charset.encode()
    assert decoded(b"ab-\\N{x}zz", charset) == "ab-\\N{x}zz"
    assert split(octets)[0][0]["text"] == "ab-\\N{x}zz"
    query = Query('content contains "ab-\\\\N{x}zz"')
    assert query.matches(MailFacts(Mail("m", Envelope(), Octets(octets))))


@pytest.mark.parametrize(
    ("charset", "text"), [("", "ä"), ("utf-8", "ä"), ("latin-1", "Ã¤"), ("klingon", "Ã¤")]
)
def test_a_charset_is_decoded_and_one_that_nobody_knows_is_latin_1(charset: str, text: str) -> None:
    assert decoded("ä".encode(), charset) == text


def test_g07_of_parameters_without_end_only_the_first_are_looked_at() -> None:
    first = b"Content-Type: text/plain; charset=utf-16; "
    octets = first + b"a=b; " * FIELD_LIMIT + b"name=x\r\n\r\nx"
    message = parsed(octets)
    assert (message.get_content_type(), message.get_content_charset()) == ("text/plain", "utf-16")
    assert message.get_filename() is None
    assert len(str(message["Content-Type"])) == FIELD_LIMIT


def test_what_is_not_looked_at_stays_where_the_message_is_written() -> None:
    octets = b"Content-Type: text/plain;\n a=" + b"b" * FIELD_LIMIT + b"; c=d\n\nx"
    assert parsed(octets).as_bytes() == message_from_bytes(octets).as_bytes()
