"""One Maildir on disk: its three directories made, opened, searched and flushed.

Rule of the file: a name is made of the ticket's key and the content alone, so that a
delivery tried again meets its own earlier copy; and what is made is made durable,
the directories above it too.
"""

from __future__ import annotations

import errno
import os
import stat
import time
from collections.abc import Collection, Iterable
from contextlib import suppress

from mailflow.disks import look_for_disk, used
from mailflow.durable import flush_directory, make_directory
from mailflow.errors import BadMailError, UnavailableError

MARK = ".mailflow"
"""Stands in the name of every file of ours."""

STALE = 36 * 3600.0
"""Seconds after which a file in tmp/ belongs to nobody, as qmail has it."""

MARKER = "maildirfolder"
"""An empty file which says that a directory is a folder of the Maildir above (Maildir++)."""


def file_name(key: str, pieces: Iterable[bytes]) -> str:
    """The name of a mail under `key` whose stored octets are `pieces`.

    S is the file's size, W the size with CRLF line ends: readers that know Maildir++
    (Dovecot, Courier) then need not open the file to tell it.
    """
    size = bare = 0
    after_cr = False
    for piece in pieces:
        size += len(piece)
        bare += piece.count(b"\n")
        if after_cr and piece.startswith(b"\n"):
            bare -= 1
        if b"\r" in piece:
            bare -= piece.count(b"\r\n")
        after_cr = piece.endswith(b"\r")
    return f"{key}{MARK},S={size},W={size + bare}"


def folder_directory(name: str) -> str:
    """The directory of folder "Lists.red" or ".Lists.red"; "" for the inbox.

    Raises BadMailError: the name may come from a mail, and must not leave the Maildir.
    """
    name = name.removeprefix(".")
    if not name:
        return ""
    if "/" in name or not name.isprintable() or not all(name.split(".")):
        raise BadMailError(
            f"not a Maildir folder: {name[:80]!a}; expected names joined by dots, without /"
        )
    directory = "." + name
    if len(directory.encode("utf-8")) > 255:
        raise BadMailError(f"the Maildir folder {name[:40]!a}... has a name over 255 octets")
    return directory


class Folder:
    """The open directories of one Maildir or Maildir++ folder. Errors: OSError."""

    def __init__(self, path: str, *, create: bool, under: str = "") -> None:
        """`under` is the Maildir that holds it, where it is a folder of one.

        Raises UnavailableError where there is no Maildir and none may be made.
        """
        self.path = path
        self._descriptors: list[int] = []
        try:
            self._open_all()
        except FileNotFoundError:
            if not create:
                raise UnavailableError(
                    f"no Maildir at {path}: make it, or set create = true"
                ) from None
            look_for_disk(under or path)
            if under:
                _make(under)
            _make(path, marker=bool(under))
            self._open_all()
        used(under or path)

    def _open_all(self) -> None:
        try:
            self.tmp, self.new, _ = (self._open(name) for name in ("tmp", "new", "cur"))
            os.close(self._descriptors.pop())  # cur/ is looked at only after a crash
            for above in (self.path, os.path.dirname(self.path)):
                # Whoever made them may have died before a flush, or not have thought of one.
                with suppress(PermissionError):  # not ours to read, so not made by us either
                    flush_directory(above)
        except BaseException:
            self.close()
            raise

    def _open(self, name: str) -> int:
        flags = os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC
        descriptor = os.open(f"{self.path}/{name}", flags)
        self._descriptors.append(descriptor)
        return descriptor

    def close(self) -> None:
        while self._descriptors:
            os.close(self._descriptors.pop())

    def create(self, name: str) -> int:
        """A new file in tmp/, readable by its owner only whatever the umask."""
        flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC | os.O_NOFOLLOW
        descriptor = os.open(name, flags, 0o600, dir_fd=self.tmp)
        if stat.S_IMODE(os.fstat(descriptor).st_mode) != 0o600:
            os.fchmod(descriptor, 0o600)
        return descriptor

    def discard(self, name: str) -> None:
        """Remove tmp/`name`; what cannot be removed is stale one day."""
        with suppress(OSError):
            os.unlink(name, dir_fd=self.tmp)

    def delivered(self, names: Collection[str]) -> set[str]:
        """Which of `names` an earlier attempt delivered; by now they are durable.

        new/ has the name, or cur/ has it with the flags a reader gave it, or a reader
        took it elsewhere: then the file in tmp/ still has a second name. A reader moves
        files from new/ to cur/ and never back, so new/ is looked at first.
        """
        found = {name for name in names if _exists(name, self.new)}
        missing = set(names) - found
        if missing:
            with os.scandir(f"{self.path}/cur") as entries:
                found |= missing.intersection(_base(entry.name) for entry in entries)
        if found:
            flush_directory(self.new)
            flush_directory(f"{self.path}/cur")
        elsewhere = {name for name in missing - found if self._linked(name)}
        if elsewhere:
            os.sync()  # nobody knows which directory to flush
        return found | elsewhere

    def _linked(self, name: str) -> bool:
        try:
            return os.stat(name, dir_fd=self.tmp, follow_symlinks=False).st_nlink > 1
        except FileNotFoundError:
            return False

    def publish(self, name: str) -> None:
        """Give tmp/`name` its name in new/; never over another file.

        Without hard links the file is renamed, and tmp/ keeps nothing of it.
        Raises FileExistsError, or UnavailableError where tmp/ and new/ are on two disks.
        """
        try:
            os.link(name, name, src_dir_fd=self.tmp, dst_dir_fd=self.new)
        except OSError as error:
            if error.errno == errno.EXDEV:
                raise UnavailableError(
                    f"tmp/ and new/ of {self.path} are on different file systems:"
                    " a Maildir must be on one"
                ) from None
            if error.errno not in (errno.EPERM, errno.EOPNOTSUPP, errno.ENOSYS, errno.EMLINK):
                raise
            if _exists(name, self.new):
                raise FileExistsError(errno.EEXIST, os.strerror(errno.EEXIST)) from None
            os.rename(name, name, src_dir_fd=self.tmp, dst_dir_fd=self.new)

    def publish_beside(self, name: str) -> None:
        """new/ has `name` already: let it be if it is this mail, else take a name beside it."""
        taken = name
        for number in range(1, 1000):
            if self._same(name, taken):
                return
            head, comma, sizes = name.partition(",")
            taken = f"{head}.{number}{comma}{sizes}"
            try:
                os.link(name, taken, src_dir_fd=self.tmp, dst_dir_fd=self.new)
            except FileExistsError:
                continue
            return
        raise FileExistsError(errno.EEXIST, os.strerror(errno.EEXIST), taken)

    def _same(self, name: str, taken: str) -> bool:
        """Whether tmp/`name` and new/`taken` are one file, or have the same octets."""
        ours = os.open(name, os.O_RDONLY | os.O_CLOEXEC, dir_fd=self.tmp)
        with open(ours, "rb") as one:
            try:
                flags = os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW
                theirs = os.open(taken, flags, dir_fd=self.new)
            except FileNotFoundError:
                return True  # a reader has just taken it; only our own can have this name
            with open(theirs, "rb") as other:
                if os.path.sameopenfile(one.fileno(), other.fileno()):
                    return True
                while True:
                    piece = one.read(1 << 18)
                    if piece != other.read(1 << 18):
                        return False
                    if not piece:
                        return True

    def flush(self) -> None:
        """Make what was published durable."""
        flush_directory(self.new)


def sweep(path: str) -> None:
    """Remove from tmp/ of `path` what a session of ours left more than 36 hours ago."""
    horizon = time.time() - STALE
    with os.scandir(os.path.join(path, "tmp")) as entries:
        for entry in entries:
            if MARK not in entry.name or not entry.is_file(follow_symlinks=False):
                continue
            status = entry.stat(follow_symlinks=False)
            if max(status.st_mtime, status.st_ctime) < horizon:
                os.unlink(entry.path)


def _base(entry: str) -> str:
    """The name in new/ of an entry of cur/, without its flags (":2,S"; ";" or "!" elsewhere)."""
    for separator in ":;!":
        entry = entry.partition(separator)[0]
    return entry


def _exists(name: str, directory: int) -> bool:
    try:
        os.stat(name, dir_fd=directory, follow_symlinks=False)
    except FileNotFoundError:
        return False
    return True


def _make(path: str, *, marker: bool = False) -> None:
    """Make a Maildir durably, with mode 0700, and the directories above it.

    new/ comes last: a delivery meets either no Maildir or a whole one.
    """
    above = os.path.dirname(path)
    make_directory(above)
    if _make_one(path):
        flush_directory(above)
    made = [_make_one(f"{path}/{name}") for name in ("tmp", "cur")]
    if marker and not os.path.lexists(f"{path}/{MARKER}"):
        flags = os.O_WRONLY | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW
        os.close(os.open(f"{path}/{MARKER}", flags, 0o600))
    made.append(_make_one(f"{path}/new"))
    if any(made):
        flush_directory(path)


def _make_one(path: str) -> bool:
    """Make one directory, readable by its owner only; False if it is there already."""
    try:
        os.mkdir(path, 0o700)
    except FileExistsError:
        return False
    if stat.S_IMODE(os.stat(path).st_mode) & 0o777 != 0o700:
        os.chmod(path, 0o700)
    return True
