"""A message's file as POP3 has it: CRLF line ends, the last line's too, and its exact size.

Rule of the file: what is small is read whole, and what is large is converted as it is read,
from wherever it is asked for; memory does not grow with it.
"""

from __future__ import annotations

import io
import os
from collections.abc import Iterator

from mailflow.lines import crlf_pieces, stuff, to_crlf
from mailflow.mail import CHUNK, Octets
from mailflow.typed import TYPE_CHECKING, BinaryIO

if TYPE_CHECKING:
    from mailflow.mail import Content

WHOLE = 1 << 20
"""A file up to this size is read in one piece."""

AT_HAND = 1 << 18
"""A file up to this size may be sent without a thread, where the system has it in memory."""

CRLF = b"\r\n"


def size_of(file: int, stored: int, told: int | None, held: int | None) -> int:
    """The octets of a message in an open file of `stored` octets. `told` is what its name says
    of it (W), `held` what the name says of the file (S): a name that lies about the one is not
    believed about the other. Raises OSError."""
    if not stored:
        return 0
    lacks = 0 if os.pread(file, 1, stored - 1) == b"\n" else len(CRLF)
    if told is not None and held in (stored, None) and stored <= told <= 2 * stored:
        return told + lacks
    return sum(map(len, crlf_pieces(_pieces(file, 0)))) + lacks


def content_of(file: int, stored: int, size: int) -> Content:
    """The message in an open file, which belongs to it from now on. `size` is what was said of
    it; what is read whole may turn out to have another. Raises OSError."""
    if stored > WHOLE:
        return Stored(file, size)
    try:
        return Octets(_ended(to_crlf(b"".join(_pieces(file, 0)))))
    finally:
        os.close(file)


def is_near(file: int) -> bool:
    """Whether it can be known without waiting if octets of this file are in memory: not so
    where it lies on another machine."""
    try:
        os.preadv(file, [bytearray(1)], 0, os.RWF_NOWAIT)
    except BlockingIOError:
        return True
    except OSError:
        return False
    return True


def held(file: int, stored: int) -> bytes | None:
    """The octets of a file, where that waits for no disk. Raises no OSError."""
    data = bytearray(stored)
    try:
        count = os.preadv(file, [data], 0, os.RWF_NOWAIT)
    except OSError:
        return None
    return bytes(data) if count == stored else None


def answer(data: bytes, size: int) -> bytes | None:
    """The answer to RETR (RFC 1939, 3) of a message as its file has it; None where its size
    is another than `size`."""
    whole = _ended(to_crlf(data))
    if len(whole) != size:
        return None
    return b"".join((b"+OK\r\n", stuff(whole), b".\r\n"))


def _ended(octets: bytes) -> bytes:
    return octets if octets.endswith(CRLF) or not octets else octets + CRLF


class Stored:
    """Content converted as it is read. Its file stays open as long as this or a reader lives."""

    __slots__ = ("_file", "size")

    def __init__(self, file: int, size: int) -> None:
        self._file = file
        self.size = size

    def __del__(self) -> None:
        os.close(self._file)

    def open(self) -> BinaryIO:
        return io.BufferedReader(_Reader(self), CHUNK)

    def pieces(self) -> Iterator[bytes]:
        last = b""
        for piece in crlf_pieces(_pieces(self._file, 0)):
            yield piece
            last = piece[-1:] or last
        if last != b"\n":
            yield CRLF


class _Reader(io.RawIOBase):
    """The octets of a Stored. To go back is to begin anew."""

    def __init__(self, content: Stored) -> None:
        self._content = content
        self._rewind()

    def _rewind(self) -> None:
        self._pieces = self._content.pieces()
        self._left = memoryview(b"")
        self._at = 0

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def readinto(self, buffer: bytearray | memoryview) -> int:  # type: ignore[override]
        while not self._left:
            piece = next(self._pieces, None)
            if piece is None:
                return 0
            self._left = memoryview(piece)
        count = min(len(buffer), len(self._left))
        buffer[:count] = self._left[:count]
        self._left = self._left[count:]
        self._at += count
        return count

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        start = {os.SEEK_SET: 0, os.SEEK_CUR: self._at, os.SEEK_END: self._content.size}[whence]
        target = max(0, start + offset)
        if target < self._at:
            self._rewind()
        skipped = bytearray(CHUNK)
        with memoryview(skipped) as view:
            while self._at < target and self.readinto(view[: min(CHUNK, target - self._at)]):
                pass
        return self._at


def _pieces(file: int, at: int) -> Iterator[bytes]:
    while piece := os.pread(file, CHUNK, at):
        yield piece
        at += len(piece)
