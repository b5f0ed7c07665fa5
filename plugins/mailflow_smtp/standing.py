"""What the sessions of one step know of its server together (any thread).

Rule of the file: it holds no connection and no secret, and nothing waits while it is
locked but for the first login.
"""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from mailflow.errors import LoginError
from mailflow.typed import TYPE_CHECKING

if TYPE_CHECKING:
    import ssl

REFUSED_SECONDS = 30.0
"""How long a refused login is not tried again by the other sessions of a step."""


class Standing:
    """`mechanism` is the one that a login was accepted with; `chunking`
    says whether BDAT is used, False once a server offers it and does not know it."""

    def __init__(self, rate: tuple[int, float] | None, *, chunking: bool) -> None:
        self.pace = Pace(*rate) if rate else None
        self.mechanism = ""
        self.chunking = chunking
        self._first = threading.Lock()
        self._refused: tuple[float, LoginError] | None = None
        self._tls: ssl.SSLContext | None = None
        self._lock = threading.Lock()

    @contextmanager
    def login(self) -> Iterator[None]:
        """Around an attempt to log in. Until one was accepted they are made one by one, and
        a refusal is one for all: many wrong passwords at once lock an account."""
        if self.mechanism:
            yield
            return
        with self._first:
            if self._refused and time.monotonic() < self._refused[0]:
                raise LoginError(self._refused[1].text)
            try:
                yield
            except LoginError as error:
                self._refused = (time.monotonic() + REFUSED_SECONDS, error)
                raise

    def tls(self, make: Callable[[], ssl.SSLContext]) -> ssl.SSLContext:
        """The TLS context, made once."""
        with self._lock:
            if self._tls is None:
                self._tls = make()
            return self._tls


class Pace:
    """At most `count` messages in any `period` of seconds."""

    def __init__(self, count: int, period: float) -> None:
        self.count, self.period = count, period
        self._times: deque[float] = deque(maxlen=count)
        self._lock = threading.Lock()
        self._begun = False

    def begin(self, ages: Callable[[float], list[float]]) -> None:
        """Learn how many seconds ago earlier runs have sent, which `ages` is asked for once."""
        with self._lock:
            if not self._begun:
                self._begun = True
                now = time.monotonic()
                self._times.extend(sorted(now - age for age in ages(self.period)))

    def book(self) -> float:
        """Take the next place; the seconds to wait for it."""
        now = time.monotonic()
        with self._lock:
            at = now
            if len(self._times) == self.count:
                at = max(now, self._times[0] + self.period)
            self._times.append(at)
            return at - now

    def take(self) -> bool:
        """Take a place if there is one that need not be waited for."""
        now = time.monotonic()
        with self._lock:
            if len(self._times) == self.count and self._times[0] + self.period > now:
                return False
            self._times.append(now)
            return True
