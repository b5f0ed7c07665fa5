"""A message on its way in: in memory while it is short, in a file from then on.

Rule of the file: memory is bounded whatever comes, and nothing is left of what was
given up.
"""

from __future__ import annotations

import os
import time
from contextlib import suppress

from mailflow.errors import PeerError, from_os
from mailflow.lines import to_crlf
from mailflow.mail import Content, Header, OctetFile, Octets, head
from mailflow.typed import BinaryIO

DRAIN = 1 << 24
"""Octets that are read and dropped for the sake of an orderly end."""


class Arrival:
    """The octets of a message that is too long for memory, on their way into a file.

    `octets` counts them as they came. Nothing is kept of more than `most`.
    """

    def __init__(self, directory: str, most: int | None) -> None:
        self.octets = 0
        self._directory = directory
        self._most = most
        self._path = ""
        self._file: BinaryIO | None = None

    def add(self, data: bytes) -> None:
        """Raises UnavailableError where it cannot be written, PeerError on an endless body."""
        self.octets += len(data)
        if self._most is not None and self.octets > self._most:
            if self.octets > 2 * self._most + DRAIN:
                raise PeerError(f"a message does not end after {self.octets} octets")
            self._discard()
            return
        try:
            if self._file is None:
                name = f"pop3-{os.getpid()}-{time.monotonic_ns()}"
                self._path = os.path.join(self._directory, name)
                self._file = open(self._path, "xb")  # noqa: SIM115
            self._file.write(to_crlf(data))
        except OSError as error:
            raise from_os(error, f"write {self._path}") from None

    def finish(self, rest: bytes) -> Content:
        """The whole message. The caller owns the file from now on."""
        if self._file is None:
            return Octets(to_crlf(rest))
        self.add(rest)
        try:
            self._file.close()
            content = OctetFile(self._path)
        except OSError as error:
            raise from_os(error, f"write {self._path}") from None
        self._file, self._path, self.octets = None, "", 0
        return content

    def drop(self) -> None:
        """Forget what has come."""
        self._discard()
        self.octets = 0

    def _discard(self) -> None:
        if self._file is not None:
            with suppress(OSError):  # the same full disk as before
                self._file.close()
            with suppress(OSError):
                os.unlink(self._path)
            self._file = None


class Sender:
    """The addresses in From, read only where a line of the log is written."""

    def __init__(self, content: Content) -> None:
        self._content = content

    def __str__(self) -> str:
        from mailflow.addresses import addresses

        values = Header(head(self._content)).get_all("From")
        found = [address for value in values for address in addresses(value).found]
        return ", ".join(found) or "?"
