"""Owners: a process at work on a journal is one that holds flock on its own file.

Rule of the file: no clocks and no process ids decide; a lock that can be had means
that its holder is gone.
"""

from __future__ import annotations

import fcntl
import os
from collections.abc import Callable
from contextlib import suppress

from mailflow.errors import from_os

LOCK = "lock"
GUARD = ".guard"
_CREATE = os.O_CREAT | os.O_RDWR | os.O_CLOEXEC


def _guard(root: str, kind: int) -> int:
    """A new owner must not be swept between its directory and its lock."""
    guard = os.open(os.path.join(root, GUARD), _CREATE, 0o600)
    try:
        fcntl.flock(guard, kind)
    except BaseException:
        os.close(guard)
        raise
    return guard


class Owner:
    """This process: `id`, and a directory for files that are its own until committed."""

    def __init__(self, root: str) -> None:
        """`root` is the journal's directory of owners. Raises UnavailableError."""
        self.id = os.urandom(6).hex()
        self.directory = os.path.join(root, self.id)
        try:
            guard = _guard(root, fcntl.LOCK_SH)
            try:
                os.mkdir(self.directory, 0o700)
                self._lock = os.open(os.path.join(self.directory, LOCK), _CREATE, 0o600)
                fcntl.flock(self._lock, fcntl.LOCK_EX)
            finally:
                os.close(guard)
        except OSError as error:
            raise from_os(error, f"write {self.directory}") from None

    def close(self) -> None:
        """Leave: unlock, and remove the directory unless committed files are in it."""
        if self._lock < 0:
            return
        with suppress(OSError):
            os.unlink(os.path.join(self.directory, LOCK))
        os.close(self._lock)
        self._lock = -1
        with suppress(OSError):  # where bodies of the journal are in it
            os.rmdir(self.directory)


def is_alive(root: str, owner: str) -> bool:
    """Whether the process `owner` still runs, here; so where it cannot be told (too many
    open files, another user's lock): the mail of a living process would go out twice."""
    try:
        lock = os.open(os.path.join(root, owner, LOCK), os.O_WRONLY | os.O_CLOEXEC)
    except (FileNotFoundError, NotADirectoryError):
        return False
    except OSError:
        return True
    try:
        fcntl.flock(lock, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except OSError:
        return True
    finally:
        os.close(lock)
    return False


def sweep(root: str, committed: Callable[[], set[str]]) -> None:
    """Remove what dead owners left, but the files that the journal names.

    `committed` gives those as "owner/file"; it is asked while no owner can appear.
    Somebody else's sweep under way is enough: then nothing is done.
    """
    try:
        guard = _guard(root, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        return
    try:
        dead = [name for name in os.listdir(root) if name != GUARD and not is_alive(root, name)]
        kept = committed() if dead else set()
        for owner in dead:
            with suppress(OSError):  # the next sweep tries again
                _sweep_one(root, owner, kept)
    except OSError:
        pass
    finally:
        os.close(guard)


def _sweep_one(root: str, owner: str, kept: set[str]) -> None:
    directory = os.path.join(root, owner)
    for name in os.listdir(directory):
        if f"{owner}/{name}" not in kept:
            os.unlink(os.path.join(directory, name))
    if not os.listdir(directory):
        os.rmdir(directory)
