"""A POP3 client that says exactly the octets it is told, and shows exactly those that come.

Rule of the file: nothing is believed. Each reply line ends in CRLF and is short, each
multi-line answer ends once; what breaks that fails the test that asked.
"""

from __future__ import annotations

import base64
import socket
import ssl
from contextlib import suppress
from typing import NamedTuple

PATIENCE = 20.0
"""Seconds after which a server that says nothing fails a test."""


SHOWN = 80
"""Octets of a line that a failing test shows."""


class Answer(NamedTuple):
    """The answer to one command: its status line without CRLF, and the octets between
    that line and the final ".", dots as they came, of a multi-line one."""

    line: bytes
    body: bytes | None = None

    @property
    def ok(self) -> bool:
        return self.line.startswith(b"+OK")

    @property
    def code(self) -> str:
        """The response code in brackets (RFC 2449, 8), "" where there is none."""
        rest = self.line.partition(b" ")[2]
        return rest[1 : rest.index(b"]")].decode() if rest.startswith(b"[") else ""

    @property
    def octets(self) -> bytes:
        """The body with its dots unstuffed (RFC 1939, 3)."""
        assert self.body is not None, f"not a multi-line answer: {self.line!r}"
        lines = self.body.split(b"\r\n")
        return b"\r\n".join(line[1:] if line[:1] == b"." else line for line in lines)

    @property
    def lines(self) -> list[bytes]:
        """The lines of a listing."""
        return self.octets.splitlines()


class Dialogue:
    """One connection. `greeting` is the first line; `transcript` what was said and answered
    in single lines, for a failing test to show."""

    def __init__(self, sock: socket.socket, *, greeted: bool = True) -> None:
        self.sock = sock
        self.sock.settimeout(PATIENCE)
        if sock.family != socket.AF_UNIX:
            self.sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.buffer = bytearray()
        self.transcript: list[bytes] = []
        self.greeting = self.line() if greeted else b""

    def send(self, octets: bytes) -> None:
        self.sock.sendall(octets)

    def line(self) -> bytes:
        """The next line of the server, without its CRLF."""
        while (end := self.buffer.find(b"\n")) < 0:
            assert len(self.buffer) < 1 << 16, f"a line without end: {self.buffer[:80]!r}"
            self._more()
        found = bytes(self.buffer[:end])
        del self.buffer[: end + 1]
        assert found.endswith(b"\r"), f"a line that ends in a bare LF: {found[:80]!r}"
        self.transcript.append(found[:-1][:SHOWN])
        return found[:-1]

    def status(self) -> Answer:
        """The next status line, held to RFC 2449, 4 and RFC 1939, 3."""
        line = self.line()
        assert line.startswith((b"+OK", b"-ERR")), f"no status line: {line[:80]!r}"
        assert line[3:4] in (b"", b" ") or line[4:5] in (b"", b" "), line
        assert len(line) <= 510, f"{len(line) + 2} octets in a status line"
        return Answer(line)

    def body(self) -> bytes:
        """What follows, up to the line with a single dot."""
        while len(self.buffer) < 3:
            self._more()
        if self.buffer.startswith(b".\r\n"):
            del self.buffer[:3]
            return b""
        seen = 0
        while (end := self.buffer.find(b"\r\n.\r\n", seen)) < 0:
            seen = max(0, len(self.buffer) - 4)
            self._more()
        found = bytes(self.buffer[: end + 2])
        del self.buffer[: end + 5]
        return found

    def say(self, line: bytes | str) -> Answer:
        """Send one command, and give its single-line answer."""
        octets = line.encode() if isinstance(line, str) else line
        self.transcript.append(octets[:SHOWN])
        self.send(octets + b"\r\n")
        return self.status()

    def ask(self, line: bytes | str) -> Answer:
        """Send one command with a multi-line answer; -ERR has one line only."""
        answer = self.say(line)
        return answer._replace(body=self.body()) if answer.ok else answer

    def log_in(self, login: str, password: str) -> Answer:
        """USER and PASS; the answer to whichever was refused, or to the last."""
        answer = self.say(f"USER {login}")
        return self.say(f"PASS {password}") if answer.ok else answer

    def challenge(self, line: bytes | str) -> bytes:
        """Send a line that is answered with a challenge; its octets (RFC 5034, 4)."""
        self.send((line.encode() if isinstance(line, str) else line) + b"\r\n")
        found = self.line()
        assert found.startswith(b"+ "), f"not a challenge: {found!r}"
        return base64.b64decode(found[2:], validate=True)

    def capabilities(self) -> dict[str, list[str]]:
        """CAPA: each capability with its arguments."""
        answer = self.ask("CAPA")
        assert answer.ok
        assert all(len(line) <= 510 for line in answer.lines)
        words = [line.decode("ascii").split(" ") for line in answer.lines]
        return {word: rest for word, *rest in words}

    def retrieve(self, number: int) -> bytes:
        """The octets of a message."""
        answer = self.ask(f"RETR {number}")
        assert answer.ok, answer.line
        return answer.octets

    def listing(self, command: str = "LIST") -> dict[int, bytes]:
        """LIST or UIDL: what stands behind each message number."""
        answer = self.ask(command)
        assert answer.ok, answer.line
        pairs = [line.split(b" ", 1) for line in answer.lines]
        return {int(number): rest for number, rest in pairs}

    def stat(self) -> tuple[int, int]:
        count, size = self.say("STAT").line.split(b" ")[1:3]
        return int(count), int(size)

    def alive(self) -> bool:
        """Whether the session goes on. In both states: CAPA answers."""
        return self.ask("CAPA").ok

    def rest(self) -> bytes:
        """Everything until the server closes; a reset counts as its end."""
        parts = [bytes(self.buffer)]
        self.buffer.clear()
        try:
            while data := self.sock.recv(1 << 18):
                parts.append(data)
        except (ConnectionResetError, BrokenPipeError, ssl.SSLEOFError, ssl.SSLZeroReturnError):
            pass
        return b"".join(parts)

    def closes(self) -> bool:
        """Wait until the server closes, with nothing more said."""
        return self.rest() == b""

    def secure(self, context: ssl.SSLContext) -> None:
        """Shake hands, as after the answer to STLS."""
        assert not self.buffer, "octets in clear behind the answer to STLS"
        self.sock = context.wrap_socket(self.sock, server_hostname="localhost")

    def end_of_sending(self) -> None:
        """Send FIN, and go on listening."""
        with suppress(OSError):  # it has closed already
            self.sock.shutdown(socket.SHUT_WR)

    def quit(self) -> Answer:
        """QUIT; the connection is closed afterwards."""
        answer = self.say("QUIT")
        assert self.closes(), "more was said after the answer to QUIT"
        self.sock.close()
        return answer

    def drop(self) -> None:
        """Leave without a word."""
        self.sock.close()

    def _more(self) -> None:
        try:
            data = self.sock.recv(1 << 18)
        except TimeoutError:
            raise AssertionError(
                f"nothing more was said after {self.transcript[-6:]!r} {self.buffer[-80:]!r}"
            ) from None
        except ConnectionResetError:
            data = b""
        if not data:
            raise EndedError(f"closed after {self.transcript[-6:]!r} {self.buffer[-80:]!r}")
        self.buffer += data


class EndedError(AssertionError):
    """The server closed while more was due."""


def sasl(*parts: str) -> str:
    """A SASL PLAIN response (RFC 4616): parts with NUL between them, in base64."""
    return base64.b64encode("\0".join(parts).encode()).decode()
