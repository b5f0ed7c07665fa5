"""The word that everything ends, seen at once by every wait.

Rule of the file: it imports nothing heavy; a hook that reads no socket needs it too.
"""

from __future__ import annotations

import os
from contextlib import suppress
from select import POLLIN, poll

from mailflow.errors import UnavailableError


class Halt:
    """Set once, for good. Waits on sockets watch `fileno`, waits on time use `wait`."""

    def __init__(self) -> None:
        self._reader, self._writer = os.pipe()
        os.set_blocking(self._writer, False)
        self._set = False

    def set(self) -> None:
        """End all waits. Safe in a signal handler."""
        self._set = True
        with suppress(BlockingIOError):
            os.write(self._writer, b"!")

    def is_set(self) -> bool:
        return self._set

    def fileno(self) -> int:
        """Readable once `set` was called."""
        return self._reader

    def wait(self, seconds: float) -> bool:
        """Sleep; True as soon as `set` was called."""
        poller = poll()
        poller.register(self._reader, POLLIN)
        return bool(poller.poll(max(0.0, seconds) * 1000))

    def check(self) -> None:
        """Raise UnavailableError if the engine stops."""
        if self._set:
            raise UnavailableError("stopped on request")

    def close(self) -> None:
        os.close(self._reader)
        os.close(self._writer)
