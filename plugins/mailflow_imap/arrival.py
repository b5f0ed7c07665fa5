"""A body that is too long for memory, on its way into a file.

Rule of the file: memory is bounded whatever comes, a CRLF that was cut in two stays one,
and nothing is left of what was given up.
"""

from __future__ import annotations

import os
import time
from contextlib import suppress

from mailflow.errors import from_os
from mailflow.lines import to_crlf
from mailflow.mail import Content, OctetFile, Octets
from mailflow.typed import BinaryIO


class Arrival:
    """The octets of one literal, line ends made CRLF. `octets` counts them as they came.

    Nothing is kept of more than `most`.
    """

    def __init__(self, directory: str, most: int | None = None) -> None:
        self.octets = 0
        self._most = most
        self._directory = directory
        self._path = ""
        self._file: BinaryIO | None = None
        self._carried = b""

    def add(self, data: bytes) -> None:
        """Raises UnavailableError where it cannot be written."""
        self.octets += len(data)
        if self.excess:
            self.drop()
            return
        data = self._carried + data
        self._carried = b"\r" if data.endswith(b"\r") else b""
        self._write(to_crlf(data[: len(data) - len(self._carried)]))

    @property
    def excess(self) -> bool:
        """Whether there is more than is kept."""
        return self._most is not None and self.octets > self._most

    def finish(self) -> Content:
        """The whole. The caller owns the file from now on."""
        if self._carried:
            self._write(self._carried)
        if self._file is None:
            return Octets(b"")
        try:
            self._file.close()
            content = OctetFile(self._path)
        except OSError as error:
            raise from_os(error, f"write {self._path}") from None
        self._file = None
        return content

    def octets_of(self) -> bytes:
        """The whole in memory; nothing is left of the file."""
        content = self.finish()
        with content.open() as file:
            data = file.read()
        with suppress(OSError):
            os.unlink(self._path)
        return data

    def drop(self) -> None:
        """Forget what has come."""
        if self._file is not None:
            with suppress(OSError):  # the same full disk as before
                self._file.close()
            with suppress(OSError):
                os.unlink(self._path)
            self._file = None

    def _write(self, data: bytes) -> None:
        try:
            if self._file is None:
                name = f"imap-{os.getpid()}-{time.monotonic_ns()}"
                self._path = os.path.join(self._directory, name)
                self._file = open(self._path, "xb")  # noqa: SIM115
            self._file.write(data)
        except OSError as error:
            raise from_os(error, f"write {self._path}") from None
