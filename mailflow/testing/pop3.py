"""A small POP3 server on loopback, with mail in memory and faults on demand.

    with Pop3Server({"red": "secret"}, {"red": [b"Subject: hello\r\n\r\nhello\r\n"]}) as server:
        poplib.POP3(server.host, server.port)

Rule of the file: without faults it is a correct server (RFC 1939, 2449, 2595, 5034);
a fault is told to it, never an accident.
"""

from __future__ import annotations

import base64
import hashlib
import os
import socket
import threading
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, NamedTuple

from mailflow.lines import stuff, to_crlf
from mailflow.testing.link import CutError, Link, Loopback

if TYPE_CHECKING:
    from mailflow.testing.tls import Certificate

CAPABILITIES = (
    "TOP", "UIDL", "RESP-CODES", "AUTH-RESP-CODE", "PIPELINING", "USER", "SASL PLAIN LOGIN"
)  # fmt: skip

Answer = bytes | Callable[[str], bytes | None]


class Faults(NamedTuple):
    """What goes wrong. Octets are counted over all that one connection is sent.

    `answers` maps a command ("RETR 2", or "RETR" for all of them; "" is the greeting)
    to octets sent instead of the right answer, or to a function of the line that gives
    them, or None for the right answer.
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
    keep_deleted: bool = False
    """Say +OK to DELE and QUIT, and delete nothing."""
    size_error: int = 0
    """Octets by which STAT and LIST are wrong."""


NO_FAULTS = Faults()


class Mailbox:
    """One user's messages in order, each with its UIDL; locked by one session at a time."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.messages: list[tuple[str, bytes]] = []
        self.lock = threading.Lock()
        self._given = 0

    def deliver(self, data: bytes, uidl: str | None = None) -> None:
        self._given += 1
        self.messages.append((f"{self.name}-{self._given:06d}" if uidl is None else uidl, data))


class Pop3Server(Loopback):
    """Serves from `__enter__` to `__exit__`, each connection in a thread.

    `tls` offers STLS, with `implicit` TLS from the first octet. `faults` may be set
    at any time and hold for the connections that follow. `commands` are the lines of
    all clients in order, secrets masked.
    """

    name = "pop3"

    def __init__(
        self,
        users: Mapping[str, str],
        messages: Mapping[str, Iterable[bytes]] = {},
        *,
        capabilities: Sequence[str] | None = CAPABILITIES,
        tls: Certificate | None = None,
        implicit: bool = False,
        apop: bool = False,
        faults: Faults = NO_FAULTS,
    ) -> None:
        super().__init__()
        self.users = dict(users)
        self.capabilities = capabilities
        self.implicit = implicit
        self.apop = apop
        self.faults = faults
        self.commands: list[str] = []
        self.tls = tls.server_context() if tls else None
        self._mailboxes = {name: Mailbox(name) for name in users}
        for name, found in messages.items():
            for data in found:
                self.deliver(name, data)

    def deliver(self, user: str, data: bytes, uidl: str | None = None) -> None:
        """Put a message into a mailbox; the next session will see it."""
        self._mailboxes[user].deliver(data, uidl)

    def messages(self, user: str) -> list[bytes]:
        """What is in a mailbox now."""
        return [data for _, data in self._mailboxes[user].messages]

    def mailbox(self, user: str) -> Mailbox:
        return self._mailboxes[user]

    def link(self, sock: socket.socket) -> Link:
        return _Session(self, sock)


class _Session(Link):
    """One connection: reads lines, answers each, and writes what a batch of them made."""

    server: Pop3Server
    faults: Faults

    def __init__(self, server: Pop3Server, sock: socket.socket) -> None:
        super().__init__(server, sock, server.faults)
        self.timestamp = f"<{os.getpid()}.{time.monotonic_ns()}@localhost>"
        self.user = ""
        self.mailbox: Mailbox | None = None
        self.taken: list[tuple[str, bytes]] = []
        self.messages: list[tuple[str, bytes]] = []
        self.deleted: set[int] = set()
        self.expecting: Callable[[str], bytes] | None = None
        self.over = False

    def run(self) -> None:
        if self.server.tls and self.server.implicit:
            self._start_tls()
        stamp = f" {self.timestamp}" if self.server.apop else ""
        self.say(self._scripted("") or _yes(f"ready{stamp}"))
        while not self.over:
            self._take(self.line().decode("utf-8", "replace"))
        self.flush()

    def end(self) -> None:
        """Unlock and leave, hearing the client out so that what was sent arrives."""
        if self.mailbox is not None:
            self.mailbox.lock.release()
            self.mailbox = None
        super().end()

    def _take(self, line: str) -> None:
        """Answer one line, and note it without its secret."""
        if self.expecting is not None:
            respond, self.expecting = self.expecting, None
            self.server.commands.append("***")
            self.say(respond(line))
            return
        keyword, _, argument = line.partition(" ")
        keyword = keyword.upper()
        secret = argument and keyword in ("PASS", "AUTH", "APOP")
        self.server.commands.append(f"{keyword} ***" if secret else line)
        if keyword in self.faults.cut_before or line in self.faults.cut_before:
            self.flush()
            raise CutError
        answer = self._scripted(line) or self._scripted(keyword) or self._answer(keyword, argument)
        self.say(answer)
        self.over = keyword == "QUIT"
        if keyword == "STLS" and answer.startswith(b"+OK") and self.server.tls:
            self._start_tls()

    def _answer(self, keyword: str, argument: str) -> bytes:
        method = getattr(self, f"_do_{keyword.lower()}", None)
        answer: bytes = method(argument) if method else _no(f"unknown command {keyword}")
        return answer

    def _scripted(self, command: str) -> bytes | None:
        answer = self.faults.answers.get(command)
        return answer(command) if callable(answer) else answer

    def _start_tls(self) -> None:
        assert self.server.tls is not None
        self.shake_hands(self.server.tls)
        self.user = ""

    # AUTHORIZATION

    def _do_capa(self, argument: str) -> bytes:
        if self.server.capabilities is None:
            return _no("unknown command CAPA")
        names = list(self.server.capabilities)
        if self.server.tls and not self.secure:
            names.append("STLS")
        return _lines("here they are", names)

    def _do_stls(self, argument: str) -> bytes:
        if self.server.tls is None or self.secure or self.mailbox:
            return _no("no TLS")
        return _yes("begin TLS")

    def _do_user(self, argument: str) -> bytes:
        if self.mailbox or not argument:
            return _no("no")
        self.user = argument
        return _yes("send PASS")

    def _do_pass(self, argument: str) -> bytes:
        user, self.user = self.user, ""
        return self._log_in(user, argument) if user else _no("send USER first")

    def _do_apop(self, argument: str) -> bytes:
        user, _, digest = argument.partition(" ")
        secret = self.server.users.get(user, "")
        right = hashlib.md5((self.timestamp + secret).encode(), usedforsecurity=False).hexdigest()
        good = self.server.apop and digest == right
        return self._log_in(user, secret if good else secret + "x")

    def _do_auth(self, argument: str) -> bytes:
        name, _, initial = argument.partition(" ")
        if name.upper() == "PLAIN":
            if initial:
                return self._plain(initial)
            self.expecting = self._plain
            return b"+ \r\n"
        if name.upper() == "LOGIN":
            self.expecting = self._login_name
            return b"+ " + base64.b64encode(b"Username:") + b"\r\n"
        return _no("unknown mechanism")

    def _plain(self, response: str) -> bytes:
        parts = _decoded(response).split("\0")
        return self._log_in(parts[1], parts[2]) if len(parts) == 3 else _no("cancelled")

    def _login_name(self, response: str) -> bytes:
        user = _decoded(response)
        self.expecting = lambda secret: self._log_in(user, _decoded(secret))
        return b"+ " + base64.b64encode(b"Password:") + b"\r\n"

    def _log_in(self, user: str, password: str) -> bytes:
        if self.mailbox or not password or self.server.users.get(user) != password:
            return _no("[AUTH] wrong name or password")
        mailbox = self.server.mailbox(user)
        if not mailbox.lock.acquire(timeout=0.5):
            return _no("[IN-USE] another session has this mailbox")
        self.mailbox = mailbox
        self.taken = list(mailbox.messages)
        self.messages = [(uidl, _on_the_wire(data)) for uidl, data in self.taken]
        return _yes("welcome")

    # TRANSACTION

    def _do_stat(self, argument: str) -> bytes:
        if self.mailbox is None:
            return _no("log in first")
        there = self._there()
        return _yes(f"{len(there)} {sum(map(self._size, there))}")

    def _do_list(self, argument: str) -> bytes:
        return self._listing(argument, lambda number: str(self._size(number)))

    def _do_uidl(self, argument: str) -> bytes:
        if "UIDL" not in (self.server.capabilities or ("UIDL",)):
            return _no("unknown command UIDL")
        return self._listing(argument, lambda number: self.messages[number - 1][0])

    def _do_retr(self, argument: str) -> bytes:
        number = self._number(argument)
        if not number:
            return _no("no such message")
        return _body(f"{self._size(number)} octets", self.messages[number - 1][1])

    def _do_top(self, argument: str) -> bytes:
        first, _, count = argument.partition(" ")
        number = self._number(first)
        if not number or not count.isdigit() or "TOP" not in (self.server.capabilities or ("TOP",)):
            return _no("no such message")
        head, blank, body = self.messages[number - 1][1].partition(b"\r\n\r\n")
        kept = b"\r\n".join(body.split(b"\r\n")[: int(count)])
        return _body("top", head + (blank or b"\r\n") + kept)

    def _do_dele(self, argument: str) -> bytes:
        number = self._number(argument)
        if not number:
            return _no("no such message")
        self.deleted.add(number)
        return _yes("deleted")

    def _do_rset(self, argument: str) -> bytes:
        self.deleted.clear()
        return _yes() if self.mailbox else _no("log in first")

    def _do_noop(self, argument: str) -> bytes:
        return _yes() if self.mailbox else _no("log in first")

    def _do_quit(self, argument: str) -> bytes:
        mailbox, self.mailbox = self.mailbox, None
        if mailbox is not None:
            if not self.faults.keep_deleted:
                doomed = {id(self.taken[number - 1]) for number in self.deleted}
                mailbox.messages = [each for each in mailbox.messages if id(each) not in doomed]
            mailbox.lock.release()
        return _yes("bye")

    def _there(self) -> list[int]:
        return [n for n in range(1, len(self.messages) + 1) if n not in self.deleted]

    def _size(self, number: int) -> int:
        return len(self.messages[number - 1][1]) + self.faults.size_error

    def _number(self, argument: str) -> int:
        """A message that is there, else 0."""
        if self.mailbox is None or not (argument.isascii() and argument.isdigit()):
            return 0
        number = int(argument)
        return number if 0 < number <= len(self.messages) and number not in self.deleted else 0

    def _listing(self, argument: str, say: Callable[[int], str]) -> bytes:
        if self.mailbox is None:
            return _no("log in first")
        if argument:
            number = self._number(argument)
            return _yes(f"{number} {say(number)}") if number else _no("no such message")
        return _lines("here they are", [f"{number} {say(number)}" for number in self._there()])


def _yes(text: str = "") -> bytes:
    return f"+OK {text}".rstrip().encode() + b"\r\n"


def _no(text: str) -> bytes:
    return f"-ERR {text}\r\n".encode()


def _lines(text: str, lines: Sequence[str]) -> bytes:
    return _body(text, "".join(f"{line}\r\n" for line in lines).encode("utf-8", "surrogateescape"))


def _body(text: str, body: bytes) -> bytes:
    return _yes(text) + stuff(_on_the_wire(body)) + b".\r\n"


def _on_the_wire(data: bytes) -> bytes:
    """With CRLF line ends, the last line's too: what LIST counts."""
    data = to_crlf(data)
    return data if not data or data.endswith(b"\r\n") else data + b"\r\n"


def _decoded(response: str) -> str:
    try:
        return base64.b64decode(response, validate=True).decode("utf-8", "replace")
    except ValueError:
        return ""
