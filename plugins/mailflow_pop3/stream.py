"""A message that is still on its way while it is being read.

Rule of the file: who reads is given what has come and waits for no more than it asked for;
what has come is in a file without a name, so that it can be read again.
"""

from __future__ import annotations

import os
from collections.abc import Callable

from mailflow.collect import nameless
from mailflow.errors import from_os
from mailflow.lines import to_crlf
from mailflow.mail import CHUNK
from mailflow.reader import opened
from mailflow.typed import BinaryIO


class Stream:
    """Content that comes in pieces. Used by one thread at a time.

    `more` gives the next piece, None after the last one, and raises what a session raises;
    then so does every read that needs more. `at_end` is called with the number of octets once
    all are there.
    """

    def __init__(self, directory: str, more: Callable[[], bytes | None]) -> None:
        """Raises UnavailableError where nothing can be written."""
        self.complete = False
        self.at_end: Callable[[int], None] = lambda octets: None
        self._more = more
        self._had = 0
        self._file = nameless(directory, "pop3")

    def __del__(self) -> None:
        if (file := self.__dict__.pop("_file", -1)) >= 0:
            os.close(file)

    @property
    def size(self) -> int:
        """Known at its end, which is waited for."""
        self.fill()
        return self._had

    def fill(self, octets: float = float("inf")) -> None:
        """Wait until so many octets are there, or all."""
        while self._had < octets and not self.complete:
            piece = self._more()
            if piece is None:
                self.complete = True
                self.at_end(self._had)
            else:
                self._write(to_crlf(piece))

    def _write(self, data: bytes) -> None:
        try:
            while data:
                written = os.pwrite(self._file, data, self._had)
                self._had += written
                data = data[written:]
        except OSError as error:
            raise from_os(error, "write a message that is on its way") from None

    def read_at(self, octets: int, offset: int) -> bytes:
        """At most so many, b"" at the end."""
        self.fill(offset + 1)
        try:
            return os.pread(self._file, octets, offset)
        except OSError as error:
            raise from_os(error, "read a message that is on its way") from None

    def open(self) -> BinaryIO:
        return opened(self, CHUNK)
