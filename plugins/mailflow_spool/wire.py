"""Messages as they lie in the spool: the whole reply to RETR (RFC 1939, 3 and 5).

Rule of the file: what is stored is what is sent, "+OK" to the final dot; a message that
lacks its last line end has one here, and its size says so.
"""

from __future__ import annotations

import io
import os
from collections.abc import Callable, Iterable, Iterator
from zlib import crc32

from mailflow.lines import crlf_pieces, stuff, to_crlf, unstuff
from mailflow.mail import CHUNK, HEADER_LIMIT, chunks, read
from mailflow.record import NamedTuple
from mailflow.typed import TYPE_CHECKING, BinaryIO

if TYPE_CHECKING:
    from mailflow.mail import Content

HEAD = b"+OK\r\n"
END = b".\r\n"
FRAME = len(HEAD) + len(END)
"""Octets around the message."""

WHOLE = 1 << 20
"""A message up to this size is changed in one piece."""


class Pieces:
    """The wire form of one message, in pieces, each whole; afterwards `size` is that of the
    message, without the stuffing, and `utf8` says whether its header has UTF-8 (RFC 6532)."""

    def __init__(self, content: Content) -> None:
        self._content = content
        self.size = 0
        self.utf8 = False

    def __iter__(self) -> Iterator[bytes]:
        if self._content.size <= WHOLE:
            data = to_crlf(read(self._content))
            if data and not data.endswith(b"\r\n"):
                data += b"\r\n"
            self.size = len(data)
            self.utf8 = has_utf8(data)
            yield HEAD + stuff(data) + END
            return
        yield HEAD
        last = b""
        for piece in _stuffed(self._counted(chunks(self._content))):
            last = (last + piece[-2:])[-2:]
            yield piece
        if last != b"\r\n":
            self.size += 2
            yield b"\r\n"
        yield END

    def _counted(self, pieces: Iterable[bytes]) -> Iterator[bytes]:
        for piece in crlf_pieces(pieces):
            if not self.size:
                self.utf8 = has_utf8(piece)
            self.size += len(piece)
            yield piece


def has_utf8(beginning: bytes) -> bool:
    """Whether the header section that a message begins with has UTF-8 in it."""
    end = beginning.find(b"\r\n\r\n", 0, HEADER_LIMIT)
    section = beginning[: end if end >= 0 else HEADER_LIMIT]
    if section.isascii():
        return False
    try:
        section.decode("utf-8")
    except UnicodeDecodeError as error:
        return end < 0 and error.start > len(section) - 4  # it was cut there
    return True


def _stuffed(pieces: Iterable[bytes]) -> Iterator[bytes]:
    """`stuff` of octets that come in pieces: a line end at the end of one waits for what
    begins the next line."""
    carried = b""
    first = True
    for piece in pieces:
        if first and piece:
            first = False
            if piece.startswith(b"."):
                yield b"."
        piece = carried + piece
        keep = 2 if piece.endswith(b"\r\n") else 1 if piece.endswith(b"\r") else 0
        carried = piece[len(piece) - keep :]
        yield piece[: len(piece) - keep].replace(b"\r\n.", b"\r\n..")
    if carried:
        yield carried


IN_INDEX = 0
"""The number of no file: the message is a row of the index."""


class Place(NamedTuple):
    """Where a message lies: its wire form is `octets` from `start` on, or the row `start` of
    the index where `file` is IN_INDEX; `size` is its own."""

    file: int
    start: int
    octets: int
    size: int
    crc: int
    utf8: bool = False


def small(content: Content) -> tuple[Place, bytes]:
    """The wire form of a message that becomes a row, and its place but for the row."""
    pieces = Pieces(content)
    octets = b"".join(pieces)
    place = Place(IN_INDEX, 0, len(octets), pieces.size, crc32(octets), pieces.utf8)
    return place, octets


def from_wire(octets: bytes) -> bytes:
    """The message in its wire form."""
    return unstuff(octets[len(HEAD) : len(octets) - len(END)])


class Stored:
    """Content that lies in the spool. `opened` gives a descriptor that is the reader's, and
    where in it the message lies."""

    __slots__ = ("_opened", "size")

    def __init__(self, size: int, opened: Callable[[], tuple[int, Place]]) -> None:
        self.size = size
        self._opened = opened

    def open(self) -> BinaryIO:
        """Raises OSError, or what `opened` does."""
        descriptor, place = self._opened()
        if place.size <= WHOLE:
            try:
                return io.BytesIO(unstuff(_message(descriptor, place)))
            finally:
                os.close(descriptor)
        return io.BufferedReader(_Reader(descriptor, place), CHUNK)


def _message(descriptor: int, place: Place) -> bytes:
    """The octets between the frame, as they lie there. Raises OSError."""
    wanted = place.octets - FRAME
    data = os.pread(descriptor, wanted, place.start + len(HEAD))
    while len(data) < wanted:
        more = os.pread(descriptor, wanted - len(data), place.start + len(HEAD) + len(data))
        if not more:
            raise OSError(5, "the file ends within the message")
        data += more
    return data


class _Reader(io.RawIOBase):
    """A large message without its stuffing; to go back is to read again from its beginning."""

    def __init__(self, descriptor: int, place: Place) -> None:
        self._descriptor = descriptor
        self._place = place
        self._rewind()

    def _rewind(self) -> None:
        self._next = self._place.start + len(HEAD)
        self._end = self._place.start + self._place.octets - len(END)
        self._carried = b"\r\n"  # what stands before the first line, to find its dot
        self._ready = b""
        self._at = 0
        self._begun = False

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def readinto(self, buffer: bytearray | memoryview) -> int:  # type: ignore[override]
        while not self._ready and self._next < self._end:
            self._fill()
        data = self._ready[: len(buffer)]
        self._ready = self._ready[len(data) :]
        buffer[: len(data)] = data
        self._at += len(data)
        return len(data)

    def _fill(self) -> None:
        raw = os.pread(self._descriptor, min(CHUNK, self._end - self._next), self._next)
        if not raw:
            raise OSError(5, "the file ends within the message")
        self._next += len(raw)
        piece = self._carried + raw
        keep = 2 if piece.endswith(b"\r\n") else 1 if piece.endswith(b"\r") else 0
        if self._next >= self._end:
            keep = 0
        self._carried = piece[len(piece) - keep :]
        plain = piece[: len(piece) - keep].replace(b"\r\n.", b"\r\n")
        if not self._begun and plain:
            self._begun = True
            plain = plain[2:]
        self._ready = plain

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        start = {os.SEEK_SET: 0, os.SEEK_CUR: self._at, os.SEEK_END: self._place.size}[whence]
        wanted = max(0, start + offset)
        if wanted < self._at:
            self._rewind()
        waste = bytearray(CHUNK)
        while self._at < wanted:
            with memoryview(waste)[: wanted - self._at] as view:
                if not self.readinto(view):
                    break
        return self._at

    def close(self) -> None:
        if not self.closed:
            os.close(self._descriptor)
        super().close()


def unstuffed_size(pieces: Iterable[bytes]) -> int:
    """Octets of the message whose wire form these are."""
    total = dots = 0
    carried = b""
    for piece in pieces:
        data = carried + piece
        total += len(piece)
        dots += data.count(b"\r\n.")
        carried = data[-2:]
    return total - FRAME - (dots - 1)  # the last one ends it
