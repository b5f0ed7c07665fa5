"""One connection to a server, from its greeting to QUIT.

Rule of the file: who it is and what it says stay in step. After any error the
connection is of no use; `close` it.
"""

from __future__ import annotations

import socket
import time
from typing import TYPE_CHECKING, Protocol

from mailflow.errors import LoginError, MailflowError, PeerError, RefusedError, UnavailableError
from mailflow.net import Wire
from mailflow_smtp.login import log_in
from mailflow_smtp.wire import Extensions, Reply, ReplyReader, Transaction

if TYPE_CHECKING:
    import ssl
    from collections.abc import Iterable, Sequence

    from mailflow.halt import Halt
    from mailflow.sasl import Credentials

CONNECT_TIMEOUT = 60.0
"""Seconds: a host that is there answers a SYN sooner than a server its greeting."""

STOP_GRACE = 60.0
"""Seconds that the answer to the final dot is waited for when the engine stops."""


class Target(Protocol):
    """Where to connect, and as whom."""

    @property
    def host(self) -> str: ...
    @property
    def port_number(self) -> int: ...
    @property
    def protection(self) -> str: ...
    @property
    def helo(self) -> str | None: ...
    @property
    def timeout(self) -> float: ...
    @property
    def auth(self) -> Sequence[str]: ...


class Session:
    """Makes requests and reads their replies, in step.

    Errors: UnavailableError (lost, silent, 421, 4yz where nothing can go on),
    LoginError, RefusedError (5yz there), PeerError (no SMTP, or out of step).
    """

    def __init__(self, wire: Wire, helo: str | None) -> None:
        self.wire = wire
        self.helo = helo or helo_name(wire.local_address)
        self.extensions = Extensions()
        self.recipients_max: int | None = None
        self._reader = ReplyReader(wire.peer)
        self._stale = False
        self._over = False

    @classmethod
    def open(
        cls,
        target: Target,
        halt: Halt,
        credentials: Credentials | None = None,
        tls: ssl.SSLContext | None = None,
    ) -> Session:
        """Connect, protect, log in. `tls` is needed unless the target's protection is "none"."""
        peer = f"{target.host}:{target.port_number}"
        if ":" in target.host:
            peer = f"[{target.host}]:{target.port_number}"
        wire = Wire.connect(
            target.host,
            target.port_number,
            timeout=min(target.timeout, CONNECT_TIMEOUT),
            halt=halt,
            peer=target.host if target.host.startswith("/") else peer,
        )
        wire.timeout = target.timeout
        try:
            session = cls(wire, target.helo)
            session._start(target, credentials, tls)
        except BaseException:
            wire.close()
            raise
        return session

    @property
    def peer(self) -> str:
        return self.wire.peer

    def _start(
        self, target: Target, credentials: Credentials | None, tls: ssl.SSLContext | None
    ) -> None:
        if target.protection == "implicit" and tls:
            self.wire.start_tls(tls, target.host)
        self._expect_service(self.reply(), "its greeting")
        self._hello()
        if target.protection == "starttls" and tls:
            self._start_tls(tls, target.host)
            self._hello()
        if credentials:
            log_in(self, credentials, target.auth)

    def _expect_service(self, reply: Reply, answered: str) -> None:
        """Raise unless the server is willing (RFC 5321, 3.1; RFC 7504)."""
        text = f"{self.peer} refuses service: {answered} is {reply}"
        if reply.permanent:
            raise RefusedError(text, code=reply.status)
        if reply.temporary:
            raise UnavailableError(text, code=reply.status)
        if not reply.positive:
            raise PeerError(f"{self.peer} answered {reply} as {answered}")

    def _hello(self) -> None:
        """EHLO, or HELO for a server that knows only that (RFC 5321, 3.2)."""
        reply = self.request(f"EHLO {self.helo}")
        if reply.positive:
            self.extensions = Extensions(reply.lines)
            self.recipients_max = self.extensions.recipients_max
            return
        self.extensions = Extensions()
        if reply.code in (500, 501, 502, 504, 550):
            reply = self.request(f"HELO {self.helo}")
        self._expect_service(reply, "its answer to EHLO")

    def _start_tls(self, tls: ssl.SSLContext, name: str) -> None:
        """RFC 3207. Nothing learnt or received before it counts behind it."""
        if "STARTTLS" not in self.extensions:
            raise LoginError(
                f"{self.peer} does not offer STARTTLS; nothing was sent to it. If it speaks TLS"
                ' from the first octet set tls = "implicit"'
            )
        reply = self.request("STARTTLS")
        if reply.temporary:
            raise UnavailableError(f"{self.peer} refuses STARTTLS for now: {reply}")
        if reply.code != 220:
            raise LoginError(f"{self.peer} refuses STARTTLS: {reply}; nothing was sent to it")
        if self._reader.pending:
            raise PeerError(f"{self.peer} sent octets in clear behind its answer to STARTTLS")
        self.wire.start_tls(tls, name)

    def alive(self) -> bool:
        """Whether an idle connection can still be used: nothing was said, nobody left."""
        try:
            return not (self._over or self._reader.pending) and self.wire.poll() is None
        except MailflowError:
            return False

    def request(self, line: str) -> Reply:
        """Send one command, wait for its reply."""
        self._in_step()
        self.wire.write(line.encode("utf-8") + b"\r\n")
        return self.reply()

    def envelope(self, transaction: Transaction) -> None:
        """Ask for a transaction: in one flight (RFC 2920), or one by one where not offered."""
        self._in_step()
        commands = transaction.commands
        if "PIPELINING" in self.extensions:
            self.wire.write(b"".join([b"RSET\r\n"] * self._stale + commands))
            self._reset()
            for _ in commands:
                transaction.take(self.reply())
            return
        if self._stale:
            self.wire.write(b"RSET\r\n")
            self._reset()
        for command in commands:
            if transaction.doomed:
                self._stale = True
                return
            self.wire.write(command)
            transaction.take(self.reply())

    def _reset(self) -> None:
        """Take the answer to RSET, where one was sent; what now follows must end well."""
        if self._stale:
            reply = self.reply()
            if not reply.positive:
                raise PeerError(f"{self.peer} answered {reply} to RSET")
        self._stale = True

    def content(self, pieces: Iterable[bytes]) -> Reply | None:
        """Hand over all of the content but the final dot.

        A Reply is the server's verdict before it knew all (never a positive one): it
        will not take the mail, and the connection is of no use.
        """
        try:
            for piece in pieces:
                self.wire.write(piece)
                self.wire.flush()
        except UnavailableError:
            self._take_in()
            reply = self._reader.next()
            if reply and (reply.temporary or reply.permanent):
                return reply
            raise
        if not self._take_in():
            return None
        reply = self._next_reply(self.wire.timeout)
        if not (reply.temporary or reply.permanent):
            raise PeerError(f"{self.peer} answered {reply} before it had the whole mail")
        return reply

    def _take_in(self) -> bool:
        """Whether anything was said, or the server left, while content was under way."""
        try:
            while data := self.wire.poll():
                self._reader.feed(data)
        except UnavailableError:
            return True
        return self._reader.pending or data is not None

    def finish(self, timeout: float, replies: int = 1) -> list[Reply]:
        """The final dot, and what the server answers to it (one each in LMTP)."""
        wire, slowest = self.wire, self.wire.slowest
        wire.grace, wire.slowest = STOP_GRACE, 0.0  # it is worth any wait, however short it is
        wire.write(b".\r\n")
        found = [self._next_reply(timeout) for _ in range(replies)]
        wire.grace, wire.slowest = 0.0, slowest
        for reply in found:
            if not (reply.positive or reply.temporary or reply.permanent):
                raise PeerError(f"{self.peer} answered {reply} to the end of the data")
        self._stale = not all(reply.positive for reply in found)
        self._over = any(reply.code == 421 for reply in found)
        return found

    def reply(self) -> Reply:
        """The next reply. A 421 ends the session (RFC 5321, 3.8)."""
        reply = self._next_reply(self.wire.timeout)
        if reply.code == 421:
            raise UnavailableError(f"{self.peer} closes the session: {reply}", code=reply.status)
        return reply

    def _next_reply(self, timeout: float) -> Reply:
        """Whole within `timeout`, however slowly it trickles."""
        deadline = time.monotonic() + timeout
        while (reply := self._reader.next()) is None:
            data = self.wire.read(deadline - time.monotonic())
            if not data:
                raise UnavailableError(f"{self.peer} closed the connection")
            self._reader.feed(data)
        return reply

    def _in_step(self) -> None:
        """Replies that nobody asked for would be taken for answers to what comes next."""
        if self._reader.pending:
            raise PeerError(f"{self.peer} answered more often than it was asked")

    def quit(self) -> None:
        """Leave in order. What the server says to that changes nothing: it is not waited for."""
        try:
            self.wire.write(b"QUIT\r\n")
            self.wire.flush(timeout=5.0)
        except MailflowError:
            pass  # it left first
        self.close()

    def close(self) -> None:
        self.wire.close()


def helo_name(address: str) -> str:
    """The name of this host, or an address literal (RFC 5321, 4.1.3). Asks no network."""
    name = socket.gethostname()
    if "." in name.strip(".") and all(c.isascii() and (c.isalnum() or c in "-.") for c in name):
        return name
    if ":" in address:
        return f"[IPv6:{address.partition('%')[0]}]"
    return f"[{address or '127.0.0.1'}]"
