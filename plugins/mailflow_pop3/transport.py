"""The connections of the POP3 server: one thread, one epoll, and threads for what may wait.

Rule of the file: nothing here waits but the poll. A connection is read only when all it asked
for before is answered and on its way, so that memory is bounded by the socket's own buffers,
and has one turn at a time, so that nobody waits for a busy one.
"""

from __future__ import annotations

import errno
import os
import select
import socket
import ssl
import time
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from heapq import heappop, heappush

from mailflow.halt import Halt
from mailflow.record import NamedTuple
from mailflow.typed import TYPE_CHECKING, Any
from mailflow_pop3.hands import Hands
from mailflow_pop3.server import Policy, ServerSession

if TYPE_CHECKING:
    from mailflow.kinds import WirePart

READ = 8192
"""Octets that are read in a turn: a thousand commands."""

ACCEPT = 64
"""Connections that are taken in a turn."""

SEND = 1 << 22
"""Octets of a file that are sent in a turn, where the other side takes them."""

CLEAR = 1 << 16
"""Octets of a file that are read at a time, to be encrypted."""

GRACE = 10.0
"""Seconds that answers under way may take once the service is to end."""

READABLE, WRITABLE = select.EPOLLIN, select.EPOLLOUT
TLS_WANTS = (ssl.SSLWantReadError, ssl.SSLWantWriteError)


class Limits(NamedTuple):
    """Seconds: `login` until a client has logged in, `idle` between commands then, `stall`
    without a taken octet. Connections: in all, and from one address (0: as many as come)."""

    login: float = 60.0
    idle: float = 600.0
    stall: float = 120.0
    connections: int = 10000
    per_address: int = 0


class Door(NamedTuple):
    """A listening socket, what its sessions may do, and how TLS begins there (None: never)."""

    sock: socket.socket
    policy: Policy
    context: Callable[[], ssl.SSLContext] | None = None
    implicit: bool = False


class Connection:
    """One client. `queue` is what is on its way out, `mask` what epoll watches for,
    `deadline` when it is over, `busy` that a thread works for it, `held` that its answer
    is kept back, `shaking` that the TLS handshake goes on."""

    __slots__ = (
        "address", "busy", "context", "deadline", "fd", "held", "mask", "queue", "session",
        "shaking", "sock", "tls_wants_write",
    )  # fmt: skip

    def __init__(self, sock: socket.socket, session: ServerSession, address: str) -> None:
        self.sock = sock
        self.fd = sock.fileno()
        self.session = session
        self.address = address
        self.queue: deque[Any] = deque()
        self.mask = 0
        self.deadline = 0.0
        self.busy = self.held = self.shaking = self.tls_wants_write = False
        self.context: Callable[[], ssl.SSLContext] | None = None


class Transport:
    """Serves clients of some doors until `halt` is set."""

    def __init__(
        self,
        doors: Sequence[Door],
        limits: Limits,
        halt: Halt,
        report: Callable[[Mapping[str, object]], None],
    ) -> None:
        self._doors = {door.sock.fileno(): door for door in doors}
        self._limits = limits
        self._halt = halt
        self._report = report
        self._poll = select.epoll()
        self._hands = Hands()
        self._connections: dict[int, Connection] = {}
        self._from: dict[str, int] = {}
        self._ready: deque[Connection] = deque()
        self._held: list[tuple[float, int, Connection]] = []
        self._now = time.monotonic()
        self._stopping = False

    def run(self) -> None:
        """Until `halt` is set and what was under way is done, or GRACE is over."""
        poll = self._poll
        poll.register(self._halt.fileno(), READABLE)
        poll.register(self._hands.fileno(), READABLE)
        for fd in self._doors:
            poll.register(fd, READABLE)
        try:
            self._turns()
        finally:
            for connection in list(self._connections.values()):
                self._close(connection)
            self._hands.close()
            poll.close()

    def _turns(self) -> None:
        connections, doors = self._connections, self._doors
        hands = self._hands.fileno()
        step = max(0.05, min(1.0, min(self._limits[:3]) / 4))
        sweep = end = 0.0
        while not self._stopping or (self._connections and self._now < end):
            timeout = 0.0 if self._ready else max(0.0, self._due(sweep) - time.monotonic())
            events = self._poll.poll(timeout)
            self._now = time.monotonic()
            for fd, mask in events:
                connection = connections.get(fd)
                if connection is not None:
                    self._event(connection, mask)
                elif fd in doors:
                    self._accept(doors[fd])
                elif fd == hands:
                    for done in self._hands.finished():
                        self._finished(*done)
                elif not self._stopping:
                    end = self._now + GRACE
                    self._stop()
            for _ in range(len(self._ready)):
                connection = self._ready.popleft()
                if connections.get(connection.fd) is connection:
                    self._turn(connection)
            while self._held and self._held[0][0] <= self._now:
                self._release(heappop(self._held)[2])
            if self._now >= sweep:
                self._sweep()
                sweep = self._now + step

    def _due(self, sweep: float) -> float:
        return min(sweep, self._held[0][0]) if self._held else sweep

    # Coming and going

    def _accept(self, door: Door) -> None:
        for _ in range(ACCEPT):
            try:
                sock, where = door.sock.accept()
            except BlockingIOError:
                return
            except OSError as error:
                self._cannot_accept(error)
                return
            sock.setblocking(False)
            address = where[0] if isinstance(where, tuple) else ""
            if sock.family != socket.AF_UNIX:
                sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            self._take(door, sock, address)

    def _cannot_accept(self, error: OSError) -> None:
        """The doors are watched again by the next sweep, so that this does not spin."""
        if error.errno in (errno.ECONNABORTED, errno.EINTR):
            return
        for fd in self._doors:
            self._poll.modify(fd, 0)

    def _take(self, door: Door, sock: socket.socket, address: str) -> None:
        session = ServerSession(door.policy, address)
        connection = Connection(sock, session, address)
        connection.context = door.context
        connection.deadline = self._now + self._limits.login
        self._connections[connection.fd] = connection
        self._from[address] = self._from.get(address, 0) + 1
        connection.mask = READABLE
        self._poll.register(connection.fd, READABLE)
        if len(self._connections) > self._limits.connections:
            session.refuse("too many connections")
        elif 0 < self._limits.per_address < self._from[address]:
            session.refuse("too many connections from your address")
        elif not door.implicit:
            session.greet()
        if door.implicit:
            session.secure = True
        self._turn(connection)

    def _close(self, connection: Connection) -> None:
        """Close it now; its drop as soon as no thread works for it."""
        if self._connections.pop(connection.fd, None) is None:
            return
        left = self._from[connection.address] - 1
        if left:
            self._from[connection.address] = left
        else:
            del self._from[connection.address]
        self._poll.unregister(connection.fd)
        connection.queue.clear()
        connection.sock.close()
        connection.session.ending = True
        if not connection.busy:
            self._abandon(connection.session)

    def _abandon(self, session: ServerSession) -> None:
        close = session.abandon()
        if close is not None:
            self._hands.give(close, None)

    def _sweep(self) -> None:
        """Close what is over its time."""
        for fd in self._doors:
            self._poll.modify(fd, 0 if self._stopping else READABLE)
        for connection in list(self._connections.values()):
            if connection.deadline <= self._now and not connection.busy:
                self._close(connection)

    def _stop(self) -> None:
        """Nobody comes any more; who has nothing under way goes."""
        self._stopping = True
        self._poll.unregister(self._halt.fileno())
        for fd in self._doors:
            self._poll.modify(fd, 0)
        for connection in list(self._connections.values()):
            if not connection.busy and not connection.queue:
                self._close(connection)

    # A turn

    def _event(self, connection: Connection, mask: int) -> None:
        if connection.shaking:
            self._shake(connection)
        elif connection.queue:
            if mask & ~READABLE:
                self._turn(connection)
        elif connection.busy or connection.held:
            self._close(connection)  # the poll says nothing else of it than that it is lost
        else:
            self._receive(connection)

    def _receive(self, connection: Connection) -> None:
        try:
            data = connection.sock.recv(READ)
        except TLS_WANTS:
            return
        except BlockingIOError:
            return
        except OSError:
            data = b""
        if not data:
            self._close(connection)
            return
        connection.session.receive(data)
        self._turn(connection)
        if connection.session.tls and not connection.session.ending:
            sock = connection.sock
            if isinstance(sock, ssl.SSLSocket) and sock.fileno() >= 0 and sock.pending():
                self._ready.append(connection)

    def _turn(self, connection: Connection) -> None:
        """Answer, send; once more where a call was made at once."""
        session = connection.session
        while True:
            if connection.queue and not self._send(connection):
                return
            if connection.busy or connection.held:
                break
            more = session.advance()
            if session.hold:
                connection.held = True
                heappush(self._held, (self._now + session.hold, id(connection), connection))
                break
            if session.out:
                self._queue(connection)
                if not self._send(connection):
                    return
            ask = session.ask
            if ask is None:
                if session.ending:
                    self._close(connection)
                    return
                if session.secure:
                    self._begin_tls(connection)
                    return
                if more:
                    self._ready.append(connection)
                break
            if not ask.prompt:
                connection.busy = True
                self._hands.give(ask.call, connection)
                break
            try:
                value, error = ask.call(), None
            except Exception as raised:  # noqa: BLE001  # the session answers it
                value, error = None, raised
            session.resume(value, error)
        if session.entered:
            connection.deadline = self._now + self._limits.idle
        self._watch(connection, 0 if connection.busy or connection.held else READABLE)

    def _queue(self, connection: Connection) -> None:
        """Take what the session has made; octets in one, parts that follow each other too."""
        session, queue = connection.session, connection.queue
        out, session.out, session.weight = session.out, [], 0
        octets: list[bytes] = []
        for each in out:
            if type(each) is bytes:
                octets.append(each)
                continue
            if octets:
                queue.append(b"".join(octets))
                octets = []
            part: WirePart = each  # type: ignore[assignment]
            last = queue[-1] if queue else None
            if type(last) is list and last[0] == part.file and last[1] + last[2] == part.offset:
                last[2] += part.octets
            else:
                queue.append([part.file, part.offset, part.octets])
        if octets:
            queue.append(octets[0] if len(octets) == 1 else b"".join(octets))

    def _send(self, connection: Connection) -> bool:
        """Send what is queued; False where something is left, or the connection is closed."""
        queue, sock = connection.queue, connection.sock
        budget = SEND
        moved = False
        try:
            while queue:
                first = queue[0]
                if type(first) is list:
                    if budget <= 0:
                        self._ready.append(connection)
                        return False
                    sent = self._send_part(connection, first, budget)
                    budget -= sent
                    if first[2]:
                        moved = moved or sent > 0
                        continue
                else:
                    sent = sock.send(first)
                    if sent < len(first):
                        queue[0] = memoryview(first)[sent:]
                        moved = True
                        continue
                moved = True
                queue.popleft()
        except (BlockingIOError, *TLS_WANTS) as error:
            if moved or not connection.mask & WRITABLE:
                connection.deadline = self._now + self._limits.stall
            self._watch(
                connection, READABLE if isinstance(error, ssl.SSLWantReadError) else WRITABLE
            )
            return False
        except OSError:
            self._close(connection)
            return False
        return True

    def _send_part(self, connection: Connection, part: list[int], budget: int) -> int:
        file, offset, octets = part
        if connection.session.tls:
            data = os.pread(file, min(octets, CLEAR), offset)
            sent = connection.sock.send(data) if data else 0
        else:
            sent = os.sendfile(connection.fd, file, offset, min(octets, budget))
        if not sent:
            raise OSError(errno.EIO, "the file is shorter than it was")
        part[1] += sent
        part[2] -= sent
        return sent

    def _watch(self, connection: Connection, mask: int) -> None:
        if connection.mask != mask and connection.fd in self._connections:
            connection.mask = mask
            self._poll.modify(connection.fd, mask)

    # What took time

    def _finished(
        self, connection: Connection | None, value: object, error: BaseException | None
    ) -> None:
        if connection is None:
            return
        connection.busy = False
        connection.session.resume(value, error)
        if self._connections.get(connection.fd) is connection:
            self._turn(connection)
        else:
            self._abandon(connection.session)

    def _release(self, connection: Connection) -> None:
        if self._connections.get(connection.fd) is not connection:
            return
        connection.held = False
        connection.session.hold = 0.0
        self._turn(connection)

    # TLS

    def _begin_tls(self, connection: Connection) -> None:
        if connection.context is None:
            self._close(connection)
            return
        self._poll.unregister(connection.fd)
        connection.sock = connection.context().wrap_socket(
            connection.sock, server_side=True, do_handshake_on_connect=False
        )
        self._poll.register(connection.fd, READABLE)
        connection.mask = READABLE
        connection.shaking = True
        self._shake(connection)

    def _shake(self, connection: Connection) -> None:
        sock = connection.sock
        try:
            if isinstance(sock, ssl.SSLSocket):
                sock.do_handshake()
        except ssl.SSLWantReadError:
            self._watch(connection, READABLE)
            return
        except ssl.SSLWantWriteError:
            self._watch(connection, WRITABLE)
            return
        except OSError as error:
            connection.session.handshake_failed(error)
            self._close(connection)
            return
        connection.shaking = False
        implicit = not connection.session.greeted
        connection.session.secured()
        if implicit:
            connection.session.greet()
        self._turn(connection)
