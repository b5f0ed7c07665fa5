"""Open content that gives any of its octets when it is asked: where it lies elsewhere.

Rule of the file: nothing is asked for before it is read, its size neither.
"""

from __future__ import annotations

import io
import os

from mailflow.typed import BinaryIO, Protocol


class Reachable(Protocol):
    """Content whose octets are read from any place."""

    @property
    def size(self) -> int: ...

    def read_at(self, octets: int, offset: int) -> bytes:
        """At most so many; b"" at the end."""
        ...


def opened(content: Reachable, ahead: int) -> BinaryIO:
    """A seekable reader at its beginning, which asks for `ahead` octets at a time."""
    return io.BufferedReader(_Reader(content), ahead)


class _Reader(io.RawIOBase):
    """A place in content."""

    def __init__(self, content: Reachable) -> None:
        self._content = content
        self._at = 0

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def readinto(self, buffer: bytearray | memoryview) -> int:  # type: ignore[override]
        data = self._content.read_at(len(buffer), self._at)
        buffer[: len(data)] = data
        self._at += len(data)
        return len(data)

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        if whence == os.SEEK_END:
            self._at = max(0, self._content.size + offset)
        else:
            self._at = max(0, offset + (self._at if whence == os.SEEK_CUR else 0))
        return self._at
