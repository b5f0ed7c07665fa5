"""Fetch exactly one message, from stdin.

Rule of the file: what cannot be read whole is not read at all; memory holds the
first mebibyte, a file in the runtime's scratch directory the rest.
"""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import suppress

from mailflow.digests import blake2b
from mailflow.errors import BadMailError, UnavailableError, from_os
from mailflow.kinds import Fetched, Item
from mailflow.lines import to_crlf
from mailflow.mail import Content, OctetFile, Octets, head
from mailflow.options import ListOf, Options, Text
from mailflow.typed import TYPE_CHECKING, ClassVar, Self
from mailflow_stdin.envelope import envelope, split_from_line

if TYPE_CHECKING:
    from mailflow.kinds import Runtime
    from mailflow.query import Query
    from mailflow.verdicts import Fate

IN_MEMORY = 1 << 20
READ_SIZE = 1 << 18

STDIN = 0


class StdinOptions(Options):
    sender = Text.optional(
        'The reverse-path, "" for none; by default what SENDER in the environment or an mbox'
        ' "From " line says.'
    )
    recipients = ListOf(
        "The forward-paths; by default the arguments of `mailflow hook`, then RECIPIENT in the"
        " environment.",
        Text("A forward-path."),
        default=(),
    )


class StdinFetcher:
    """Takes one message on standard input: `mailflow hook`.

    Its key is a digest of envelope and content.
    """

    options: ClassVar[type[Options]] = StdinOptions
    pushed = True
    source = "stdin"
    mark = ""

    def __init__(self, options: StdinOptions, runtime: Runtime) -> None:
        self._options = options
        self._runtime = runtime
        self._message: Fetched | None = None
        self._file = ""

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._message = None
        if self._file:
            with suppress(OSError):
                os.unlink(self._file)

    def listing(self, where: Query, mark: str = "") -> Iterable[Item]:
        """Reads stdin to its end: the key is known only then.

        Raises UnavailableError where nothing can be read, BadMailError for no octets.
        """
        if self._message is None:
            self._message = self._read()
        return [Item(self._message.key, self._message.content.size)]

    def heads(self, keys: Sequence[str]) -> Iterator[Fetched]:
        for message in self.retrieve(keys):
            yield message._replace(content=Octets(head(message.content)))

    def retrieve(self, keys: Sequence[str]) -> Iterator[Fetched]:
        if self._message is not None and self._message.key in keys:
            yield self._message

    def settle(self, key: str, fate: Fate) -> None:
        """Nothing: the exit status is the answer."""

    def _read(self) -> Fetched:
        try:
            _check_input()
            start, more = self._start()
            from_line, offset = split_from_line(start)
            told = envelope(self._options.sender, self._options.recipients, os.environ, from_line)
            digest = blake2b("\0".join((repr(told.sender), *told.recipients, "")).encode())
            content: Content
            if more:
                content = self._spool(start[offset:], digest.update)
            else:
                content = Octets(to_crlf(start[offset:]))
                digest.update(content.data)
        except OSError as error:
            raise from_os(error, "take the message from stdin") from None
        if not content.size:
            raise BadMailError("stdin is empty: expected one message")
        return Fetched(digest.hexdigest()[:40], content, told)

    def _start(self) -> tuple[bytes, bool]:
        """All octets, or the first mebibyte and True."""
        pieces = []
        size = 0
        while size <= IN_MEMORY and (piece := self._next()):
            pieces.append(piece)
            size += len(piece)
        return b"".join(pieces), size > IN_MEMORY

    def _spool(self, start: bytes, digest: Callable[[bytes], None]) -> Content:
        """Write `start` and the rest of stdin to a file, with CRLF lines."""
        self._file = f"{self._runtime.scratch}/stdin.{os.getpid()}.{time.time_ns()}"
        descriptor = os.open(self._file, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
        size = 0
        carried = b""
        piece = start
        with open(descriptor, "wb", buffering=0) as file:
            while piece or carried:
                # A CR at the end may be half a CRLF; at the end of all it is bare.
                whole = carried + piece
                carried = b"\r" if piece and whole.endswith(b"\r") else b""
                octets = to_crlf(whole[: len(whole) - len(carried)])
                digest(octets)
                size += len(octets)
                with memoryview(octets) as view:
                    written = 0
                    while written < len(view):
                        written += file.write(view[written:])
                piece = self._next() if piece else b""
        return OctetFile(self._file, size)

    def _next(self) -> bytes:
        """The next octets, b"" at the end. Raises UnavailableError when the engine stops."""
        from select import POLLIN, poll

        poller = poll()
        poller.register(STDIN, POLLIN)
        poller.register(self._runtime.halt, POLLIN)
        while True:
            poller.poll()
            self._runtime.halt.check()
            with suppress(BlockingIOError):
                piece = os.read(STDIN, READ_SIZE)
                self._runtime.progress(len(piece))
                return piece


def _check_input() -> None:
    """Raises UnavailableError where no message can come."""
    try:
        closed = sys.stdin is None
        os.fstat(STDIN)
    except OSError:
        closed = True
    if closed:
        raise UnavailableError("stdin is closed: expected one message on it")
    if os.isatty(STDIN):
        raise UnavailableError("stdin is a terminal: expected one message from a program or file")
