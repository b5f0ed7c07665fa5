"""An mbox file as a source.

Rule of the file: where a message is may change between two looks, since other programs
rewrite the file; what is read counts only if it still has the digest it was listed with.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

from mailflow.collect import collect
from mailflow.errors import ConfigError, GoneError, MailflowError, UnavailableError, from_os
from mailflow.kept import drop
from mailflow.kinds import Fetched, Item, Missed
from mailflow.lines import crlf_pieces
from mailflow.mail import Envelope, Octets, head
from mailflow.mbox import octets, unquote
from mailflow.options import Choice, Duration, Options, Path
from mailflow.typed import TYPE_CHECKING, ClassVar, Self
from mailflow.verdicts import Fate
from mailflow.watching import wait_for_change
from mailflow_mbox.reading import Message, catalogue, message
from mailflow_mbox.redo import CUT, opened

if TYPE_CHECKING:
    from mailflow.kinds import Runtime
    from mailflow.mail import Content
    from mailflow.query import Query
    from mailflow_mbox.redo import Log

GROUP = 64
GROUP_OCTETS = 8 << 20
"""So many messages, of so many octets, are read under one lock."""

NOTHING: tuple[str, ...] = ()

_Stand = tuple[int, int, int]
_NO_FILE: _Stand = (0, 0, 0)


class MboxSourceOptions(Options):
    """An mbox file whose messages are fetched."""

    examples = {"path": "~/archive.mbox"}

    path = Path("The mbox file; a missing one is empty.")
    on_done = Choice(
        "What becomes of a message there once it is safe here and the time in `keep`, which is"
        ' "forever" by default, is over.',
        "delete", "keep", default="delete",
    )  # fmt: skip
    timeout = Duration("How long to wait for another program's lock.", default=60.0)

    def look(self) -> Iterator[tuple[str, str]]:
        if not os.path.isdir(os.path.dirname(self.path)):
            yield "path", f"no directory {os.path.dirname(self.path)}"


class MboxFetcher:
    """Fetches the messages of an mbox file."""

    options: ClassVar[type[Options]] = MboxSourceOptions
    schemes: ClassVar[dict[str, dict[str, object]]] = {"mbox": {}}
    url_path = "path"
    knows = ("answered", "deleted", "draft", "flagged", "recent", "seen")

    def __init__(self, options: MboxSourceOptions, runtime: Runtime) -> None:
        self.source = options.path
        self.mark = ""
        self._options = options
        self._runtime = runtime
        self._path = os.path.realpath(options.path)
        self._messages: dict[str, Message] = {}
        self._done: set[str] = set()
        self._stood: _Stand | None = None
        self._more = False

    def __enter__(self) -> Self:
        """Raises UnavailableError where there is no such directory: it may come back."""
        if not os.path.isdir(os.path.dirname(self._path)):
            raise UnavailableError(f"no directory {os.path.dirname(self._path)}")
        return self

    def __exit__(self, *_: object) -> None:
        """Delete what was settled, in one change. Never raises."""
        if not self._done:
            return
        try:
            with self._opened() as (mbox, log):
                self._more |= _stand(self._path) != self._stood
                self._delete(mbox, log)
                self._done.clear()
                self._stood = _stand(self._path)
        except FileNotFoundError:
            return
        except (OSError, MailflowError) as failure:
            text = from_os(failure, "rewrite it") if isinstance(failure, OSError) else failure
            self._runtime.log.warning(
                "what is done stays in the mbox for now", path=self._path, error=str(text)
            )

    def listing(self, where: Query, mark: str = "") -> Iterator[Item]:
        """Every message. `where` and `mark` narrow nothing here."""
        self._scan()
        for key, each in self._messages.items():
            yield Item(key, each.size, each.date, each.flags)

    def heads(self, keys: Sequence[str]) -> Iterator[Fetched]:
        """The header sections; of what is gone, nothing."""
        for got in self.retrieve(keys):
            if isinstance(got, Fetched):
                section = head(got.content)
                drop(got.content)
                yield got._replace(content=Octets(section))

    def retrieve(self, keys: Sequence[str]) -> Iterator[Fetched | Missed]:
        """The messages in this order, unquoted and with CRLF line ends."""
        left = list(keys)
        while left:
            yield from self._some(left)

    def _some(self, left: list[str]) -> list[Fetched | Missed]:
        """The first of them, as many as one lock is taken for; they are taken from `left`."""
        got: list[Fetched | Missed] = []
        size = 0
        try:
            with self._opened() as (mbox, _):
                while left and len(got) < GROUP and size < GROUP_OCTETS:
                    self._runtime.halt.check()
                    got.append(self._read(mbox, left[0]))
                    size += getattr(getattr(got[-1], "content", None), "size", 0)
                    del left[0]
        except FileNotFoundError:
            got += [Missed(key, self._gone(key)) for key in left]
            left.clear()
        except OSError as error:
            got.append(Missed(left.pop(0), from_os(error, f"read {self._path}")))
        except MailflowError:
            if not got:  # else it comes again after these
                raise
        return got

    def _gone(self, key: str) -> GoneError:
        return GoneError(f"{key} is not in {self._path} any more")

    def settle(self, key: str, fate: Fate) -> None:
        """It is deleted with all others at the end: the file is rewritten for it."""
        if fate is Fate.DONE and self._options.on_done == "delete":
            self._done.add(key)

    def wait(self, seconds: float) -> bool:
        """True as soon as the file is not as the last listing left it."""
        if self._stood is None:
            self._stood = _stand(self._path)
        directory = os.path.dirname(self._path)
        return wait_for_change(
            lambda: (directory, self._path),
            lambda: self._more or _stand(self._path) != self._stood,
            seconds, self._runtime.halt,
        )  # fmt: skip

    @contextmanager
    def _opened(self) -> Iterator[tuple[int, Log]]:
        """Locked for writing where it may be written: a change that was cut is made whole."""
        with opened(
            self._path, write=os.access(self._path, os.W_OK), create=False,
            timeout=self._options.timeout, halt=self._runtime.halt,
        ) as both:  # fmt: skip
            yield both

    def _scan(self) -> None:
        """Look at the file anew. Raises UnavailableError, ConfigError where it is no mbox."""
        self._messages, self._stood, self._more = {}, _NO_FILE, False
        try:
            with self._opened() as (mbox, _):
                self._messages = self._catalogue(mbox)
                self._stood = _stand(self._path)
        except FileNotFoundError:
            return
        except OSError as error:
            raise from_os(error, f"read {self._path}") from None

    def _catalogue(self, mbox: int) -> dict[str, Message]:
        try:
            found = catalogue(mbox)
        except ValueError as error:
            raise ConfigError(f"{self._path} is no mbox file: {error}") from None
        return {key: each for key, each in found.items() if not each.internal}

    def _read(self, mbox: int, key: str) -> Fetched | Missed:
        """Raises OSError."""
        for _ in range(2):
            listed = self._messages.get(key)
            if listed is None:
                break
            if message(mbox, listed.place).digest == listed.digest:
                return Fetched(key, self._content(mbox, listed), Envelope(listed.sender))
            self._messages = self._catalogue(mbox)
        return Missed(key, self._gone(key))

    def _content(self, mbox: int, listed: Message) -> Content:
        pieces = unquote(octets(mbox, listed.place.body, listed.place.end))
        return collect(self._counted(crlf_pieces(pieces)), self._runtime.scratch, "mbox")

    def _counted(self, pieces: Iterator[bytes]) -> Iterator[bytes]:
        for piece in pieces:
            self._runtime.halt.check()
            self._runtime.progress(len(piece))
            yield piece

    def _delete(self, mbox: int, log: Log) -> None:
        """Take what is done out of the file; what came since stays. Raises OSError."""
        everything = catalogue(mbox)
        gone = [each.place for key, each in everything.items() if key in self._done]
        if not gone:
            return
        if len(gone) == len(everything):
            os.ftruncate(mbox, 0)
            os.fsync(mbox)
            return
        base = gone[0].start
        kept = [
            each.place
            for key, each in everything.items()
            if key not in self._done and each.place.start > base
        ]
        draft = log.begin()
        try:
            for place in kept:
                draft.add(octets(mbox, place.start, place.stop))
            log.make(draft, CUT, base, NOTHING)
        finally:
            draft.close()


def _stand(path: str) -> _Stand:
    """What changes with every change of a file: inode, size and time (ns)."""
    try:
        status = os.stat(path)
    except OSError:
        return _NO_FILE
    return status.st_ino, status.st_size, status.st_mtime_ns
