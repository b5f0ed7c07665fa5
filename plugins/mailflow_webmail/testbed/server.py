"""HTTP/1.1 for the test bed: werkzeug's server, with connections that are kept alive.

Rule of the file: a connection lives on only behind an answer whose end the client can see and
a request that was read whole; else it is closed.
"""

from __future__ import annotations

import sys
import tempfile
import threading
from collections.abc import Iterable, Sequence
from contextlib import ExitStack, suppress
from http import HTTPStatus
from selectors import EVENT_READ, DefaultSelector
from socket import AF_INET6, SHUT_RDWR, socket
from typing import TYPE_CHECKING, Any

from werkzeug.serving import ThreadedWSGIServer, WSGIRequestHandler

from mailflow_webmail.testbed.app import DROPPED, LARGEST, NTH

if TYPE_CHECKING:
    from mailflow.halt import Halt
    from mailflow.log import Logger
    from mailflow_webmail.testbed.app import Bed

IDLE = 60.0
"""Seconds that a connection may be silent."""

PIECE = 1 << 16

IN_MEMORY = 1 << 20
"""Octets of a form that are not put into a file."""


def url(sock: socket) -> str:
    """The address that a socket's webmail has."""
    host, port = sock.getsockname()[:2]
    return f"http://[{host}]:{port}/" if sock.family == AF_INET6 else f"http://{host}:{port}/"


def serve(bed: Bed, sockets: Sequence[socket], log: Logger, halt: Halt) -> None:
    """Answer whoever connects to these sockets until `halt` is set; then end all connections."""
    with ExitStack() as stack, DefaultSelector() as selector:
        selector.register(halt, EVENT_READ)
        for sock in sockets:
            server = stack.enter_context(_Server(bed, sock, log))
            stack.callback(server.end_connections)
            selector.register(server, EVENT_READ, server)
        while not halt.is_set():
            for key, _ in selector.select():
                if key.data is not None:
                    key.data.handle_request()


class _Server(ThreadedWSGIServer):
    timeout = 0  # it is asked only when somebody connects

    def __init__(self, bed: Bed, sock: socket, log: Logger) -> None:
        host, port = sock.getsockname()[:2]
        super().__init__(host, port, bed, _Handler, fd=sock.fileno())
        self._log = log
        self._lock = threading.Lock()
        self._connections: set[socket] = set()

    def log(self, type: str, message: str, *args: Any) -> None:
        self._log.debug(message % args if args else message)

    def handle_error(self, request: Any, client_address: Any) -> None:
        """A client that has gone is none; what else happens is a fault of ours."""
        error = sys.exc_info()[1]
        if not isinstance(error, ConnectionError):
            self._log.error("a request failed", error=repr(error))

    def begun(self, connection: socket) -> None:
        with self._lock:
            self._connections.add(connection)

    def ended(self, connection: socket) -> None:
        with self._lock:
            self._connections.discard(connection)

    def end_connections(self) -> None:
        with self._lock:
            for each in self._connections:
                with suppress(OSError):
                    each.shutdown(SHUT_RDWR)


class _Handler(WSGIRequestHandler):
    protocol_version = "HTTP/1.1"
    timeout = IDLE
    disable_nagle_algorithm = True
    wbufsize = -1
    requests = 0
    server: _Server

    def setup(self) -> None:
        super().setup()
        self.server.begun(self.connection)

    def finish(self) -> None:
        self.server.ended(self.connection)
        super().finish()

    def log_request(self, code: int | str = "-", size: int | str = "-") -> None:
        """Without the query."""
        self.server.log("info", "%s %s %s", self.command, self.path.partition("?")[0], code)

    def run_wsgi(self) -> None:
        self.requests += 1
        length = self.headers.get("Content-Length", "0")
        if "Transfer-Encoding" in self.headers or not length.isdigit():
            self.send_error(HTTPStatus.LENGTH_REQUIRED)
        elif int(length) > LARGEST:
            self.send_error(HTTPStatus.REQUEST_ENTITY_TOO_LARGE)
        else:
            with tempfile.SpooledTemporaryFile(IN_MEMORY) as body:
                self._answer(int(length), body)
            self.wfile.flush()

    def _answer(self, length: int, body: tempfile.SpooledTemporaryFile[bytes]) -> None:
        while length and (piece := self.rfile.read(min(PIECE, length))):
            body.write(piece)
            length -= len(piece)
        body.seek(0)
        environ = {**self.make_environ(), "wsgi.input": body, NTH: self.requests}
        head: list[tuple[str, list[tuple[str, str]]]] = []
        pieces = self.server.app(environ, lambda *given: head.append(given[:2]))  # type: ignore
        try:
            if DROPPED in environ:
                self.close_connection = True
            else:
                self._send(*head[-1], pieces)
        finally:
            if hasattr(pieces, "close"):
                pieces.close()

    def _send(self, status: str, headers: list[tuple[str, str]], pieces: Iterable[bytes]) -> None:
        self.send_response(int(status[:3]), status[4:])
        for name, value in headers:
            self.send_header(name, value)
        lengths = [int(value) for name, value in headers if name.lower() == "content-length"]
        chunked = not lengths and not self.close_connection and self.command != "HEAD"
        if chunked:
            self.send_header("Transfer-Encoding", "chunked")
        self.end_headers()
        sent = 0
        for piece in pieces if self.command != "HEAD" else ():
            if piece:
                sent += len(piece)
                self.wfile.write(b"%x\r\n%b\r\n" % (len(piece), piece) if chunked else piece)
                self.wfile.flush()
        if chunked:
            self.wfile.write(b"0\r\n\r\n")
        elif lengths and sent < lengths[0]:
            self.close_connection = True
