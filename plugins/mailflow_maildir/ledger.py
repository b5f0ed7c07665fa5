"""The list that we keep in a Maildir: UIDLs as they were told, sizes as they were measured.

    mailflow maildir 1
    UIDL SIZE NAME          a message, in the order of the drop; NAME without flags
     ~ SIZE NAME            its name lied about its size
     - INODE NAME           to be deleted, once the line comes that ends these
     = COUNT CRC            all of them, COUNT lines with that CRC-32
     + done                 what was to be deleted before this line is gone
     ! NAME                 several files have had this name: it means none of them again

Rule of the file: it is only ever added to, or replaced whole by a rename; a line that was
cut or lost in a power cut is none. Whoever holds its flock(2) has the drop.
"""

from __future__ import annotations

import errno
import fcntl
import io
import os
import stat
from array import array
from collections.abc import Iterable, Iterator, Sequence
from contextlib import suppress
from itertools import islice
from zlib import crc32

from mailflow.collect import write_whole
from mailflow.durable import flush_directory
from mailflow.errors import InUseError, UnavailableError
from mailflow.record import NamedTuple
from mailflow_maildir.reading import Glance
from mailflow_maildir.stored import is_near

NAME = "mailflow-uidlist"
HEADER = b"mailflow maildir 1\n"

SLACK = 200
"""So many lines too much are never worth a new file."""

PIECE = 1 << 17
"""Octets that are read at a time: room is made for as many, however short the list is."""

_READ_ONLY = (errno.EACCES, errno.EPERM, errno.EROFS)


class Known(NamedTuple):
    """The messages of a drop that the list knows, in its order: parallel sequences, names and
    tags as in reading.Glance. `doomed` are the paths of messages that a session has deleted
    and did not remove."""

    keys: list[str]
    sizes: array[int]
    names: list[str]
    tags: list[str]
    doomed: list[str]


class Ledger:
    """The list of one Maildir, open and locked until `close`. Errors: OSError."""

    def __init__(self, root: str) -> None:
        """Raises InUseError where somebody has it, OSError, UnavailableError."""
        self._root = root
        self._path = os.path.join(root, NAME)
        self._new = False
        self._rest: _Rest | None = None
        self._condemned = False
        self._before = 0
        """Its size before the last `condemn`."""
        try:
            self._file = self._open()
            self.writable = True
        except OSError as error:
            if error.errno not in _READ_ONLY:
                raise
            self._file = _locked(os.path.join(root, "cur"), os.O_RDONLY | os.O_DIRECTORY, root)
            self.writable = False

    def _open(self) -> int:
        """Where a session has replaced the file meanwhile, the new one."""
        while True:
            file = _locked(self._path, os.O_RDWR | os.O_APPEND | os.O_CREAT, self._root)
            with suppress(FileNotFoundError):
                if os.path.samestat(os.fstat(file), os.lstat(self._path)):
                    return file
            os.close(file)

    def close(self) -> None:
        os.close(self._file)

    @property
    def near(self) -> bool:
        """Whether files of this Maildir can be read if, and only if, they are in memory: not
        so on a file system of another machine."""
        return is_near(self._file)

    @property
    def stamp(self) -> tuple[int, int]:
        """What changes with the list."""
        status = os.fstat(self._file)
        return status.st_ino, status.st_size

    def known(self, glance: Glance) -> Known:
        """The messages at a glance that the list knows; they are taken out of its `found`.

        What a session has deleted and did not remove is in `doomed` only. A list with much that
        is gone is for `tidy`. Raises UnavailableError where it is none of ours.
        """
        known = Known([], array("Q"), [], [], [])
        octets = self._octets()
        amended = _amendments(octets)
        self._condemned = bool(amended.condemned)
        self._part(glance, amended.shared)
        for line in _lines(octets):
            uidl, _, rest = line.partition(" ")
            size, _, name = rest[:-1].partition(" ")
            if not uidl or not size.isdecimal() or "\0" in line:
                continue  # it says something else, or nothing since the power was cut
            tag = glance.found.pop(name, None)
            if tag is None:
                continue
            if name in amended.condemned:
                path = glance.path(name, tag)
                if self._inode(path) in (0, amended.condemned[name]):
                    known.doomed.append(path)
                    continue
            known.keys.append(uidl)
            known.sizes.append(amended.sizes.get(name) or int(size))
            known.names.append(name)
            known.tags.append(tag)
        much = octets.count(b"\n") > 2 * len(known.keys) + SLACK and not known.doomed
        self._rest = _Rest(known, amended.shared) if much else None
        return known

    def tidy(self) -> None:
        """Write the list anew where much of it is gone. Not while readers rename files: what
        is not seen now may be there, and has its UIDL, or is to be deleted."""
        rest, self._rest = self._rest, None
        if rest is not None and self.writable:
            self._replace(*rest)
        elif self._condemned:
            self.done()

    def _part(self, glance: Glance, shared: set[str]) -> None:
        """Files of one name never get each other's UIDL, also when only one of them is left:
        from when there were two on, they are told apart by their inodes. Raises OSError."""
        for name in shared & glance.found.keys():
            glance.split(name)
        new = {name.rpartition("#")[0] for name in glance.twins} - shared
        if new:
            shared |= new
            if self.writable:
                self._append("".join(f" ! {name}\n" for name in sorted(new)), durable=True)

    def _inode(self, path: str) -> int:
        """0 where it is gone."""
        with suppress(FileNotFoundError):
            return os.lstat(os.path.join(self._root, path)).st_ino
        return 0

    def _octets(self) -> bytes:
        """The whole list, mended where it was cut; nothing where it is new."""
        octets = b""
        if self.writable:
            octets = b"".join(_pieces(self._file))
        else:
            with suppress(FileNotFoundError), open(self._path, "rb") as file:
                octets = file.read()
        whole = octets[: octets.rfind(b"\n") + 1]
        if not whole.strip(b"\0\n"):
            whole = b""
        elif not whole.startswith(HEADER):
            raise UnavailableError(f"{self._path} is no list that this mailflow can read")
        if self.writable:
            if whole != octets:
                os.ftruncate(self._file, len(whole))
            self._new = not whole
        return whole

    def add(
        self, keys: Sequence[str], sizes: Sequence[int], names: Sequence[str], *, durable: bool
    ) -> None:
        """These follow. `durable`: it is flushed before anybody is told of them."""
        if self.writable:
            self._append("".join(_told(keys, sizes, names)), durable=durable)

    def correct(self, size: int, name: str) -> None:
        """The message has this size, whatever was said of it."""
        if self.writable:
            with suppress(OSError):
                self._append(f" ~ {size} {name}\n", durable=False)

    def condemn(self, victims: Iterable[tuple[int, str]]) -> None:
        """Once this returns, these (inode, name) are deleted, whatever happens; where it
        raises OSError, none is."""
        lines = [f" - {inode} {name}\n" for inode, name in victims]
        text = "".join(lines)
        self._before = os.fstat(self._file).st_size
        self._append(f"{text} = {len(lines)} {crc32(_encoded(text))}\n", durable=True)

    def pardon(self) -> None:
        """Take the last `condemn` back: nothing has been done of it yet."""
        if self._before:
            with suppress(OSError):
                os.ftruncate(self._file, self._before)
                os.fsync(self._file)

    def done(self) -> None:
        """What was condemned is gone, lastingly: a file of that name, also with that inode, is
        one that was put there since, as from a backup."""
        if self.writable:
            with suppress(OSError):
                self._append(" + done\n", durable=False)

    def _append(self, text: str, *, durable: bool) -> None:
        """All of it or nothing. Raises OSError."""
        before = os.fstat(self._file).st_size
        try:
            write_whole(self._file, (b"" if before else HEADER) + _encoded(text))
            if durable:
                os.fsync(self._file)
                if self._new:
                    flush_directory(self._root)
                    self._new = False
        except OSError:
            with suppress(OSError):
                os.ftruncate(self._file, before)
            raise

    def _replace(self, known: Known, shared: Iterable[str]) -> None:
        """Write the list anew, for what is known. Where it cannot be, the old one will do."""
        path = f"{self._path}.new"
        with suppress(OSError):
            with suppress(FileNotFoundError):
                os.unlink(path)
            file = _locked(path, os.O_RDWR | os.O_APPEND | os.O_CREAT | os.O_EXCL, self._root)
            try:
                text = "".join(_told(known.keys, known.sizes, known.names))
                text += "".join(f" ! {name}\n" for name in shared)
                write_whole(file, HEADER + _encoded(text))
                os.fsync(file)
                os.rename(path, self._path)
            except OSError:
                os.close(file)
                raise
            os.close(self._file)
            self._file = file
            flush_directory(self._root)


class _Rest(NamedTuple):
    """What a list written anew holds."""

    known: Known
    shared: set[str]


def sizes_told(root: str) -> dict[str, int]:
    """The sizes in a list that somebody else may hold, by name. Raises OSError."""
    sizes: dict[str, int] = {}
    with suppress(FileNotFoundError), open(os.path.join(root, NAME), "rb") as file:
        octets = file.read()
        for line in _lines(octets):
            uidl, _, rest = line.partition(" ")
            size, _, name = rest[:-1].partition(" ")
            if uidl and size.isdecimal():
                sizes[name] = int(size)
        sizes |= _amendments(octets[: octets.rfind(b"\n") + 1]).sizes
    return sizes


class _Amendments(NamedTuple):
    sizes: dict[str, int]
    condemned: dict[str, int]
    shared: set[str]


def _amendments(octets: bytes) -> _Amendments:
    """What the lines say that begin with a space."""
    amended = _Amendments({}, {}, set())
    group: list[str] = []
    end = octets.find(b"\n ")
    while end >= 0:
        start, end = end + 1, octets.index(b"\n", end + 1)
        line = octets[start : end + 1].decode("utf-8", "surrogateescape")
        what, _, rest = line[1:-1].partition(" ")
        number, _, name = rest.partition(" ")
        if what == "-":
            group.append(line)
        elif what == "~" and number.isdecimal():
            amended.sizes[name] = int(number)
        elif what == "!":
            amended.shared.add(rest)
        elif what == "=":
            if rest == f"{len(group)} {crc32(_encoded(''.join(group)))}":
                amended.condemned.update(map(_condemned, group))
            group.clear()
        elif what == "+":
            amended.condemned.clear()
        end = octets.find(b"\n ", end)
    return amended


def _condemned(line: str) -> tuple[str, int]:
    inode, _, name = line[3:-1].partition(" ")
    return name, int(inode)


def _told(keys: Iterable[str], sizes: Iterable[int], names: Iterable[str]) -> Iterator[str]:
    for key, size, name in zip(keys, sizes, names, strict=True):
        yield f"{key} {size} {name}\n"


def _encoded(text: str) -> bytes:
    return text.encode("utf-8", "surrogateescape")


def _lines(octets: bytes) -> Iterator[str]:
    """The lines behind the header."""
    reader = io.TextIOWrapper(
        io.BytesIO(octets), encoding="utf-8", errors="surrogateescape", newline="\n"
    )
    return islice(reader, 1, None)


def _pieces(file: int) -> Iterator[bytes]:
    at = 0
    while piece := os.pread(file, PIECE, at):
        at += len(piece)
        yield piece


def _locked(path: str, flags: int, root: str) -> int:
    """A descriptor that holds the lock. Raises InUseError, OSError, UnavailableError."""
    file = os.open(path, flags | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        status = os.fstat(file)
        if flags & os.O_CREAT:
            if not stat.S_ISREG(status.st_mode):
                raise UnavailableError(f"{path} is no regular file")
            if not status.st_size and not os.geteuid():
                owner = os.stat(root)
                os.fchown(file, owner.st_uid, owner.st_gid)
    except BlockingIOError:
        os.close(file)
        raise InUseError(f"another session has {root}") from None
    except BaseException:
        os.close(file)
        raise
    return file
