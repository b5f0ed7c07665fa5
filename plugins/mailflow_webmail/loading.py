"""Messages that are loaded several at once, and what came of them until a session's end.

Rule of the file: small messages lie in one file without a name, so that they take no memory;
the file of a large one goes with the session. What is held is bounded, the rest loaded anew.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor

from mailflow.collect import nameless, write_whole
from mailflow.errors import MailflowError, from_os
from mailflow.kept import drop
from mailflow.mail import CHUNK, Content, OctetFile, read
from mailflow.reader import opened
from mailflow.typed import BinaryIO
from mailflow_webmail.arriving import arriving

HELD = 256 << 20
"""Octets of messages that are kept for whoever reads them next."""


class Loader:
    """Loads messages by their keys. Used by one thread; `load` is called in others."""

    def __init__(self, load: Callable[[str], Content], parallel: int, directory: str) -> None:
        self._load = load
        self._parallel = parallel
        self._directory = directory
        self._held: dict[str, Content] = {}
        self._octets = 0
        self._loose: Content | None = None
        self._pile: Pile | None = None
        self._pool: ThreadPoolExecutor | None = None
        self._coming: dict[str, Future[Content]] = {}

    def every(
        self, keys: Iterable[str], others_come: Callable[[str, MailflowError], bool]
    ) -> Iterator[tuple[str, Content | MailflowError]]:
        """Each of them as it comes, or what keeps this one alone from coming; raises what keeps
        all from that. `others_come` is as for `arriving`."""
        for key, found in arriving(self._load, keys, self._parallel, others_come):
            yield key, found if isinstance(found, MailflowError) else self._keep(key, found)

    def get(self, key: str) -> Content:
        """One of them. Raises what loading raises."""
        coming = self._coming.pop(key, None)
        found = self._held.get(key)
        if found is not None:
            return found
        return self._keep(key, self._load(key) if coming is None else coming.result())

    def ahead(self, keys: Iterable[str]) -> None:
        """These will be asked for next."""
        for key in keys:
            if len(self._coming) >= self._parallel:
                return
            if key not in self._held and key not in self._coming:
                self._coming[key] = self._begin(key)

    def close(self) -> None:
        """Waits for what is on its way: a session there is not to end under it."""
        if self._pool is not None:
            self._pool.shutdown(cancel_futures=True)
        for future in self._coming.values():
            if not future.cancelled() and future.exception() is None:
                drop(future.result())
        for content in (*self._held.values(), *filter(None, [self._loose])):
            drop(content)
        self._held.clear()
        self._coming.clear()
        if self._pile is not None:
            self._pile.close()

    def _begin(self, key: str) -> Future[Content]:
        if self._pool is None:
            self._pool = ThreadPoolExecutor(self._parallel, thread_name_prefix="webmail")
        return self._pool.submit(self._load, key)

    def _keep(self, key: str, content: Content) -> Content:
        """Hold it where there is room; else it lasts until the next one is asked for."""
        if self._loose is not None:
            drop(self._loose)
            self._loose = None
        if self._octets + content.size > HELD:
            self._loose = content
            return content
        self._octets += content.size
        if not isinstance(content, OctetFile):
            self._pile = self._pile or Pile(self._directory)
            content = self._pile.put(read(content))
        self._held[key] = content
        return content


class Pile:
    """Small messages, one behind the other in a file without a name."""

    def __init__(self, directory: str) -> None:
        """Raises UnavailableError where nothing can be written."""
        self._end = 0
        self._file = nameless(directory, "webmail")

    def put(self, data: bytes) -> Piled:
        """Raises UnavailableError where it cannot be written."""
        try:
            write_whole(self._file, data)
        except OSError as error:
            os.lseek(self._file, self._end, os.SEEK_SET)
            raise from_os(error, "keep a message for the session") from None
        self._end += len(data)
        return Piled(self, self._end - len(data), len(data))

    def read_at(self, octets: int, offset: int) -> bytes:
        try:
            return os.pread(self._file, octets, offset)
        except OSError as error:
            raise from_os(error, "read a message of the session") from None

    def close(self) -> None:
        os.close(self._file)


class Piled:
    """One message of a pile."""

    __slots__ = ("_offset", "_pile", "size")

    def __init__(self, pile: Pile, offset: int, size: int) -> None:
        self._pile = pile
        self._offset = offset
        self.size = size

    def read_at(self, octets: int, offset: int) -> bytes:
        """At most so many, b"" at the end."""
        return self._pile.read_at(max(0, min(octets, self.size - offset)), self._offset + offset)

    def open(self) -> BinaryIO:
        return opened(self, CHUNK)
