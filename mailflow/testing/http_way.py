"""A way to a web server that changes what passes: pages, and what happens between requests.

    with HttpWay(webmail.url) as way:
        way.rewrite = lambda path, body: body.replace(b"mailboxlist", b"folderlist")
        requests.get(way.url)

Rule of the file: one request at a time; what is not to be changed passes octet for octet.
"""

from __future__ import annotations

import http.client
import threading
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Self
from urllib.parse import urlsplit

HOP = frozenset({"connection", "content-length", "keep-alive", "transfer-encoding"})
"""Headers that are said anew for each stretch of the way (RFC 9110, 7.6.1)."""


class HttpWay:
    """Runs from `__enter__` to `__exit__`, as long as the server behind it.

    `before` is told the method and the path of each request before it passes, and may act
    meanwhile, or raise ConnectionError, which cuts it; `rewrite` gives what becomes of a body.
    `requests` are those so far.
    """

    def __init__(self, target: str) -> None:
        parts = urlsplit(target)
        self._target = (parts.hostname or "", parts.port or 80)
        self._path = parts.path
        self._lock = threading.Lock()
        self.requests: list[str] = []
        self.before: Callable[[str, str], object]
        self.rewrite: Callable[[str, bytes], bytes]
        self.clear()

    def clear(self) -> None:
        """Change nothing any more, and forget the requests so far."""
        self.requests.clear()
        self.before = lambda method, path: None
        self.rewrite = lambda path, body: body

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self._server.server_address[1]}{self._path}"

    def __enter__(self) -> Self:
        way = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                way._pass(self)

            do_POST = do_GET  # noqa: N815  # as http.server wants it

            def log_message(self, format: str, *args: object) -> None:
                pass

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True
        self._thread = threading.Thread(
            target=self._server.serve_forever, args=(0.05,), daemon=True
        )
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()

    def _pass(self, asked: BaseHTTPRequestHandler) -> None:
        try:
            status, reason, headers, octets = self._answer(asked)
        except (OSError, http.client.HTTPException):
            asked.close_connection = True
            return
        asked.send_response_only(status, reason)
        for name, value in headers:
            if name.lower() not in HOP:
                asked.send_header(name, value)
        asked.send_header("Content-Length", str(len(octets)))
        asked.end_headers()
        asked.wfile.write(octets)

    def _answer(
        self, asked: BaseHTTPRequestHandler
    ) -> tuple[int, str, list[tuple[str, str]], bytes]:
        length = int(asked.headers.get("Content-Length", 0))
        body = asked.rfile.read(length) if length else None
        with self._lock:
            self.requests.append(f"{asked.command} {asked.path}")
            self.before(asked.command, asked.path)
            connection = http.client.HTTPConnection(*self._target, timeout=60)
            headers = {
                name: value for name, value in asked.headers.items() if name.lower() not in HOP
            }
            connection.request(asked.command, asked.path, body, headers)
            answer = connection.getresponse()
            octets = self.rewrite(asked.path, answer.read())
            connection.close()
            return answer.status, answer.reason, answer.getheaders(), octets
