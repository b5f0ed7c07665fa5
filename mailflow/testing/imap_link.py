"""One connection of the small IMAP server, and what goes wrong with it on demand.

Rule of the file: octets are counted as they leave, so that a fault comes at the one that was
named.
"""

from __future__ import annotations

import contextlib
import socket
import ssl
import struct
import time
from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple

BATCH = 1 << 18
"""Octets answered before they are sent; pipelined answers leave together."""

Answer = bytes | Callable[[bytes], bytes | None]


class Faults(NamedTuple):
    """What goes wrong. Octets are counted over all that one connection is sent.

    `answers` maps the beginning of a command without its tag ("UID FETCH 2"; "" is the
    greeting) to octets sent instead of the right answer, or to a function of the right answer
    that gives them. `before` maps it to octets sent first. In both "<tag>" stands for the tag.
    """

    cut_at: int | None = None
    """Close after this many octets."""
    reset: bool = False
    """Close with a reset instead of an end."""
    stall_at: int | None = None
    """Send nothing more after this many octets, and keep the connection."""
    trickle: float = 0.0
    """Seconds before each octet."""
    cut_before: Sequence[str] = ()
    """Close instead of answering these commands."""
    answers: Mapping[str, Answer] = {}
    before: Mapping[str, bytes] = {}


NO_FAULTS = Faults()


class CutError(Exception):
    """The connection ends here, as the faults say."""


class Link:
    """Octets in and out of one connection, with the faults of the way."""

    def __init__(self, sock: socket.socket, faults: Faults) -> None:
        self.faults = faults
        self.sock = sock
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
        self.waited()
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
        self.count(room)
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

    def waited(self) -> None:
        """Called each time the client is waited for."""

    def count(self, octets: int) -> None:
        """Called with what leaves."""

    def shake_hands(self, context: ssl.SSLContext) -> None:
        self.flush()
        self._in = b""
        self.sock = context.wrap_socket(self.sock, server_side=True)
        self.secure = True
