"""Servers on loopback that misbehave on demand: what those of all protocols have in common.

Rule of the file: octets are counted as they leave, so that a fault comes at the one that was
named.
"""

from __future__ import annotations

import contextlib
import socket
import ssl
import struct
import threading
import time
from abc import ABC, abstractmethod
from typing import Protocol, Self

BATCH = 1 << 18
"""Octets answered before they are sent; pipelined answers leave together."""


class Way(Protocol):
    """What goes wrong on the way, as the faults of a server say."""

    @property
    def cut_at(self) -> int | None: ...
    @property
    def reset(self) -> bool: ...
    @property
    def stall_at(self) -> int | None: ...
    @property
    def trickle(self) -> float: ...


class CutError(Exception):
    """The connection ends here, as the faults say."""


class Link(ABC):
    """Octets in and out of one connection, with the faults of the way."""

    def __init__(self, server: Loopback, sock: socket.socket, faults: Way) -> None:
        self.server = server
        self.sock = sock
        self.faults = faults
        self.secure = False
        self._in = b""
        self._out: list[bytes] = []
        self._queued = 0
        self._sent = 0
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)

    def end(self) -> None:
        """Leave, hearing the client out so that what was sent arrives."""
        with contextlib.suppress(OSError):
            if self.faults.reset:
                self.sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            else:
                self.sock.settimeout(5)
                self.sock.shutdown(socket.SHUT_WR)
                while self.sock.recv(1 << 16):
                    pass
        self.sock.close()

    @abstractmethod
    def run(self) -> None:
        """Serve the client until it leaves. Raises OSError, CutError."""

    def say(self, *answers: bytes) -> None:
        for answer in answers:
            self._out.append(answer)
            self._queued += len(answer)
        if self._queued > BATCH:
            self.flush()

    def line(self) -> bytes:
        """The next line; what was answered leaves before it waits for more."""
        while b"\n" not in self._in:
            self._more()
        line, _, self._in = self._in.partition(b"\n")
        return line.removesuffix(b"\r")

    def octets(self, size: int) -> bytes:
        while len(self._in) < size:
            self._more()
        data, self._in = self._in[:size], self._in[size:]
        return data

    def heard(self, seconds: float) -> bool:
        """Whether the client says something within that time."""
        self.flush()
        if self._in:
            return True
        self.sock.settimeout(seconds)
        try:
            data = self.sock.recv(1 << 16)
        except TimeoutError:
            return False
        finally:
            self.sock.settimeout(None)
        if not data:
            raise CutError
        self._in += data
        return True

    def _more(self) -> None:
        self.flush()
        self.server.flights += 1
        data = self.sock.recv(1 << 16)
        if not data:
            raise CutError
        self._in += data

    def flush(self) -> None:
        data = b"".join(self._out)
        self._out.clear()
        self._queued = 0
        faults = self.faults
        ends = [at - self._sent for at in (faults.cut_at, faults.stall_at) if at is not None]
        room = min([*ends, len(data)])
        self.server.sent += room
        if faults.trickle:
            for at in range(room):
                time.sleep(faults.trickle)
                self.sock.sendall(data[at : at + 1])
        else:
            self.sock.sendall(data[:room])
        self._sent += room
        if faults.cut_at == self._sent:
            raise CutError
        if room < len(data):
            while self.sock.recv(1 << 16):
                pass  # stalled: until the client has enough
            raise CutError

    def shake_hands(self, context: ssl.SSLContext) -> None:
        self.flush()
        self._in = b""
        self.sock = context.wrap_socket(self.sock, server_side=True)
        self.secure = True


class Loopback(ABC):
    """Serves from `__enter__` to `__exit__`, each connection in a thread.

    `links` are those that are open, `connections` how many there were; `flights` how often a
    client was waited for; `sent` the octets that all were sent.
    """

    name = ""
    host = "127.0.0.1"

    def __init__(self) -> None:
        self.connections = 0
        self.flights = 0
        self.sent = 0
        self._sock = socket.create_server((self.host, 0))
        self.port: int = self._sock.getsockname()[1]
        self.links: set[Link] = set()
        self._threads: list[threading.Thread] = []

    def __enter__(self) -> Self:
        thread = threading.Thread(target=self._accept, name=f"{self.name} accept", daemon=True)
        self._threads.append(thread)
        thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        with contextlib.suppress(OSError):
            self._sock.shutdown(socket.SHUT_RDWR)
        self._sock.close()
        for link in list(self.links):
            with contextlib.suppress(OSError):
                link.sock.shutdown(socket.SHUT_RDWR)
        for thread in self._threads:
            thread.join(5)

    @abstractmethod
    def link(self, sock: socket.socket) -> Link:
        """A session with a client that has connected."""

    def _accept(self) -> None:
        while True:
            try:
                sock, _ = self._sock.accept()
            except OSError:
                return
            self.connections += 1
            thread = threading.Thread(target=self._serve, args=(sock,), name=self.name, daemon=True)
            self._threads.append(thread)
            thread.start()

    def _serve(self, sock: socket.socket) -> None:
        link = self.link(sock)
        self.links.add(link)
        try:
            with contextlib.suppress(OSError, CutError):  # the client left, or the faults say so
                link.run()
        finally:
            self.links.discard(link)
            link.end()
