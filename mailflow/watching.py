"""Waiting until files or directories change: inotify(7) where there is one, else by looking.

Rule of the file: a notice says only when to look again; what has changed the caller sees,
who is asked once the watch stands, so that nothing falls between two looks.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterable
from select import POLLIN, poll

from mailflow.typed import TYPE_CHECKING, Self

if TYPE_CHECKING:
    from mailflow.halt import Halt

PERIOD = 60.0
"""Seconds between two looks where no notice comes: over NFS none tells of other machines."""

LOOK = 2.0
"""The same where the kernel gives no notices, or has no more of them for this user."""

SHARE = 10.0
"""A look is followed by a pause of so many times what it took: flags change all the time."""

_MODIFY, _CLOSE_WRITE, _MOVED_TO, _CREATE = 0x2, 0x8, 0x80, 0x100  # <sys/inotify.h>


def wait_for_change(
    paths: Callable[[], Iterable[str]], changed: Callable[[], bool], seconds: float, halt: Halt
) -> bool:
    """Wait until `changed()`, at most `seconds`; True then, False after that or once `halt` is
    set. It is asked first, and whenever one of `paths` has changed: a file that is written to,
    a directory into which something comes. What it raises goes through."""
    deadline = time.monotonic() + seconds
    with _Notices() as notices:
        while not halt.is_set():
            complete = notices.watch(paths())
            started = time.monotonic()
            if changed():
                return True
            now = time.monotonic()
            if now >= deadline:
                break
            halt.wait(min(deadline - now, SHARE * (now - started)))
            notices.wait(min(deadline - now, PERIOD if complete else LOOK), halt)
    return False


class _Notices:
    """An inotify instance; without one, it stays silent."""

    def __enter__(self) -> Self:
        import ctypes

        libc = ctypes.CDLL(None, use_errno=True)
        self._descriptor = -1
        if hasattr(libc, "inotify_init1"):
            self._descriptor = libc.inotify_init1(os.O_NONBLOCK | os.O_CLOEXEC)
            self._add = libc.inotify_add_watch
        return self

    def __exit__(self, *_: object) -> None:
        if self._descriptor >= 0:
            os.close(self._descriptor)

    def watch(self, paths: Iterable[str]) -> bool:
        """Have notices of these, too; what is watched already stays so. False where one that
        is there cannot be watched."""
        if self._descriptor < 0:
            return False
        complete = True
        for path in paths:
            mask = _CREATE | _MOVED_TO if os.path.isdir(path) else _MODIFY | _CLOSE_WRITE
            if self._add(self._descriptor, os.fsencode(path), mask) < 0:
                complete &= not os.path.lexists(path)
        return complete

    def wait(self, seconds: float, halt: Halt) -> None:
        """Return at the next notice, or as soon as `halt` is set."""
        poller = poll()
        poller.register(halt.fileno(), POLLIN)
        if self._descriptor >= 0:
            poller.register(self._descriptor, POLLIN)
        ready = dict(poller.poll(max(0.0, seconds) * 1000))
        if self._descriptor in ready:
            os.read(self._descriptor, 1 << 16)


__all__ = ["wait_for_change"]
