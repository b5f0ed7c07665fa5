"""The octets of an answer, unpacked where a server packs them unasked.

Rule of the file: nothing is held but one piece; what ends too early is an error, and is never
taken for all.
"""

from __future__ import annotations

import zlib
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Protocol

from mailflow.errors import PeerError, UnavailableError
from mailflow.log import clean

if TYPE_CHECKING:
    import requests

    from mailflow_webmail.web.watch import Call

CHUNK = 1 << 16

_GZIP = b"\x1f\x8b"

_GZIPPED = 31
"""What zlib calls it."""


class Packed(Protocol):
    """What a body is read from: it gives b"" at the end, and again."""

    def read(self, most: int) -> bytes: ...


def says_its_end(headers: Mapping[str, str]) -> bool:
    """Whether an answer that ends too early can be told from one that is whole: its length is
    announced, or its last chunk is."""
    length: str = headers.get("Content-Length", "").strip()
    coding: str = headers.get("Transfer-Encoding", "").strip().lower()
    return (length.isascii() and length.isdecimal()) or coding == "chunked"  # no list is undone


class Answer:
    """One answer, of which only the head has been read."""

    def __init__(self, response: requests.Response, call: Call) -> None:
        self.url = str(response.url)
        self.status_code = response.status_code
        self.headers: Mapping[str, str] = response.headers
        self.call = call
        self.led = 0
        self._raw = response.raw

    def read(self, most: int) -> bytes:
        """Octets as they are on the wire, but for chunks; b"" at the end."""
        octets: bytes = self._raw.read(most, decode_content=False)
        return octets

    @property
    def says_its_end(self) -> bool:
        """Whether it would be noticed if it ended too early."""
        return says_its_end(self.headers)


def unpacked(packed: Packed, coding: str, name: str) -> Iterator[bytes]:
    """Pieces of CHUNK octets at most. `coding` is what Content-Encoding announces, though
    nothing but `identity` was asked for: gzip and deflate are undone, where it is true.

    Raises PeerError, UnavailableError (it ends too early).
    """
    coding = coding.strip().lower()
    first = packed.read(CHUNK)
    if coding in ("gzip", "x-gzip") and first.startswith(_GZIP):
        yield from _inflated(packed, first, _GZIPPED, name)
    elif coding == "deflate" and _is_deflated(first):
        yield from _inflated(packed, first, 15 if _is_zlib(first) else -15, name)
    elif coding in ("", "identity", "gzip", "x-gzip", "deflate"):
        while first:
            yield first
            first = packed.read(CHUNK)
    elif first:
        raise PeerError(f"{name} packs its answer as {clean(coding)[:40]}, which nobody asked for")


def _is_zlib(data: bytes) -> bool:
    return len(data) > 1 and data[0] & 15 == 8 and (data[0] << 8 | data[1]) % 31 == 0


def _is_deflated(data: bytes) -> bool:
    """Whether it can be undone, for a page or mail that is announced so and sent as it is."""
    try:
        zlib.decompressobj(15 if _is_zlib(data) else -15).decompress(data, CHUNK)
    except zlib.error:
        return False
    return bool(data)


def _inflated(packed: Packed, data: bytes, bits: int, name: str) -> Iterator[bytes]:
    unpacker = zlib.decompressobj(bits)
    try:
        while True:
            piece = unpacker.decompress(data, CHUNK)
            data = unpacker.unconsumed_tail
            if piece:
                yield piece
            if unpacker.eof:
                data = unpacker.unused_data or packed.read(CHUNK)
                if bits != _GZIPPED or not data.startswith(_GZIP):
                    return  # what pads it is nobody's
                unpacker = zlib.decompressobj(bits)
            elif not data and len(piece) < CHUNK:
                data = packed.read(CHUNK)
                if not data:
                    raise UnavailableError(f"{name} broke off in the middle of an answer")
    except zlib.error:
        raise PeerError(f"{name} packs its answer in a way that cannot be undone") from None
