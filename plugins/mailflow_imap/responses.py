"""What the answers of a server mean: response codes as errors, FETCH lines as facts.

Rule of the file: the exact common form is read by one regular expression, everything
else by imapclient's parser; what neither understands breaks the protocol.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from functools import lru_cache

from mailflow.errors import (
    GoneError,
    InUseError,
    LoginError,
    MailflowError,
    PeerError,
    RefusedError,
    UnavailableError,
)
from mailflow.log import printable
from mailflow.record import NamedTuple
from mailflow.typed import Any
from mailflow_imap.uids import UID_LIMIT
from mailflow_imap.wire import MONTHS, Reply, Untagged

Part = bytes | tuple[bytes, bytes]

_LATER = frozenset((
    "UNAVAILABLE", "THROTTLED", "LIMIT", "SERVERBUG", "EXPUNGEISSUED", "OVERQUOTA", "INUSE",
))  # fmt: skip
"""Codes that time may mend (RFC 5530, 3)."""

WORDS_LIMIT = 1 << 19
"""Words and lists in one response that is parsed: each takes some hundred times its octets."""

SIZE_LIMIT = (1 << 63) - 1
"""Of a size (RFC 9051, 9: number64)."""

_BACKOFF = re.compile(r"backoff time: *(\d{1,9}) *(milliseconds|ms|seconds|s)?\b", re.I)


class UnreadableError(PeerError):
    """What stands behind "SERVER sent": whoever hears the server knows its name."""


class Fact(NamedTuple):
    """What a listing says of one message; None for what was not asked or not said."""

    uid: int
    size: int | None = None
    date: float | None = None
    flags: frozenset[str] | None = None


def backoff(text: str) -> float | None:
    """The seconds that a server asks us to stay away, such as "Suggested Backoff Time: N ms"."""
    found = _BACKOFF.search(text)
    if not found:
        return None
    unit = (found[2] or "ms").lower()
    return int(found[1]) / (1000 if unit.startswith("m") else 1)


def refusal(text: str, reply: Reply, otherwise: type[MailflowError]) -> MailflowError:
    """The error that an answer stands for (RFC 5530, 3), else `otherwise`.

    `delay`, in its fields, is how many seconds the server asks us to wait.
    """
    code = reply.code
    fields: dict[str, object] = {"code": code} if code else {}
    delay = backoff(reply.text)
    if delay is not None:
        fields["delay"] = delay
    if reply.status == "BAD" and not code and delay is None:  # Exchange says that with BAD
        return PeerError(text, lines=(reply.text,), **fields)
    if code == "INUSE":
        return InUseError(text, **fields)
    if code in _LATER or delay is not None:
        return UnavailableError(text, **fields)
    if code in ("AUTHENTICATIONFAILED", "AUTHORIZATIONFAILED", "EXPIRED", "PRIVACYREQUIRED"):
        return LoginError(text, **fields)
    if code == "NONEXISTENT":
        return GoneError(text, **fields)
    return otherwise(text, **fields)


_ITEM = (
    rb"(?:UID (?P<uid>\d{1,10})|RFC822\.SIZE (?P<size>\d{1,18})|FLAGS \((?P<flags>[^()\"{}\[\]]*)\)"
    rb"|INTERNALDATE \"(?P<date>[^\"\\]{26})\"|MODSEQ \(\d{1,19}\))"
)
_FACTS = re.compile(rb"\((?:%b(?: (?!\))|(?=\))))+\)" % _ITEM)


def fact(response: Untagged) -> Fact | None:
    """The facts in a FETCH response; None where it has no UID. Raises PeerError."""
    line = response.line
    if found := _FACTS.fullmatch(line):
        number, size, marks, when = found.groups()
        if number is None or not 0 < int(number) <= UID_LIMIT:
            return None
        values = (
            int(number),
            None if size is None else int(size),
            None if when is None else date(when),
            None if marks is None else flags(marks),
        )
        return tuple.__new__(
            Fact, values
        )  # half the time of its own, of which there may be 100,000
    items = fetched(response)
    uid = items.get(b"UID")
    if not isinstance(uid, int) or not 0 < uid <= UID_LIMIT:
        return None
    found_flags = items.get(b"FLAGS")
    size = items.get(b"RFC822.SIZE")
    if size is not None and not (isinstance(size, int) and size <= SIZE_LIMIT):
        size = 0  # such as -5: the message is there all the same
    when = items.get(b"INTERNALDATE")
    return Fact(
        uid,
        size,
        date(when) if isinstance(when, bytes) else None,
        _flag_set(found_flags) if isinstance(found_flags, tuple) else None,
    )


def fetched(response: Untagged) -> dict[bytes, Any]:
    """The items of a FETCH response by name in upper case, values as imapclient parses them.

    ENVELOPE and BODYSTRUCTURE are its nested tuples, INTERNALDATE octets. Raises
    UnreadableError.
    """
    parsed = parse(response.parts)
    items = parsed[0] if len(parsed) == 1 else None
    if not isinstance(items, tuple) or len(items) % 2:
        raise UnreadableError(f"what is no FETCH response: {_shown(response.parts)}")
    names = [name.upper() if isinstance(name, bytes) else b"" for name in items[::2]]
    return dict(zip(names, items[1::2], strict=True))


def server_name(response: Untagged) -> str:
    """The name in an ID response (RFC 2971, 3.2), "" where it has none. Raises
    UnreadableError."""
    parsed = parse(response.parts)
    words = parsed[0] if parsed and isinstance(parsed[0], tuple) else ()
    for key, value in zip(words[::2], words[1::2], strict=False):
        if isinstance(key, bytes) and key.lower() == b"name" and isinstance(value, bytes):
            return printable(value, 80)
    return ""


def parse(parts: Sequence[Part]) -> tuple[Any, ...]:
    """The words of a response: octets, numbers, None, tuples. Raises UnreadableError."""
    from imapclient.exceptions import ProtocolError
    from imapclient.response_parser import parse_response

    texts = (part if isinstance(part, bytes) else part[0] for part in parts)
    if len(parts) + sum(text.count(b" ") + text.count(b"(") for text in texts) > WORDS_LIMIT:
        raise UnreadableError(f"a response of more than {WORDS_LIMIT} words: {_shown(parts)}")
    try:
        return tuple(parse_response(list(parts)))
    except (ProtocolError, ValueError, AssertionError, RecursionError):
        raise UnreadableError(f"a response that cannot be read: {_shown(parts)}") from None


def _shown(parts: Sequence[Part]) -> str:
    first = parts[0] if parts else b""
    return printable(first[0] if isinstance(first, tuple) else first, 80)


def flags(text: bytes) -> frozenset[str]:
    r"""The flags of a list without its parentheses, as they stand: "\Seen", "$Forwarded"."""
    return _few(text) if len(text) <= FEW else _few.__wrapped__(text)


FEW = 256
"""Octets of flags that are remembered, since many messages have the same."""


@lru_cache(maxsize=4096)
def _few(text: bytes) -> frozenset[str]:
    return frozenset(word.decode("utf-8", "replace") for word in text.split())


def _flag_set(words: tuple[Any, ...]) -> frozenset[str]:
    return frozenset(
        word.decode("utf-8", "replace") if isinstance(word, bytes) else str(word) for word in words
    )


_FIRST, _END = -62_135_510_400.0, 253_402_214_400.0
"""2 January of the year 1, 31 December 9999: what a date can tell in every zone."""

_MONTHS = {month.lower().encode(): number for number, month in enumerate(MONTHS, 1)}
_DATE = re.compile(
    rb"([ \d]\d-[A-Za-z]{3}-\d{4}) (\d\d):(\d\d):(\d\d) ([+-])(\d\d)(\d\d)",
)


def date(text: bytes) -> float | None:
    """INTERNALDATE as seconds since the epoch; None where it is none (RFC 3501, 9)."""
    found = _DATE.fullmatch(text)
    day = _day(found[1].lower()) if found else None
    if not found or day is None:
        return None
    hours, minutes, seconds = int(found[2]), int(found[3]), int(found[4])
    zone = int(found[6]) * 3600 + int(found[7]) * 60
    at = day + hours * 3600.0 + minutes * 60 + seconds - (zone if found[5] == b"+" else -zone)
    return at if _FIRST <= at < _END else None


@lru_cache(maxsize=1024)
def _day(text: bytes) -> float | None:
    from datetime import date as calendar_day

    try:
        day = calendar_day(int(text[7:]), _MONTHS[text[3:6]], int(text[:2]))
    except (KeyError, ValueError):
        return None
    return (day.toordinal() - calendar_day(1970, 1, 1).toordinal()) * 86400.0


def refused(text: str, reply: Reply) -> MailflowError:
    """As `refusal`, of a command that is not the log-in."""
    return refusal(text, reply, RefusedError)
