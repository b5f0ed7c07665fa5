"""Sessions that the bench holds itself: to check what is served, to wait, to list.

Rule of the file: plain sockets, since what the bench does must not cost what it measures.
"""

from __future__ import annotations

import contextlib
import poplib
import resource
import socket
import time
from collections.abc import Iterator, Sequence
from typing import Self

from bench.load import LoadError

PASSWORD = "secret"
PATIENCE = 120.0


@contextlib.contextmanager
def many_descriptors() -> Iterator[None]:
    """As many as this user may have, also for the servers that are started meanwhile."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


def fault(port: int, expected: Sequence[bytes]) -> str:
    """Why user0 does not get this mail (with LF) and no other; "" if so."""
    session = poplib.POP3("127.0.0.1", port, timeout=PATIENCE)
    try:
        session.user("user0")
        session.pass_(PASSWORD)
        got = sorted(
            b"\n".join(session.retr(number)[1]) + b"\n"
            for number in range(1, len(session.list()[1]) + 1)
        )
        session.quit()
    except (OSError, poplib.error_proto) as error:
        return f"{type(error).__name__}: {error}"
    return "" if got == sorted(expected) else "what is served is not what was filled in"


def connect(port: int, number: int) -> socket.socket:
    """From an address of its own, as bench/load.c does it."""
    where = (f"127.1.{number // 250}.{number % 250 + 1}", 0)
    sock = socket.create_connection(("127.0.0.1", port), PATIENCE, source_address=where)
    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    answer(sock)
    return sock


def answer(sock: socket.socket, end: bytes = b"\r\n") -> bytes:
    """What the server says, to its end. Raises LoadError if that is no +OK."""
    data = bytearray()
    while not data.endswith(end):
        piece = sock.recv(1 << 18)
        if not piece:
            raise LoadError(f"the server has left after {bytes(data[-100:])!r}")
        data += piece
        if not b"+OK".startswith(data[:3]):
            raise LoadError(f"the server says {bytes(data[:100])!r}")
    return bytes(data)


def ask(sock: socket.socket, command: str, end: bytes = b"\r\n") -> bytes:
    sock.sendall(command.encode() + b"\r\n")
    return answer(sock, end)


def log_in(port: int, number: int, messages: int) -> socket.socket:
    """A session that has listed its drop."""
    sock = connect(port, number)
    ask(sock, f"USER user{number}")
    ask(sock, f"PASS {PASSWORD}")
    found = ask(sock, "UIDL", b"\r\n.\r\n").count(b"\n") - 2
    if found != messages:
        raise LoadError(f"{found} messages instead of {messages}")
    return sock


def quit_(sock: socket.socket) -> None:
    ask(sock, "QUIT")
    sock.close()


def first_line(port: int, number: int) -> float:
    """Seconds from PASS until the first line of UIDL is there; the rest is read as well."""
    sock = connect(port, number)
    ask(sock, f"USER user{number}")
    begin = time.perf_counter()
    ask(sock, f"PASS {PASSWORD}")
    sock.sendall(b"UIDL\r\n")
    data = bytearray()
    while data.count(b"\n") < 2:
        piece = sock.recv(4096)
        if not piece:
            raise LoadError("the server has left")
        data += piece
    seconds = time.perf_counter() - begin
    while not data.endswith(b"\r\n.\r\n"):
        data += sock.recv(1 << 18)
    quit_(sock)
    return seconds


class Sessions:
    """So many, each of another user, from `__enter__` to `__exit__`."""

    def __init__(self, port: int, count: int, messages: int) -> None:
        self._sockets: list[socket.socket] = []
        self._where = (port, count, messages)

    def check(self) -> None:
        """All are still there. Raises LoadError."""
        for sock in self._sockets:
            ask(sock, "NOOP")

    def __enter__(self) -> Self:
        port, count, messages = self._where
        try:
            for number in range(count):
                self._sockets.append(log_in(port, number, messages))
        except BaseException:
            self.__exit__(None, None, None)
            raise
        return self

    def __exit__(self, *_: object) -> None:
        for sock in self._sockets:
            sock.close()
