"""A message that is read where it lies: pieces of it are fetched as they are asked for.

Rule of the file: memory holds a piece or two, whatever the size of the message, and what the
server says of its size is not believed.
"""

from __future__ import annotations

from collections.abc import Callable

from mailflow.reader import opened
from mailflow.typed import BinaryIO

PIECE = 1 << 18
"""Octets that are fetched at a time: as many as the wire gives in one."""

Fetch = Callable[[int, int], Callable[[], bytes]]
"""(first octet, how many) -> what waits for them. Fewer may come, none behind the end."""


class Partial:
    """Content at the server. Used by one thread at a time.

    `said` is its size as the server says it; `first` is how much of its beginning is fetched
    at once, where more is not likely to be read, by default a piece, with the next one on its
    way; `begin` is that, where it is here. `at_end` is called once it was read from the first
    octet to the last, with the number of octets that it has where each line ends in CRLF.
    """

    def __init__(
        self,
        fetch: Fetch,
        said: int,
        *,
        first: int = 0,
        begin: bytes = b"",
        at_end: Callable[[int], None] = lambda octets: None,
    ) -> None:
        self._fetch = fetch
        self._said = said
        self._first = first or PIECE
        self._ahead = not first
        self._at_end = at_end
        self._size: int | None = None
        self._at = 0
        self._piece = b""
        self._coming: tuple[int, Callable[[], bytes]] | None = None
        self._reached = self._counted = self._bare = 0
        self._last = b""
        if begin:
            self._coming = 0, lambda: begin
            self._load(0)

    @property
    def size(self) -> int:
        """As it is; what was not read to its end is looked through for it."""
        at = self._said - 1 if self._size is None and self._said else 0
        if self._size is None and not self.read_at(1, at):
            at = 0
        while self._size is None:
            at += len(self.read_at(PIECE, at))
        return self._size

    def read_at(self, octets: int, offset: int) -> bytes:
        """At most so many; b"" at the end."""
        if self._size is not None and offset >= self._size:
            return b""
        if not self._at <= offset < self._at + len(self._piece):
            self._load(offset)
        start = offset - self._at
        return self._piece[start : start + octets]

    def _load(self, offset: int) -> None:
        """Have the piece that begins there, and ask for the next one."""
        asked = PIECE if offset else self._first
        coming, self._coming = self._coming, None
        if coming is None or coming[0] != offset:
            coming = offset, self._fetch(offset, asked)
        self._at, self._piece = offset, b""
        self._piece = coming[1]()
        end = offset + len(self._piece)
        self._count(offset)
        if self._piece:
            self._reached = max(self._reached, end)
        short = end == self._said and len(self._piece) < asked
        if short if self._piece else offset == self._reached:
            self._ended(end)
        elif self._piece and end < self._said and (offset or self._ahead):
            self._coming = end, self._fetch(end, PIECE)

    def _count(self, offset: int) -> None:
        """Line ends that lack their CR, as far as the message was read without a gap."""
        if offset != self._counted:
            return
        self._counted += len(self._piece)
        together = self._last + self._piece
        self._bare += self._piece.count(b"\n") - together.count(b"\r\n")
        self._last = together[-1:]

    def _ended(self, end: int) -> None:
        if self._size is None and self._counted == end:
            self._at_end(end + self._bare + (2 if self._last not in (b"", b"\n") else 0))
        self._size = end

    def open(self) -> BinaryIO:
        return opened(self, 1 << 16)
