"""The messages of an mbox: what is known of each, and a key that readers do not change.

Rule of the file: what mail readers write into a message for themselves is not in its key.
"""

from __future__ import annotations

import os
from itertools import chain

from mailflow.digests import blake2b
from mailflow.mail import HEADER_LIMIT, Header, Octets, head
from mailflow.mbox import Place, octets, places, sender_of, unquote
from mailflow.record import NamedTuple

CHANGEABLE = (
    "Status", "X-Status", "X-Keywords", "X-UID", "X-IMAP", "X-IMAPbase", "Content-Length",
    "Lines", "X-Mozilla-Status", "X-Mozilla-Status2", "X-Mozilla-Keys",
)  # fmt: skip
"""Fields in which mail readers keep what they know of a message."""

INTERNAL = "DON'T DELETE THIS MESSAGE -- FOLDER INTERNAL DATA"
"""The subject of what some readers put first: no mail, but notes of their own."""

_STATUS = {"R": "seen"}
_X_STATUS = {"A": "answered", "F": "flagged", "D": "deleted", "T": "draft"}


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
    size, quoted, last = 0, False, b""
    for piece in chain([section], octets(descriptor, place.body + len(section), place.end)):
        if piece is not section:
            digest.update(piece)
        size += len(piece) + piece.count(b"\n") - piece.count(b"\r\n")
        size -= last == b"\r" and piece.startswith(b"\n")  # a line end that lies in two pieces
        quoted = quoted or piece.startswith(b">") or b"\n>" in piece
        last = piece[-1:]
    if quoted:
        size -= _marks(descriptor, place)
    return Message(
        place, digest.hexdigest(), size, _flags(*status),
        internal=subject == INTERNAL and sender_of(place.line) == "",
    )  # fmt: skip


def _marks(descriptor: int, place: Place) -> int:
    """How many octets `unquote` takes away."""
    plain = sum(map(len, unquote(octets(descriptor, place.body, place.end))))
    return sum(map(len, octets(descriptor, place.body, place.end))) - plain


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
