"""How fast passwords may be tried: delays that grow with what fails.

Rule of the file: whoever logged in to an account from an address before is not held up by
what others do there, or from there; and what is kept has a bound.
"""

from __future__ import annotations

import math
import os
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from mailflow.errors import UnavailableError
from mailflow.record import NamedTuple

Key = tuple[str, ...]

KEPT = 20_000
"""Addresses and accounts with failures that are remembered, and as many of who was in."""


HELD = 99
"""More answers than these are not counted: long before, no more are let in."""


class Pace(NamedTuple):
    """The answer to a failure is kept back `first` seconds, doubled with each further one up
    to `most`; half of the failures are forgotten after `forget` seconds.

    An address may have `address` answers kept back at a time, an account `account` of them
    to addresses that nobody logged in to it from; what comes then is refused unread.
    """

    first: float = 0.5
    most: float = 15.0
    forget: float = 300.0
    address: int = 20
    account: int = 50


class _Failures:
    """Of one address, of one account, or of the two together."""

    __slots__ = ("at", "count", "held")

    def __init__(self) -> None:
        self.count = 0.0
        self.at = 0.0
        self.held: list[float] = []

    def so_many(self, now: float, pace: Pace) -> float:
        """How many there were, those of long ago counting less."""
        return self.count * math.exp2((self.at - now) / pace.forget)

    def kept_back(self, now: float) -> int:
        """How many answers to them are kept back."""
        self.held = [end for end in self.held if end > now]
        return len(self.held)


class Brake:
    """What is known of clients that failed, and of those that did not. Used by many threads.

    `login` is the account's name, or the one that was tried; `address` the client's.
    """

    def __init__(self, pace: Pace, clock: Callable[[], float] = time.monotonic) -> None:
        self.pace = pace
        self._clock = clock
        self._lock = threading.Lock()
        self._failures: dict[Key, _Failures] = {}
        self._known: dict[Key, None] = {}

    def admit(self, login: str, address: str) -> None:
        """Raise UnavailableError where too many answers are kept back already."""
        if not self._failures:
            return
        origin = network(address)
        both = ("both", login, origin)
        with self._lock:
            now = self._clock()
            if both in self._known:
                crowded = self._kept_back(both, now) >= self.pace.address
            else:
                crowded = (
                    self._kept_back(("address", origin), now) >= self.pace.address
                    or self._kept_back(("account", login), now) >= self.pace.account
                )
        if crowded:
            text = "too many wrong passwords; try again later"
            raise UnavailableError(text, delay=self.pace.most)

    def suspects(self, login: str, address: str) -> bool:
        """Whether anybody failed there lately, or from there, and this is no known client."""
        if not self._failures:
            return False
        origin = network(address)
        with self._lock:
            if ("both", login, origin) in self._known:
                return False
            now = self._clock()
            there = map(self._failures.get, (("address", origin), ("account", login)))
            return any(each is not None and each.so_many(now, self.pace) > 0.5 for each in there)

    def failed(self, login: str, address: str) -> float:
        """Note a failure; gives how many seconds its answer is to be kept back."""
        origin = network(address)
        both = ("both", login, origin)
        with self._lock:
            now = self._clock()
            shared = [self._count(("address", origin), now), self._count(("account", login), now)]
            found = [self._count(both, now)] if both in self._known else shared
            count = max(each.count for each in found)
            delay = min(self.pace.most, self.pace.first * math.exp2(min(count - 1.0, 60.0)))
            for each in {id(each): each for each in (*shared, *found)}.values():
                each.held[HELD:] = [now + delay]
            return delay

    def passed(self, login: str, address: str) -> None:
        """Note that a client was in, from this address."""
        both = ("both", login, network(address))
        with self._lock:
            self._known.pop(both, None)
            self._known[both] = None
            if len(self._known) > KEPT:
                del self._known[next(iter(self._known))]
            self._failures.pop(both, None)

    def _kept_back(self, key: Key, now: float) -> int:
        failures = self._failures.get(key)
        return 0 if failures is None else failures.kept_back(now)

    def _count(self, key: Key, now: float) -> _Failures:
        """One failure more; whoever failed last stands last, and the first is forgotten."""
        failures = self._failures.pop(key, None) or _Failures()
        self._failures[key] = failures
        failures.count = failures.so_many(now, self.pace) + 1.0
        failures.at = now
        failures.kept_back(now)
        if len(self._failures) > KEPT:
            del self._failures[next(iter(self._failures))]
        return failures


def network(address: str) -> str:
    """Whose address it is: itself, or of IPv6 the /64 that a subscriber has."""
    if ":" not in address:
        return address
    from ipaddress import IPv6Address

    try:
        whole = IPv6Address(address.partition("%")[0])
    except ValueError:
        return address
    if whole.ipv4_mapped is not None:
        return str(whole.ipv4_mapped)
    return whole.packed[:8].hex()


class Turns:
    """So many at a time, and so many who wait for their turn; who comes then is told to come
    again."""

    def __init__(self, at_once: int, waiting: int) -> None:
        self._free = threading.Semaphore(at_once)
        self._places = threading.Semaphore(at_once + waiting)

    @contextmanager
    def one(self) -> Iterator[None]:
        """Raises UnavailableError."""
        if not self._places.acquire(blocking=False):
            raise UnavailableError("too many log in at once; try again later")
        try:
            with self._free:
                yield
        finally:
            self._places.release()


AT_ONCE = max(1, (os.cpu_count() or 1) // 2)
"""How many slow checks run at a time: so many of clients that failed lately, and as many of
others, whom those do not keep waiting."""
