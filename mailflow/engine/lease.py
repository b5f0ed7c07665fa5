"""The lease of a mailbox: one session with a source at a time, whoever wants one.

Rule of the file: a lock of the kernel decides, which no crash leaves behind.
"""

from __future__ import annotations

import fcntl
import os
from threading import Lock

from mailflow.digests import sha256
from mailflow.engine import places
from mailflow.errors import InUseError, from_os
from mailflow.typed import TYPE_CHECKING

if TYPE_CHECKING:
    from mailflow.halt import Halt


class Lease:
    """flock on a hash of the source, whatever the journal: one session at a time.

    Sessions of this process wait for each other; where another process has it, InUseError.
    """

    _here: dict[str, Lock] = {}

    def __init__(self, use: str, source: str, journal: str, halt: Halt) -> None:
        name = sha256(f"{use}\0{source}".encode()).hexdigest()[:32]
        self._path = os.path.join(places.locks(journal), name)
        self._mine = self._here.setdefault(self._path, Lock())
        self._halt = halt
        self._lock = -1

    def take(self) -> None:
        while not self._mine.acquire(timeout=0.2):
            self._halt.check()
        try:
            self._lock = self._flock()
        except BaseException:
            self._mine.release()
            raise

    def _flock(self) -> int:
        try:
            lock = os.open(self._path, os.O_CREAT | os.O_RDWR | os.O_CLOEXEC, 0o600)
        except OSError as error:
            raise from_os(error, f"write {self._path}") from None
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            os.close(lock)
            if not isinstance(error, BlockingIOError):
                raise from_os(error, f"lock {self._path}") from None
            raise InUseError("another run is at work on this mailbox", ours=True) from None
        return lock

    def release(self) -> None:
        """Give it back, if it was taken."""
        if self._lock >= 0:
            os.close(self._lock)
            self._lock = -1
            self._mine.release()
