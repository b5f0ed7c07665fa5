"""The locks of an mbox as the field takes them: fcntl(2), and PATH.lock beside it.

Rule of the file: nobody waits for one lock while he holds the other, so that programs
which take them the other way round go on; a lock file is broken only where its owner is
surely dead.
"""

from __future__ import annotations

import errno
import fcntl
import os
import socket
import stat
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress

from mailflow.collect import write_whole
from mailflow.errors import InUseError, UnavailableError, from_os
from mailflow.typed import TYPE_CHECKING

if TYPE_CHECKING:
    from mailflow.halt import Halt

STALE = 1024.0
"""Seconds after which procmail, and we, take a lock file of somebody else for forgotten."""

PAUSE = 0.1

_BUSY = (errno.EAGAIN, errno.EACCES)
_NOT_OURS = (errno.EACCES, errno.EPERM, errno.EROFS)
_NO_TMPFILE = (errno.EOPNOTSUPP, errno.EISDIR, errno.EINVAL, errno.ENOENT)
_here: dict[str, threading.Lock] = {}
"""fcntl locks do not keep threads of one process apart, and end at any close(2)."""


@contextmanager
def locked(path: str, *, write: bool, create: bool, timeout: float, halt: Halt) -> Iterator[int]:
    """The mbox `path`, locked and open. Where PATH.lock may not be made in its directory,
    fcntl alone must do. Raises FileNotFoundError, UnavailableError, InUseError."""
    deadline = time.monotonic() + timeout
    mine = _here.setdefault(path, threading.Lock())
    while not mine.acquire(timeout=PAUSE):
        _go_on(path, deadline, halt)
    try:
        while (descriptor := _take(path, write, create)) < 0:
            _go_on(path, deadline, halt)
        try:
            yield descriptor
        finally:
            _release(path, descriptor)
    finally:
        mine.release()


def _go_on(path: str, deadline: float, halt: Halt) -> None:
    if time.monotonic() >= deadline:
        raise InUseError(f"{path} is locked by another program")
    halt.wait(PAUSE)
    halt.check()


def _take(path: str, write: bool, create: bool) -> int:
    """A descriptor with both locks; -1 where one of them is taken, or the file replaced."""
    descriptor = _open(path, write, create)
    try:
        try:
            fcntl.lockf(descriptor, (fcntl.LOCK_EX if write else fcntl.LOCK_SH) | fcntl.LOCK_NB)
        except OSError as error:
            if error.errno not in _BUSY:
                raise
            os.close(descriptor)
            return -1
        if not _lock_file(f"{path}.lock"):
            os.close(descriptor)
            return -1
        with suppress(FileNotFoundError):
            if os.path.samestat(os.fstat(descriptor), os.lstat(path)):
                return descriptor
        _release(path, descriptor)
        return -1
    except OSError as error:
        with suppress(OSError):
            os.close(descriptor)
        raise from_os(error, f"lock {path}") from None


def _open(path: str, write: bool, create: bool) -> int:
    flags = os.O_RDWR if write else os.O_RDONLY
    flags |= os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
    try:
        descriptor = os.open(path, flags | (os.O_CREAT if create else 0), 0o600)
    except FileNotFoundError:
        if not create:
            raise
        raise UnavailableError(f"no directory {os.path.dirname(path)} for {path}") from None
    except OSError as error:
        raise from_os(error, f"open {path}") from None
    if not stat.S_ISREG(os.fstat(descriptor).st_mode):
        os.close(descriptor)
        raise UnavailableError(f"{path} is no regular file")
    return descriptor


def _release(path: str, descriptor: int) -> None:
    """Our lock file goes, and with the descriptor the other lock."""
    with suppress(OSError):
        with open(f"{path}.lock", encoding="ascii", errors="replace") as file:
            ours = file.read(200) == _mark()
        if ours:
            os.unlink(f"{path}.lock")
    os.close(descriptor)


def _mark() -> str:
    """What our lock files hold; others read a process id at its beginning."""
    return f"{os.getpid()} {socket.gethostname()} mailflow\n"


def _lock_file(path: str) -> bool:
    """Make it; False where somebody living has it. True, too, where none may be made."""
    for _ in range(2):
        try:
            _make(path)
        except FileExistsError:
            if not _is_forgotten(path):
                return False
            with suppress(FileNotFoundError):
                os.unlink(path)
            continue
        except OSError as error:
            if error.errno in _NOT_OURS:
                return True
            raise
        return True
    return False


def _make(path: str) -> None:
    """A lock file that is never there without its mark, not even after a power cut, where the
    file system can: whoever dies between would be waited for until his lock is old."""
    directory = os.path.dirname(path)
    try:
        descriptor = os.open(directory, os.O_TMPFILE | os.O_WRONLY | os.O_CLOEXEC, 0o644)
    except (OSError, AttributeError) as error:
        if isinstance(error, OSError) and error.errno not in _NO_TMPFILE:
            raise
        _make_openly(path)
        return
    try:
        write_whole(descriptor, _mark().encode())
        os.fsync(descriptor)
        above = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:  # with a directory's descriptor it is linkat(2), which follows this link
            os.link(f"/proc/self/fd/{descriptor}", path, src_dir_fd=above, follow_symlinks=True)
        finally:
            os.close(above)
    except FileNotFoundError:  # no /proc
        _make_openly(path)
    finally:
        os.close(descriptor)


def _make_openly(path: str) -> None:
    flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC | os.O_NOFOLLOW
    descriptor = os.open(path, flags, 0o644)
    try:
        write_whole(descriptor, _mark().encode())
    except OSError:
        os.unlink(path)
        raise
    finally:
        os.close(descriptor)


def _is_forgotten(path: str) -> bool:
    """Whether a lock file is ours and its process dead, or old."""
    try:
        with open(path, encoding="ascii", errors="replace") as file:
            words = file.read(200).split()
            age = time.time() - os.fstat(file.fileno()).st_mtime
    except OSError:
        return False
    if age > STALE:
        return True
    if words[1:] != [socket.gethostname(), "mailflow"] or not words[0].isdecimal():
        return False
    if int(words[0]) == os.getpid():
        return True  # `_here` says that no thread of ours has it
    try:
        os.kill(int(words[0]), 0)
    except ProcessLookupError:
        return True
    except OSError:
        return False
    return False
