"""The messages of an mbox: where each begins and ends, and a key that readers do not change.

Rule of the file: a From_ line begins a message where a blank line is before it, and a
time and a year are in it. Content-Length is never believed: it is wrong after any edit.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator

from mailflow.digests import blake2b
from mailflow.mail import HEADER_LIMIT, Header, Octets, head
from mailflow.mbox import sender_of
from mailflow.record import NamedTuple

PIECE = 1 << 20
LINE = 1000
"""A From_ line is at most so many octets."""

_FIRST = re.compile(rb"[\r\n]*(From [^\n]{0,%d}\n)" % LINE)
_NEXT = re.compile(rb"(?<=\n)\r?\n(?=(From [^\n]{0,%d}\n))" % LINE)
_DATED = re.compile(rb"\d:\d\d.*\d{4}")
_QUOTED = re.compile(rb"\n>+From ")

CHANGEABLE = (
    "Status", "X-Status", "X-Keywords", "X-UID", "X-IMAP", "X-IMAPbase", "Content-Length",
    "Lines", "X-Mozilla-Status", "X-Mozilla-Status2", "X-Mozilla-Keys",
)  # fmt: skip
"""Fields in which mail readers keep what they know of a message."""

INTERNAL = "DON'T DELETE THIS MESSAGE -- FOLDER INTERNAL DATA"
"""The subject of what some readers put first: no mail, but notes of their own."""

_STATUS = {"R": "seen"}
_X_STATUS = {"A": "answered", "F": "flagged", "D": "deleted", "T": "draft"}


class Place(NamedTuple):
    """Where a message is: its From_ line from `start` to `body`, its octets to `end`, and
    what belongs to it in the file to `stop`."""

    start: int
    body: int
    end: int
    stop: int
    line: bytes


class Message(NamedTuple):
    """A message and what is known of it. `size` is with CRLF line ends and unquoted."""

    place: Place
    digest: str
    size: int
    flags: frozenset[str]
    internal: bool

    @property
    def sender(self) -> str | None:
        return sender_of(self.place.line)

    @property
    def date(self) -> float | None:
        """When it was delivered, as its From_ line says; None where that is no date."""
        from calendar import timegm
        from email.utils import parsedate

        words = self.place.line.split()[2:]
        parsed = parsedate(b" ".join(words).decode("ascii", "replace"))
        try:
            return float(timegm(parsed)) if parsed else None
        except (ValueError, OverflowError):
            return None


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


def message(descriptor: int, place: Place) -> Message:
    """What is known of the message there."""
    peeked = os.pread(descriptor, min(HEADER_LIMIT, place.end - place.body), place.body)
    section = head(Octets(peeked))
    header = Header(section)
    subject = header.get("Subject") or ""
    status = (header.get("Status") or "", header.get("X-Status") or "")
    for name in CHANGEABLE:
        header.remove(name)
    digest = blake2b(place.line.rstrip(), digest_size=16)
    digest.update(b"\n" + bytes(header))
    size = len(section) + section.count(b"\n") - section.count(b"\r\n")
    for piece in octets(descriptor, place.body + len(section), place.end):
        digest.update(piece)
        size += len(piece) + piece.count(b"\n") - piece.count(b"\r\n")
        if b"\n>" in piece:
            size -= len(_QUOTED.findall(piece))
    return Message(
        place, digest.hexdigest(), size, _flags(*status),
        internal=subject == INTERNAL and sender_of(place.line) == "",
    )  # fmt: skip


def _flags(status: str, x_status: str) -> frozenset[str]:
    found = {_STATUS[letter] for letter in status if letter in _STATUS}
    found |= {_X_STATUS[letter] for letter in x_status if letter in _X_STATUS}
    return frozenset(found if "O" in status or found else {"recent"})


def catalogue(descriptor: int) -> dict[str, Message]:
    """Every message by its key, in order: its digest, with a number where it is not the
    first of equal ones. Raises ValueError where it is no mbox."""
    found: dict[str, Message] = {}
    counts: dict[str, int] = {}
    for place in places(descriptor):
        each = message(descriptor, place)
        counts[each.digest] = number = counts.get(each.digest, 0) + 1
        found[each.digest if number == 1 else f"{each.digest}.{number}"] = each
    return found
