"""The mbox format (RFC 4155), in its reversible dialect mboxrd: From_ lines and quoting.

Rule of the file: octets here have LF line ends, as mbox files do; a line of a message that
would be taken for a From_ line, and one that was quoted before, gets one ">" more. A From_
line begins a message where a blank line is before it, and a time and a year are in it;
Content-Length is never believed: it is wrong after any edit.
"""

from __future__ import annotations

import os
import re
import time
from collections.abc import Callable, Iterable, Iterator

from mailflow.record import NamedTuple

_TO_QUOTE = re.compile(rb"^(?=>*From )", re.MULTILINE)
_QUOTED = re.compile(rb"^>(?=>*From )", re.MULTILINE)
_BLANKS = re.compile(r"[\s\x00-\x1f\x7f]+")

PIECE = 1 << 20
LINE = 1000
"""A From_ line is at most so many octets."""

_FIRST = re.compile(rb"[\r\n]*(From [^\n]{0,%d}\n)" % LINE)
_NEXT = re.compile(rb"(?<=\n)\r?\n(?=(From [^\n]{0,%d}\n))" % LINE)
_DATED = re.compile(rb"\d:\d\d.*\d{4}")

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


class Place(NamedTuple):
    """Where a message is: its From_ line from `start` to `body`, its octets to `end`, and
    what belongs to it in the file to `stop`."""

    start: int
    body: int
    end: int
    stop: int
    line: bytes


def places(descriptor: int, start: int = 0, stop: int | None = None) -> Iterator[Place]:
    """Where the messages of an open mbox are. Raises ValueError where it is no mbox."""
    stop = os.fstat(descriptor).st_size if stop is None else stop
    first = _FIRST.match(os.pread(descriptor, min(2 * LINE, stop - start), start))
    if first is None:
        if os.pread(descriptor, min(PIECE, stop - start), start).strip():
            raise ValueError('it does not begin with "From "')
        return
    at, line = start + first.start(1), first[1]
    for blank, following, next_line in _borders(descriptor, at, stop):
        body = at + len(line)
        yield Place(at, body, max(body, blank), following, line)
        at, line = following, next_line
    body = at + len(line)
    yield Place(at, body, max(body, stop - _blank_end(descriptor, stop)), stop, line)


def _borders(descriptor: int, offset: int, stop: int) -> Iterator[tuple[int, int, bytes]]:
    """(where a blank line begins, where the From_ line behind it does, that line)."""
    last = -1
    while offset < stop:
        data = os.pread(descriptor, min(PIECE, stop - offset), offset)
        for found in _NEXT.finditer(data):
            if offset + found.start() > last and _DATED.search(found[1]):
                last = offset + found.start()
                yield last, offset + found.end(), found[1]
        if len(data) < PIECE:
            return
        offset += len(data) - LINE - 10  # what may have begun at its end is seen whole


def _blank_end(descriptor: int, stop: int) -> int:
    """Octets of the blank line that the file ends with."""
    tail = os.pread(descriptor, min(3, stop), max(0, stop - 3))
    return 2 if tail == b"\n\r\n" else 1 if tail.endswith(b"\n\n") else 0


def octets(descriptor: int, start: int, end: int) -> Iterator[bytes]:
    """What stands there, in pieces; fewer where the file is shorter by now."""
    while start < end:
        piece = os.pread(descriptor, min(PIECE, end - start), start)
        if not piece:
            return
        yield piece
        start += len(piece)
