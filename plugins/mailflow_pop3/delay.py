"""LOGIN-DELAY: how long a client must wait until it may log in again (RFC 2449, 6.5).

Rule of the file: a log-in is the time of an empty file, so that it holds for all processes
that share the clients, and over a restart; its name tells nobody's.
"""

from __future__ import annotations

import os
import time
from contextlib import suppress

from mailflow.digests import sha256
from mailflow.errors import LoginError


class LoginDelay:
    """Log-ins of one name must be `seconds` apart. Used by many threads."""

    def __init__(self, directory: str, seconds: int) -> None:
        self.seconds = seconds
        self._directory = directory
        os.makedirs(directory, 0o700, exist_ok=True)

    def check(self, login: str) -> None:
        """Raise LoginError where the last one was too short a time ago."""
        try:
            before = os.stat(self._path(login)).st_mtime
        except OSError:
            return
        if 0 <= time.time() - before < self.seconds:
            raise LoginError("log in less often", again=self.seconds)

    def note(self, login: str) -> None:
        """Somebody has logged in."""
        with suppress(OSError), open(self._path(login), "wb"):
            os.utime(self._path(login))

    def _path(self, login: str) -> str:
        return os.path.join(self._directory, sha256(login.encode()).hexdigest()[:40])
