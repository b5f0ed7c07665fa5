"""One connection to a server, from its greeting to QUIT.

Rule of the file: who it is and what it says stay in step. After any error the
connection is of no use; `close` it.
"""

from __future__ import annotations

import socket
import time
from contextlib import contextmanager, suppress

from mailflow.errors import (
    CrowdedError,
    LoginError,
    MailflowError,
    PeerError,
    RefusedError,
    UnavailableError,
)
from mailflow.net import Wire
from mailflow.sasl import Credentials
from mailflow.typed import TYPE_CHECKING, Protocol
from mailflow_smtp.login import log_in
from mailflow_smtp.wire import Extensions, Reply, ReplyReader, Transaction

if TYPE_CHECKING:
    import ssl
    from collections.abc import Iterable, Iterator, Sequence

    from mailflow.halt import Halt
    from mailflow.options import SecretValue
    from mailflow_smtp.standing import Standing

CONNECT_TIMEOUT = 60.0
"""Seconds: a host that is there answers a SYN sooner than a server its greeting."""

STOP_GRACE = 60.0
"""Seconds that the answer to the final dot is waited for when the engine stops."""


TOGETHER = 14 << 10
"""Octets of content that leave with its end, in one write: what a fresh connection may send
before it hears of it (RFC 6928). More is on its way before it is committed."""


TAIL = 1 << 10
"""Octets of a long content that are left for the last chunk."""


class Target(Protocol):
    """Where to connect, and as whom."""

    @property
    def server(self) -> str: ...
    @property
    def port_number(self) -> int: ...
    @property
    def protection(self) -> str: ...
    @property
    def helo(self) -> str | None: ...
    @property
    def timeout(self) -> float: ...
    @property
    def user(self) -> str | None: ...
    @property
    def secret(self) -> SecretValue | None: ...
    @property
    def mechanisms(self) -> Sequence[str]: ...
    @property
    def lmtp(self) -> bool: ...
    @property
    def standing(self) -> Standing: ...


class Session:
    """Makes requests and reads their replies, in step.

    `used`: the server has answered for an envelope on it. Errors: UnavailableError (lost,
    silent, 421, 4yz where nothing can go on), CrowdedError (that, before anything was
    asked), LoginError, RefusedError (5yz there), PeerError (no SMTP, or out of step).
    """

    def __init__(self, wire: Wire, target: Target) -> None:
        self.wire = wire
        self.helo = target.helo or helo_name(wire.local_address)
        self.lmtp = target.lmtp
        self.greeting = ""
        self.mechanism = ""
        self.extensions = Extensions()
        self.recipients_max: int | None = None
        self.used = False
        self._standing = target.standing
        self._reader = ReplyReader(wire.peer)
        self._stale = False
        self._reset_asked = False
        self._behind = False
        self._over = False

    @classmethod
    def open(
        cls,
        target: Target,
        halt: Halt,
        tls: ssl.SSLContext | None = None,
    ) -> Session:
        """Connect, protect, and log in where the target has a secret. `tls` is needed unless
        the target's protection is "none"."""
        host = target.server
        peer = f"[{host}]:{target.port_number}" if ":" in host else f"{host}:{target.port_number}"
        wire = Wire.connect(
            host,
            target.port_number,
            timeout=min(target.timeout, CONNECT_TIMEOUT),
            halt=halt,
            peer=host if host.startswith("/") else peer,
        )
        wire.timeout = target.timeout
        try:
            session = cls(wire, target)
            session._start(target, tls)
        except BaseException:
            wire.close()
            raise
        return session

    @property
    def peer(self) -> str:
        return self.wire.peer

    def _start(self, target: Target, tls: ssl.SSLContext | None) -> None:
        if target.protection == "implicit" and tls:
            self.wire.start_tls(tls, target.server)
        greeting = self._next_reply(self.wire.timeout)
        self._expect_service(greeting, "its greeting")
        self.greeting = str(greeting)
        self._hello()
        if target.protection == "starttls" and tls:
            self._start_tls(tls, target.server)
            self._hello()
        if target.user is not None and target.secret is not None:
            self._log_in(target, target.user, target.secret)

    def _log_in(self, target: Target, user: str, secret: SecretValue) -> None:
        with self._standing.login():
            known = self._standing.mechanism
            order = sorted(target.mechanisms, key=lambda name: name != known)
            self.mechanism = secret.use(lambda text: log_in(self, Credentials(user, text), order))
            self._standing.mechanism = self.mechanism

    def _expect_service(self, reply: Reply, answered: str) -> None:
        """Raise unless the server is willing (RFC 5321, 3.1; RFC 7504)."""
        text = f"{self.peer} refuses service: {answered} is {reply}"
        if reply.permanent:
            raise RefusedError(text, code=reply.status)
        if reply.temporary:
            raise CrowdedError(text, code=reply.status)
        if not reply.positive:
            raise PeerError(f"{self.peer} answered {reply} as {answered}")

    def _hello(self) -> None:
        """EHLO, or HELO for a server that knows only that (RFC 5321, 3.2); LHLO (RFC 2033)."""
        reply = self._say(f"{'LHLO' if self.lmtp else 'EHLO'} {self.helo}")
        if reply.positive:
            self.extensions = Extensions(reply.lines)
            self.recipients_max = self.extensions.recipients_max
            return
        self.extensions = Extensions()
        if reply.code in (500, 501, 502, 504, 550) and not self.lmtp:
            reply = self._say(f"HELO {self.helo}")
        self._expect_service(reply, f"its answer to {'LHLO' if self.lmtp else 'EHLO'}")

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
        """Send one command, wait for its reply. A 421 ends the session."""
        return self._willing(self._say(line))

    def _say(self, line: str) -> Reply:
        self._in_step()
        self.wire.write(line.encode("utf-8") + b"\r\n")
        return self._next_reply(self.wire.timeout)

    @property
    def pipelining(self) -> bool:
        """Whether commands may go out before the last one was answered (RFC 2920)."""
        return "PIPELINING" in self.extensions

    @property
    def chunking(self) -> bool:
        """Whether content goes by BDAT (RFC 3030)."""
        return "CHUNKING" in self.extensions and self._standing.chunking

    def ask(self, transaction: Transaction, *, behind: bool = False) -> None:
        """Ask for a transaction; `hear` takes the answers. All at once, also `behind` a
        content whose answer is due, where the server pipelines; else as `hear` goes on."""
        if not behind:
            self._in_step()
            if self._stale:
                self.wire.write(b"RSET\r\n")
                self._reset_asked = True
        self._behind = behind
        self._stale = True  # until it has ended well
        if self.pipelining:
            self.wire.write(b"".join(transaction.commands))

    def hear(self, transaction: Transaction) -> None:
        """The answers to an envelope."""
        if self._reset_asked:
            self._reset_asked = False
            reply = self.reply()
            if not reply.positive:
                raise PeerError(f"{self.peer} answered {reply} to RSET")
        for command in transaction.commands:
            if not self.pipelining:
                if transaction.doomed:
                    break
                self.wire.write(command)
            transaction.take(self.reply())
        self.used = True

    def hear_at_once(self, transaction: Transaction, timeout: float) -> None:
        """The answers to an envelope that the content went with: servers keep them until
        they have seen to that."""
        with self._patience():
            for _ in transaction.commands:
                transaction.take(self._willing(self._next_reply(timeout)))
        self.used = True

    def content(self, pieces: Iterable[bytes]) -> Reply | None:
        """Hand over all of the content but the final dot; what is short waits to go with it.

        A Reply is the server's verdict before it knew all (never a positive one): it
        will not take the mail, and the connection is of no use.
        """
        sent = 0
        try:
            for piece in pieces:
                self.wire.write(piece)
                sent += len(piece)
                if sent > TOGETHER:
                    self.wire.flush()
        except UnavailableError:
            self._take_in()
            reply = self._reader.next()
            if reply and (reply.temporary or reply.permanent):
                return reply
            raise
        if not (self._take_in() if sent > TOGETHER else self._reader.pending):
            return None
        reply = self._next_reply(self.wire.timeout)
        if not (reply.temporary or reply.permanent):
            raise PeerError(f"{self.peer} answered {reply} before it had the whole mail")
        return reply

    def end(self) -> None:
        """The final dot."""
        self.wire.write(b".\r\n")

    def chunk(self, octets: bytes, *, last: bool) -> None:
        """A piece of the content by BDAT; the last one is as good as the dot."""
        self.wire.write(b"BDAT %d%s\r\n" % (len(octets), b" LAST" if last else b""))
        self.wire.write(octets)

    def first_chunks(self, pieces: Iterable[bytes]) -> tuple[Reply | None, bytes, int]:
        """Send all of the content but a tail, since some take no empty chunk, or nothing where
        it is short: (the server's no, the last chunk, replies due)."""
        due, kept = 0, b""
        for piece in pieces:
            kept += piece
            if len(kept) <= (TAIL if due else TOGETHER):
                continue
            self.chunk(kept[:-TAIL], last=False)
            due, kept = due + 1, kept[-TAIL:]
            with suppress(UnavailableError):  # what it said before it left comes first
                self.wire.flush()
            while due and (not self.pipelining or self._take_in()):
                reply = self.reply()
                due -= 1
                if not reply.positive:
                    return reply, b"", due
        return None, kept, due

    def _take_in(self) -> bool:
        """Whether anything was said, or the server left, while content was under way."""
        try:
            while data := self.wire.poll():
                self._reader.feed(data)
        except UnavailableError:
            return True
        return self._reader.pending or data is not None

    def final(self, timeout: float) -> Reply:
        """An answer to the end of the content."""
        with self._patience():
            reply = self._next_reply(timeout)
        if not (reply.positive or reply.temporary or reply.permanent):
            raise PeerError(f"{self.peer} answered {reply} to the end of the data")
        self._over = self._over or reply.code == 421
        return reply

    @contextmanager
    def _patience(self) -> Iterator[None]:
        """What decides about a whole mail is worth any wait, however short it is."""
        wire, slowest = self.wire, self.wire.slowest
        wire.grace, wire.slowest = STOP_GRACE, 0.0
        yield
        wire.grace, wire.slowest = 0.0, slowest

    def ended(self, *, well: bool) -> None:
        """A transaction was answered for; one that was asked for behind it is still open."""
        self._stale = self._behind or not well
        self._behind = False

    def reply(self) -> Reply:
        """The next reply. A 421 ends the session (RFC 5321, 3.8)."""
        return self._willing(self._next_reply(self.wire.timeout))

    def _willing(self, reply: Reply) -> Reply:
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
