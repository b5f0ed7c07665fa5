"""Names that a power cut does not take back: directories made and flushed, files replaced.

Rule of the file: what a call has done when it returns is on the disk.
"""

from __future__ import annotations

import errno
import os
from contextlib import suppress


def flush_directory(where: str | int) -> None:
    """Flush the names in a directory, given by its path or a descriptor; where the file system
    knows no such thing (EINVAL), flush everything. Raises OSError."""
    descriptor = where if isinstance(where, int) else _opened(where)
    try:
        os.fsync(descriptor)
    except OSError as error:
        if error.errno != errno.EINVAL:
            raise
        os.sync()
    finally:
        if descriptor != where:
            os.close(descriptor)


def make_directory(path: str) -> None:
    """Make a directory, given by its whole path, and those above it that are not there, for this
    user alone. Raises OSError."""
    if os.path.isdir(path):
        return
    above = os.path.dirname(path)
    make_directory(above)
    with suppress(FileExistsError):
        os.mkdir(path, 0o700)
        flush_directory(above)


def replace(path: str, data: bytes, mode: int = 0o600, like: os.stat_result | None = None) -> None:
    """Put a new file in the place of what is there, with a mode, and with the owner of another.
    Whoever looks finds the old octets or the new ones, whole. One at a time: the new file
    has the name with ".new" until then. Raises OSError."""
    new = f"{path}.new"
    with suppress(FileNotFoundError):  # of one that was killed here
        os.unlink(new)
    descriptor = os.open(new, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
    try:
        with open(descriptor, "wb") as writer:
            writer.write(data)
            writer.flush()
            if like is not None and (like.st_uid, like.st_gid) != (os.geteuid(), os.getegid()):
                os.fchown(descriptor, like.st_uid, like.st_gid)
            os.fchmod(descriptor, mode)
            os.fsync(descriptor)
        os.rename(new, path)
    except BaseException:
        with suppress(OSError):
            os.unlink(new)
        raise
    flush_directory(os.path.dirname(path) or os.curdir)


def _opened(path: str) -> int:
    return os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
