"""A Maildir in one session's hands: listed, read, and at its end relieved of what is deleted.

Rule of the file: a path is where a message lay a moment ago; readers rename files, so that
what is not there is looked for once more by the part of its name that stays.
"""

from __future__ import annotations

import errno
import os
from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import suppress

from mailflow.column import Column
from mailflow.durable import flush_directory
from mailflow.errors import GoneError, UnavailableError, from_os
from mailflow.kinds import Item
from mailflow.record import NamedTuple
from mailflow.typed import TYPE_CHECKING, overload
from mailflow_maildir.ledger import Ledger
from mailflow_maildir.reading import File, Glance, glance, open_message, path_of
from mailflow_maildir.stored import AT_HAND, WHOLE, answer, content_of, held

if TYPE_CHECKING:
    from mailflow.log import Logger
    from mailflow.mail import Content

RENAMED = 8
"""So often a message is looked for again, where readers rename it under our hands."""

_FULL = (errno.ENOSPC, errno.EDQUOT)


class Snapshot(NamedTuple):
    """The messages of a drop at one moment, parallel; shared by sessions, and never changed.

    `keys` are the UIDLs; names, tags and twins are those of reading.Glance.
    """

    keys: Column
    sizes: Sequence[int]
    names: Column
    tags: Sequence[str]
    twins: Mapping[str, str]


class Items(Sequence[Item]):
    """A snapshot as the items of a drop; each is made when it is asked for."""

    __slots__ = ("_snapshot",)

    def __init__(self, snapshot: Snapshot) -> None:
        self._snapshot = snapshot

    def __len__(self) -> int:
        return len(self._snapshot.keys)

    @overload
    def __getitem__(self, index: int) -> Item: ...
    @overload
    def __getitem__(self, index: slice) -> Sequence[Item]: ...
    def __getitem__(self, index: int | slice) -> Item | Sequence[Item]:
        keys, sizes = self._snapshot.keys, self._snapshot.sizes
        if isinstance(index, slice):
            return list(map(_item, keys[index], sizes[index]))
        return _item(keys[index], sizes[index])

    def __iter__(self) -> Iterator[Item]:
        return map(_item, self._snapshot.keys, self._snapshot.sizes)


def _item(key: str, size: int) -> Item:
    return Item(key, size, None, None, None, None)


class OpenMaildir:
    """The messages of a Maildir, locked until `close`."""

    def __init__(self, root: str, ledger: Ledger, snapshot: Snapshot, log: Logger) -> None:
        self.prompt = ledger.near
        self._root = root
        self._ledger = ledger
        self._snapshot = snapshot
        self._log = log
        self._at = 0
        self._moved: Glance | None = None

    def items(self) -> Sequence[Item]:
        """In the order in which they came to be known; of several at once, by name."""
        return Items(self._snapshot)

    def read(self, key: str) -> Content:
        """Raises GoneError, UnavailableError."""
        number = self._number(key)
        try:
            file, stored = self._open(number)
            content = content_of(file, stored, self._snapshot.sizes[number])
        except ValueError as error:
            raise UnavailableError(f"{self._where(number)} is {error}") from None
        except OSError as error:
            raise from_os(error, f"read {self._where(number)}") from None
        if stored <= WHOLE and content.size != self._snapshot.sizes[number]:
            self._ledger.correct(content.size, self._snapshot.names[number])
            self._log.warning(
                "a message has another size than its name says", path=self._where(number),
                said=self._snapshot.sizes[number], found=content.size,
            )  # fmt: skip
        return content

    def wire(self, key: str) -> bytes | None:
        """A small message that the system has in memory, as the answer to RETR; what is not
        there, or is not what its name says, is for `read`, which a thread may wait for."""
        if not self.prompt:
            return None
        number = self._number(key)
        try:
            file, stored = self._open(number)
        except (OSError, ValueError, GoneError):
            return None
        try:
            data = held(file, stored) if 0 < stored <= AT_HAND else None
        finally:
            os.close(file)
        return None if data is None else answer(data, self._snapshot.sizes[number])

    def _number(self, key: str) -> int:
        """Raises KeyError for what is not in the snapshot."""
        self._at = self._snapshot.keys.number(key, self._at)
        return self._at

    def _open(self, number: int) -> tuple[int, int]:
        """The file and its size. Raises GoneError, OSError, ValueError."""
        for _ in range(RENAMED):
            try:
                file, status = open_message(self._root, File("", "", self._path(number)))
            except FileNotFoundError:
                self._look_again(number)
            else:
                return file, status.st_size
        raise GoneError(f"{self._where(number)} is not there any more")

    def _path(self, number: int) -> str:
        """From the Maildir on. Raises GoneError."""
        name, moved = self._snapshot.names[number], self._moved
        if moved is None:
            return path_of(name, self._snapshot.tags[number], self._snapshot.twins)
        base = name.rpartition("#")[0]
        if name in self._snapshot.twins and base in moved.found:  # the others have gone
            moved.split(base)
        if name not in moved.found:
            raise GoneError(f"{self._where(number)} is not there any more")
        return moved.path(name, moved.found[name])

    def _look_again(self, number: int) -> None:
        """See where everything lies now. Raises GoneError where this one is gone, OSError."""
        self._moved = glance(self._root)
        self._path(number)

    def _where(self, number: int) -> str:
        """For a human: a name without the flags."""
        return f"{self._snapshot.names[number]} in {self._root}"

    def close(self, delete: Collection[str] = ()) -> None:
        """Delete these, all or none, and unlock. Raises UnavailableError."""
        try:
            if delete:
                self._delete(delete)
        except OSError as error:
            raise from_os(error, f"delete messages of {self._root}") from None
        finally:
            self._ledger.close()

    def _delete(self, keys: Collection[str]) -> None:
        """Raises OSError, UnavailableError."""
        victims: dict[int, int] = {}
        for number in map(self._number, keys):
            with suppress(GoneError):
                victims[number] = self._inode(number)
        if not victims:
            return
        if not self._ledger.writable:
            raise UnavailableError(f"{self._root} is read-only: nothing was deleted")
        if len(victims) > 1:
            self._condemn(victims)
        first: OSError | None = None
        done: set[str] = set()
        for number in victims:
            try:
                done.add(self._unlink(number))
            except GoneError:
                continue
            except OSError as error:
                first = first or error
        if first is not None and not done:
            self._ledger.pardon()
            raise first
        for place in done:
            flush_directory(os.path.join(self._root, place))
        if first is not None:
            raise first
        if len(victims) > 1:
            self._ledger.done()

    def _condemn(self, victims: Mapping[int, int]) -> None:
        """Write down what is deleted. On a full disk there is no room for that: then the
        messages go one by one, since they must go to make room."""
        names = self._snapshot.names
        try:
            self._ledger.condemn((inode, names[number]) for number, inode in victims.items())
        except OSError as error:
            if error.errno not in _FULL:
                raise
            self._log.warning("a full disk: messages are deleted one by one", path=self._root)

    def _inode(self, number: int) -> int:
        """Raises GoneError, OSError."""
        for _ in range(RENAMED):
            try:
                return os.lstat(os.path.join(self._root, self._path(number))).st_ino
            except FileNotFoundError:
                self._look_again(number)
        raise GoneError(f"{self._where(number)} is not there any more")

    def _unlink(self, number: int) -> str:
        """The place it was in. Raises GoneError, OSError."""
        for _ in range(RENAMED):
            path = self._path(number)
            try:
                os.unlink(os.path.join(self._root, path))
            except FileNotFoundError:
                self._look_again(number)
            else:
                return path[:3]
        raise GoneError(f"{self._where(number)} is not there any more")
