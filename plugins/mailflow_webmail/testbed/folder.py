"""A folder of the test bed: an mbox file (mboxrd), and the list of what was deleted from it.

Rule of the file: an mbox is never changed but at its end, and by few hands: Sent, Trash and what
a test puts there. What is deleted stays in it; the file beside it, with ".del" after its name,
has the UIDL of each, one on a line, flushed before the page says so.
"""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Collection, Iterable, Iterator
from contextlib import suppress
from fcntl import LOCK_EX, flock
from typing import NamedTuple

from mailflow.digests import blake2b
from mailflow.durable import flush_directory
from mailflow.errors import ConfigError, from_os
from mailflow.lines import crlf_pieces, lf_pieces
from mailflow.mail import HEADER_LIMIT, Header, Octets, head
from mailflow.mbox import Place, from_line, octets, places, quote, unquote

DELETED = ".del"

Stand = tuple[int, int, int]

NO_FILE: Stand = (0, 0, 0)


class Letter(NamedTuple):
    """A message: `size` in octets with CRLF line ends, as its source is served. `uid` is the
    digest of those octets, with a number where equal ones are before it."""

    uid: str
    size: int
    subject: str
    sender: str
    date: str
    place: Place


class Folder:
    """Any thread may call it; a file that is not there yet is an empty folder."""

    def __init__(self, name: str, path: str) -> None:
        self.name = name
        self.path = os.path.abspath(path)
        self._lock = threading.RLock()
        self._letters: list[Letter] = []
        self._counts: dict[str, int] = {}
        self._stand = NO_FILE
        self._gone: frozenset[str] = frozenset()
        self._gone_stand = NO_FILE

    def letters(self) -> list[Letter]:
        """What is there, in the order of the file. Raises ConfigError where it is no mbox,
        UnavailableError."""
        with self._lock:
            self._look()
            return [each for each in self._letters if each.uid not in self._gone]

    def letter(self, uid: str) -> Letter | None:
        return next((each for each in self.letters() if each.uid == uid), None)

    def source(self, letter: Letter) -> Iterator[bytes]:
        """Its octets with CRLF line ends, in pieces."""
        with open(self.path, "rb") as file:
            yield from _content(file.fileno(), letter.place)

    def delete(self, uids: Iterable[str]) -> None:
        """Note that these are deleted, durably. Raises OSError."""
        with self._lock, open(self.path + DELETED, "a+b") as file:
            flock(file, LOCK_EX)
            _drop_torn_line(file.fileno())
            file.seek(0)
            known = set(file.read().decode("ascii", "replace").split())
            new = [uid for uid in uids if uid not in known]
            file.write("".join(f"{uid}\n" for uid in new).encode())
            file.flush()
            os.fsync(file.fileno())
            if not known:
                flush_directory(os.path.dirname(self.path))

    def add(self, *messages: bytes, sender: str | None = None) -> None:
        """Append messages, durably. Raises OSError."""
        with self._lock, open(self.path, "a+b") as file:
            flock(file, LOCK_EX)
            size = file.seek(0, os.SEEK_END)
            if size and os.pread(file.fileno(), 2, max(0, size - 2)) != b"\n\n":
                file.write(b"\n\n")  # of somebody who wrote no blank line, or only a part
            for message in messages:
                whole = b"".join(lf_pieces([message]))
                file.write(from_line(sender, time.time()))
                file.writelines(quote([whole if whole.endswith(b"\n") else whole + b"\n"]))
                file.write(b"\n")
            file.flush()
            os.fsync(file.fileno())
            if not size:
                flush_directory(os.path.dirname(self.path))

    def _look(self) -> None:
        """Index what has come since the last look; all, where it is not the same file."""
        stand = _stand(self.path + DELETED)
        if stand != self._gone_stand:
            self._gone, self._gone_stand = frozenset(_lines(self.path + DELETED)), stand
        stand = _stand(self.path)
        if stand == self._stand:
            return
        try:
            self._index(stand)
        except FileNotFoundError:
            self._begin()
        except ValueError as error:
            raise ConfigError(f"{self.path} is no mbox file: {error}") from None
        except OSError as error:
            raise from_os(error, f"read {self.path}") from None

    def _begin(self) -> None:
        self._letters, self._counts, self._stand = [], {}, NO_FILE

    def _index(self, stand: Stand) -> None:
        with open(self.path, "rb") as file:
            descriptor = file.fileno()
            start = self._unchanged(descriptor, stand)
            if start is None:
                self._begin()
            for place in places(descriptor, start or 0):
                self._letters.append(_letter(descriptor, place, self._counts))
        self._stand = stand

    def _unchanged(self, descriptor: int, stand: Stand) -> int | None:
        """Where the messages go on behind those that are known; None where those have changed."""
        if not self._letters or stand[0] != self._stand[0] or stand[1] <= self._stand[1]:
            return None
        last = self._letters[-1]
        again = next(places(descriptor, last.place.start), None)
        if again is None or again._replace(stop=0) != last.place._replace(stop=0):
            return None
        if _digest(descriptor, again)[0] != last.uid.partition(".")[0]:
            return None
        return again.stop


class Folders:
    """The folders of an account, by their names; the inbox is always there, and first."""

    def __init__(self, paths: dict[str, str], beside: str) -> None:
        """`beside` is what the paths of Sent and Trash begin with, where none is given."""
        named = {"INBOX": f"{beside}INBOX", **paths}
        for name in ("Sent", "Trash"):
            named.setdefault(name, f"{beside}{name}")
        self._folders = {name: Folder(name, path) for name, path in named.items()}

    def __iter__(self) -> Iterator[Folder]:
        return iter(self._folders.values())

    def get(self, name: str) -> Folder | None:
        return self._folders.get(name)

    def __getitem__(self, name: str) -> Folder:
        return self._folders[name]


def found(path: str, more: Collection[tuple[str, str]] = ()) -> Folders:
    """The folders of an mbox file, which is the inbox, or of a directory with one for each;
    `more` are names and paths. Raises ConfigError."""
    path = os.path.abspath(path)
    if not os.path.isdir(path):
        if not os.path.isdir(os.path.dirname(path)):
            raise ConfigError(f"there is no directory {os.path.dirname(path)}")
        return Folders({"INBOX": path, **dict(more)}, f"{path}.")
    paths = {}
    for name in sorted(os.listdir(path)):
        whole = os.path.join(path, name)
        if os.path.isfile(whole) and not name.startswith(".") and not name.endswith(DELETED):
            short = name.removesuffix(".mbox")
            paths["INBOX" if short.upper() == "INBOX" else short] = whole
    return Folders({**paths, **dict(more)}, os.path.join(path, ""))


def _content(descriptor: int, place: Place) -> Iterator[bytes]:
    """With CRLF line ends; what was a CR before one of LF stays, in a file that has those."""
    pieces = unquote(octets(descriptor, place.body, place.end))
    if place.line.endswith(b"\r\n"):
        return crlf_pieces(pieces)
    return (piece.replace(b"\n", b"\r\n") for piece in pieces)


def _digest(descriptor: int, place: Place) -> tuple[str, int]:
    """That of the octets as they are served, and how many they are."""
    digest = blake2b(digest_size=16)
    size = 0
    for piece in _content(descriptor, place):
        digest.update(piece)
        size += len(piece)
    return digest.hexdigest(), size


def _letter(descriptor: int, place: Place, counts: dict[str, int]) -> Letter:
    digest, size = _digest(descriptor, place)
    counts[digest] = number = counts.get(digest, 0) + 1
    uid = digest if number == 1 else f"{digest}.{number}"
    peeked = os.pread(descriptor, min(HEADER_LIMIT, place.end - place.body), place.body)
    header = Header(head(Octets(peeked)))
    subject, sender, date = (header.decoded(name) or "" for name in ("Subject", "From", "Date"))
    return Letter(uid, size, subject, sender, date, place)


def _stand(path: str) -> Stand:
    """What changes with every change of a file: inode, size and time (ns)."""
    try:
        status = os.stat(path)
    except OSError:
        return NO_FILE
    return status.st_ino, status.st_size, status.st_mtime_ns


def _lines(path: str) -> Iterator[str]:
    """Those that are whole: half a UIDL may be another message's."""
    with suppress(FileNotFoundError), open(path, "rb") as file:
        for line in file:
            if line.endswith(b"\n"):
                yield line.strip().decode("ascii", "replace")


def _drop_torn_line(descriptor: int) -> None:
    """Take away what a power cut left of a line."""
    data = os.pread(descriptor, os.fstat(descriptor).st_size, 0)
    os.ftruncate(descriptor, data.rfind(b"\n") + 1)
