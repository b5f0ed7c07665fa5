"""One connection to an IMAP server, used by one thread at a time.

    session = Session.open(dial, context=context, name="imap.example.org", implicit=True, ...)
    selecting, facts = session.log_in(credentials, ("plain", "login"), lambda: (
        session.select("INBOX"), session.facts("1:*")))       # one flight
    for fact in facts: ...

Every command gives an Answer at once; what is queued leaves together when somebody waits
for an answer or iterates over one.

Rule of the file: messages are named by their UIDs; a sequence number never leaves it.
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Iterable, Sequence
from contextlib import suppress

from mailflow.errors import LoginError, MailflowError, PeerError, RefusedError, UnavailableError
from mailflow.net import SLOWEST, Wire
from mailflow.typed import TYPE_CHECKING, Any, TypeVar
from mailflow_imap import uids as sets
from mailflow_imap.answers import (
    Answer,
    Appending,
    Bodies,
    Copying,
    Counting,
    Done,
    Enabling,
    Facts,
    Fetching,
    Folders,
    Idling,
    Searching,
    Selected,
    Selecting,
    Standing,
    Starting,
    Storing,
)
from mailflow_imap.arrival import Arrival
from mailflow_imap.names import canonical, encode
from mailflow_imap.responses import refusal, server_name
from mailflow_imap.wire import (
    MINUS_LIMIT,
    WITHOUT_LIMIT,
    Client,
    Closed,
    Command,
    Continuation,
    Event,
    Literal,
    Piece,
    Reply,
    Status,
    Untagged,
    Word,
)

if TYPE_CHECKING:
    import ssl

    from mailflow.log import Logger
    from mailflow.mail import Content
    from mailflow.sasl import Credentials

T = TypeVar("T")

AHEAD = 1 << 16
"""Octets of commands that may wait to be sent: enough for any round trip."""

SLOWEST_BODY = 64.0
"""Octets a second, over several time-outs, that a server must send of a message."""

UNASKED = 1 << 24
"""Octets that a server may say between two answers without being asked."""

REISSUE = 9 * 60.0
"""Seconds after which IDLE is ended and begun anew: servers end it after 30 minutes, address
translators forget a silent connection after 10 (RFC 2177, 3)."""

_LEFT = Command("LOGOUT")

Uids = str | Iterable[int]
"""UIDs, or a set of them as IMAP writes it, such as "1:*"."""


class Session:
    """Speaks over `wire`. `selected` is the folder that is open, `scratch` a directory for
    bodies too long for memory; `turned_down` says that a LOGIN ahead of the greeting was refused.

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
        self.turned_down = False
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
        self._expected: frozenset[str] = frozenset()
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
    ) -> Session:
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
    def greeting(self) -> str:
        """What the server said of itself."""
        return self._greeting.text if self._greeting else ""

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

    def expect(self, capabilities: Iterable[str]) -> None:
        """Take these for what the server offers after the log-in, until it says so itself.

        What `follow` of a log-in asks for may rely on them: it is what was learnt last time.
        """
        self._expected = frozenset(capabilities)

    def ask_capabilities(self) -> Done:
        return self.command("CAPABILITY")

    # The session

    def log_in(self, credentials: Credentials, ways: Sequence[str], follow: Callable[[], T]) -> T:
        """By the first of `ways` that works; gives what `follow` gives, which asks for what is
        to leave in the same flight. Raises LoginError, UnavailableError, PeerError."""
        from mailflow_imap.login import log_in

        return log_in(self, credentials, ways, follow)

    def attempt(self, login: Answer[None], command: Command, follow: Callable[[], T]) -> T:
        """One way to log in, with what `follow` asks for in the same flight where that may be.

        Gives what `follow` gives. Raises the error that a refusal stands for; all that was
        sent is answered then, or the connection `lost`.
        """
        before = self._capabilities if self.greeted else None
        try:
            if command.alone:
                login.wait()
            if self._expected and not (command.alone and self._capabilities):
                self._capabilities = self._expected
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

    def command(self, keyword: str, *words: Word, doing: str = "") -> Done:
        """Any command of which only the answer counts."""
        return Done(self, [Command(keyword, *words)], doing or f"do {keyword}")

    def noop(self) -> Done:
        return self.command("NOOP")

    def close(self) -> None:
        """Just leave; nothing more is sent."""
        for answer in self._due:
            answer.abandon()
        if (arrival := self.arrived()) is not None:
            arrival.drop()
        self.wire.close()

    # Folders

    def enable(self, *names: str) -> Enabling:
        """ENABLE (RFC 5161), which the server must offer."""
        return Enabling(self, Command("ENABLE", *(name.encode("ascii") for name in names)))

    def select(self, folder: str, *, read_only: bool = False) -> Selecting:
        """SELECT, or EXAMINE, which marks nothing as recent; the answer is a Selected."""
        folder = canonical(folder)
        words: list[Word] = [encode(folder)]
        if self._capabilities & {"CONDSTORE", "QRESYNC"}:
            words.append(b"(CONDSTORE)")
        keyword = "EXAMINE" if read_only else "SELECT"
        return Selecting(self, Command(keyword, *words), folder, read_only)

    def folders(self, pattern: str = "*") -> Folders:
        """LIST, with what each folder is for where the server knows (RFC 6154)."""
        words: list[Word] = ["", encode(pattern)]
        if self.offers("SPECIAL-USE") and self.offers("LIST-EXTENDED"):
            words.append(b"RETURN (SPECIAL-USE)")
        return Folders(self, Command("LIST", *words))

    def status(
        self, folder: str, items: Sequence[str] = ("MESSAGES", "UIDNEXT", "UIDVALIDITY", "UNSEEN")
    ) -> Standing:
        """STATUS of a folder that is not open: numbers by item."""
        folder = canonical(folder)
        wanted = tuple(item.encode("ascii") for item in items)
        return Standing(self, Command("STATUS", encode(folder), wanted), folder)

    def create(self, folder: str) -> Done:
        return self.command("CREATE", encode(folder), doing=f"make the folder {folder!r}")

    # Messages

    def search(self, *words: Word) -> Searching:
        """UID SEARCH: bytes are syntax, str is data. UIDs in ascending order."""
        return Searching(self, Command("UID SEARCH", *self._criteria(words, b"RETURN (ALL)")))

    def count(self, *words: Word) -> Counting:
        """How many messages a search finds."""
        return Counting(self, Command("UID SEARCH", *self._criteria(words, b"RETURN (COUNT)")))

    def sort(self, order: bytes, *words: Word) -> Searching:
        """UID SORT by `order`, such as b"REVERSE ARRIVAL" (RFC 5256). Needs SORT."""
        command = Command("UID SORT", b"(%b)" % order, b"UTF-8", *(words or (b"ALL",)))
        return Searching(self, command, ordered=True)

    def facts(
        self,
        uids: Uids,
        *,
        size: bool = True,
        date: bool = True,
        flags: bool = True,
        changed_since: int | None = None,
        vanished: bool = False,
    ) -> Facts:
        """A Fact of each message. `changed_since` needs CONDSTORE, `vanished` QRESYNC."""
        items = [b"UID"]
        items += [b"RFC822.SIZE"] * size + [b"INTERNALDATE"] * date + [b"FLAGS"] * flags
        extra: list[Word] = []
        if changed_since is not None:
            extra = [b"(CHANGEDSINCE %d%b)" % (changed_since, b" VANISHED" if vanished else b"")]
        uids, spelled = _sets(uids)
        commands = [Command("UID FETCH", each, tuple(items), *extra) for each in spelled]
        return Facts(self, commands, uids, size=size)

    def fetch(self, uids: Uids, items: bytes) -> Fetching:
        """Whatever a FETCH can give, such as b"ENVELOPE BODYSTRUCTURE"."""
        uids, spelled = _sets(uids)
        commands = [Command("UID FETCH", each, b"(UID %b)" % items) for each in spelled]
        return Fetching(self, commands, uids)

    def bodies(
        self,
        uids: Iterable[int],
        section: bytes = b"",
        *,
        span: tuple[int, int] | None = None,
        most: int | None = None,
    ) -> Bodies:
        """A Body or Missing of each message, in the order the server sends them; nothing is
        marked as seen. `section` is such as b"HEADER"; `span` the first octet and how many."""
        uids, spelled = _sets(uids)
        item = b"BODY.PEEK[%b]" % section + (b"<%d.%d>" % span if span else b"")
        commands = [Command("UID FETCH", each, b"(UID %b)" % item) for each in spelled]
        return Bodies(self, commands, uids, section, most)

    def store(
        self,
        uids: Uids,
        flags: Iterable[str],
        *,
        how: str = "+",
        unchanged_since: int | None = None,
    ) -> Storing:
        r"""STORE silently: "+" adds the flags, "-" removes them, "" sets exactly these.

        The answer are the UIDs that were not changed since they had been by somebody else;
        `unchanged_since` needs CONDSTORE.
        """
        guard: list[Word] = []
        if unchanged_since is not None:
            guard = [b"(UNCHANGEDSINCE %d)" % unchanged_since]
        item = b"%bFLAGS.SILENT" % how.encode("ascii")
        words = tuple(flag.encode("ascii") for flag in flags)
        commands = [Command("UID STORE", each, *guard, item, words) for each in _sets(uids)[1]]
        return Storing(self, commands)

    def copy(self, uids: Uids, folder: str) -> Copying:
        commands = [Command("UID COPY", each, encode(folder)) for each in _sets(uids)[1]]
        return Copying(self, commands, f"copy to the folder {folder!r}")

    def move(self, uids: Uids, folder: str) -> Copying:
        """MOVE (RFC 6851), which the server must offer."""
        commands = [Command("UID MOVE", each, encode(folder)) for each in _sets(uids)[1]]
        return Copying(self, commands, f"move to the folder {folder!r}")

    @property
    def can_expunge(self) -> bool:
        """Whether single messages can be removed (RFC 4315): else only all that anybody flagged."""
        return self.offers("UIDPLUS", "IMAP4REV2")

    @property
    def can_move(self) -> bool:
        return self.offers("MOVE", "IMAP4REV2")

    def expunge(self, uids: Uids) -> Done:
        r"""UID EXPUNGE: removes those of them that are \Deleted, and nothing else."""
        if not self.can_expunge:
            raise RefusedError(f"{self.peer} cannot remove single messages (it has no UIDPLUS)")
        commands = [Command("UID EXPUNGE", each) for each in _sets(uids)[1]]
        return Done(self, commands, "remove messages")

    def append(
        self,
        folder: str,
        content: Content,
        *,
        flags: Iterable[str] = (),
        date: float | None = None,
    ) -> Appending:
        """APPEND octet for octet; `date` is seconds since the epoch."""
        words: list[Word] = [encode(folder)]
        words.append(tuple(flag.encode("ascii") for flag in flags))
        if date is not None:
            words.append(_internal_date(date))
        return Appending(self, Command("APPEND", *words, Literal(content)), folder)

    def idle(self, seconds: float) -> bool:
        """Wait until the server tells of a change of the open folder, `seconds` at most."""
        selected = self.selected
        if selected is None:
            raise ValueError("no folder is open")
        before = selected.news
        until = time.monotonic() + seconds
        while selected.news == before and (left := until - time.monotonic()) > 0:
            self._idle(selected, before, min(left, REISSUE))
        return selected.news != before

    def _idle(self, selected: Selected, before: int, seconds: float) -> None:
        """One IDLE, of `seconds` at most. That its end is answered shows that somebody is there."""
        idling = Idling(self, [Command("IDLE", alone=True)], "tell of changes")
        until = time.monotonic() + seconds
        while not idling.done and selected.news == before:
            left = until - time.monotonic()
            if left <= 0 or (idling.begun and not self.wire.listen(left)):
                break
            self.pump()
        if idling.begun and not idling.done:
            self.wire.write(self._client.respond(b"DONE"))
        idling.wait()

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
            response = self._owner[event.command].challenged(event.data)
            if response is not None:
                self.wire.write(self._client.respond(response))
        elif isinstance(event, Untagged | Status):
            self._untagged(event)
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
        if isinstance(response, Untagged) and response.keyword == "CAPABILITY":
            self._learn(response.line)
            return
        if isinstance(response, Untagged) and response.keyword == "ID":
            self._name = server_name(response)
            return
        for answer in self._due:
            if answer.take(response):
                break
        else:
            if (arrival := self.arrived()) is not None:
                arrival.drop()
                self._unasked += arrival.octets
            self._unasked += _size(response)
            if self.selected is not None:
                self.selected.hear(response)
        if isinstance(response, Status):
            self._status(response)

    def _status(self, response: Status) -> None:
        if response.code == "CAPABILITY":
            self._learn(response.argument)
        elif response.code == "ALERT" and response.text not in self._told:
            self._told.add(response.text)
            self.log.warning("the server alerts", host=self.peer, said=response.text)
        if response.kind == "BYE":
            self._bye = response

    def _learn(self, line: bytes) -> None:
        if self._early is None or self._early.done:
            self.learnings += 1
        self._capabilities = frozenset(line.decode("ascii", "replace").upper().split())
        if "LITERAL+" in self._capabilities:
            self._client.free = WITHOUT_LIMIT
        elif self._capabilities & {"LITERAL-", "IMAP4REV2"}:
            self._client.free = MINUS_LIMIT

    def _criteria(self, words: Sequence[Word], returning: bytes) -> list[Word]:
        found: list[Word] = []
        if self.offers("ESEARCH", "IMAP4REV2"):
            found.append(returning)
        if not all(map(_ascii, words)):
            found.append(b"CHARSET UTF-8")
        return [*found, *(words or (b"ALL",))]


def _ascii(word: Word) -> bool:
    if isinstance(word, str):
        return word.isascii()
    return all(map(_ascii, word)) if isinstance(word, tuple | list) else True


def _sets(uids: Uids) -> tuple[frozenset[int], list[bytes]]:
    """The UIDs where they are known, and what names them in commands of bounded length."""
    if isinstance(uids, str):
        return frozenset(), [uids.encode("ascii")]
    known = frozenset(uids)
    return known, [each.encode("ascii") for each in sets.sets(known)]


def _size(response: Untagged | Status) -> int:
    """About how many octets of memory it takes to say it, however short it is."""
    if isinstance(response, Status):
        return 100 + len(response.text)
    return 50 + sum(
        len(p) if isinstance(p, bytes) else len(p[0]) + len(p[1]) for p in response.parts
    )


def _internal_date(seconds: float) -> str:
    """INTERNALDATE in UTC (RFC 3501, 9: date-time)."""
    year, month, day, hour, minute, second = time.gmtime(seconds)[:6]
    name = "JanFebMarAprMayJunJulAugSepOctNovDec"[3 * month - 3 : 3 * month]
    return f"{day:2d}-{name}-{year:04d} {hour:02d}:{minute:02d}:{second:02d} +0000"
