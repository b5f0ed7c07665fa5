"""Ends what takes too long: a thread that shuts connections down, whatever they wait for.

Rule of the file: a wait inside a library knows no deadline of ours and no halt, so its socket is
shut down under it, by a descriptor of our own; what was under way then ends as a lost connection,
and `reason` says why.
"""

from __future__ import annotations

import os
import select
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING

from mailflow.values import FOREVER

if TYPE_CHECKING:
    from mailflow.halt import Halt

STOPPED = "stopped on request"
TOO_SLOW = "too slow"


class Call:
    """One request and its answer. `deadline` is the time of time.monotonic() when it is cut.

    `grace`: how many seconds it may still take when the engine stops, or has. `idle`: a
    connection that was idle for so long is not used. `reused` says that it went out on one that
    was idle, `sent` that some of it may have arrived, `arrived` that what it follows has.
    """

    def __init__(self, watch: Watch, seconds: float, grace: float) -> None:
        self._watch = watch
        self.began = time.monotonic()
        self.deadline = self.began + seconds
        self.grace = grace
        self.reason = ""
        self.idle = FOREVER
        self.reused = False
        self.sent = False
        self.arrived = False
        self._held: list[socket.socket] = []
        self._guard = threading.Lock()

    def begin(self, seconds: float) -> None:
        """It may take so long from now; FOREVER while nothing is waited for."""
        self._watch.put_off(self, time.monotonic() + seconds)

    def hold(self, sock: socket.socket) -> None:
        """Shut this connection down, too, when it is time."""
        with self._guard:
            twin = socket.socket(fileno=os.dup(sock.fileno()))
            self._held.append(twin)
            if self.reason:
                _shut(twin)

    def cut(self, reason: str) -> None:
        with self._guard:
            self.reason = self.reason or reason
            for sock in self._held:
                _shut(sock)

    def release(self) -> None:
        with self._guard:
            while self._held:
                self._held.pop().close()


class Watch:
    """Watches the calls of one browser, from the first one to `close`."""

    def __init__(self, halt: Halt) -> None:
        self._halt = halt
        self._guard = threading.Lock()
        self._calls: set[Call] = set()
        self._next = FOREVER
        self._closed = False
        self._thread: threading.Thread | None = None
        self._reader, self._writer = os.pipe()

    @contextmanager
    def call(self, seconds: float, grace: float = 0.0) -> Iterator[Call]:
        """A call that may take so long."""
        call = Call(self, seconds, grace)
        with self._guard:
            self._calls.add(call)
            if self._thread is None:
                self._thread = threading.Thread(target=self._run, name="watch", daemon=True)
                self._thread.start()
            elif call.deadline < self._next:
                self._wake()
        try:
            yield call
        finally:
            with self._guard:
                self._calls.discard(call)
            call.release()

    def put_off(self, call: Call, deadline: float) -> None:
        with self._guard:
            call.deadline = deadline
            if deadline < self._next:
                self._wake()

    def close(self) -> None:
        with self._guard:
            if self._closed:
                return
            self._wake()
            self._closed = True
        if self._thread is not None:
            self._thread.join()
        os.close(self._reader)
        os.close(self._writer)

    def _wake(self) -> None:
        if not self._closed:  # else the descriptor may be somebody else's by now
            os.write(self._writer, b"!")

    def _run(self) -> None:
        halted_at = FOREVER
        while True:
            now = time.monotonic()
            if self._halt.is_set():
                halted_at = min(halted_at, now)
            with self._guard:
                if self._closed:
                    return
                late = [(call, self._late(call, halted_at)) for call in self._calls]
                self._next = min((at for _, (at, _) in late), default=FOREVER)
            for call, (at, reason) in late:
                if at <= now:
                    call.cut(reason)
            self._sleep(self._next - now, hears=halted_at == FOREVER)

    def _late(self, call: Call, halted_at: float) -> tuple[float, str]:
        """When a call is over, and why; never again once it has been cut."""
        if call.reason:
            return FOREVER, ""
        return min((call.deadline, TOO_SLOW), (max(halted_at, call.began) + call.grace, STOPPED))

    def _sleep(self, seconds: float, *, hears: bool) -> None:
        poller = select.poll()
        poller.register(self._reader, select.POLLIN)
        if hears:
            poller.register(self._halt.fileno(), select.POLLIN)
        for number, _ in poller.poll(
            None if seconds == FOREVER else min(max(0, seconds), 1e6) * 1000
        ):
            if number == self._reader:
                os.read(self._reader, 1 << 10)


def _shut(sock: socket.socket) -> None:
    with suppress(OSError):  # it has ended on its own
        sock.shutdown(socket.SHUT_RDWR)
