"""Threads for calls that may wait, and one descriptor that says when some are done.

Rule of the file: a call does not wait for another one: where no thread is free, one more is
started, up to MOST, of which a lane has LANE; FEW it has whatever the others have, so that
slow back ends, however many there are, keep nobody out of another. A thread that was free for
a while ends. What waits can be taken back.
"""

from __future__ import annotations

import os
import threading
import time
from collections import deque
from collections.abc import Callable
from queue import Empty, SimpleQueue

from mailflow.typed import Any

MOST = 500

LANE = 200
"""Calls of one lane at a time."""

FEW = 10
"""Calls that every lane may have at a time, though MOST are under way."""

FREE = 10.0
"""Seconds after which a thread with nothing to do ends."""


class Hands:
    """Used by one thread, but for what it calls."""

    def __init__(self) -> None:
        self._due: SimpleQueue[tuple[Callable[[], Any], Any, object] | None] = SimpleQueue()
        self._done: deque[tuple[Any, Any, BaseException | None, object]] = deque()
        self._event = os.eventfd(0, os.EFD_NONBLOCK | os.EFD_CLOEXEC)
        self._lock = threading.Lock()
        self._free = 0
        self._running = 0
        self._lanes: dict[object, int] = {}
        self._tickets = 0
        self._waiting: dict[object, dict[int, tuple[Callable[[], Any], Any]]] = {}
        self._threads: set[threading.Thread] = set()

    def fileno(self) -> int:
        """Readable while something is done."""
        return self._event

    def give(self, call: Callable[[], Any], whose: Any, lane: object = None) -> int:
        """Have it called; `finished` gives `whose` back with what came of it. Calls of a lane
        wait for the same other side; None is no lane. Gives a number for `take_back`."""
        self._tickets += 1
        if self._has_room(lane):
            self._run(call, whose, lane)
        else:
            self._waiting.setdefault(lane, {})[self._tickets] = call, whose
        return self._tickets

    def take_back(self, number: int, lane: object = None) -> bool:
        """Forget a call that was not begun; False where it was."""
        waiting = self._waiting.get(lane, {})
        found = waiting.pop(number, None)
        if not waiting:
            self._waiting.pop(lane, None)
        return found is not None

    def _has_room(self, lane: object) -> bool:
        most = MOST if lane is None else LANE
        return self._lanes.get(lane, 0) < (most if self._running < MOST else FEW)

    def _run(self, call: Callable[[], Any], whose: Any, lane: object) -> None:
        self._running += 1
        self._lanes[lane] = self._lanes.get(lane, 0) + 1
        with self._lock:
            start = self._free <= 0 and len(self._threads) < MOST + FEW * len(self._lanes)
            if not start:
                self._free -= 1
        if start:
            self._start()
        self._due.put((call, whose, lane))

    def _ended(self, lane: object) -> None:
        """A call of it is done: who waits is next, of the lane that has the fewest."""
        self._running -= 1
        self._lanes[lane] -= 1
        if not self._lanes[lane]:
            del self._lanes[lane]
        ready = [each for each in self._waiting if self._has_room(each)]
        if ready:
            lane = min(ready, key=lambda each: self._lanes.get(each, 0))
            waiting = self._waiting[lane]
            call, whose = waiting.pop(next(iter(waiting)))
            if not waiting:
                del self._waiting[lane]
            self._run(call, whose, lane)

    def try_again(self) -> None:
        """Start the thread that could not be started when it was wanted."""
        if not self._threads and not self._due.empty():
            with self._lock:
                self._free += 1
            self._start()

    def _start(self) -> None:
        """One thread more; without the means for it, one of those that there are must do, or
        one that can be started later."""
        thread = threading.Thread(target=self._work, name="pop3 call", daemon=True)
        try:
            thread.start()
        except RuntimeError:
            with self._lock:
                self._free -= 1
        else:
            self._threads.add(thread)

    def finished(self) -> list[tuple[Any, Any, BaseException | None]]:
        """(whose, value, error) of the calls that are done."""
        try:
            os.eventfd_read(self._event)
        except BlockingIOError:
            return []
        found = []
        while self._done:
            whose, value, error, lane = self._done.popleft()
            found.append((whose, value, error))
            self._ended(lane)
        return found

    def close(self, seconds: float) -> list[tuple[Any, Any, BaseException | None]]:
        """End the threads; wait so long for what they are at, and what waits. Gives what
        `finished` would."""
        end = time.monotonic() + seconds
        while self._waiting:
            lane, waiting = self._waiting.popitem()
            for call, whose in waiting.values():
                self._run(call, whose, lane)
        threads = list(self._threads)
        for _ in threads:
            self._due.put(None)
        for thread in threads:
            thread.join(max(0.0, end - time.monotonic()))
        found = self.finished()
        if not any(thread.is_alive() for thread in threads):
            os.close(self._event)
        return found

    def _work(self) -> None:
        try:
            while (due := self._next()) is not None:
                call, whose, lane = due
                value, error = None, None
                try:
                    value = call()
                except BaseException as raised:  # noqa: BLE001  # it is told to who asked
                    error = raised
                with self._lock:
                    self._free += 1
                self._done.append((whose, value, error, lane))
                os.eventfd_write(self._event, 1)
                del call, whose, due, value, error
        finally:
            self._threads.discard(threading.current_thread())

    def _next(self) -> tuple[Callable[[], Any], Any, object] | None:
        try:
            return self._due.get(timeout=FREE)
        except Empty:
            with self._lock:
                if self._free <= 0:  # somebody has counted on this thread
                    wait = True
                else:
                    self._free -= 1
                    wait = False
            return self._due.get() if wait else None
