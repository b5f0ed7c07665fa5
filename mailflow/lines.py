"""CRLF lines and dot-stuffing (RFC 5321, 4.5.2; RFC 1939, 3), on whole buffers.

Rule of the file: octets are searched and replaced in bulk, never line by line.
"""

from __future__ import annotations

import re

_BARE_LF = rb"(?<!\r)\n"


def to_crlf(data: bytes) -> bytes:
    """Every bare LF becomes CRLF; all else stays (a bare CR too)."""
    if data.count(b"\n") == data.count(b"\r\n"):
        return data
    return re.sub(_BARE_LF, b"\r\n", data)


def to_lf(data: bytes) -> bytes:
    """CRLF becomes LF, as files here have it; a bare CR stays."""
    return data.replace(b"\r\n", b"\n")


def stuff(data: bytes) -> bytes:
    """Double every dot that begins a line. `data` has CRLF line ends and is whole."""
    stuffed = data.replace(b"\r\n.", b"\r\n..")
    return b"." + stuffed if stuffed.startswith(b".") else stuffed


def unstuff(data: bytes) -> bytes:
    """Take back `stuff`: one dot less at the start of every line that begins with one."""
    plain = data.replace(b"\r\n.", b"\r\n")
    return plain[1:] if plain.startswith(b".") else plain
