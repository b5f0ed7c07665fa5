"""The connections of the POP3 server: one thread, one epoll, and threads for what may wait.

Rule of the file: nothing here waits but the poll. A connection is read only when all it asked
for before is answered and on its way, so that memory is bounded by the socket's own buffers,
and has one turn at a time, so that nobody waits for a busy one.
"""

from __future__ import annotations

import errno
import math
import os
import select
import socket
import time
from collections import deque
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import suppress
from heapq import heappop, heappush

from mailflow.halt import Halt
from mailflow.log import Logger
from mailflow.record import NamedTuple
from mailflow.typed import TYPE_CHECKING, Any
from mailflow_pop3.connection import LOST, READABLE, WRITABLE, BlockedError, Connection
from mailflow_pop3.hands import Hands
from mailflow_pop3.server import Policy, ServerSession

if TYPE_CHECKING:
    import ssl

SEND = 1 << 20
"""Octets of a file that are sent in a turn, where the other side takes them."""

UNSENT = 1 << 17
"""Octets that the kernel keeps of what a connection has not sent yet (tcp(7))."""

SILENCE = 60
"""Seconds after which the kernel asks whether a silent client is still there (tcp(7))."""

GRACE = 10.0
"""Seconds that answers under way may take once the service is to end."""

BROKEN = (errno.EIO, errno.ESTALE, errno.EBADF)
"""What a file says that cannot be read; all else is the connection's."""

LINGER = 2.0
"""Seconds that a client who was cut off has to read why."""


class Limits(NamedTuple):
    """Seconds: `login` until a client has logged in, `idle` between commands then, `stall`
    without a taken octet. Connections: in all, and from one address (0: as many as come)."""

    login: float = 60.0
    idle: float = 600.0
    stall: float = 600.0
    connections: int = 10000
    per_address: int = 0


class Door(NamedTuple):
    """A listening socket, what its sessions may do, and how TLS begins there (None: never)."""

    sock: socket.socket
    policy: Policy
    context: Callable[[], ssl.SSLContext] | None = None
    implicit: bool = False


class Transport:
    """Serves clients of some doors until `halt` is set."""

    def __init__(
        self,
        doors: Sequence[Door],
        limits: Limits,
        halt: Halt,
        log: Logger,
        report: Callable[[Mapping[str, object]], None] = lambda facts: None,
    ) -> None:
        self._doors = {door.sock.fileno(): door for door in doors}
        self._limits = limits
        self._halt = halt
        self._log = log
        self._report = report
        self._reported: Mapping[str, object] = {}
        self._poll = select.epoll()
        self._hands = Hands()
        self._connections: dict[int, Connection] = {}
        self._from: dict[str, int] = {}
        self._ready: deque[Connection] = deque()
        self._held: list[tuple[float, int, Connection]] = []
        self._now = time.monotonic()
        self._taken = self._turned_away = 0
        self._open = self._stopping = self._over = False

    def run(self) -> None:
        """Until `halt` is set and what was under way is done, or GRACE is over."""
        poll = self._poll
        poll.register(self._halt.fileno(), READABLE)
        poll.register(self._hands.fileno(), READABLE)
        for door in self._doors.values():
            _prepare(door.sock)
        self._set_open(True)
        try:
            self._turns()
        finally:
            for connection in list(self._connections.values()):
                self._close(connection)
            late = self._hands.close(GRACE)
            self._over = True
            self._settle(late)
            poll.close()

    def _turns(self) -> None:
        connections, doors = self._connections, self._doors
        hands, halt = self._hands.fileno(), self._halt.fileno()
        step = max(0.02, min(1.0, min(self._limits[:3]) / 4))
        sweep = end = 0.0
        while not self._stopping or (connections and self._now < end):
            events = self._poll.poll(self._patience(sweep))
            self._now = time.monotonic()
            for fd, mask in events:
                if (connection := connections.get(fd)) is not None:
                    self._safely(self._event, connection, mask)
                elif fd in doors:
                    if self._open:  # it may have been closed since the poll
                        self._accept(doors[fd])
                elif fd == hands:
                    self._finished()
                elif fd == halt:
                    end = self._now + GRACE
                    self._stop()
            for _ in range(len(self._ready)):
                connection = self._ready.popleft()
                connection.due = False
                if connections.get(connection.fd) is connection:
                    self._safely(self._turn, connection)
            while self._held and self._held[0][0] <= self._now:
                self._safely(self._release, heappop(self._held)[2])
            if self._now >= sweep:
                self._sweep()
                sweep = self._now + step

    def _patience(self, sweep: float) -> float:
        """Seconds that the poll may wait."""
        if self._ready:
            return 0.0
        due = min(sweep, self._held[0][0]) if self._held else sweep
        return max(0.0, due - self._now)

    def _safely(self, act: Callable[..., None], connection: Connection, *facts: Any) -> None:
        """An error of ours ends the one session that met it."""
        try:
            act(connection, *facts)
        except Exception as error:  # noqa: BLE001  # it harms nobody else
            self._log.error("a session broke", error=error, address=connection.session.address)
            self._close(connection)

    # Coming and going

    def _set_open(self, wanted: bool) -> None:
        """Watch the doors, or do not; of several processes one is woken."""
        if wanted is self._open:
            return
        self._open = wanted
        for fd in self._doors:
            if wanted:
                self._poll.register(fd, READABLE | select.EPOLLEXCLUSIVE)
            else:
                self._poll.unregister(fd)

    def _accept(self, door: Door) -> None:
        """Take one client, and be the last of the processes to be woken for the next one: who
        took all that come at once, or was woken first every time, would serve them alone."""
        try:
            sock, where = door.sock.accept()
        except BlockingIOError:
            return
        except OSError as error:
            if error.errno in (errno.ECONNABORTED, errno.EINTR, errno.EPROTO):
                return
            # no descriptors: the next sweep tries again, so that this does not spin
            self._log.error("cannot take clients now", error=os.strerror(error.errno or 0))
            self._set_open(False)
            return
        fd = door.sock.fileno()
        self._poll.unregister(fd)
        self._poll.register(fd, READABLE | select.EPOLLEXCLUSIVE)
        sock.setblocking(False)
        address = where[0].removeprefix("::ffff:") if type(where) is tuple else ""
        connection = Connection(sock, ServerSession(door.policy, address), door.context)
        connection.deadline = connection.login_by = self._now + self._limits.login
        self._connections[connection.fd] = connection
        self._from[address] = self._from.get(address, 0) + 1
        self._poll.register(connection.fd, READABLE)
        connection.mask = READABLE
        self._taken += 1
        self._safely(self._welcome, connection, door.implicit)

    def _welcome(self, connection: Connection, implicit: bool) -> None:
        """Greet, or say that there are too many; in TLS, once that has begun."""
        session = connection.session
        if len(self._connections) > self._limits.connections:
            session.refuse("too many connections")
        elif session.address and 0 < self._limits.per_address < self._from[session.address]:
            session.refuse("too many connections from your address")
        elif implicit:
            session.secure = True
        else:
            session.greet()
        if session.ending:
            self._turned_away += 1
            if implicit:
                session.out.clear()
        self._turn(connection)

    def _close(self, connection: Connection) -> None:
        """Close it now; its drop as soon as no thread works for it."""
        if self._connections.get(connection.fd) is not connection:
            return
        del self._connections[connection.fd]
        address = connection.session.address
        left = self._from[address] - 1
        if left:
            self._from[address] = left
        else:
            del self._from[address]
        connection.close()
        ask = connection.session.ask
        if connection.busy and ask is not None:
            connection.busy = not self._hands.take_back(connection.ticket, ask.lane)
        if not connection.busy:
            self._abandon(connection.session)

    def _abandon(self, session: ServerSession) -> None:
        ask = session.abandon()
        if ask is not None and not self._over:
            self._hands.give(ask.call, None, ask.lane)
        elif ask is not None:
            try:
                ask.call()
            except Exception as error:  # noqa: BLE001  # as where a thread calls it
                self._settle([(None, None, error)])

    def _sweep(self) -> None:
        """Close what is over its time, and say how it goes."""
        self._hands.try_again()
        self._set_open(False)  # another process may have been woken for a client, and ended
        self._set_open(not self._stopping)
        sessions: dict[str, int] = {}
        for connection in list(self._connections.values()):
            if connection.deadline <= self._now and not connection.busy:
                self._close(connection)
            elif login := connection.session.login:
                sessions[login] = sessions.get(login, 0) + 1
        if self._turned_away:
            self._log.warning("turned clients away: too many connections", count=self._turned_away)
            self._turned_away = 0
        facts = {"connections": len(self._connections), "taken": self._taken, "sessions": sessions}
        if facts != self._reported:
            self._reported = facts
            self._report(facts)

    def _stop(self) -> None:
        """Nobody comes any more; who has nothing under way goes."""
        self._stopping = True
        self._poll.unregister(self._halt.fileno())
        self._set_open(False)
        for connection in list(self._connections.values()):
            if not (connection.busy or connection.queue or connection.due):
                self._close(connection)

    # A turn

    def _event(self, connection: Connection, mask: int) -> None:
        if mask & LOST and (connection.busy or connection.held):
            self._close(connection)
        elif connection.shaking:
            self._shake(connection)
        elif connection.queue:
            self._turn(connection)
        elif not (connection.busy or connection.held or connection.due):
            self._receive(connection)

    def _receive(self, connection: Connection) -> None:
        try:
            data = connection.receive()
        except BlockedError as blocked:
            self._watch(connection, blocked.wants)
            return
        if data is None:
            self._watch(connection, READABLE)
            return
        if not data:
            self._close(connection)
        elif not connection.lingering:
            connection.session.receive(data)
            self._turn(connection)

    def _turn(self, connection: Connection) -> None:
        """Send what is on its way, then answer, and send that."""
        session = connection.session
        answered = bool(connection.queue)
        if answered and not self._send(connection):
            return
        if connection.busy or connection.held or connection.lingering:
            return
        more = session.advance()
        if session.visit is not None:
            connection.login_by = math.inf
        if session.hold:
            connection.held = True
            heappush(self._held, (self._now + session.hold, id(connection), connection))
            self._watch(connection, 0)
            return
        if session.out:
            answered = True
            connection.take()
            if not self._send(connection):
                return
        if session.ask is not None:
            connection.busy = True
            self._watch(connection, 0)
            ask = session.ask
            connection.ticket = self._hands.give(ask.call, connection, ask.lane)
        elif session.ending:
            self._end(connection)
        elif session.secure:
            self._begin_tls(connection)
        elif more:
            self._again(connection)
        elif self._stopping:
            self._close(connection)
        else:
            if session.visit is None:
                connection.deadline = connection.login_by
            elif answered:  # a command that is not whole yet is none
                connection.deadline = self._now + self._limits.idle
            self._watch(connection, READABLE)

    def _again(self, connection: Connection) -> None:
        """Another turn, once the others had theirs; until then it is not read."""
        if not connection.due:
            connection.due = True
            self._ready.append(connection)

    def _send(self, connection: Connection) -> bool:
        """Send what is queued; False where something is left, or the connection is closed."""
        try:
            if not connection.send(SEND):
                connection.deadline = self._patient(connection)
                self._again(connection)
                return False
        except BlockedError as blocked:
            if blocked.moved or not connection.mask & WRITABLE:
                connection.deadline = self._patient(connection)
            self._watch(connection, blocked.wants)
            return False
        except OSError as error:
            if error.errno in BROKEN:
                session = connection.session
                self._log.warning(
                    "cut a session: a message cannot be read to its end", login=session.login,
                    address=session.address, error=error,
                )  # fmt: skip
            self._close(connection)
            return False
        return True

    def _patient(self, connection: Connection) -> float:
        """Until when it may take nothing: who has not logged in gains no time by reading slowly."""
        return min(self._now + self._limits.stall, connection.login_by)

    def _watch(self, connection: Connection, mask: int) -> None:
        if connection.mask != mask:
            connection.mask = mask
            self._poll.modify(connection.fd, mask)

    def _end(self, connection: Connection) -> None:
        """All is said. What the client has still sent must not turn the end into a reset,
        which might overtake what was said."""
        if connection.tls is not None or connection.all_read():
            self._close(connection)
            return
        connection.lingering = True
        self._abandon(connection.session)
        connection.deadline = self._now + LINGER
        with suppress(OSError):
            connection.sock.shutdown(socket.SHUT_WR)
        self._watch(connection, READABLE)

    # What took time

    def _finished(self) -> None:
        self._settle(self._hands.finished())

    def _settle(self, calls: Iterable[tuple[Any, Any, BaseException | None]]) -> None:
        for whose, value, error in calls:
            if whose is None:
                if error is not None:
                    self._log.error("a maildrop was not closed in order", error=error)
                continue
            self._safely(self._resume, whose, value, error)

    def _resume(self, connection: Connection, value: object, error: BaseException | None) -> None:
        connection.busy = False
        there = self._connections.get(connection.fd) is connection
        try:
            connection.session.resume(value, error)
        finally:
            if not there:
                self._abandon(connection.session)
        if there:
            self._turn(connection)

    def _release(self, connection: Connection) -> None:
        if self._connections.get(connection.fd) is connection:
            connection.held = False
            connection.session.hold = 0.0
            self._turn(connection)

    # TLS

    def _begin_tls(self, connection: Connection) -> None:
        try:
            connection.begin_tls()
        except OSError as error:
            connection.session.handshake_failed(error)
            self._close(connection)
            return
        self._shake(connection)

    def _shake(self, connection: Connection) -> None:
        try:
            connection.shake()
        except BlockedError as blocked:
            self._watch(connection, blocked.wants)
            return
        except OSError as error:
            connection.session.handshake_failed(error)
            self._close(connection)
            return
        session = connection.session
        session.secured()
        if not session.greeted:
            session.greet()
        self._turn(connection)


def _prepare(sock: socket.socket) -> None:
    """What connections inherit: no answer waits for another, little of a slow one's is kept in
    the kernel, and a client that is gone without a word does not lock its drop for long."""
    if sock.family == socket.AF_UNIX:
        return
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPIDLE, SILENCE)
    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPINTVL, SILENCE // 4)
    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPCNT, 4)
    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NOTSENT_LOWAT, UNSENT)
