"""A maildrop on another POP3 server, live: each session here is one there.

Rule of the file: nothing is stored here, and nothing said there that changes anything before
our client has said QUIT. A connection that is lost is opened again once, and the messages are
found again by their unique-ids, never by their numbers.
"""

from __future__ import annotations

from array import array
from collections.abc import Callable, Collection, Iterator, Sequence
from contextlib import suppress

from mailflow.digests import sha256
from mailflow.errors import GoneError, MailflowError, PeerError, UnavailableError
from mailflow.kinds import Credentials, Item, Runtime
from mailflow.lines import to_crlf
from mailflow.live import (
    Hold,
    faults_of_secret,
    missing_secret,
    passed_on,
    secret_of,
    user_of,
)
from mailflow.mail import HEADER_LIMIT, Content, Octets, chunks
from mailflow.net import tls_context
from mailflow.options import Options, Text
from mailflow.record import NamedTuple
from mailflow.sasl import Credentials as Login
from mailflow.typed import TYPE_CHECKING, ClassVar
from mailflow.values import counted
from mailflow_pop3.identity import UIDL_LIMIT, catalogue
from mailflow_pop3.login import TOKEN_WAYS, log_in
from mailflow_pop3.session import Session, refusal
from mailflow_pop3.settings import SCHEMES, Pop3Account
from mailflow_pop3.stream import Stream
from mailflow_pop3.wire import Command, Piece, Reply

if TYPE_CHECKING:
    import ssl

PARTING = 5.0
"""Seconds that the other server has to say good-bye where nothing depends on it."""

GRACE = 10.0
"""Seconds that the end of a session may still take when everything stops."""


class Pop3DropOptions(Pop3Account):
    """A maildrop that is another server's."""

    user = Text.optional(
        "The login name there; {login} stands for that of the client, {user} and {domain} for"
        " its parts. By default it is the same."
    )

    def faults(self) -> Iterator[tuple[str, str]]:
        yield from faults_of_secret(self)

    def ways_of(self, *, by_token: bool) -> Sequence[str]:
        """Those of `auth` that a token, or a password, goes with."""
        fitting = [way for way in self.auth if (way in TOKEN_WAYS) is by_token]
        return fitting or (TOKEN_WAYS if by_token else ("plain", "user"))


class Entered(NamedTuple):
    """A session after its log-in, and what UIDL and LIST say."""

    session: Session
    uidl: Reply
    listing: Reply


class Pop3Drop:
    """Serves the mailboxes of another POP3 server, each session one there."""

    options: ClassVar[type[Options]] = Pop3DropOptions
    schemes = SCHEMES
    passthrough = True
    tokens = True

    def __init__(self, options: Pop3DropOptions, runtime: Runtime) -> None:
        self._options = options
        self._runtime = runtime
        self._context: ssl.SSLContext | None = None

    def login(self, who: Credentials) -> OpenPop3:
        """Raises LoginError, InUseError, UnavailableError, PeerError."""
        options, runtime = self._options, self._runtime
        user = user_of(options.user or "{login}", who.login)
        hold = Hold(runtime.scratch, "pop3", options.host, str(options.number), user)

        def enter() -> Entered:
            return self._enter(who, user)

        if who.checked:
            hold.take()
        try:
            entered = enter()
            try:
                if not who.checked:
                    hold.take()  # not before: who does not know the password learns nothing
                return OpenPop3(enter, entered, hold, runtime)
            except BaseException:
                entered.session.wire.close()
                raise
        except BaseException:
            hold.release(runtime.log)
            raise

    def _enter(self, who: Credentials, user: str) -> Entered:
        """Log in there, with what the file has or what the client gave."""
        if not who.checked:
            return self._log_in(Login(user, passed_on(who)), by_token=bool(who.token))
        secret = secret_of(self._options, user)
        if secret is None:
            raise missing_secret(self._options)
        by_token = self._options.by_token
        return secret.use(lambda text: self._log_in(Login(user, text), by_token=by_token))

    def _log_in(self, login: Login, *, by_token: bool) -> Entered:
        options = self._options
        session = Session.open(
            lambda: options.dial(self._runtime.halt),
            context=self._tls(),
            name=options.tls_name or options.host,
            implicit=options.protection == "implicit",
            early=options.pipelining == "auto",
        )
        try:
            ways = options.ways_of(by_token=by_token)
            follow = (Command("UIDL"), Command("LIST"))
            entry = log_in(session, login, ways, options.pipelining, follow)
        except BaseException:
            session.wire.close()
            raise
        return Entered(session, *entry.answers)

    def _tls(self) -> ssl.SSLContext | None:
        """Made once: it takes longer than a small session."""
        options = self._options
        if options.protection == "none":
            return None
        if self._context is None:
            self._context = tls_context(options.ca_file)
        return self._context


class OpenPop3:
    """The messages of a mailbox there, from the log-in to the end of the session here."""

    def __init__(
        self, enter: Callable[[], Entered], entered: Entered, hold: Hold, runtime: Runtime
    ) -> None:
        self._enter = enter
        self._hold = hold
        self._runtime = runtime
        self._session: Session | None = entered.session
        self._stream: Stream | None = None
        self._gone: set[str] = set()
        self._at = 0
        self._peer = entered[0].peer
        numbers, sizes = self._found(entered)
        self._listing = hold.listing(list(numbers), [sizes.get(n, 0) for n in numbers.values()])
        self._numbers = array("L", numbers.values())

    def items(self) -> Sequence[Item]:
        return self._listing

    def read(self, key: str) -> Content:
        """The message, which may still be on its way. Raises GoneError, UnavailableError."""
        return self._ask("RETR", key)

    def top(self, key: str, lines: int) -> Content:
        """The header section and so many lines; where the server has no TOP, the message."""
        try:
            return self._ask("TOP", key, lines)
        except GoneError:
            return self.read(key)

    def close(self, delete: Collection[str] = ()) -> None:
        """DELE each and QUIT there; without anything to delete, only leave. Raises
        UnavailableError where it is not certain that all is deleted."""
        try:
            if delete:
                self._delete([self._index(key) for key in delete])
            elif self._stream is None:
                with suppress(MailflowError):
                    self._part()
        finally:
            self._leave()
            self._hold.release(self._runtime.log)

    def _part(self) -> None:
        """QUIT, and wait a little for its answer: then the next session is not met by the lock
        of this one."""
        if self._session is not None:
            self._session.wire.timeout = min(self._session.wire.timeout, PARTING)
            self._session.queue(Command("QUIT"))
            self._next()

    def _leave(self) -> None:
        """Without QUIT nothing is deleted (RFC 1939, 6)."""
        session, self._session, self._stream = self._session, None, None
        if session is not None:
            session.wire.close()

    # What is there

    def _found(self, entered: Entered) -> tuple[dict[str, int], dict[int, int]]:
        """(number by key, size by number), in order. Raises where neither is to be had."""
        session, uidl, listing = entered
        if not uidl.ok and (uidl.code or "UIDL" in session.capabilities or not listing.ok):
            text = f"{session.peer} refuses {uidl.command!r}: {uidl.text}"
            raise refusal(text, uidl.code, UnavailableError)
        there = catalogue(uidl.body, listing.body, self._headers)
        for fault, times in there.faults.items():
            self._runtime.log.warning("odd listing", host=session.peer, reason=fault, times=times)
        return {_fitted(key): number for key, number in there.numbers.items()}, there.sizes

    def _headers(self, numbers: list[int]) -> Iterator[tuple[int, bytes]]:
        """(number, header section) of those whose unique-id is not their own."""
        for number in numbers:
            for command in (Command("TOP", number, 0), Command("RETR", number)):
                content = self._content(command)
                if content is not None:
                    octets = b"".join(_first(content))
                    header, blank, _ = octets.partition(b"\r\n\r\n")
                    yield number, header + blank
                    break

    def _again(self) -> None:
        """Open the connection that was lost again, and see which number each message has."""
        self._leave()
        entered = self._enter()
        self._session = entered.session
        try:
            numbers, _ = self._found(entered)
        except BaseException:
            self._leave()
            raise
        self._numbers = array("L", (numbers.get(key, 0) for key in self._listing.keys))

    def _index(self, key: str) -> int:
        """Raises KeyError."""
        self._at = self._listing.keys.number(key, self._at)
        return self._at

    # What is read

    def _ask(self, keyword: str, key: str, *arguments: int) -> Content:
        """What the server answers to that. Raises GoneError, UnavailableError, PeerError."""
        index = self._index(key)
        lost = self._session is None or not self._drained()
        while True:
            if lost:
                self._again()
            number = self._numbers[index]
            if not number:
                raise GoneError(f"the server has no message {key} any more")
            try:
                found = self._content(Command(keyword, number, *arguments), index)
            except UnavailableError:
                if lost or self._session is not None:  # which has said so itself
                    raise
                lost = True
                continue
            if found is None:
                if keyword == "RETR":
                    self._gone.add(key)
                raise GoneError(f"the server gives no message {key} any more")
            return found

    def _drained(self) -> bool:
        """Hear a message out that nobody reads to its end; False where the connection is lost."""
        stream, self._stream = self._stream, None
        if stream is not None:
            with suppress(UnavailableError, PeerError):
                stream.fill()
        return self._session is not None

    def _next(self) -> Reply | Piece:
        """Where the session cannot go on, it has ended."""
        try:
            if self._session is None:
                raise UnavailableError(f"the connection to {self._peer} is lost")
            event = self._session.next()
            if isinstance(event, Reply | Piece):
                return event
            raise PeerError(f"{self._session.peer} asks for a password again")
        except MailflowError:
            self._leave()
            raise

    def _content(self, command: Command, index: int = -1) -> Content | None:
        """What is sent of a message; None where it cannot be had. `index`: which one it is."""
        if self._session is None:
            raise UnavailableError(f"the connection to {self._peer} is lost")
        self._session.queue(command)
        event = self._next()
        whole = command.keyword == "RETR" and index >= 0
        if isinstance(event, Reply):
            if event.body is None:
                if event.code:
                    raise refusal(f"a message is refused: {event.text}", event.code, GoneError)
                return None
            data = to_crlf(event.body)
            if whole:
                self._measure(index, len(data))
            return Octets(data)
        pieces = self._pieces(event)
        stream = Stream(self._runtime.scratch, lambda: next(pieces, None))
        if whole:
            stream.at_end = lambda octets: self._measure(index, octets)
        self._stream = stream
        return stream

    def _pieces(self, event: Reply | Piece) -> Iterator[bytes]:
        while isinstance(event, Piece):
            yield event.data
            event = self._next()
        yield event.body or b""

    def _measure(self, index: int, octets: int) -> None:
        """LIST is never believed."""
        key, said = self._listing.keys[index], self._listing.sizes[index]
        if self._hold.measured(key, octets, said):
            self._runtime.log.info("another size than was listed", key=key, said=said, had=octets)

    # What is deleted

    def _delete(self, indexes: Sequence[int]) -> None:
        lost = self._session is None or not self._drained()
        while True:
            if lost:
                self._again()
            try:
                self._delete_now(indexes)
            except UnavailableError:
                if lost or self._session is not None:
                    raise
                lost = True
            else:
                return

    def _delete_now(self, indexes: Sequence[int]) -> None:
        """Those that are still there. Raises UnavailableError."""
        session = self._session
        if session is None:
            raise UnavailableError(f"the connection to {self._peer} is lost")
        session.wire.grace = GRACE
        doomed = {self._numbers[index]: index for index in indexes if self._numbers[index]}
        end = Command("QUIT")
        session.queue(*(Command("DELE", number) for number in doomed), end)
        refused: list[str] = []
        while (reply := self._next()).command is not end:
            key = self._listing.keys[doomed[reply.command.number]]
            if isinstance(reply, Reply) and not reply.ok and key not in self._gone:
                refused.append(reply.text)
        if isinstance(reply, Reply) and not reply.ok:
            text = f"{session.peer} has not deleted all: {reply.text}"
            raise refusal(text, reply.code, UnavailableError)
        if refused:
            raise UnavailableError(
                f"{session.peer} does not delete {counted(len(refused), 'message')}: {refused[0]}"
            )


def _fitted(key: str) -> str:
    """A key as a unique-id (RFC 1939, 7)."""
    return key if len(key) <= UIDL_LIMIT else f"~{sha256(key.encode()).hexdigest()[:40]}"


def _first(content: Content) -> Iterator[bytes]:
    """As much of it as a header section may be long."""
    had = 0
    for piece in chunks(content):
        yield piece
        had += len(piece)
        if had >= HEADER_LIMIT:
            return
