"""Files of bodies: each holds the wire forms of one flush, or one large message.

Rule of the file: a file is written once, flushed, its directory too, before the index names
it, and never changed after; whoever writes one holds its lock until then.
"""

from __future__ import annotations

import errno
import fcntl
import os
import stat
import time
from collections.abc import Iterable, Iterator
from contextlib import suppress
from zlib import crc32

from mailflow.collect import write_whole
from mailflow.durable import flush_directory
from mailflow.errors import GoneError, UnavailableError, from_os
from mailflow.typed import TYPE_CHECKING
from mailflow_spool.wire import Pieces, Place

if TYPE_CHECKING:
    from collections.abc import Callable

    from mailflow.mail import Content

_READ = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
_WRITE = os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC


def name_of(number: int) -> str:
    return f"{number:014x}"


class Directory:
    """Where the files of bodies lie. Errors: OSError, unless said otherwise."""

    def __init__(self, path: str) -> None:
        self.path = path

    def file(self, number: int) -> str:
        return os.path.join(self.path, name_of(number))

    def open(self, number: int) -> tuple[int, int]:
        """(descriptor, octets) of a file for reading. Raises GoneError where there is none,
        UnavailableError where something else stands there (another's file, a link)."""
        path = self.file(number)
        try:
            descriptor = os.open(path, _READ)
        except FileNotFoundError:
            raise GoneError(f"{path} is gone") from None
        except OSError as error:
            if error.errno == errno.ELOOP:
                raise UnavailableError(f"{path} is a symbolic link; it is not followed") from None
            raise from_os(error, f"read {path}") from None
        status = os.fstat(descriptor)
        fault = oddity(status)
        if fault:
            os.close(descriptor)
            raise UnavailableError(f"{path} {fault}; it is not read")
        return descriptor, status.st_size

    def numbers(self) -> Iterator[tuple[str, int | None]]:
        """(name, number) of all that lies there; None where the name is none of ours."""
        with os.scandir(self.path) as entries:
            for entry in entries:
                number = None
                with suppress(ValueError):
                    number = int(entry.name, 16)
                    if name_of(number) != entry.name:
                        number = None
                yield entry.name, number

    def remove(self, number: int) -> None:
        """Remove a file that the index does not name any more; what fails is swept later."""
        with suppress(OSError):
            os.unlink(self.file(number))

    def flush(self) -> None:
        flush_directory(self.path)


def oddity(status: os.stat_result) -> str:
    """What is wrong with a file that must be a plain one of ours; "" if nothing is."""
    if not stat.S_ISREG(status.st_mode):
        return "is no regular file"
    if status.st_uid != os.geteuid():
        return f"belongs to another user (uid {status.st_uid})"
    if status.st_nlink > 1:
        return "has another name elsewhere (a hard link)"
    if status.st_mode & 0o6022:
        return f"has the mode {stat.S_IMODE(status.st_mode):04o}"
    return ""


def stretch(descriptor: int, start: int, octets: int) -> Iterator[bytes]:
    """So many octets of an open file, in pieces; fewer where it ends before. Raises OSError."""
    while octets > 0:
        piece = os.pread(descriptor, min(octets, 1 << 20), start)
        if not piece:
            return
        yield piece
        start, octets = start + len(piece), octets - len(piece)


class Writing:
    """A new file, locked until it is closed."""

    def __init__(self, directory: Directory) -> None:
        """Raises OSError."""
        self._directory = directory
        self.octets = 0
        while True:
            # Names sort by time, for whoever looks; that they are new is O_EXCL's.
            self.number = int(time.time()) << 20 | int.from_bytes(os.urandom(3)) >> 4
            try:
                self._descriptor = os.open(directory.file(self.number), _WRITE, 0o600)
            except FileExistsError:
                continue
            os.fchmod(self._descriptor, 0o600)
            fcntl.flock(self._descriptor, fcntl.LOCK_EX)
            if os.fstat(self._descriptor).st_nlink:
                return
            os.close(self._descriptor)  # swept before it was locked

    def add(self, content: Content, check: Callable[[], None]) -> Place:
        """Write a message behind the others; where that fails, nothing of it stays.

        `check` is called between pieces. Raises OSError and what the content does.
        """
        start = self.octets
        pieces = Pieces(content)
        crc = 0
        try:
            for piece in pieces:
                check()
                write_whole(self._descriptor, piece)
                self.octets += len(piece)
                crc = crc32(piece, crc)
        except BaseException:
            self._back(start)
            raise
        return Place(self.number, start, self.octets - start, pieces.size, crc, pieces.utf8)

    def copy(self, pieces: Iterable[bytes], place: Place) -> Place | None:
        """Write a message in its wire form behind the others; None where it is not what was
        once written at `place`. Raises OSError."""
        start, crc = self.octets, 0
        try:
            for piece in pieces:
                write_whole(self._descriptor, piece)
                self.octets += len(piece)
                crc = crc32(piece, crc)
            if self.octets - start == place.octets and crc == place.crc:
                return place._replace(file=self.number, start=start)
        except BaseException:
            self._back(start)
            raise
        self._back(start)
        return None

    def _back(self, octets: int) -> None:
        """As if nothing had been written behind so many octets."""
        self.octets = octets
        os.ftruncate(self._descriptor, octets)
        os.lseek(self._descriptor, octets, os.SEEK_SET)

    def flush(self) -> None:
        """Make the octets and the name durable."""
        os.fsync(self._descriptor)
        self._directory.flush()

    def close(self, *, keep: bool) -> None:
        """Unlock; `keep`: the index names it, or may."""
        if not keep:
            self._directory.remove(self.number)
        os.close(self._descriptor)


def unclaimed(directory: Directory, number: int) -> int | None:
    """A descriptor that has the lock of a file, None where its writer has it, or it is none
    of ours. Raises OSError."""
    try:
        descriptor = os.open(directory.file(number), _READ)
    except OSError:
        return None
    try:
        if oddity(os.fstat(descriptor)):
            raise BlockingIOError
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(descriptor)
        return None
    except BaseException:
        os.close(descriptor)
        raise
    return descriptor
