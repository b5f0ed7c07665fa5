"""A POP3 session, the server's side (RFC 1939, 2449): octets in, octets and asks out.

Rule of the file: no socket, no clock. What may wait for others (a log-in, a read, the end) is
an Ask, whose `call` the transport makes where that stalls nobody; the lines after it stay
unread until `resume` says what came of it. Nothing is removed but by QUIT.

    state           what ends it
    AUTHORIZATION   a log-in that went well: TRANSACTION; QUIT: ENDED
    TRANSACTION     QUIT: the drop is closed with what DELE marked, then ENDED
    ENDED           nothing more is read

A lost connection, a time-out or a stop is `abandon`: the drop is closed as it was.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping

from mailflow.errors import GoneError, InUseError, LoginError, MailflowError
from mailflow.options import FOREVER
from mailflow.record import NamedTuple
from mailflow.typed import TYPE_CHECKING, Any
from mailflow_pop3 import authorization, transaction
from mailflow_pop3.surrogate import Utf8NeededError
from mailflow_pop3.wire import Malformed, Request, Response, Server, status

if TYPE_CHECKING:
    from mailflow.accounts import Accounts
    from mailflow.kinds import WirePart
    from mailflow.log import Logger
    from mailflow.sasl_server import Exchange
    from mailflow_pop3.delay import LoginDelay
    from mailflow_pop3.transaction import Visit

AUTHORIZATION, TRANSACTION, ENDED = 1, 2, 4
BOTH = AUTHORIZATION | TRANSACTION

ENOUGH = 1 << 16
"""Octets answered in one turn; then others have theirs, and these are sent first."""

BAD_COMMANDS = 10
"""So many lines in a row that are no command end the session."""

WAYS = ("user", "apop", "plain", "login", "scram-sha-256", "oauthbearer", "xoauth2")


HANDSHAKES = {
    "UNSUPPORTED_PROTOCOL": "the client has no TLS of 1.2 or newer",
    "NO_SHARED_CIPHER": "the client has no cipher that is good today",
    "HTTP_REQUEST": "the client does not speak TLS, but HTTP",
    "WRONG_VERSION_NUMBER": "the client does not speak TLS",
    "UNKNOWN_CA": "the client does not know who signed our certificate",
    "CERTIFICATE_UNKNOWN": "the client does not trust our certificate",
    "BAD_CERTIFICATE": "the client does not take our certificate",
    "CERTIFICATE_EXPIRED": "our certificate has expired, says the client",
    "EOF": "the client left in the middle of it",
    "reset": "the client left in the middle of it",
}
"""What OpenSSL says, in the words of who has to do something about it."""


TOLD = ("USER", "DELE", "LIST", "RETR", "TOP", "UIDL", "XPOKE")
"""Commands whose arguments are logged, where a session is."""


class Policy(NamedTuple):
    """What one listener grants, the same for all of its sessions.

    `plain`: passwords may come without TLS. `ways` to log in are of WAYS. `utf8`: off, or
    what a client without UTF8 (RFC 6856) has of messages that need it. `expire`: the seconds
    that messages are kept, where no maildrop says less. `trace`: every command and answer is
    logged. `status` and `poke` are the host's, for a drop that manages.
    """

    accounts: Callable[[], Accounts]
    log: Logger
    banner: str = "POP3 server ready"
    implementation: str = "mailflow"
    stls: bool = False
    plain: bool = True
    ways: tuple[str, ...] = WAYS
    expire: float = FOREVER
    delay: LoginDelay | None = None
    utf8: str = "surrogate"
    trace: bool = False
    status: Callable[[], Mapping[str, object]] = dict
    poke: Callable[[str], None] = lambda source: None


class Ask:
    """What may wait: `call` is to be made once, by any thread; then `resume` of the session
    with its value or what it raised. `lane` is what it waits for, if that is known."""

    __slots__ = ("call", "done", "lane")

    def __init__(
        self,
        call: Callable[[], Any],
        done: Callable[[Any, BaseException | None], None],
        lane: object = None,
    ) -> None:
        self.call = call
        self.done = done
        self.lane = lane


class ServerSession:
    """One client's session. Used by one thread at a time.

    `out` is what is to be sent, in order: octets, and ranges of files; whoever takes it sets
    `weight` to 0. `ask`: what must be done first. `secure`: the TLS handshake must come first,
    once `out` was sent. `ending`: the connection is to be closed, once `out` was sent;
    `quitted`: since the client has said so. `hold`: seconds that `out` is to be kept back.
    `lane`: whose maildrop it is about.
    """

    __slots__ = (
        "_bad", "_codec", "_state", "address", "ask", "ending", "exchange", "greeted", "hold",
        "lane", "listing", "message", "out", "policy", "quitted", "refused", "secure", "timestamp",
        "tls", "user", "utf8", "visit", "weight",
    )  # fmt: skip

    def __init__(self, policy: Policy, address: str = "", *, tls: bool = False) -> None:
        self.policy = policy
        self.address = address
        self.tls = tls
        self.out: list[bytes | WirePart] = []
        self.weight = 0
        self.ask: Ask | None = None
        self.secure = self.ending = self.greeted = self.quitted = self.utf8 = False
        self.hold = 0.0
        self.lane: object = None
        self.user: str | None = None
        self.timestamp = ""
        self.exchange: Exchange | None = None
        self.refused: BaseException | None = None
        self.visit: Visit | None = None
        self.listing: Iterator[bytes] | None = None
        self.message: Iterator[bytes] | None = None
        self._codec = Server()
        self._state = AUTHORIZATION
        self._bad = 0

    @property
    def login(self) -> str:
        """The login name; "" before the log-in, and after the end."""
        return self.visit.login if self.visit is not None else ""

    def greet(self) -> None:
        self.greeted = True
        self.ok(authorization.greeting(self))

    def refuse(self, text: str, code: str = "SYS/TEMP") -> None:
        """The greeting of a server that takes nobody now."""
        self.err(text, code)
        self.ending = True

    def receive(self, data: bytes) -> None:
        """Take what the client sent."""
        self._codec.receive(data)

    def advance(self) -> bool:
        """Answer what was received; False when nothing is left to do but to receive more.

        True: a turn's octets were made, and there is more to answer.
        """
        while self.ask is None and not (self.ending or self.secure or self.hold):
            if self.weight >= ENOUGH:
                return True
            if self.listing is not None or self.message is not None:
                self._go_on()
                continue
            event = self._codec.next_event()
            if event is None:
                return False
            if isinstance(event, Request):
                self._command(*event)
            elif isinstance(event, Response):
                authorization.answered(self, event.data)
            else:
                self._malformed(event)
        return False

    def resume(self, value: Any, error: BaseException | None) -> None:
        """What came of `ask`."""
        ask, self.ask = self.ask, None
        if ask is not None:
            ask.done(value, error)

    def secured(self) -> None:
        """The TLS handshake is over: the session begins anew (RFC 2595, 4)."""
        self.secure = False
        self.tls = True
        self.user = None

    def handshake_failed(self, error: OSError) -> None:
        """Say who could not agree on TLS, and why."""
        reason = str(getattr(error, "reason", None) or error)
        told = next((text for mark, text in HANDSHAKES.items() if mark in reason), reason)
        self.policy.log.warning("TLS handshake failed", address=self.address, error=told)

    def abandon(self) -> Ask | None:
        """The client is gone: what is still to be called, where that may wait. What was asked
        and not begun, be it by QUIT, is not done.

        Not while an Ask is being called."""
        visit = self._leave()
        self.ending = True
        self.ask = None
        if visit is not None:
            self.policy.log.info(
                "session ended without QUIT", login=visit.login, address=self.address,
                read=visit.read, marked=len(visit.deleted),
            )  # fmt: skip
            self.do(visit.drop.close, self._left, visit.prompt)
        ask, self.ask = self.ask, None
        return ask

    def _left(self, value: Any, error: BaseException | None) -> None:
        if error is not None:
            self.policy.log.error("a maildrop was not closed in order", error=error)

    # For the commands

    def say(self, octets: bytes) -> None:
        """What is no status line: it is not logged."""
        self.out.append(octets)
        self.weight += len(octets)

    def ok(self, text: str) -> None:
        """+OK; `text` is ours, ASCII and short."""
        if self.policy.trace:
            self.policy.log.debug("S:", line=f"+OK {text}", address=self.address)
        self.say(b"+OK %b\r\n" % text.encode())

    def err(self, text: str, code: str = "") -> None:
        """-ERR, with a response code where there is one (RFC 2449, 8)."""
        line = status(False, text, code)
        if self.policy.trace:
            self.policy.log.debug("S:", line=line[:-2], address=self.address)
        self.say(line)

    def fail(self, error: BaseException, doing: str, login: str = "") -> None:
        """-ERR with the response code that belongs to the error (RFC 2449, 8; RFC 3206) and a
        short reason; the whole is in the log, for who can do something about it."""
        code = _code(error)
        log, tell = self.policy.log, None
        if isinstance(error, GoneError):
            tell = log.info
        elif not isinstance(error, MailflowError):
            tell = log.error
        elif code.startswith("SYS/") and not _is_ours(error):
            tell = log.warning
        if tell is not None:
            tell(f"{doing} failed", error=error, login=login or self.login, address=self.address)
        self.err(_reason(error), code)

    def do(
        self,
        call: Callable[[], Any],
        done: Callable[[Any, BaseException | None], None],
        prompt: bool,
    ) -> None:
        """Have `call` made: now where it is `prompt`, else where that stalls nobody."""
        if not prompt:
            self.ask = Ask(call, done, self.lane)
            return
        try:
            value = call()
        except Exception as error:  # noqa: BLE001  # the session answers it
            done(None, error)
        else:
            done(value, None)

    def challenge(self, data: str) -> None:
        """Ask for a SASL response (RFC 5034, 4)."""
        self.say(b"+ %b\r\n" % data.encode("ascii"))
        self._codec.challenged = True

    def forget(self) -> int:
        """Drop what was not read yet; how many octets it was."""
        return self._codec.forget()

    def enter(self, visit: Visit) -> None:
        """The log-in went well."""
        self.visit = visit
        self._state = TRANSACTION

    # Commands

    def _command(self, keyword: str, argument: bytes | None) -> None:
        if self.policy.trace:
            self._told(keyword, argument)
        if keyword not in ("PASS", "CAPA"):
            self.user = None
        if (found := COMMANDS.get(keyword)) is not None:
            if self._state_fits(found[0], keyword):
                found[1](self, argument)
        elif (bare := BARE.get(keyword)) is not None:
            if not self._state_fits(bare[0], keyword):
                return
            if argument:
                self.err(f"{keyword} takes no argument")
            else:
                bare[1](self)
        elif self.visit is None or not transaction.manage(self, keyword, argument):
            self._malformed(Malformed("unknown command"))

    def _state_fits(self, states: int, keyword: str) -> bool:
        self._bad = 0
        if states & self._state:
            return True
        self.err(f"invalid state for command {keyword}")
        return False

    def _told(self, keyword: str, argument: bytes | None) -> None:
        """A command for the log: what may be a secret is not in it."""
        if argument and keyword in ("APOP", "AUTH"):
            argument = argument.partition(b" ")[0] + b" ***"
        elif argument and keyword not in TOLD:  # a slip of PASS, too
            argument = b"***"
        line = keyword if argument is None else b" ".join((keyword.encode(), argument))
        self.policy.log.debug("C:", line=line, address=self.address)

    def _malformed(self, event: Malformed) -> None:
        self._bad += 1
        self.user = self.exchange = self.refused = None
        if self._bad >= BAD_COMMANDS:
            self.err("too many bad commands")
            self.ending = True
        else:
            self.err(event.reason)

    def quit(self) -> None:
        """QUIT: from here on the client waits, and what it marked is removed. A client that is
        lost before that is begun has removed nothing."""
        self.quitted = True
        self._state = ENDED
        visit = self.visit
        if visit is None:
            self._ended(None, None)
            return
        drop, delete = visit.drop, visit.marked()
        self.policy.log.info(
            "session ended", login=visit.login, address=self.address, read=visit.read,
            deleted=len(delete),
        )  # fmt: skip
        at_once = visit.prompt and not delete and not self.out  # whose ranges are of its files
        self.do(lambda: drop.close(delete), self._ended, at_once)

    def _ended(self, value: Any, error: BaseException | None) -> None:
        self.ending = True
        if error is None:
            self.ok("bye")
        else:
            self.fail(error, "QUIT")
        self.visit = None

    def _leave(self) -> Visit | None:
        visit, self.visit = self.visit, None
        self.listing = self.message = None
        self._state = ENDED
        return visit

    def _go_on(self) -> None:
        """The next piece of a listing, or of a message, which may have to be waited for."""
        if self.listing is not None:
            piece = next(self.listing, None)
            if piece is None:
                self.listing = None
            else:
                self.say(piece)
        elif (message := self.message) is not None:
            prompt = self.visit is not None and self.visit.prompt
            self.do(lambda: next(message, None), self._continued, prompt)

    def _continued(self, piece: Any, error: BaseException | None) -> None:
        """A message that cannot be read to its end must not look whole: the connection is cut."""
        if error is not None:
            self.policy.log.warning(
                "cut a session: a message cannot be read to its end", login=self.login,
                address=self.address, error=error,
            )  # fmt: skip
            self.ending = True
        elif piece is None:
            self.message = None
        else:
            self.say(piece)


def _code(error: BaseException) -> str:
    if isinstance(error, LoginError) and _is_ours(error):
        return "LOGIN-DELAY" if error.fields.get("again") else "AUTH"
    if isinstance(error, InUseError):
        return "IN-USE"
    if isinstance(error, Utf8NeededError):
        return "UTF8"
    lasting = isinstance(error, MailflowError) and not error.temporary
    return "SYS/PERM" if lasting and not isinstance(error, GoneError) else "SYS/TEMP"


def _is_ours(error: MailflowError) -> bool:
    """Whether the error is an answer to the client, and was logged where it was made; else it
    is about this machine: a drop that refuses a name whose password was right, a file."""
    return isinstance(error, Utf8NeededError) or not {"delay", "again"}.isdisjoint(error.fields)


def _reason(error: BaseException) -> str:
    """What a client learns of an error: nothing of the names of files and hosts."""
    if not isinstance(error, MailflowError):
        return "an error of the server"
    if _is_ours(error):
        return error.text
    if isinstance(error, InUseError):
        return "another session has this drop"
    if isinstance(error, GoneError):
        return "it is not there any more"
    if error.temporary:
        return "a failure of the server; try again later"
    return "a failure of the server, which its log tells"


COMMANDS: dict[str, tuple[int, Callable[[ServerSession, bytes | None], None]]] = {
    "APOP": (AUTHORIZATION, authorization.apop),
    "AUTH": (AUTHORIZATION, authorization.auth),
    "DELE": (TRANSACTION, transaction.dele),
    "LIST": (TRANSACTION, transaction.list_),
    "PASS": (AUTHORIZATION, authorization.pass_),
    "RETR": (TRANSACTION, transaction.retr),
    "TOP": (TRANSACTION, transaction.top),
    "UIDL": (TRANSACTION, transaction.uidl),
    "USER": (AUTHORIZATION, authorization.user),
}

BARE: dict[str, tuple[int, Callable[[ServerSession], None]]] = {
    "CAPA": (BOTH, authorization.capa),
    "NOOP": (TRANSACTION, transaction.noop),
    "QUIT": (BOTH, ServerSession.quit),
    "RSET": (TRANSACTION, transaction.rset),
    "STAT": (TRANSACTION, transaction.stat),
    "STLS": (AUTHORIZATION, authorization.stls),
    "UTF8": (AUTHORIZATION, authorization.utf8),
}
"""Commands that take no argument."""
