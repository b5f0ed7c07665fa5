"""One connection to an IMAP server: what is queued leaves together, what arrives finds its answer.

Rule of the file: nothing is sent before somebody waits, nothing is believed that nobody can
have asked for, and a connection that failed once fails for good.
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Sequence
from contextlib import suppress

from mailflow.errors import LoginError, MailflowError, PeerError, RefusedError, UnavailableError
from mailflow.log import printable
from mailflow.net import SLOWEST, Wire
from mailflow.typed import TYPE_CHECKING, Any, Self, TypeVar
from mailflow_imap.answers import (
    Answer,
    Done,
    Selected,
    Starting,
)
from mailflow_imap.arrival import Arrival
from mailflow_imap.responses import UnreadableError, refusal, server_name
from mailflow_imap.wire import (
    MINUS_LIMIT,
    WITHOUT_LIMIT,
    Client,
    Closed,
    Command,
    Continuation,
    Event,
    Piece,
    Reply,
    Status,
    Untagged,
    Word,
)

if TYPE_CHECKING:
    import ssl

    from mailflow.log import Logger

T = TypeVar("T")

AHEAD = 1 << 16
"""Octets of commands that may wait to be sent: enough for any round trip."""

SLOWEST_BODY = 64.0
"""Octets a second, over several time-outs, that a server must send of a message."""

UNASKED = 1 << 27
"""Octets that a server may say between two answers besides the messages that it was asked for:
so much it takes to tell of two million that are gone. Nothing is kept of them."""

RESPONSE = 50
"""What a response takes of that besides its octets."""

ALERTS = 10
"""So many things that a server wants a human to see are told in one session."""

CAPABILITIES_LIMIT = 1 << 14
"""Octets of what a server offers."""

_LEFT = Command("LOGOUT")


class Connection:
    """Speaks over `wire`. `selected` is the folder that is open, `scratch` a directory for
    bodies too long for memory, `spelled` the names of folders that the last LIST spelled in a way
    of its own; `turned_down` says that a LOGIN ahead of the greeting was refused,
    `believed` that the user has the server look for texts, whatever it is known to find.

    Errors of any wait: UnavailableError (lost, silent, stopped, told to come back later),
    PeerError (protocol broken), RefusedError (the server says no), GoneError (no such folder
    or message), LoginError.
    """

    def __init__(self, wire: Wire, log: Logger, scratch: str, *, pipelining: bool = True) -> None:
        self.wire = wire
        self.log = log
        self.scratch = scratch
        self.selected: Selected | None = None
        self.logged_in = False
        self.logged_in_at = 0.0
        self.turned_down = False
        self.spelled: dict[str, bytes] = {}
        self.believed = False
        self.progress: Callable[[int], None] = lambda octets: None
        self._capabilities: frozenset[str] = frozenset()
        self._client = Client(wire.peer)
        self._client.pipelining = pipelining
        self._due: deque[Answer[Any]] = deque()
        self._owner: dict[Command, Answer[Any]] = {}
        self._failure: MailflowError | None = None
        self._greeting: Status | None = None
        self._bye: Status | None = None
        self._unasked = 0
        self.learnings = 0
        self._early: Done | None = None
        self._arrival: Arrival | None = None
        self._told: set[str] = set()
        self._name: str | None = None

    @classmethod
    def open(
        cls,
        dial: Callable[[], Wire],
        log: Logger,
        scratch: str,
        *,
        context: ssl.SSLContext | None,
        name: str,
        implicit: bool,
        pipelining: bool = True,
        ahead: bool = False,
    ) -> Self:
        """Connect by `dial`, and protect the connection as `context` and `implicit` say.

        `name` is what the certificate must be for. What the server offers is asked before
        its greeting is here, which saves a round trip where it does not greet with it; one
        that leaves because of that is asked again in turn. With `ahead` the greeting is not
        waited for: a log-in may leave before it. Raises LoginError where TLS is refused or
        not to be had: nothing secret was said then.
        """
        early = pipelining and (implicit or context is None)
        began = time.monotonic()
        wire = dial()
        session = cls(wire, log, scratch, pipelining=pipelining)
        try:
            if context and implicit:
                wire.start_tls(context, name)
            if ahead and early:
                session._early = session.ask_capabilities()
                return session
            try:
                session._greet(early=early)
            except UnavailableError:
                if session._greeting or not early or time.monotonic() - began >= wire.timeout:
                    raise
                wire.close()
                session = cls(dial(), log, scratch, pipelining=pipelining)
                if context:
                    session.wire.start_tls(context, name)
                session._greet(early=False)
            if context and not implicit:
                session._start_tls(context, name)
        except BaseException:
            session.wire.close()
            raise
        return session

    @property
    def peer(self) -> str:
        return self.wire.peer

    @property
    def exists(self) -> int:
        """How many messages the open folder has."""
        return self.selected.exists if self.selected else 0

    @property
    def lost(self) -> bool:
        """Whether the connection is of no use any more."""
        return self._failure is not None

    @property
    def busy(self) -> bool:
        """Whether there are answers that nobody has waited for."""
        return bool(self._due)

    @property
    def greeted(self) -> bool:
        return self._greeting is not None

    @property
    def name(self) -> str:
        """What the server calls itself (ID, RFC 2971), "" where it does not say."""
        if self._name is None:
            self._name = ""
            if self.offers("ID"):
                with suppress(RefusedError, PeerError):
                    self.command("ID", ("name", "mailflow")).wait()
        return self._name

    @property
    def preauthenticated(self) -> bool:
        """Whether the server took us for logged in from the start (RFC 3501, 7.1.4)."""
        return self._greeting is not None and self._greeting.kind == "PREAUTH"

    @property
    def capabilities(self) -> frozenset[str]:
        """What the server offers now, in upper case, such as "UIDPLUS" or "AUTH=PLAIN"."""
        if not self._capabilities:
            self.ask_capabilities().wait()
        return self._capabilities

    def offers(self, *names: str) -> bool:
        """Whether the server offers any of these."""
        return not self.capabilities.isdisjoint(names)

    def ask_capabilities(self) -> Done:
        return self.command("CAPABILITY")

    # The session

    def attempt(self, login: Answer[None], command: Command, follow: Callable[[], T]) -> T:
        """One way to log in, with what `follow` asks for in the same flight where that may be.

        Gives what `follow` gives. Raises the error that a refusal stands for; all that was
        sent is answered then, or the connection `lost`.
        """
        before = self._capabilities if self.greeted else None
        try:
            if command.alone:
                login.wait()
            followed = self._behind(follow)
            login.wait()
        except MailflowError:
            if before is not None:
                self._capabilities = before
            with suppress(MailflowError):  # it may well leave now
                while self._due:
                    self.pump()
            raise
        self.logged_in = True
        self.logged_in_at = time.monotonic()
        return followed

    def _behind(self, follow: Callable[[], T]) -> T:
        """What is asked behind a log-in: who we are, since some want to know it (RFC 2971); what
        `follow` asks; and what is offered now, if the server is not one that says so itself."""
        if "ID" in self._capabilities:
            self.command("ID", ("name", "mailflow"))
        followed = follow()
        if self._greeting is None or self._greeting.code != "CAPABILITY":
            self.ask_capabilities()
        return followed

    def entered(self, learnt: int) -> None:
        """Called by a log-in that was accepted: what was offered before it is offered no more.

        `learnt` is what `learnings` was when it began.
        """
        if self.learnings == learnt:
            self._capabilities = frozenset()

    def log_out(self) -> None:
        """Say LOGOUT to a server that has nothing left to do, and do not wait."""
        if self._failure is None:
            self._client.send(Command("LOGOUT"))
            self._send()
            self.wire.flush(min(self.wire.timeout, 5.0))

    def part(self) -> None:
        """Leave a server with which nothing is left to do, in order if it can be."""
        with suppress(MailflowError):
            self.log_out()
        self.close()

    def command(self, keyword: str, *words: Word, doing: str = "") -> Done:
        """Any command of which only the answer counts."""
        return Done(self, [Command(keyword, *words)], doing or f"do {keyword}")

    def noop(self) -> Done:
        return self.command("NOOP")

    def close(self) -> None:
        """Just leave; nothing more is sent, and nothing that has come is held."""
        for answer in self._due:
            answer.abandon()
        if (arrival := self.arrived()) is not None:
            arrival.drop()
        self._due.clear()
        self._owner.clear()
        self._early = None  # an answer holds its session
        self._client.forget()
        self.wire.close()

    # The machine

    def _greet(self, *, early: bool) -> None:
        if early:
            self._early = self.ask_capabilities()
        while self._greeting is None:
            self.pump()
        greeting = self._greeting
        if greeting.kind == "BYE":
            raise self._goodbye(f"{self.peer} turns us away")
        if not early and not self._capabilities:
            self._early = self.ask_capabilities()

    def _start_tls(self, context: ssl.SSLContext, name: str) -> None:
        """STARTTLS (RFC 3501, 6.2.1), and never on without it."""
        if self.preauthenticated:
            raise LoginError(
                f"{self.peer} takes us for logged in before TLS, so that there can be none;"
                ' if it has a port for TLS from the first octet, set tls = "implicit"'
            )
        starting = Starting(self, [Command("STARTTLS", alone=True)], "start TLS")
        starting.wait()
        if self._client.unread:
            raise PeerError(f"{self.peer} sent octets in clear behind its answer to STARTTLS")
        self.wire.start_tls(context, name)
        self._capabilities = frozenset()  # they were said in clear
        self._client.free = 0

    def queue(self, answer: Answer[Any], commands: Sequence[Command]) -> None:
        """Called by an Answer: send these when somebody waits."""
        self._due.append(answer)
        for command in commands:
            self._owner[command] = answer
            self._client.send(command)

    def pump(self) -> None:
        """Send what may be sent, and take in what has arrived; waits for something."""
        if self._failure is not None:
            raise self._failure
        try:
            if not self._drain():
                self._send()
                self.wire.slowest = SLOWEST_BODY if self._client.in_literal else SLOWEST
                self._client.receive(self.wire.read())
                self._drain()
        except MailflowError as error:
            raise self._failed(error) from None

    def glance(self) -> bool:
        """As `pump`, and waits for nothing: whether there was something. What goes wrong is
        raised by the next call that waits."""
        if self._failure is not None:
            return False
        try:
            self._send()
            data = self.wire.poll()
            if data is not None:
                self._client.receive(data)
            return self._drain() or data is not None
        except MailflowError as error:
            self._failed(error)
            return False

    def _failed(self, error: MailflowError) -> MailflowError:
        """Nothing more can be had: what all waits raise from now on."""
        self._failure = error
        if self._bye is not None and isinstance(error, UnavailableError):
            greeting = self._bye is self._greeting
            what = "turns us away" if greeting else "ends the session"
            self._failure = self._goodbye(f"{self.peer} {what}")
        return self._failure

    def _drain(self) -> bool:
        """Whether there was an event."""
        some = False
        while (event := self._client.next_event()) is not None:
            some = True
            if isinstance(event, Closed):
                raise UnavailableError(f"{self.peer} closed the connection")
            self._hear(event)
            if isinstance(event, Reply) and event.command.keyword == "STARTTLS":
                break  # what follows was not said under TLS
        return some

    def _send(self) -> None:
        while data := self._client.outgoing():
            self.wire.write(data)
            if self.wire.unsent > AHEAD:
                self.wire.flush()

    def _goodbye(self, text: str) -> MailflowError:
        """What the server said before it left, as an error."""
        said = self._bye or Status("BYE", "", b"", "")
        reply = Reply(_LEFT, "NO", said.code, said.argument, said.text)
        return refusal(
            f"{text}: {said.text or said.code or 'no reason given'}", reply, UnavailableError
        )

    def _hear(self, event: Event) -> None:
        if isinstance(event, Reply):
            self._unasked = 0
            if event.code == "CAPABILITY":
                self._learn(event.argument)
            answer = self._owner.pop(event.command)
            answer.replied(event)
            if answer.done:
                self._due.remove(answer)
        elif isinstance(event, Piece):
            self._piece(event)
        elif isinstance(event, Continuation):
            self._unasked += RESPONSE + len(event.data)
            response = self._owner[event.command].challenged(event.data)
            if response is not None:
                self.wire.write(self._client.respond(response))
        elif isinstance(event, Untagged | Status):
            try:
                self._untagged(event)
            except UnreadableError as error:
                raise PeerError(f"{self.peer} sent {error.text}") from None
        if self._unasked > UNASKED:
            raise PeerError(f"{self.peer} says too much that nobody asked for")

    def arrived(self) -> Arrival | None:
        """The long literal of the response that is being taken; its taker's from now on."""
        arrival, self._arrival = self._arrival, None
        return arrival

    def _piece(self, piece: Piece) -> None:
        """The next octets of a long literal, for the oldest answer that may have one."""
        self.progress(len(piece.data))
        if piece.first:
            if self._arrival is not None:
                raise PeerError(f"{self.peer} sends two long strings in one response")
            for answer in self._due:
                if (arrival := answer.arrival(piece.size)) is not None:
                    self._arrival = arrival
                    break
        if self._arrival is None:
            self._unasked += len(piece.data)
        else:
            self._arrival.add(piece.data)

    def _untagged(self, response: Untagged | Status) -> None:
        if self._greeting is None and isinstance(response, Status):
            self._greeting = response
            self._status(response)
            return
        if isinstance(response, Untagged) and response.keyword in ("CAPABILITY", "ID"):
            self._unasked += _size(response)
            if response.keyword == "ID":
                self._name = server_name(response)
            else:
                self._learn(response.line)
            return
        for answer in self._due:
            if answer.take(response):
                self._unasked += 0 if answer.counts else _size(response)
                break
        else:
            self._unasked += _size(response)
            if self.selected is not None:
                self.selected.hear(response)
        if (arrival := self.arrived()) is not None:  # nobody has taken it
            arrival.drop()
            self._unasked += arrival.octets
        if isinstance(response, Status):
            self._status(response)

    def _status(self, response: Status) -> None:
        if response.code == "CAPABILITY":
            self._learn(response.argument)
        elif response.code == "ALERT":
            self._alert(response.text)
        if response.kind == "BYE":
            self._bye = response

    def _alert(self, text: str) -> None:
        if text not in self._told and len(self._told) < ALERTS:
            self._told.add(text)
            self.log.warning("the server alerts", host=self.peer, said=text)

    def _learn(self, line: bytes) -> None:
        if self._early is None or self._early.done:
            self.learnings += 1
        self._capabilities = frozenset(printable(line, CAPABILITIES_LIMIT).upper().split())
        if "LITERAL+" in self._capabilities:
            self._client.free = WITHOUT_LIMIT
        elif self._capabilities & {"LITERAL-", "IMAP4REV2"}:
            self._client.free = MINUS_LIMIT
        else:  # what it offered before is not taken any more: it would be read as commands
            self._client.free = 0


def _size(response: Untagged | Status) -> int:
    """About how many octets of memory it takes to say it, however short it is."""
    if isinstance(response, Status):
        return RESPONSE + len(response.text)
    return RESPONSE + sum(
        len(p) if isinstance(p, bytes) else len(p[0]) + len(p[1]) for p in response.parts
    )
