"""Threads for calls that may wait, and one descriptor that says when some are done.

Rule of the file: a call does not wait for another one: where no thread is free, one more is
started, up to MOST; one that was free for a while ends.
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

FREE = 10.0
"""Seconds after which a thread with nothing to do ends."""


class Hands:
    """Used by one thread, but for what it calls."""

    def __init__(self) -> None:
        self._due: SimpleQueue[tuple[Callable[[], Any], Any] | None] = SimpleQueue()
        self._done: deque[tuple[Any, Any, BaseException | None]] = deque()
        self._event = os.eventfd(0, os.EFD_NONBLOCK | os.EFD_CLOEXEC)
        self._lock = threading.Lock()
        self._free = 0
        self._threads: set[threading.Thread] = set()

    def fileno(self) -> int:
        """Readable while something is done."""
        return self._event

    def give(self, call: Callable[[], Any], whose: Any) -> None:
        """Have it called; `finished` gives `whose` back with what came of it."""
        with self._lock:
            start = self._free <= 0 and len(self._threads) < MOST
            if not start:
                self._free -= 1
        if start:
            self._start()
        self._due.put((call, whose))

    def _start(self) -> None:
        """One thread more; without the means for it, one of those that there are must do."""
        thread = threading.Thread(target=self._work, name="pop3 call", daemon=True)
        try:
            thread.start()
        except RuntimeError:
            if not self._threads:
                raise
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
            found.append(self._done.popleft())
        return found

    def close(self, seconds: float) -> None:
        """End the threads; wait so long for what they are at."""
        end = time.monotonic() + seconds
        threads = list(self._threads)
        for _ in threads:
            self._due.put(None)
        for thread in threads:
            thread.join(max(0.0, end - time.monotonic()))
        if not any(thread.is_alive() for thread in threads):
            os.close(self._event)

    def _work(self) -> None:
        try:
            while (due := self._next()) is not None:
                call, whose = due
                value, error = None, None
                try:
                    value = call()
                except BaseException as raised:  # noqa: BLE001  # it is told to who asked
                    error = raised
                with self._lock:
                    self._free += 1
                self._done.append((whose, value, error))
                os.eventfd_write(self._event, 1)
                del call, whose, due, value, error
        finally:
            self._threads.discard(threading.current_thread())

    def _next(self) -> tuple[Callable[[], Any], Any] | None:
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
