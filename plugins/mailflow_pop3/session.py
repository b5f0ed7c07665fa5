"""One connection to a POP3 server: commands go out ahead, answers come in, in order.

Rule of the file: what is queued leaves when an answer is waited for; all of it where
the server pipelines, else one command for each answer.
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Iterator

from mailflow.errors import (
    InUseError,
    LoginError,
    MailflowError,
    PeerError,
    RefusedError,
    UnavailableError,
)
from mailflow.net import SLOWEST, Wire
from mailflow.typed import TYPE_CHECKING
from mailflow_pop3.wire import (
    Challenge,
    Client,
    Closed,
    Command,
    Greeting,
    Piece,
    Reply,
    State,
    capabilities,
)

if TYPE_CHECKING:
    import ssl

AHEAD = 1 << 16
"""Octets of commands that may wait to be sent: enough for any round trip."""

FLIGHT = 10_000
"""Commands that may wait for their answers."""

SLOWEST_BODY = 64.0
"""Octets a second, over several time-outs, that a server must send of a message."""


class Session:
    """Speaks over `wire`; `streaming` may be set once it is known that the server pipelines.

    Errors: UnavailableError (lost, silent, stopped), PeerError (protocol broken).
    """

    def __init__(self, wire: Wire) -> None:
        self.wire = wire
        self.streaming = False
        self.capabilities: dict[str, tuple[str, ...]] = {}
        self.timestamp: bytes | None = None
        self.greeted = False
        self._asked = False
        self._client = Client(wire.peer)
        self._queue: deque[Command] = deque()
        self._feed: Iterator[Command] = iter(())

    @classmethod
    def open(
        cls,
        dial: Callable[[], Wire],
        *,
        context: ssl.SSLContext | None,
        name: str,
        implicit: bool,
        early: bool = False,
    ) -> Session:
        """Connect by `dial`, and protect the connection as `context` and `implicit` say.

        `name` is what the certificate must be for. `early`: CAPA is asked before the
        greeting is here, which saves a round trip; a server that leaves because of that
        is asked again in turn. Raises LoginError where TLS is refused or not to be had:
        nothing secret was said then.
        """
        early = early and (implicit or not context)
        began = time.monotonic()
        wire = dial()
        try:
            if context and implicit:
                wire.start_tls(context, name)
            session = cls(wire)
            try:
                session._greet(early=early)
            except UnavailableError:
                if not early or session.greeted or time.monotonic() - began >= wire.timeout:
                    raise
                wire.close()
                return cls.open(dial, context=context, name=name, implicit=implicit)
            if context and not implicit:
                session._start_tls(context, name)
        except BaseException:
            wire.close()
            raise
        return session

    @property
    def peer(self) -> str:
        return self.wire.peer

    @property
    def due(self) -> int:
        """Answers to commands that were sent."""
        return self._client.due

    def queue(self, *commands: Command) -> None:
        """Send when the next answer is waited for."""
        self._queue.extend(commands)

    def feed(self, commands: Iterator[Command]) -> None:
        """Send each before what is queued, made when there is room for it."""
        self._feed = commands

    def withdraw(self, keyword: str) -> None:
        """Take back the commands of this keyword, and of the feed, that have not left yet."""
        self._queue = deque(c for c in self._queue if c.keyword != keyword)
        self._feed = iter(())

    def next(self) -> Reply | Piece | Challenge:
        """The next event; waits for it."""
        while True:
            event = self._client.next_event()
            if event is None:
                self._send()
                self.wire.slowest = SLOWEST_BODY if self._client.state is State.BODY else SLOWEST
                self._client.receive(self.wire.read())
            elif isinstance(event, Closed | Greeting):
                raise UnavailableError(f"{self.peer} closed the connection")
            else:
                return event

    def request(self, command: Command) -> Reply:
        """Send one command whose answer is short, and wait for it. Nothing else is due."""
        self.queue(command)
        return self._answer(command)

    def _answer(self, command: Command) -> Reply:
        event = self.next()
        if not isinstance(event, Reply):
            raise PeerError(f"{self.peer} answers {command!r} with too much")
        return event

    def respond(self, response: str) -> None:
        """Answer a challenge; it leaves when the next answer is waited for."""
        self.wire.write(self._client.respond(response.encode("ascii")))

    def part(self) -> None:
        """Say QUIT to a server that has nothing left to do, and do not wait."""
        if self._client.state is not State.CLOSED:
            self.wire.write(self._client.send(Command("QUIT")))
        self.wire.flush(min(self.wire.timeout, 5.0))

    def ask_capabilities(self) -> None:
        """CAPA; a server that does not know it has no capabilities (RFC 2449, 5)."""
        if self._asked:
            self._asked = False
            self.learn(self._answer(Command("CAPA")))
        else:
            self.learn(self.request(Command("CAPA")))

    def learn(self, reply: Reply) -> None:
        """Take over an answer to CAPA."""
        self.capabilities = capabilities(reply.body or b"") if reply.ok else {}

    def _send(self) -> None:
        if self._client.state is State.CLOSED:
            raise UnavailableError(f"{self.peer} closed the connection")
        if not self.streaming:
            if not self._client.due and (command := self._drawn()):
                self.wire.write(self._client.send(command))
            return
        while self.wire.unsent < AHEAD and (command := self._drawn()):
            self.wire.write(self._client.send(command))

    def _drawn(self) -> Command | None:
        """The command that is to leave next."""
        if self._client.due >= FLIGHT:
            return None
        command = next(self._feed, None)
        return self._queue.popleft() if command is None and self._queue else command

    def _greet(self, *, early: bool) -> None:
        if early:
            self._asked = True
            self.wire.write(self._client.send(Command("CAPA")))
        while (event := self._client.next_event()) is None:
            self._client.receive(self.wire.read())
        if not isinstance(event, Greeting):
            raise PeerError(f"{self.peer} does not greet as a POP3 server")
        self.greeted = True
        if not event.ok:
            raise refusal(f"{self.peer} turns us away: {event.text}", event.code, UnavailableError)
        self.timestamp = event.timestamp

    def _start_tls(self, context: ssl.SSLContext, name: str) -> None:
        """STLS (RFC 2595, 4), and never on without it."""
        reply = self.request(Command("STLS"))
        if not reply.ok:
            raise refusal(
                f"{self.peer} refuses STLS ({reply.text}); no password was sent."
                ' If it has a port for TLS from the first octet, set tls = "implicit"',
                reply.code,
                LoginError,
            )
        if self._client.unread:
            raise PeerError(f"{self.peer} sent octets in clear behind its answer to STLS")
        self.wire.start_tls(context, name)
        self.timestamp = None  # it was said in clear


def refusal(text: str, code: str, otherwise: type[MailflowError]) -> MailflowError:
    """The error that a response code stands for (RFC 2449, 8; RFC 3206), else `otherwise`."""
    if code == "IN-USE":
        return InUseError(text, code=code)
    if code in ("LOGIN-DELAY", "SYS/TEMP"):
        return UnavailableError(text, code=code)
    if code == "SYS/PERM" and otherwise.temporary:
        return RefusedError(text, code=code)
    return otherwise(text, code=code)
