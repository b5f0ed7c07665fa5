"""MIME of foreign mail, parsed and decoded in a time that grows with its length only.

Rule of the file: what the standard library needs quadratic time for is kept from it.
"""

from __future__ import annotations

from email.message import Message
from email.parser import BytesParser
from email.policy import Compat32

from mailflow.mail import codec_of
from mailflow.typed import Any

FIELD_LIMIT = 8 << 10
"""Letters of a Content-* field that are looked at: its parameters are cut off one by one, each
time with all that follow, and RFC 2231 lets each name a charset."""


class Bounded(Compat32):
    """Fields are read up to FIELD_LIMIT; written, they stay as they are."""

    def header_fetch_parse(self, name: str, value: Any) -> Any:
        if isinstance(value, str) and name.lower().startswith("content-"):
            value = value[:FIELD_LIMIT]
        return super().header_fetch_parse(name, value)


BOUNDED = Bounded()


def parsed(octets: bytes) -> Message:
    """A message to look into. Hostile MIME makes the parser raise what it likes."""
    return BytesParser(policy=BOUNDED).parsebytes(octets)


def decoded(octets: bytes, charset: str) -> str:
    """As the charset says; what that is not gives U+FFFD, one that is none Latin-1."""
    try:
        return octets.decode(codec_of(charset or "utf-8") or "latin-1", "replace")
    except ValueError:
        return octets.decode("latin-1")
