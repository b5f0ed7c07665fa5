"""One connection of the loopback SMTP server: what it says, and what it takes for a fault.

Rule of the file: as RFC 5321 has it. Only CRLF ends a line, only CRLF.CRLF ends a
message, and what a client may not do is a `violation`.
"""

from __future__ import annotations

import base64
import binascii
import contextlib
import socket
import struct
import time
from collections.abc import Sequence
from enum import Enum
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from mailflow.testing.smtp import SmtpSink

SILENCE = 60.0
"""Seconds after which a connection without a word is closed."""

READ_SIZE = 1 << 18


class Act(Enum):
    """What a fault may do besides answering."""

    CUT = "close the connection"
    RESET = "close it with RST"
    STALL = "say nothing until the client leaves"


CUT, RESET, STALL = Act.CUT, Act.RESET, Act.STALL

Action = str | bytes | float | Act
"""A reply without its CRLF, octets sent as they are, seconds to wait, or an act."""


class Message(NamedTuple):
    """What was taken. `data` has CRLF lines, dots unstuffed; empty if not kept. `wishes`
    are the parameters of each RCPT; `chunks`, how many BDAT brought it."""

    sender: str
    recipients: tuple[str, ...]
    data: bytes
    size: int
    parameters: tuple[str, ...]
    connection: int
    wishes: tuple[tuple[str, ...], ...] = ()
    chunks: int = 0


class Connection:
    """What happened on one connection. `flights` counts the times that the client,
    having all its answers, sent more: its round trips."""

    def __init__(self, number: int) -> None:
        self.number = number
        self.commands: list[str] = []
        self.violations: list[str] = []
        self.flights = 0
        self.secure = False
        self.user: str | None = None
        self.received = 0
        self.sent = 0


class EndError(Exception):
    """This connection is over."""


class Dialogue:
    """One connection's state (RFC 5321, 4.1.4)."""

    def __init__(self, sink: SmtpSink, sock: socket.socket, connection: Connection) -> None:
        self.sink = sink
        self.sock = sock
        self.log = connection
        self._in = bytearray()
        self._out = bytearray()
        self._greeted = False
        self._reset()
        sock.settimeout(SILENCE)
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)

    def _reset(self) -> None:
        self.sender: str | None = None
        self.parameters: tuple[str, ...] = ()
        self.recipients: list[str] = []
        self.wishes: list[tuple[str, ...]] = []
        self.chunks: list[bytes] = []
        self.broken = False

    def run(self) -> None:
        if self.sink.tls and self.sink.implicit:
            self._handshake()
        self._answer("CONNECT", "", "220 sink.example ESMTP")
        while True:
            line = self._line()
            text = line.decode("utf-8", "replace")
            self.log.commands.append(text)
            verb, _, argument = text.partition(" ")
            verb = verb.upper()
            if verb != "BDAT":  # behind which its octets come
                self._expect_no_more(text)
            handler = getattr(self, f"_do_{verb.lower()}", None)
            if handler is None or "\n" in text or "\r" in text:
                self._answer(verb, argument, "500 5.5.2 no such command")
            else:
                handler(argument)

    def close(self) -> None:
        shut(self.sock)
        self.sock.close()

    # What the commands do

    def _do_lhlo(self, argument: str) -> None:
        self._do_ehlo(argument)

    def _do_ehlo(self, argument: str) -> None:
        self._reset()
        self._greeted = True
        offered = list(self.sink.extensions)
        if self.sink.tls and not self.log.secure:
            offered.append("STARTTLS")
        if self.sink.users:
            offered.append("AUTH " + " ".join(self.sink.mechanisms))
        lines = ["sink.example", *offered]
        octets = "".join(f"250-{line}\r\n" for line in lines[:-1]) + f"250 {lines[-1]}\r\n"
        verb = "LHLO" if self.sink.lmtp else "EHLO"
        said = self.log.commands[-1][:4].upper()
        usual = octets.encode() if said == verb else b"500 5.5.1 say " + verb.encode() + b"\r\n"
        self._answer(said, argument, usual)

    def _do_helo(self, argument: str) -> None:
        self._reset()
        self._greeted = True
        self._answer("HELO", argument, "250 sink.example")

    def _do_starttls(self, argument: str) -> None:
        if not self.sink.tls or self.log.secure:
            self._answer("STARTTLS", argument, "502 5.5.1 not offered")
            return
        answer = self._answer("STARTTLS", argument, "220 2.0.0 go ahead")
        if answer.startswith(b"220"):
            if self._in:
                self._violate("octets in clear behind STARTTLS")
                self._in.clear()
            self._flush()
            self._handshake()
            self._greeted = False

    def _do_auth(self, argument: str) -> None:
        if actions := self.sink.rule("AUTH", argument):
            self._act(actions)
            return
        mechanism, _, initial = argument.partition(" ")
        if mechanism.upper() not in self.sink.mechanisms:
            self._reply("504 5.5.4 no such mechanism")
            return
        try:
            user, password = self._credentials(mechanism.upper(), initial)
        except (binascii.Error, ValueError):
            self._reply("501 5.5.2 cancelled")
            return
        if self.sink.users.get(user) == password:
            self.log.user = user
            self._reply("235 2.7.0 welcome")
        else:
            self._reply("535 5.7.8 wrong user name or password")

    def _credentials(self, mechanism: str, initial: str) -> tuple[str, str]:
        """Raises ValueError where the client cancels or says nonsense."""
        if mechanism == "PLAIN":
            answer = _decoded(initial) if initial else self._challenge(b"")
            _, user, password = answer.split(b"\0")
        elif mechanism == "XOAUTH2":
            answer = _decoded(initial) if initial else self._challenge(b"")
            user, password, _, _ = answer.split(b"\1")
            user, password = user.removeprefix(b"user="), password.removeprefix(b"auth=Bearer ")
        else:
            user = _decoded(initial) if initial else self._challenge(b"Username:")
            password = self._challenge(b"Password:")
        return user.decode(), password.decode()

    def _challenge(self, text: bytes) -> bytes:
        self._reply("334 " + base64.b64encode(text).decode())
        line = self._line()
        self.log.commands.append("(response)")
        return _decoded(line.decode("ascii"))

    def _do_mail(self, argument: str) -> None:
        address, parameters = _path(argument, "FROM:")
        refusal = None
        if not self._greeted:
            refusal = "503 5.5.1 say EHLO first"
        elif self.sink.users and self.log.user is None:
            refusal = "530 5.7.0 authentication required"
        elif self.sender is not None or self.chunks:
            refusal = "503 5.5.1 nested MAIL"
        elif address is None:
            refusal = "501 5.1.7 bad path"
        else:
            refusal = self._parameter_fault(parameters)
        answer = self._answer("MAIL", address or "", refusal or "250 2.1.0 ok")
        if answer.startswith(b"2"):
            self.sender, self.parameters = address or "", parameters

    def _parameter_fault(self, parameters: Sequence[str]) -> str | None:
        for parameter in parameters:
            keyword, _, value = parameter.upper().partition("=")
            needed = {"BODY": "8BITMIME", "RET": "DSN", "ENVID": "DSN"}.get(keyword, keyword)
            if not self._offers(needed):
                return f"555 5.5.4 {needed} was not offered"
            limit = self._size_limit()
            if keyword == "SIZE" and limit and int(value) > limit:
                return "552 5.3.4 message too big"
        return None

    def _do_rcpt(self, argument: str) -> None:
        address, wishes = _path(argument, "TO:")
        reply = "250 2.1.5 ok"
        if self.sender is None or self.chunks:
            reply = "503 5.5.1 MAIL first"
        elif wishes and not self._offers("DSN"):
            reply = "555 5.5.4 DSN was not offered"
        elif not address:
            reply = "501 5.1.3 bad path"
        elif not address.isascii() and "SMTPUTF8" not in self.parameters:
            reply = "553 5.6.7 SMTPUTF8 was not asked for"
        answer = self._answer("RCPT", address or "", reply)
        if answer.startswith(b"2"):
            self.recipients.append(address or "")
            self.wishes.append(wishes)

    def _do_bdat(self, argument: str) -> None:
        """RFC 3030, 2. A rule for "BDAT" answers a chunk; one with 500 or 502 is that of a
        server which takes the octets for commands."""
        count, _, last = argument.partition(" ")
        actions = self.sink.rule("BDAT", argument)
        if not self._offers("CHUNKING") or (actions and _octets(actions)[:3] in (b"500", b"502")):
            self._act(actions or ("502 5.5.1 no such command",))
            return
        octets = self._take(int(count))
        self._expect_no_more(f"BDAT {argument}")
        if self.sender is None or not self.recipients or self.broken:
            actions = ("554 5.5.1 no valid recipients" if self.sender else "503 5.5.1 MAIL first",)
        self.broken = self.broken or bool(actions and _octets(actions)[:1] in b"45")
        self.chunks.append(octets)
        if last.upper() != "LAST":
            self._act(actions or ("250 2.0.0 more",))
        elif actions:
            self._reset()
            self._act(actions)
        else:
            data = b"".join(self.chunks)
            self._end_of_data(data if self.sink.keep else b"", len(data))

    def _take(self, count: int) -> bytes:
        """So many octets."""
        while len(self._in) < count:
            self._fill(flight=False)
        octets = bytes(self._in[:count])
        del self._in[:count]
        return octets

    def _do_data(self, argument: str) -> None:
        reply = "354 go ahead"
        if self.chunks:
            reply = "503 5.5.1 DATA after BDAT"
        elif self.sender is None or not self.recipients:
            reply = "554 5.5.1 no valid recipients"
        if self._answer("DATA", argument, reply).startswith(b"354"):
            data, size = self._data()
            self._end_of_data(data, size)

    def _end_of_data(self, data: bytes, size: int) -> None:
        if self.sink.keep and not data.isascii() and "BODY=8BITMIME" not in self.parameters:
            self._violate("8-bit data that was not announced")
        reply = "250 2.0.0 taken" if self.recipients else "554 5.5.1 no valid recipients"
        limit = self._size_limit()
        if limit and size > limit:
            reply = "552 5.3.4 message too big"
        message = Message(
            self.sender or "", tuple(self.recipients), data, size, self.parameters,
            self.log.number, tuple(self.wishes), len(self.chunks),
        )  # fmt: skip
        self._reset()
        if self.sink.lmtp and message.recipients:
            self._answer_each(message, reply)
            return
        actions = self.sink.rule(".", "") or (reply,)
        if not _octets(actions).startswith((b"4", b"5")):
            self.sink.keep_message(message)
        self._act(actions)

    def _answer_each(self, message: Message, usual: str) -> None:
        """An answer for each recipient (RFC 2033, 4.2); a rule for "." may name one."""
        each = [(to, self.sink.rule(".", to) or (usual,)) for to in message.recipients]
        took = [to for to, actions in each if not _octets(actions).startswith((b"4", b"5"))]
        if took:
            self.sink.keep_message(message._replace(recipients=tuple(took)))
        for _, actions in each:
            self._act(actions)

    def _do_rset(self, argument: str) -> None:
        self._reset()
        self._answer("RSET", argument, "250 2.0.0 ok")

    def _do_noop(self, argument: str) -> None:
        self._answer("NOOP", argument, "250 2.0.0 ok")

    def _do_quit(self, argument: str) -> None:
        self._answer("QUIT", argument, "221 2.0.0 bye")
        self._flush()
        raise EndError

    def _offers(self, keyword: str) -> bool:
        return any(each.split()[0].upper() == keyword for each in self.sink.extensions)

    def _size_limit(self) -> int:
        for each in self.sink.extensions:
            if each.upper().startswith("SIZE "):
                return int(each.split()[1])
        return 0

    def _expect_no_more(self, text: str) -> None:
        if not self._offers("PIPELINING") and self._in:
            self._violate(f"pipelined behind {text!r}, which was not offered")

    def _violate(self, what: str) -> None:
        self.log.violations.append(what)

    # Answers

    def _answer(self, verb: str, argument: str, usual: Action) -> bytes:
        """What was scripted, else `usual`; gives the octets."""
        return self._act(self.sink.rule(verb, argument) or (usual,))

    def _act(self, actions: Sequence[Action]) -> bytes:
        octets = _octets(actions)
        for action in actions:
            if isinstance(action, str):
                self._reply(action)
            elif isinstance(action, bytes):
                self._out += action
            elif isinstance(action, float):
                self._flush()
                time.sleep(action)
            else:
                self._flush()
                self._leave(action)
        return octets

    def _reply(self, line: str) -> None:
        self._out += line.encode() + b"\r\n"

    def _leave(self, act: Act) -> None:
        if act is STALL:
            while self.sock.recv(READ_SIZE):
                pass
        if act is RESET:
            linger = struct.pack("ii", 1, 0)
            self.sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)
            self.sock.close()
        raise EndError

    # Octets

    def _handshake(self) -> None:
        assert self.sink.tls is not None
        plain = self.sock
        self.sock = self.sink.tls.wrap_socket(plain, server_side=True)
        with self.sink.lock:
            self.sink.sockets.add(self.sock)
            self.sink.sockets.discard(plain)
        self.log.secure = True

    def _flush(self) -> None:
        octets, self._out = bytes(self._out), bytearray()
        limit = self.sink.cut_sent
        if limit is not None and self.log.sent + len(octets) >= limit:
            self.sock.sendall(octets[: limit - self.log.sent])
            raise EndError
        self.log.sent += len(octets)
        self.sock.sendall(octets)

    def _fill(self, *, flight: bool) -> None:
        """Answer what was asked, then wait for more. `flight`: nothing is half-said."""
        self._flush()
        limit = self.sink.cut_received
        most = READ_SIZE if limit is None else min(READ_SIZE, limit - self.log.received)
        data = self.sock.recv(most)
        if not data:
            raise EndError
        self.log.received += len(data)
        self.log.flights += flight
        self._in += data
        if limit is not None and self.log.received >= limit:
            raise EndError

    def _line(self) -> bytes:
        while (end := self._in.find(b"\r\n")) < 0:
            self._fill(flight=not self._in)
        line = bytes(self._in[:end])
        del self._in[: end + 2]
        return line

    def _data(self) -> tuple[bytes, int]:
        """The content, dots unstuffed, and its octets on the wire."""
        taken = bytearray(b"\r\n")  # the DATA command's: a lone dot may follow it
        size = -2
        first = True
        while True:
            if not self._in:
                self._fill(flight=first)
                first = False
            start = max(0, len(taken) - 4)
            taken += self._in
            self._in.clear()
            found = [
                (at, -len(end)) for end in self.sink.ends if (at := taken.find(end, start)) >= 0
            ]
            if found:
                break
            if actions := self.sink.rule("BODY", ""):
                self._act(actions)
            if not self.sink.keep and len(taken) > 4:
                size += len(taken) - 4
                del taken[:-4]
        at, length = min(found)
        end = bytes(taken[at : at - length])
        self._in += taken[at + len(end) :]
        del taken[at + end.index(b".") :]
        size += len(taken)
        data = bytes(taken).replace(b"\r\n.", b"\r\n")[2:] if self.sink.keep else b""
        return data, max(0, size)


def _octets(actions: Sequence[Action]) -> bytes:
    """What the actions say."""
    return b"".join(each.encode() if isinstance(each, str) else each for each in actions
                    if isinstance(each, str | bytes))  # fmt: skip


def _decoded(text: str) -> bytes:
    return base64.b64decode(text, validate=True)


def _path(argument: str, keyword: str) -> tuple[str | None, tuple[str, ...]]:
    """The address and the parameters of MAIL or RCPT; None where it is no path."""
    if not argument.upper().startswith(keyword + "<"):
        return None, ()
    address, closed, rest = argument[len(keyword) + 1 :].partition(">")
    if not closed or (rest and not rest.startswith(" ")) or any(c <= " " for c in address):
        return None, ()
    return address, tuple(rest.split())


def shut(sock: socket.socket) -> None:
    with contextlib.suppress(OSError):  # it may be closed already
        sock.shutdown(socket.SHUT_RDWR)
