"""A web server that says what a test wants, octet for octet, and proxies that lead to it.

Rule of the file: everything listens on 127.0.0.1, on a free port, from `__enter__` to `__exit__`.
"""

from __future__ import annotations

import contextlib
import socket
import ssl
import struct
import threading
import warnings
from abc import ABC, abstractmethod
from base64 import b64encode
from collections.abc import Callable, Iterable
from typing import NamedTuple, Self

from mailflow.testing.tls import Certificate

HOST = "127.0.0.1"


class Asked(NamedTuple):
    """A request as it came; names of headers are in small letters."""

    method: str
    target: str
    headers: dict[str, str]
    body: bytes
    connection: int


Said = bytes | Iterable[bytes] | None
"""What is sent; an iterable piece by piece; None closes the connection without a word."""


def ok(body: bytes | str = b"", *headers: str, status: str = "200 OK", kind: str = "text/html"):
    """An answer whole and in order."""
    octets = body.encode() if isinstance(body, str) else body
    lines = [f"HTTP/1.1 {status}", f"Content-Type: {kind}", f"Content-Length: {len(octets)}"]
    return "\r\n".join([*lines, *headers, "", ""]).encode("latin-1") + octets


def to(where: str, *headers: str, status: str = "302 Found"):
    return ok(b"", f"Location: {where}", *headers, status=status)


class Listener(ABC):
    """Each connection is served by a thread of its own."""

    def __init__(self, certificate: Certificate | None = None) -> None:
        self._context = certificate.server_context() if certificate else None
        self._listener = socket.create_server((HOST, 0), backlog=50)
        self.port = self._listener.getsockname()[1]
        self._threads: list[threading.Thread] = []
        self._open: set[socket.socket] = set()
        self.connections = 0

    def __enter__(self) -> Self:
        self._start(self._accept)
        return self

    def __exit__(self, *_: object) -> None:
        with contextlib.suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        for sock in list(self._open):
            cut(sock)
        for thread in self._threads:
            thread.join(20)

    def _start(self, function: Callable[..., None], *words: object) -> None:
        thread = threading.Thread(target=function, args=words, daemon=True)
        self._threads.append(thread)
        thread.start()

    def _accept(self) -> None:
        while True:
            try:
                sock, _ = self._listener.accept()
            except OSError:
                return
            self.connections += 1
            self._start(self._served, sock, self.connections)

    def _served(self, sock: socket.socket, number: int) -> None:
        sock.settimeout(20)
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        with contextlib.suppress(OSError, EOFError):
            if self._context is not None:
                sock = self._context.wrap_socket(sock, server_side=True)
            with sock:
                self._open.add(sock)
                try:
                    self.serve(sock, number)
                finally:
                    self._open.discard(sock)

    @abstractmethod
    def serve(self, sock: socket.socket, number: int) -> None:
        """What becomes of a connection, the `number`th from 1."""


class Web(Listener):
    """`answer` says what is said to a request; `asked` are all that came, in order."""

    def __init__(
        self, answer: Callable[[Asked], Said] | bytes, certificate: Certificate | None = None
    ) -> None:
        super().__init__(certificate)
        said = answer
        self._answer = (lambda _: said) if isinstance(said, bytes) else said
        self.asked: list[Asked] = []
        self.scheme = "https" if certificate else "http"

    def limit_tls(self, least: str, most: str) -> None:
        """Between those versions only, as a server of long ago."""
        context = self._context
        assert context is not None
        with warnings.catch_warnings(action="ignore"):
            context.minimum_version = ssl.TLSVersion[least]
            context.maximum_version = ssl.TLSVersion[most]
        context.set_ciphers("ALL:@SECLEVEL=0")

    @property
    def url(self) -> str:
        return f"{self.scheme}://{HOST}:{self.port}/"

    @property
    def targets(self) -> list[str]:
        return [each.target for each in self.asked]

    def serve(self, sock: socket.socket, number: int) -> None:
        with sock.makefile("rb") as reader:
            while (asked := request(reader, number)) is not None:
                self.asked.append(asked)
                said = self._answer(asked)
                if said is None:
                    return
                for piece in [said] if isinstance(said, bytes) else said:
                    sock.sendall(piece)
                if not isinstance(said, bytes) or asked.headers.get("connection") == "close":
                    return


class Mouth(Listener):
    """Says the same to whoever connects, and hears nothing."""

    def __init__(self, said: bytes) -> None:
        super().__init__()
        self._said = said

    def serve(self, sock: socket.socket, number: int) -> None:
        sock.sendall(self._said)
        while sock.recv(1 << 16):
            pass


def cut(sock: socket.socket) -> None:
    with contextlib.suppress(OSError):
        socket.socket.shutdown(sock, socket.SHUT_RDWR)


def request(reader, number: int = 0) -> Asked | None:
    line = reader.readline()
    if not line.strip():
        return None
    method, target, _ = (line.decode("latin-1") + "  ").split(" ", 2)
    headers = {}
    while line := reader.readline().strip():
        name, _, value = line.decode("latin-1").partition(":")
        headers[name.lower()] = value.strip()
    body = reader.read(int(headers.get("content-length", 0)))
    return Asked(method, target, headers, body, number)


class HttpProxy(Listener):
    """Leads each name of `hosts` to a port here; asks for `login` ("user:password") first."""

    def __init__(self, hosts: dict[str, int], login: str = "", certificate=None) -> None:
        super().__init__(certificate)
        self.hosts = hosts
        self.asked: list[Asked] = []
        self._wanted = f"Basic {b64encode(login.encode()).decode()}" if login else ""

    def serve(self, sock: socket.socket, number: int) -> None:
        with sock.makefile("rb") as reader:
            while (asked := request(reader, number)) is not None:
                self.asked.append(asked)
                if asked.headers.get("proxy-authorization", "") != self._wanted:
                    sock.sendall(ok(b"", "Proxy-Authenticate: Basic", status="407 Who"))
                    return
                if asked.method == "CONNECT":
                    self._tunnel(sock, asked.target.partition(":")[0])
                    return
                self._carry(sock, asked)

    def _tunnel(self, sock: socket.socket, host: str) -> None:
        if host not in self.hosts:
            sock.sendall(ok(b"", status="502 Bad Gateway"))
            return
        with socket.create_connection((HOST, self.hosts[host])) as far:
            sock.sendall(b"HTTP/1.1 200 Go\r\n\r\n")
            self._start(pipe, sock, far)
            pipe(far, sock)

    def _carry(self, sock: socket.socket, asked: Asked) -> None:
        host, _, path = asked.target.removeprefix("http://").partition("/")
        name = host.partition(":")[0]
        if name not in self.hosts:
            sock.sendall(ok(b"", status="502 Bad Gateway"))
            return
        with socket.create_connection((HOST, self.hosts[name])) as far:
            lines = [f"{asked.method} /{path} HTTP/1.1"]
            own = {"connection": "close"}
            left_out = ("proxy-authorization", "connection")
            kept = {k: v for k, v in asked.headers.items() if k not in left_out} | own
            lines += [f"{name}: {value}" for name, value in kept.items()]
            far.sendall("\r\n".join([*lines, "", ""]).encode("latin-1") + asked.body)
            while piece := far.recv(1 << 16):
                sock.sendall(piece)


class SocksProxy(Listener):
    """SOCKS 5 (RFC 1928, 1929); `asked` is what it was to connect to: a name, or an address."""

    def __init__(self, hosts: dict[str, int], login: str = "") -> None:
        super().__init__()
        self.hosts = hosts
        self.asked: list[str] = []
        self._login = login

    def serve(self, sock: socket.socket, number: int) -> None:
        reader = sock.makefile("rb")
        _, count = reader.read(2)
        offered = reader.read(count)
        way = 2 if self._login else 0
        if way not in offered:
            sock.sendall(b"\x05\xff")
            return
        sock.sendall(bytes((5, way)))
        if self._login:
            reader.read(1)
            user, password = (reader.read(reader.read(1)[0]).decode() for _ in range(2))
            good = f"{user}:{password}" == self._login
            sock.sendall(b"\x01\x00" if good else b"\x01\x01")
            if not good:
                return
        kind = reader.read(4)[3]
        if kind == 3:
            host = reader.read(reader.read(1)[0]).decode()
        else:
            host = socket.inet_ntop(socket.AF_INET, reader.read(4))
        (port,) = struct.unpack(">H", reader.read(2))
        self.asked.append(host)
        port = self.hosts.get(host, port if kind == 1 else 0)
        if not port:
            sock.sendall(b"\x05\x04\x00\x01" + bytes(6))
            return
        with socket.create_connection((HOST, port)) as far:
            sock.sendall(b"\x05\x00\x00\x01" + bytes(6))
            self._start(pipe, sock, far)
            pipe(far, sock)


def pipe(source: socket.socket, sink: socket.socket) -> None:
    with contextlib.suppress(OSError, ssl.SSLError):
        while piece := source.recv(1 << 16):
            sink.sendall(piece)
    with contextlib.suppress(OSError):
        sink.shutdown(socket.SHUT_WR)
