"""A slow or failing link in user space: a TCP proxy that delays, limits and cuts.

Rule of the file: every chunk carries its own due time, so that pipelined commands
stay pipelined: a hundred of them cross a slow link in one round trip.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import selectors
import socket
import struct
import termios
import threading
import time
from collections import deque
from collections.abc import Iterable
from typing import TYPE_CHECKING, Literal, NamedTuple, Self

if TYPE_CHECKING:
    pass

_CHUNK = 1 << 16
_FOREVER = float("inf")
_LOOK = 0.001  # how often a reset looks whether the octets before it have arrived
_PATIENCE = 1.0  # how long it waits for a peer that does not read
_TCP_CLOSE = 7  # the first octet of TCP_INFO on a dead connection


class Fault(NamedTuple):
    """What befalls a connection once `after` octets have passed `towards` one side.

    `kind`: "cut" (FIN both ways), "reset" (RST both ways), "stall" (nothing more
    passes that way, the connection stays open), "trickle" (one octet every `interval`
    seconds). `connection` counts from 1; None is every one.
    """

    kind: Literal["cut", "reset", "stall", "trickle"]
    after: int = 0
    towards: Literal["client", "server"] = "client"
    connection: int | None = None
    interval: float = 0.1


class Proxy:
    """Listens on a free port of 127.0.0.1 and carries octets to and from `target`.

    `delay` is seconds each way, so the round trip is twice that. With `handshake` the
    target is reached after 1.5 round trips, when the last segment of a TCP handshake
    over that link would. `rate` is octets a second each way. `bound` is the most octets
    under way in one direction; at the bound the sender is held back by TCP. `faults`
    are read anew for each connection.

    `connections`, `to_client` and `to_server` count what has passed.
    """

    def __init__(
        self,
        target: tuple[str, int],
        *,
        delay: float = 0.0,
        rate: float | None = None,
        faults: Iterable[Fault] = (),
        bound: int = 64 << 20,
        handshake: bool = True,
    ) -> None:
        self.target = target
        self.delay = delay
        self.rate = rate
        self.faults = list(faults)
        self.bound = bound
        self.handshake = handshake
        self.connections = 0
        self.to_client = 0
        self.to_server = 0
        self.host = "127.0.0.1"
        self.port = 0
        self._links: set[_Link] = set()
        self._drop: Literal["cut", "reset"] | None = None
        self._stopping = False

    @property
    def address(self) -> tuple[str, int]:
        return self.host, self.port

    def __enter__(self) -> Self:
        self._listener = socket.create_server((self.host, 0), backlog=1024)
        self._listener.setblocking(False)
        self.port = self._listener.getsockname()[1]
        self._wake_reader, self._wake_writer = os.pipe()
        os.set_blocking(self._wake_writer, False)
        self._selector = selectors.DefaultSelector()
        self._selector.register(self._listener, selectors.EVENT_READ, None)
        self._selector.register(self._wake_reader, selectors.EVENT_READ, None)
        self._thread = threading.Thread(target=self._run, name="proxy", daemon=True)
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stopping = True
        self._wake()
        self._thread.join()
        for link in list(self._links):
            link.end(reset=True)
        self._selector.close()
        self._listener.close()
        os.close(self._wake_reader)
        os.close(self._wake_writer)

    def drop(self, *, reset: bool = False) -> None:
        """Cut (or reset) every connection that is open now."""
        self._drop = "reset" if reset else "cut"
        self._wake()

    def _wake(self) -> None:
        with contextlib.suppress(BlockingIOError):
            os.write(self._wake_writer, b"!")

    def _run(self) -> None:
        while not self._stopping:
            due = min((link.next_time() for link in self._links), default=_FOREVER)
            timeout = None if due == _FOREVER else max(0.0, due - time.monotonic())
            for key, events in self._selector.select(timeout):
                if key.fileobj is self._listener:
                    self._accept()
                elif key.fileobj == self._wake_reader:
                    os.read(self._wake_reader, 4096)
                elif key.data in self._links:  # an earlier event may have ended it
                    link: _Link = key.data
                    link.ready(key.fileobj, events)
            drop, self._drop = self._drop, None
            for link in list(self._links):
                if drop:
                    link.end(reset=drop == "reset")
                else:
                    link.turn()

    def _accept(self) -> None:
        try:
            client, _ = self._listener.accept()
        except OSError:
            return  # the client left before we came
        client.setblocking(False)
        self.connections += 1
        number = self.connections
        faults = [f for f in self.faults if f.connection in (None, number)]
        self._links.add(_Link(self, client, faults))


class _Flow:
    """One direction of one connection."""

    def __init__(
        self, proxy: Proxy, source: socket.socket, sink: socket.socket, faults: list[Fault]
    ) -> None:
        self.proxy = proxy
        self.source = source
        self.sink = sink
        self.faults = sorted(faults, key=lambda fault: fault.after)
        self.queue: deque[tuple[float, memoryview]] = deque()
        self.queued = 0
        self.moved = 0
        self.link_free = 0.0  # when the rate lets the next octet in
        self.not_before = 0.0  # when a trickle lets the next octet out
        self.reading = True
        self.blocked = False  # the sink takes no more
        self.end_time: float | None = None
        self.end_reset = False
        self.ended = False

    def take(self, now: float) -> int:
        """Read what the source has sent; the number of octets."""
        size = _CHUNK
        if self.proxy.rate:  # small pieces, or a rate would come in lumps
            size = max(1, min(size, int(self.proxy.rate / 100)))
        try:
            data = self.source.recv(size)
        except BlockingIOError:
            return 0
        except OSError:
            self.end_reset = True
            data = b""
        self.link_free = max(self.link_free, now)
        if self.proxy.rate:
            self.link_free += len(data) / self.proxy.rate
        due = self.link_free + self.proxy.delay
        if data:
            self.queue.append((due, memoryview(data)))
            self.queued += len(data)
        else:
            self.reading = False
            self.end_time = due
        return len(data)

    def give(self, now: float) -> Fault | None:
        """Send what is due; a fault whose time has come, that ends the connection."""
        while True:
            fault = self.faults[0] if self.faults and self.faults[0].after <= self.moved else None
            if fault and fault.kind in ("cut", "reset"):
                return fault
            if fault and fault.kind == "stall":
                return None
            if self.blocked or not self.queue or self.queue[0][0] > now or self.not_before > now:
                return None
            due, data = self.queue[0]
            most = len(data)
            if fault:
                most = 1
            elif self.faults:
                most = min(most, self.faults[0].after - self.moved)
            try:
                sent = self.sink.send(data[:most])
            except BlockingIOError:
                self.blocked = True
                return None
            except OSError:
                self.queue.clear()
                self.queued = 0
                self.end_time, self.end_reset = now, True
                return None
            if fault:
                self.not_before = now + fault.interval
            self.moved += sent
            self.queued -= sent
            if sent == len(data):
                self.queue.popleft()
            else:
                self.queue[0] = (due, data[sent:])

    def over(self, now: float) -> bool:
        """Whether the source's end has come out at this side."""
        return not self.queue and self.end_time is not None and self.end_time <= now

    def next_time(self) -> float:
        if self.ended or self.blocked or self.stalled:
            return _FOREVER
        if self.queue:
            return max(self.queue[0][0], self.not_before)
        return _FOREVER if self.end_time is None else self.end_time

    @property
    def stalled(self) -> bool:
        return bool(
            self.faults and self.faults[0].kind == "stall" and self.faults[0].after <= self.moved
        )


class _Link:
    """One connection through the proxy: two flows, opened and ended together."""

    def __init__(self, proxy: Proxy, client: socket.socket, faults: list[Fault]) -> None:
        self.proxy = proxy
        self.client = client
        family = socket.AF_INET6 if ":" in proxy.target[0] else socket.AF_INET
        self.server = socket.socket(family, socket.SOCK_STREAM)
        self.server.setblocking(False)
        for sock in (client, self.server):
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        up = [f for f in faults if f.towards == "server"]
        down = [f for f in faults if f.towards == "client"]
        self.up = _Flow(proxy, client, self.server, up)
        self.down = _Flow(proxy, self.server, client, down)
        wait = 3 * proxy.delay if proxy.handshake else 0.0
        self.connect_time: float | None = time.monotonic() + wait
        self.connected = False
        self.reset_by: float | None = None  # a reset is due, at the latest then
        self.masks: dict[socket.socket, int] = {}

    def next_time(self) -> float:
        """When there is something to do that no socket will tell."""
        if self.reset_by is not None:
            return time.monotonic() + _LOOK
        if not self.connected:
            return _FOREVER if self.connect_time is None else self.connect_time
        return min(self.up.next_time(), self.down.next_time())

    def ready(self, sock: object, events: int) -> None:
        """A socket can be read or written."""
        now = time.monotonic()
        if not self.connected and sock is self.server:
            if self.server.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR):
                self.end(reset=True)
                return
            self.connected = True
        for flow in (self.up, self.down):
            if events & selectors.EVENT_WRITE and flow.sink is sock:
                flow.blocked = False
            if events & selectors.EVENT_READ and flow.source is sock and flow.reading:
                flow.take(now)

    def turn(self) -> None:
        """Do what is due and say which events are wanted next."""
        now = time.monotonic()
        if self.connect_time is not None and now >= self.connect_time:
            self.connect_time = None
            try:
                self.server.connect(self.proxy.target)
            except BlockingIOError:
                pass
            except OSError:
                self.end(reset=True)
                return
        if self.connected and not self._carry(now):
            return
        self._want()

    def _carry(self, now: float) -> bool:
        """Move octets; False when that ended the connection."""
        for flow in (self.down, self.up):
            before = flow.moved
            fault = flow.give(now) if self.reset_by is None else None
            if flow is self.down:
                self.proxy.to_client += flow.moved - before
            else:
                self.proxy.to_server += flow.moved - before
            if fault and fault.kind == "cut":
                self.end(reset=False)
                return False
            broken = fault is not None
            if not flow.ended and not flow.stalled and flow.over(now):
                flow.ended = True
                broken = broken or flow.end_reset
                if not broken:
                    _shut(flow.sink)
            if broken and self.reset_by is None:
                self.reset_by = now + _PATIENCE
        if self.reset_by is not None and (now >= self.reset_by or self._arrived()):
            self.end(reset=True)
            return False
        if self.up.ended and self.down.ended:
            self.end(reset=False)
            return False
        return True

    def _arrived(self) -> bool:
        return not (_unsent(self.client) or _unsent(self.server))

    def _want(self) -> None:
        masks = {self.client: 0, self.server: 0}
        for flow in (self.up, self.down):
            room = flow.queued < self.proxy.bound and (self.connected or flow is self.up)
            if flow.reading and room and self.reset_by is None:
                masks[flow.source] |= selectors.EVENT_READ
            if flow.blocked:
                masks[flow.sink] |= selectors.EVENT_WRITE
        if self.connect_time is None and not self.connected:
            masks[self.server] |= selectors.EVENT_WRITE
        for sock, mask in masks.items():
            before = self.masks.get(sock, 0)
            if mask == before:
                continue
            if not before:
                self.proxy._selector.register(sock, mask, self)
            elif not mask:
                self.proxy._selector.unregister(sock)
            else:
                self.proxy._selector.modify(sock, mask, self)
        self.masks = masks

    def end(self, *, reset: bool) -> None:
        """Close both sides, by FIN or by RST."""
        for sock in (self.client, self.server):
            if self.masks.get(sock):
                self.proxy._selector.unregister(sock)
            if reset:
                sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            else:
                _shut(sock)
                _empty(sock)
            sock.close()
        self.proxy._links.discard(self)


def _shut(sock: socket.socket) -> None:
    """A FIN behind what was sent."""
    with contextlib.suppress(OSError):  # never connected, or the peer has left
        sock.shutdown(socket.SHUT_WR)


def _empty(sock: socket.socket) -> None:
    """Read what has come in: closing a socket with octets unread would send RST."""
    with contextlib.suppress(OSError):
        while sock.recv(_CHUNK):
            pass


def _unsent(sock: socket.socket) -> int:
    """Octets in the send buffer that the peer has not acknowledged; a reset drops them."""
    if sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, 1)[0] == _TCP_CLOSE:
        return 0
    answer = fcntl.ioctl(sock, termios.TIOCOUTQ, struct.pack("i", 0))
    return int(struct.unpack("i", answer)[0])
