"""Sessions of one account that are kept, and lent to whoever has something to ask.

Rule of the file: a session is in one pair of hands at a time; one that was used before is
tried before it is lent, and one that met an error is closed.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from threading import Condition

from mailflow.errors import (
    GoneError,
    PeerError,
    RefusedError,
    UnavailableError,
)
from mailflow.record import NamedTuple
from mailflow.typed import TYPE_CHECKING
from mailflow_imap.names import canonical

if TYPE_CHECKING:
    from mailflow.halt import Halt
    from mailflow_imap.session import Session

RESTED = 1.0
"""Seconds after which a session is tried before it is used again for the same task."""

_TURN = 0.2
"""Seconds after which one who waits for a session looks whether he is to stop."""


class _Resting(NamedTuple):
    session: Session
    since: float


class Pool:
    """At most `most` sessions, each made by `connect`, which logs in. Any thread may ask.

    `patience` is how many seconds to wait for one that others have.
    """

    def __init__(
        self,
        connect: Callable[[], Session],
        most: int,
        halt: Halt,
        *,
        patience: float = 60.0,
    ) -> None:
        self._connect = connect
        self._most = most
        self._halt = halt
        self._patience = patience
        self._lock = Condition()
        self._resting: list[_Resting] = []
        self._open = 0
        self._closed = False

    @contextmanager
    def lent(
        self, folder: str | None = None, *, change: bool = False, again: bool = False
    ) -> Iterator[Session]:
        """A session for one task, with `folder` open: to `change` it, or only to read, then by
        EXAMINE. It knows what is there now; `again`: what it knew the last time will do.
        Raises UnavailableError, GoneError where there is no such folder, and what logging in
        raises.
        """
        session = self._ready(None if folder is None else canonical(folder), change, again)
        try:
            yield session
        except BaseException:
            self._drop(session)
            raise
        self._return(session)

    def close(self) -> None:
        """Log out of what rests; what is lent is closed when it comes back."""
        with self._lock:
            self._closed = True
            resting, self._resting = self._resting, []
            self._open -= len(resting)
        for each in resting:
            each.session.part()

    def _ready(self, folder: str | None, change: bool, again: bool) -> Session:
        """One that rested and still works, else a new one."""
        while True:
            found = self._next(folder, change)
            session = self._made() if found is None else found.session
            known = again and found is not None and time.monotonic() - found.since < RESTED
            try:
                if folder is not None and not _is_open(session, folder, change):
                    with told_absent(session, folder):
                        session.select(folder, read_only=not change).wait()
                elif found is not None and not known:
                    session.noop().wait()  # which tells what is new, too
                return session
            except (UnavailableError, PeerError):
                self._drop(session)
                if found is None or self._halt.is_set():
                    raise
            except BaseException:
                self._drop(session)
                raise

    def _made(self) -> Session:
        try:
            return self._connect()
        except BaseException:
            self._drop(None)
            raise

    def _next(self, folder: str | None, change: bool) -> _Resting | None:
        """The session that suits best of those that rest; None: another may be made."""
        deadline = time.monotonic() + self._patience
        with self._lock:
            while True:
                if self._resting:
                    self._resting.sort(key=lambda each: _suits(each.session, folder, change))
                    return self._resting.pop()
                if self._open < self._most:
                    self._open += 1
                    return None
                if self._halt.is_set():
                    raise UnavailableError("stopped on request")
                if time.monotonic() > deadline:
                    text = f"all {self._most} connections of this mailbox are in use"
                    raise UnavailableError(text)
                self._lock.wait(_TURN)

    def _return(self, session: Session) -> None:
        with self._lock:
            if not self._closed:
                self._resting.append(_Resting(session, time.monotonic()))
                self._lock.notify()
                return
            self._open -= 1
        session.part()

    def _drop(self, session: Session | None) -> None:
        if session is not None:
            session.close()
        with self._lock:
            self._open -= 1
            self._lock.notify()


@contextmanager
def told_absent(session: Session, folder: str) -> Iterator[None]:
    """Raise GoneError in the place of a refusal where there is no such folder: not every
    server says why it refuses."""
    try:
        yield
    except RefusedError:
        listed = session.folders(folder).wait()
        if any(each.name == canonical(folder) and each.selectable for each in listed):
            raise
        raise GoneError(f"{session.peer} has no folder {folder!r}") from None


def _is_open(session: Session, folder: str, change: bool) -> bool:
    """Whether the folder is open there; to read it, it may be open to be changed, too."""
    there = session.selected
    return there is not None and there.folder == folder and not (change and there.read_only)


def _suits(session: Session, folder: str | None, change: bool) -> int:
    if folder is not None and _is_open(session, folder, change):
        return 2
    return 1 if session.selected is None else 0
