"""The mbox format (RFC 4155), in its reversible dialect mboxrd: From_ lines and quoting.

Rule of the file: octets here have LF line ends, as mbox files do; a line of a message that
would be taken for a From_ line, and one that was quoted before, gets one ">" more.
"""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Iterable, Iterator

_TO_QUOTE = re.compile(rb"^(?=>*From )", re.MULTILINE)
_QUOTED = re.compile(rb"^>(?=>*From )", re.MULTILINE)
_BLANKS = re.compile(r"[\s\x00-\x1f\x7f]+")

NOBODY = "MAILER-DAEMON"
"""Stands in a From_ line for the null sender, and for one that is not known."""


def from_line(sender: str | None, when: float) -> bytes:
    """The line before a message: who sent it, and when (UTC), with its LF."""
    who = _BLANKS.sub("-", sender or NOBODY)
    date = time.asctime(time.gmtime(when))
    return f"From {who} {date}\n".encode("utf-8", "surrogateescape")


def sender_of(line: bytes) -> str | None:
    """The reverse-path that a From_ line tells: "" for nobody, None where it tells none."""
    word = line.removeprefix(b"From ").strip().partition(b" ")[0].decode("utf-8", "surrogateescape")
    if word.upper() == NOBODY or word == "<>":
        return ""
    return word if "@" in word and word.isprintable() else None


def quote(pieces: Iterable[bytes]) -> Iterator[bytes]:
    """Octets with LF line ends, cut anywhere, as they stand in an mboxrd file."""
    return _by_lines(pieces, lambda lines: _TO_QUOTE.sub(b">", lines))


def unquote(pieces: Iterable[bytes]) -> Iterator[bytes]:
    """Take back `quote`."""
    return _by_lines(pieces, lambda lines: _QUOTED.sub(b"", lines))


_LONG = 1 << 16


def _by_lines(pieces: Iterable[bytes], change: Callable[[bytes], bytes]) -> Iterator[bytes]:
    """What begins a line is seen whole; a line without end goes on as it is."""
    carried = b""
    inside = False  # of a line whose beginning has gone on
    for piece in pieces:
        data = carried + piece
        if inside:
            start = data.find(b"\n") + 1
            yield data[:start] if start else data
            carried = b""
            if not start:
                continue
            data, inside = data[start:], False
        end = data.rfind(b"\n") + 1
        if not end and len(data) > _LONG:
            yield change(data)
            carried, inside = b"", True
            continue
        yield change(data[:end])
        carried = data[end:]
    if carried:
        yield change(carried)
