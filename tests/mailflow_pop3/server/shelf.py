"""A maildrop in memory that keeps the contract, and breaks it where a test says so.

Rule of the file: without faults it is as simple as a maildrop can be, so that it may be the
model of what a session shows.
"""

from __future__ import annotations

import io
import threading
from collections.abc import Callable, Collection, Iterator, Sequence
from typing import BinaryIO, overload

from mailflow.errors import GoneError, InUseError, MailflowError
from mailflow.kinds import Credentials, Item
from mailflow.mail import Content, Octets
from mailflow.testing.corpus import stored


class Shelf:
    """Messages in order, each with its key; locked by one session at a time.

    `faults` maps a key to what `read` raises for it, `refusing` is what `close` raises for
    any deletion, before anything is removed. `closings` are the deletions of every session
    that has ended. `before` is called with "login", "read" or "close" where such a call
    begins, and may wait or raise.
    """

    def __init__(self, *messages: bytes | Content) -> None:
        self.messages: dict[str, Content] = {}
        self.faults: dict[str, MailflowError] = {}
        self.refusing: MailflowError | None = None
        self.closings: list[tuple[str, ...]] = []
        self.entered: list[Credentials] = []
        self.lock = threading.Lock()
        self.before: Callable[[str], None] = lambda what: None
        self._given = 0
        for message in messages:
            self.deliver(message)

    def deliver(self, message: bytes | Content) -> str:
        """Put a message at the end; its key."""
        self._given += 1
        key = f"key-{self._given:06d}"
        self.messages[key] = Octets(stored(message)) if isinstance(message, bytes) else message
        return key

    def login(self, who: Credentials) -> OpenShelf:
        self.before("login")
        if not self.lock.acquire(blocking=False):
            raise InUseError("another session has it")
        self.entered.append(who)
        return OpenShelf(self)


def wire_size(content: Content) -> int:
    """The octets of a message as RETR has it: a last line without an end gets one."""
    ended = not isinstance(content, Octets) or content.data[-2:] in (b"", b"\r\n")
    return content.size if ended else content.size + 2


def flags_of(content: Content) -> frozenset[str] | None:
    """Whether the header section has UTF-8, where that can be seen at once."""
    if not isinstance(content, Octets):
        return None
    header = content.data.partition(b"\r\n\r\n")[0]
    try:
        return frozenset() if header.isascii() or not header.decode() else frozenset({"utf8"})
    except UnicodeDecodeError:
        return frozenset()


class OpenShelf:
    """One session's snapshot."""

    prompt = False

    def __init__(self, shelf: Shelf) -> None:
        self._shelf = shelf
        self._items = [
            Item(key, wire_size(each), flags=flags_of(each)) for key, each in shelf.messages.items()
        ]

    def items(self) -> Sequence[Item]:
        return self._items

    def read(self, key: str) -> Content:
        self._shelf.before("read")
        if key in self._shelf.faults:
            raise self._shelf.faults[key]
        if key not in self._shelf.messages:
            raise GoneError("removed behind our back")
        return self._shelf.messages[key]

    def close(self, delete: Collection[str] = ()) -> None:
        try:
            self._shelf.before("close")
            if delete and self._shelf.refusing:
                raise self._shelf.refusing
            for key in delete:
                self._shelf.messages.pop(key, None)
            self._shelf.closings.append(tuple(delete))
        finally:
            self._shelf.lock.release()


class Cut:
    """Content whose reader fails after `good` octets, though it promised `size`."""

    def __init__(self, good: bytes, size: int, error: OSError | None = None) -> None:
        self.size = size
        self._good = good
        self._error = error

    def open(self) -> BinaryIO:
        return io.BufferedReader(_CutReader(self._good, self._error))


class _CutReader(io.RawIOBase):
    """The good octets, then the error, or an end that comes too early."""

    def __init__(self, good: bytes, error: OSError | None) -> None:
        self._good = io.BytesIO(good)
        self._error = error

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        return self._good.seek(offset, whence)

    def readinto(self, buffer: bytearray | memoryview) -> int:  # type: ignore[override]
        count = self._good.readinto(buffer)
        if not count and self._error:
            raise self._error
        return count


class Counting(Sequence[Item]):
    """A listing of as many messages of 1,000 octets that counts how often it is looked at."""

    def __init__(self, count: int) -> None:
        self._items = [Item(f"{index:070d}", 1000) for index in range(count)]
        self.looks = 0

    def __len__(self) -> int:
        return len(self._items)

    @overload
    def __getitem__(self, index: int) -> Item: ...
    @overload
    def __getitem__(self, index: slice) -> Sequence[Item]: ...
    def __getitem__(self, index: int | slice) -> Item | Sequence[Item]:
        found = self._items[index]
        self.looks += len(found) if isinstance(index, slice) else 1
        return found

    def __iter__(self) -> Iterator[Item]:
        self.looks += len(self._items)
        return iter(self._items)
