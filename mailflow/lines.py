"""CRLF lines and dot-stuffing (RFC 5321, 4.5.2; RFC 1939, 3), on whole buffers.

Rule of the file: octets are searched and replaced in bulk, never line by line; and
where there is a choice, one octet is replaced by another number of them, which CPython
does five to ten times faster than it counts or replaces a pair; what is rare is searched by
`re`, which is faster at that than bytes.find.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator

_DOT = rb"\r\n\."


def to_crlf(data: bytes) -> bytes:
    """Every bare LF becomes CRLF; all else stays (a bare CR too)."""
    plain = data.replace(b"\r", b"")
    whole = plain.replace(b"\n", b"\r\n")
    if len(plain) == len(data) or whole == data:  # no CR at all, or every line is as it must be
        return whole
    return data.replace(b"\r\n", b"\n").replace(b"\n", b"\r\n")


def to_lf(data: bytes) -> bytes:
    """CRLF becomes LF, as files here have it; a bare CR stays."""
    plain = data.replace(b"\r", b"")
    if plain.replace(b"\n", b"\r\n") == data:
        return plain
    return data.replace(b"\r\n", b"\n")


def crlf_pieces(pieces: Iterable[bytes]) -> Iterator[bytes]:
    """`to_crlf` of octets that come in pieces, cut wherever they were cut."""
    return _joined(pieces, to_crlf)


def lf_pieces(pieces: Iterable[bytes]) -> Iterator[bytes]:
    """`to_lf` of octets that come in pieces, cut wherever they were cut."""
    return _joined(pieces, to_lf)


def _joined(pieces: Iterable[bytes], change: Callable[[bytes], bytes]) -> Iterator[bytes]:
    """A CR at the end of a piece may be half a CRLF: it waits for the next one."""
    carried = b""
    for piece in pieces:
        piece = carried + piece
        carried = b"\r" if piece.endswith(b"\r") else b""
        yield change(piece[: len(piece) - len(carried)])
    if carried:
        yield carried


def stuff(data: bytes) -> bytes:
    """Double every dot that begins a line. `data` has CRLF line ends and is whole."""
    stuffed = b"\r\n..".join(re.split(_DOT, data))
    return b"." + stuffed if stuffed.startswith(b".") else stuffed


def unstuff(data: bytes) -> bytes:
    """Take back `stuff`: one dot less at the start of every line that begins with one."""
    plain = re.sub(_DOT, b"\r\n", data)
    return plain[1:] if plain.startswith(b".") else plain
