"""A change of an mbox, written beside it before it is made: PATH's directory, .NAME.mailflow.

    header   state, act, base, length, old size, two digests; of fixed length
    data     what stands in the mbox from `base` on once the change is made
    keys     one line each: tickets that were delivered before; with "+", those it delivers

Rule of the file: the log is whole and flushed before the mbox is touched, and whoever
locks the mbox next makes a change that was begun whole. So a message is there or not, and
never half; and a ticket whose key is in the log is delivered.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from itertools import chain

from mailflow.collect import write_whole
from mailflow.digests import blake2b
from mailflow.durable import flush_directory
from mailflow.errors import UnavailableError
from mailflow.mbox import octets, places
from mailflow.record import NamedTuple
from mailflow.typed import TYPE_CHECKING
from mailflow_mbox.lock import locked
from mailflow_mbox.reading import catalogue, message

if TYPE_CHECKING:
    from mailflow.halt import Halt

PENDING, DONE, CANCELLED = "?", ".", "x"
APPEND, CUT = "append", "cut"

_MAGIC = "mailflow-mbox-1"
_FORM = "{} {} {:6} {:020} {:020} {:020} {} {}\n"
_LENGTH = len(_FORM.format(_MAGIC, PENDING, APPEND, 0, 0, 0, "0" * 32, "0" * 32))
_STATE_AT = len(_MAGIC) + 1

_NONE = "0" * 32

MOST_KEYS = 4096
"""Older keys are forgotten: their tickets are final for long."""


class Change(NamedTuple):
    """What a log's header says. `base` and `old` are offsets in the mbox; `rest` is a digest
    of what a cut takes from its end, `digest` one of data and keys."""

    state: str
    act: str
    base: int
    length: int
    old: int
    rest: str
    digest: str


def log_path(path: str) -> str:
    directory, name = os.path.split(path)
    return os.path.join(directory, f".{name}.mailflow")


@contextmanager
def opened(
    path: str, *, write: bool, create: bool, timeout: float, halt: Halt
) -> Iterator[tuple[int, Log]]:
    """An mbox, locked and whole, and its log. Raises as `locked` does."""
    with locked(path, write=write, create=create, timeout=timeout, halt=halt) as mbox:
        yield mbox, Log(path, mbox)


class Log:
    """The log beside a locked mbox. Errors: OSError, and UnavailableError for a damaged one."""

    def __init__(self, path: str, mbox: int) -> None:
        self.path = log_path(path)
        self._mbox = mbox
        self.keys: list[str] = []
        """The tickets that are delivered."""
        self._recover()

    def begin(self) -> Draft:
        return Draft(self.path)

    def make(self, draft: Draft, act: str, base: int, keys: Sequence[str]) -> None:
        """Make a change last: the log, then the mbox. Raises OSError with the mbox as it
        was, as far as that can be had."""
        old = os.fstat(self._mbox).st_size
        rest = _digest(octets(self._mbox, base + draft.length, old)) if act == CUT else _NONE
        kept = self.keys[-MOST_KEYS:]
        change = draft.commit(act, base, old, rest, [*kept, *(f"+{key}" for key in keys)])
        try:
            self._apply(change)
        except OSError:
            if act == APPEND:
                self._cancel(base)
            raise
        self.keys = [*kept, *keys]
        self._tidy()

    def _tidy(self) -> None:
        """A log that knows no ticket holds mail for nothing."""
        if not self.keys:
            with suppress(OSError):
                os.unlink(self.path)

    def forget(self, keys: Iterable[str]) -> None:
        """These tickets are final: nobody asks for them again."""
        gone = set(keys)
        kept = [key for key in self.keys if key not in gone]
        if len(kept) == len(self.keys):
            return
        if kept:
            draft = self.begin()
            draft.commit(APPEND, 0, 0, _NONE, kept, state=DONE)
        else:
            os.unlink(self.path)
        self.keys = kept

    def _apply(self, change: Change) -> None:
        """Write the data into the mbox, and say in the log that it is done."""
        with open(self.path, "r+b", buffering=0) as log:
            _copy(log.fileno(), _LENGTH, self._mbox, change.base, change.length)
            if change.act == CUT:
                os.fsync(self._mbox)  # before what is behind goes
                os.ftruncate(self._mbox, change.base + change.length)
            os.fsync(self._mbox)
            # Not flushed: where it is lost, what is done is found to be done.
            os.pwrite(log.fileno(), DONE.encode(), _STATE_AT)

    def _cancel(self, base: int) -> None:
        """Nothing of it stays in the mbox, nor is it made later."""
        with suppress(OSError):
            os.ftruncate(self._mbox, base)
            with open(self.path, "r+b", buffering=0) as log:
                os.pwrite(log.fileno(), CANCELLED.encode(), _STATE_AT)
                os.fsync(log.fileno())

    def _recover(self) -> None:
        """Read the log, and make whole what was begun."""
        try:
            log = os.open(self.path, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC)
        except FileNotFoundError:
            return
        try:
            change = self._header(log)
            lines = b"".join(octets(log, _LENGTH + change.length, os.fstat(log).st_size))
            if change.state == PENDING:
                self._check(log, change, lines)
                self._complete(log, change)
        finally:
            os.close(log)
        keys = lines.decode("ascii").splitlines()
        if change.state == CANCELLED:
            keys = [key for key in keys if not key.startswith("+")]
        self.keys = [key.removeprefix("+") for key in keys]
        self._tidy()

    def _damaged(self) -> UnavailableError:
        return UnavailableError(f"{self.path} is damaged; look at the mbox, then remove it")

    def _header(self, log: int) -> Change:
        words = os.pread(log, _LENGTH, 0).decode("ascii", "replace").split()
        try:
            magic, state, act, base, length, old, rest, digest = words
            if magic != _MAGIC:
                raise self._damaged()
            return Change(state, act, int(base), int(length), int(old), rest, digest)
        except ValueError:
            raise self._damaged() from None

    def _check(self, log: int, change: Change, lines: bytes) -> None:
        data = octets(log, _LENGTH, _LENGTH + change.length)
        if _digest(chain(data, [lines])) != change.digest:
            raise self._damaged()

    def _complete(self, log: int, change: Change) -> None:
        """Make the change whole, wherever it was cut."""
        size, end = os.fstat(self._mbox).st_size, change.base + change.length
        if change.act == CUT:
            # What it takes from the end is still there: it was not cut off yet.
            if size >= change.old and _digest(octets(self._mbox, end, change.old)) == change.rest:
                self._cut_again(log, change, size)
        else:
            there = _alike(log, _LENGTH, self._mbox, change.base, change.length)
            if there < change.length and self._is_torn(change.base + there, size, end):
                _copy(log, _LENGTH + there, self._mbox, change.base + there, change.length - there)
            elif there < change.length:
                self._append_missing(log, change, there)
        os.fsync(self._mbox)
        with open(self.path, "r+b", buffering=0) as again:
            os.pwrite(again.fileno(), DONE.encode(), _STATE_AT)

    def _is_torn(self, offset: int, size: int, end: int) -> bool:
        """Whether what we began ends there: a power cut may leave NULs behind it."""
        return offset <= size <= end and not any(
            piece.strip(b"\0") for piece in octets(self._mbox, offset, size)
        )

    def _cut_again(self, log: int, change: Change, size: int) -> None:
        """A cut that did not come to its end; others may have appended since."""
        tail = b"".join(octets(self._mbox, change.old, size))
        _copy(log, _LENGTH, self._mbox, change.base, change.length)
        end = change.base + change.length
        _pwrite(self._mbox, tail, end)
        os.fsync(self._mbox)
        os.ftruncate(self._mbox, end + len(tail))

    def _append_missing(self, log: int, change: Change, there: int) -> None:
        """Other programs have changed the mbox since: append what is not found in it, nor
        among the first `there` octets, which are as they were written."""
        present = {each.digest for each in catalogue(self._mbox).values()}
        end = os.fstat(self._mbox).st_size
        gap = padding(self._mbox)
        _pwrite(self._mbox, gap, end)
        end += len(gap)
        for place in places(log, _LENGTH, _LENGTH + change.length):
            whole = place.stop <= _LENGTH + there
            if not whole and message(log, place).digest not in present:
                _copy(log, place.start, self._mbox, end, place.stop - place.start)
                end += place.stop - place.start


class Draft:
    """A log that is being written; nobody believes it before `commit`."""

    def __init__(self, path: str) -> None:
        self._path = path
        flags = os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC | os.O_NOFOLLOW
        self._file = os.open(f"{path}.tmp", flags, 0o600)
        self._digest = blake2b(digest_size=16)
        self.length = 0
        os.lseek(self._file, _LENGTH, os.SEEK_SET)

    def add(self, pieces: Iterable[bytes]) -> None:
        """More data: all of it, or nothing where an error comes out."""
        digest, length = self._digest.copy(), self.length
        try:
            for piece in pieces:
                write_whole(self._file, piece)
                self._digest.update(piece)
                self.length += len(piece)
        except BaseException:
            self._digest, self.length = digest, length
            os.ftruncate(self._file, _LENGTH + length)
            os.lseek(self._file, _LENGTH + length, os.SEEK_SET)
            raise

    def commit(
        self, act: str, base: int, old: int, rest: str, keys: Sequence[str],
        state: str = PENDING,
    ) -> Change:  # fmt: skip
        """Make it the log, durably."""
        lines = "".join(f"{key}\n" for key in keys).encode()
        self._digest.update(lines)
        change = Change(state, act, base, self.length, old, rest, self._digest.hexdigest())
        try:
            write_whole(self._file, lines)
            _pwrite(self._file, _FORM.format(_MAGIC, *change).encode(), 0)
            os.fsync(self._file)
            os.rename(f"{self._path}.tmp", self._path)
        except OSError:
            self.close()
            raise
        descriptor, self._file = self._file, -1
        os.close(descriptor)
        flush_directory(os.path.dirname(self._path))
        return change

    def close(self) -> None:
        """Leave nothing of it, where it was not committed."""
        if self._file >= 0:
            descriptor, self._file = self._file, -1
            os.close(descriptor)
            with suppress(OSError):
                os.unlink(f"{self._path}.tmp")


def padding(mbox: int) -> bytes:
    """What must stand between the end of an mbox and a From_ line."""
    size = os.fstat(mbox).st_size
    tail = os.pread(mbox, 3, max(0, size - 3))
    if not tail or tail.endswith((b"\n\n", b"\n\r\n")):
        return b""
    return b"\n" if tail.endswith(b"\n") else b"\n\n"


def _digest(pieces: Iterable[bytes]) -> str:
    digest = blake2b(digest_size=16)
    for piece in pieces:
        digest.update(piece)
    return digest.hexdigest()


def _copy(source: int, offset: int, target: int, to: int, length: int) -> None:
    for piece in octets(source, offset, offset + length):
        _pwrite(target, piece, to)
        to += len(piece)


def _pwrite(descriptor: int, data: bytes, offset: int) -> None:
    """pwrite(2) until all is written."""
    while data:
        written = os.pwrite(descriptor, data, offset)
        data, offset = data[written:], offset + written


def _alike(one: int, offset: int, other: int, at: int, length: int) -> int:
    """How many octets are the same there and there."""
    same = 0
    for piece in octets(one, offset, offset + length):
        theirs = os.pread(other, len(piece), at + same)
        if piece == theirs:
            same += len(piece)
            continue
        pairs = enumerate(zip(piece, theirs, strict=False))
        return same + next((at for at, (a, b) in pairs if a != b), len(theirs))
    return same
