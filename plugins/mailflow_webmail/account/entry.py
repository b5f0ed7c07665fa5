"""Being logged in: one login for all threads of a session, done anew where it has ended.

Rule of the file: nobody asks anything while somebody logs in, since an answer to the old
session may take the cookies of the new one; and a login is never tried again in a row.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TypeVar

from mailflow.errors import InUseError, LoginError, MailflowError
from mailflow.values import FOREVER
from mailflow_webmail.errors import ExpiredError, ThrottledError

T = TypeVar("T")

IDLE = 5.0
"""Seconds without work after which a session lets another of the same account in."""

AGAIN = 60.0
"""Seconds until another login after one that nothing came of."""

_AT_HOME: dict[tuple[str, str], Entry] = {}
"""By webmail and user, the session of this process that must be alone there."""

_LOCK = threading.Lock()


class Facts(dict[str, str]):
    """What a login and the pages after it have said, for the steps that follow."""

    number = 0
    """Counts the logins of a session."""


class Entry:
    """The login of a session. Any thread may work in it."""

    def __init__(self, enter: Callable[[], Facts], alone: tuple[str, str] | None) -> None:
        """`enter` logs in; `alone` names the account where a second login ends the first."""
        self._enter = enter
        self._alone = alone
        self.patience = IDLE
        """Seconds without work after which another of the same account is let in."""
        self._used = 0.0
        self._change = threading.Condition()
        self._own = threading.local()
        self._busy = 0
        self._entering = False
        self._facts: Facts | None = None
        self._logins = 0
        self._fruitful = True
        self._next = 0.0
        self._refused: MailflowError | None = None
        self._until = 0.0

    def begin(self) -> None:
        """Log in, if that was not done yet."""
        with self._inside(None):
            pass

    def work(self, what: Callable[[Facts], T]) -> T:
        """What it gives inside a session: once more in a new one where that has ended. Work
        within work is part of it."""
        outer: Facts | None = getattr(self._own, "facts", None)
        if outer is not None:
            return what(outer)
        with self._inside(None) as facts:
            try:
                return self._done(what(facts))
            except ExpiredError:
                expired = facts
        with self._inside(expired) as facts:
            return self._done(what(facts))

    def end(self, leave: Callable[[Facts], object]) -> None:
        """Log out, if anybody is inside, and let others in."""
        with self._change:
            facts, self._facts = self._facts, None
        try:
            if facts is not None:
                leave(facts)
        finally:
            self._release()

    def _done(self, result: T) -> T:
        self._fruitful = True
        return result

    @contextmanager
    def _inside(self, expired: Facts | None) -> Iterator[Facts]:
        facts = self._own.facts = self._entered(expired)
        try:
            yield facts
        finally:
            self._own.facts = None
            with self._change:
                self._used = time.monotonic()
                self._busy -= 1
                self._change.notify_all()

    def _entered(self, expired: Facts | None) -> Facts:
        """The facts to work with: of a new login where there is none but the one that expired."""
        with self._change:
            self._change.wait_for(lambda: not self._entering)
            if self._refused is not None and time.monotonic() < self._until:
                raise type(self._refused)(self._refused.text, **self._refused.fields)
            facts = self._facts
            if facts is not None and facts is not expired:
                self._busy += 1
                return facts
            if expired is not None and not self._fruitful and time.monotonic() < self._next:
                raise ExpiredError("the webmail ends each session at once, whatever is asked")
            self._entering = True
            self._change.wait_for(lambda: not self._busy)
        entered: Facts | None = None
        try:
            entered = self._logged_in()
            return entered
        finally:
            with self._change:
                self._entering = False
                if entered is not None:
                    self._facts, self._fruitful = entered, expired is None
                    self._next = time.monotonic() + AGAIN
                    self._busy += 1
                self._change.notify_all()

    def _logged_in(self) -> Facts:
        self._take()
        try:
            facts = self._enter()
        except MailflowError as error:
            if isinstance(error, LoginError | ThrottledError):
                delay = error.fields.get("delay", FOREVER)
                self._refused = error
                self._until = time.monotonic() + (delay if isinstance(delay, float) else FOREVER)
            if self._facts is None:
                self._release()
            raise
        self._logins += 1
        facts.number = self._logins
        return facts

    def _take(self) -> None:
        """Be the one at home. Raises InUseError while another one is at work there."""
        if self._alone is None:
            return
        with _LOCK:
            other = _AT_HOME.get(self._alone)
            if other is not None and other is not self and not other._gives_way():
                raise InUseError("this account has another session with the webmail")
            _AT_HOME[self._alone] = self

    def _gives_way(self) -> bool:
        """Whether nothing was done here for a while; the login is forgotten then, since the
        webmail ends it with that of the other."""
        with self._change:
            if self._busy or self._entering or time.monotonic() - self._used < self.patience:
                return False
            self._facts = None
            return True

    def _release(self) -> None:
        with _LOCK:
            if self._alone is not None and _AT_HOME.get(self._alone) is self:
                del _AT_HOME[self._alone]
