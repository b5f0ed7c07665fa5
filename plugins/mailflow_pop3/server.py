"""A POP3 session, the server's side (RFC 1939, 2449): octets in, octets and asks out.

Rule of the file: no input, no output, no clock. What may wait (a log-in, a read, the end) is
an Ask, whose `call` the transport makes where that stalls nobody; the lines after it stay
unread until `resume` says what came of it. Nothing is removed but by QUIT.

    state           what ends it
    AUTHORIZATION   a log-in that went well: TRANSACTION; QUIT: ENDED
    TRANSACTION     QUIT: the drop is closed with what DELE marked, then ENDED
    ENDED           nothing more is read

A lost connection, a time-out or a stop is `abandon`: the drop is closed as it was.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

from mailflow.accounts import PasswordClaim
from mailflow.errors import GoneError, InUseError, LoginError, MailflowError
from mailflow.record import NamedTuple
from mailflow.typed import TYPE_CHECKING, Any
from mailflow_pop3.wire import Malformed, Request, Server, status

if TYPE_CHECKING:
    from mailflow.accounts import Accounts, Claim, Entered
    from mailflow.kinds import Item, OpenDrop, WirePart
    from mailflow.log import Logger

AUTHORIZATION, TRANSACTION, ENDED = 1, 2, 4

ENOUGH = 1 << 16
"""Octets answered in one turn; then others have theirs, and these are sent first."""

PART = 256
"""What a range of a file counts as: it is no memory, but there is an end to it."""

BAD_COMMANDS = 10
"""So many lines in a row that are no command end the session."""

LINES = 1000
"""Lines of a listing that are made at a time."""


class Policy(NamedTuple):
    """What one listener grants, the same for all of its sessions."""

    accounts: Callable[[], Accounts]
    log: Logger
    banner: str = "POP3 server ready"
    implementation: str = "mailflow"
    stls: bool = False
    plain: bool = True
    expire: str = "NEVER"


class Ask:
    """Something that may wait: `call` is to be made once, by any thread, then `resume` of the
    session with its value or what it raised. `prompt`: it waits for the local disk at most."""

    __slots__ = ("call", "done", "prompt")

    def __init__(
        self,
        call: Callable[[], Any],
        done: Callable[[Any, BaseException | None], None],
        prompt: bool = False,
    ) -> None:
        self.call = call
        self.done = done
        self.prompt = prompt


class ServerSession:
    """One client's session. Used by one thread at a time.

    `out` is what is to be sent, in order: octets, and ranges of files; whoever takes it sets
    `weight` to 0. `ask`: what must be done first. `secure`: the TLS handshake must come first,
    once `out` was sent. `ending`: the connection is to be closed, once `out` was sent.
    `hold`: seconds that `out` is to be kept back. `login`: the login name, "" before it.
    """

    __slots__ = (
        "_bad",
        "_codec",
        "_deleted",
        "_drop",
        "_items",
        "_listing",
        "_message",
        "_octets",
        "_policy",
        "_prompt",
        "_state",
        "_user",
        "_wire",
        "address",
        "ask",
        "ending",
        "greeted",
        "hold",
        "login",
        "out",
        "secure",
        "tls",
        "weight",
    )  # fmt: skip

    def __init__(self, policy: Policy, address: str = "", *, tls: bool = False) -> None:
        self._policy = policy
        self.address = address
        self.tls = tls
        self.out: list[bytes | WirePart] = []
        self.weight = 0
        self.ask: Ask | None = None
        self.secure = self.ending = False
        self.hold = 0.0
        self.login = ""
        self._codec = Server()
        self._state = AUTHORIZATION
        self._user: str | None = None
        self._bad = 0
        self._drop: OpenDrop | None = None
        self._items: Sequence[Item] = ()
        self._octets = 0
        self._deleted: set[int] = set()
        self._listing: Iterator[bytes] | None = None
        self._message: Iterator[bytes] | None = None
        self._prompt = False
        self.greeted = False
        self._wire: Callable[[str], WirePart | None] | None = None

    @property
    def entered(self) -> bool:
        """Whether the client has logged in, and has not ended."""
        return self._state == TRANSACTION

    def greet(self) -> None:
        self.greeted = True
        self._ok(self._policy.banner)

    def refuse(self, text: str, code: str = "SYS/TEMP") -> None:
        """The greeting of a server that takes nobody now."""
        self._err(text, code)
        self.ending = True

    def receive(self, data: bytes) -> None:
        """Take what the client sent."""
        self._codec.receive(data)

    def advance(self) -> bool:
        """Answer what was received; False when nothing is left to do but to receive more.

        True: a turn's octets were made, and there is more to answer.
        """
        while self.ask is None and not self.ending and not self.secure and not self.hold:
            if self.weight >= ENOUGH:
                return True
            if self._listing is not None or self._message is not None:
                self._go_on()
                continue
            event = self._codec.next_event()
            if event is None:
                return False
            if type(event) is Request:
                self._command(event.keyword, event.argument)
            else:
                self._malformed(event)
        return False

    def resume(self, value: Any, error: BaseException | None) -> None:
        """What came of `ask`."""
        ask, self.ask = self.ask, None
        if ask is not None:
            ask.done(value, error)

    def secured(self) -> None:
        """The TLS handshake is over: a new session begins, without a greeting (RFC 2595, 4)."""
        self.secure = False
        self.tls = True
        self._user = None

    def handshake_failed(self, error: OSError) -> None:
        """Say who could not agree on TLS, and why."""
        self._policy.log.warning("TLS handshake failed", address=self.address, error=error)

    def abandon(self) -> Callable[[], None] | None:
        """The client is gone without QUIT: what is still to be called, which may wait.

        Not while an Ask is being called."""
        self.ending = True
        self._state = ENDED
        drop, self._drop = self._drop, None
        return None if drop is None else drop.close

    # Answers

    def _say(self, octets: bytes) -> None:
        self.out.append(octets)
        self.weight += len(octets)

    def _ok(self, text: str) -> None:
        self._say(b"+OK " + text.encode() + b"\r\n")

    def _err(self, text: str, code: str = "") -> None:
        self._say(status(False, text, code))

    def _fail(self, error: BaseException, doing: str) -> None:
        """-ERR with the response code that belongs to the error (RFC 2449, 8; RFC 3206)."""
        code = "SYS/TEMP"
        text = error.text if isinstance(error, MailflowError) else "an error of the server"
        if isinstance(error, LoginError):
            code = "AUTH"
        elif isinstance(error, InUseError):
            code = "IN-USE"
        elif isinstance(error, MailflowError):
            temporary = error.temporary or isinstance(error, GoneError)
            code = "SYS/TEMP" if temporary else "SYS/PERM"
        else:
            self._policy.log.error("a request failed", doing=doing, error=error, login=self.login)
        self._err(text, code)

    # Commands

    def _malformed(self, event: object) -> None:
        reason = event.reason if isinstance(event, Malformed) else "no command"
        self._bad += 1
        if self._bad >= BAD_COMMANDS:
            self._err("too many bad commands")
            self.ending = True
        else:
            self._err(reason)

    def _command(self, keyword: str, argument: bytes | None) -> None:
        found = COMMANDS.get(keyword)
        if found is None:
            self._malformed(Malformed("unknown command"))
            return
        self._bad = 0
        states, handler = found
        if not states & self._state:
            self._user = None
            self._err(f"invalid state for command {keyword}")
            return
        user, self._user = self._user, None
        handler(self, argument, user)

    def _capa(self, argument: bytes | None, user: str | None) -> None:
        self._user = user
        lines = ["+OK capabilities follow", "TOP", "UIDL", "RESP-CODES", "AUTH-RESP-CODE"]
        lines += ["PIPELINING", f"EXPIRE {self._policy.expire}"]
        if self._state == AUTHORIZATION:
            if self._may_say_passwords():
                lines.append("USER")
            if self._policy.stls and not self.tls:
                lines.append("STLS")
        else:
            lines.append("USER")
            if self._policy.implementation:
                lines.append(f"IMPLEMENTATION {self._policy.implementation}")
        self._say("\r\n".join([*lines, ".", ""]).encode())

    def _may_say_passwords(self) -> bool:
        return self.tls or self._policy.plain

    def _user_(self, argument: bytes | None, user: str | None) -> None:
        if not self._may_say_passwords():
            self._err("not in clear text: use STLS first")
            return
        try:
            self._user = (argument or b"").decode("ascii")
        except UnicodeDecodeError:
            self._err("no ASCII")
            return
        self._ok("send PASS")

    def _pass(self, argument: bytes | None, user: str | None) -> None:
        if user is None:
            self._err("send USER first")
            return
        try:
            password = (argument or b"").decode("ascii")
        except UnicodeDecodeError:
            self._err("no ASCII")
            return
        self._claim(PasswordClaim(user, password))

    def _claim(self, claim: Claim) -> None:
        """Have it checked, then the drop opened."""
        accounts, address = self._policy.accounts(), self.address
        self.ask = Ask(
            lambda: (accounts, accounts.check(claim, address)), self._checked, accounts.quick(claim)
        )

    def _checked(self, value: Any, error: BaseException | None) -> None:
        if error is not None:
            self._refused(error)
            return
        accounts, checked = value
        prompt = getattr(checked.account.maildrop, "prompt", False)
        self.ask = Ask(lambda: _enter(accounts.enter(checked)), self._entered, prompt)

    def _entered(self, value: Any, error: BaseException | None) -> None:
        if error is not None:
            self._refused(error)
            return
        self.login, self._drop, self._items, self._octets = value
        self._prompt = getattr(self._drop, "prompt", False)
        self._wire = getattr(self._drop, "wire", None)
        self._state = TRANSACTION
        self._ok(f"{len(self._items)} messages ({self._octets} octets)")

    def _refused(self, error: BaseException) -> None:
        delay = error.fields.get("delay") if isinstance(error, MailflowError) else None
        self.hold = delay if isinstance(delay, float) else 0.0
        self._policy.log.warning("login refused", address=self.address, error=error)
        self._fail(error, "log-in")

    def _stls(self, argument: bytes | None, user: str | None) -> None:
        if self.tls:
            self._err("TLS is on already")
        elif not self._policy.stls:
            self._err("no TLS here")
        elif argument is not None:
            self._err("STLS takes no argument")
        else:
            if forgotten := self._codec.forget():
                self._policy.log.warning(
                    "dropped octets behind STLS", octets=forgotten, address=self.address
                )
            self._ok("begin TLS")
            self.secure = True

    def _quit(self, argument: bytes | None, user: str | None) -> None:
        drop, self._drop = self._drop, None
        self._state = ENDED
        if drop is None:
            self._ended(None, None)
            return
        delete = [self._items[number - 1].key for number in sorted(self._deleted)]
        self.ask = Ask(lambda: drop.close(delete), self._ended, self._prompt and not delete)

    def _ended(self, value: Any, error: BaseException | None) -> None:
        self.ending = True
        if error is None:
            self._ok("bye")
        else:
            self._fail(error, "QUIT")

    def _stat(self, argument: bytes | None, user: str | None) -> None:
        gone = sum(self._items[number - 1].size or 0 for number in self._deleted)
        self._ok(f"{len(self._items) - len(self._deleted)} {self._octets - gone}")

    def _noop(self, argument: bytes | None, user: str | None) -> None:
        self._ok("nothing done")

    def _rset(self, argument: bytes | None, user: str | None) -> None:
        self._deleted.clear()
        self._ok(f"{len(self._items)} messages ({self._octets} octets)")

    def _dele(self, argument: bytes | None, user: str | None) -> None:
        if number := self._number(argument):
            self._deleted.add(number)
            self._ok(f"message {number} deleted")

    def _list(self, argument: bytes | None, user: str | None) -> None:
        self._tell(argument, _scan, "scan listing follows")

    def _uidl(self, argument: bytes | None, user: str | None) -> None:
        self._tell(argument, _unique, "unique-id listing follows")

    def _tell(self, argument: bytes | None, line: Callable[[int, Item], str], text: str) -> None:
        if argument:
            if number := self._number(argument):
                self._say(b"+OK " + line(number, self._items[number - 1]).encode("ascii"))
            return
        self._ok(text)
        self._listing = self._lines(line)

    def _lines(self, line: Callable[[int, Item], str]) -> Iterator[bytes]:
        """A listing in pieces: that of a large drop is not made at once."""
        items, deleted = self._items, self._deleted
        for start in range(0, len(items), LINES):
            made = [
                line(number, item)
                for number, item in enumerate(items[start : start + LINES], start + 1)
                if number not in deleted
            ]
            yield "".join(made).encode("ascii")
        yield b".\r\n"

    def _retr(self, argument: bytes | None, user: str | None) -> None:
        number = self._number(argument)
        if not number:
            return
        item = self._items[number - 1]
        if self._wire is not None:
            wire, key = self._wire, item.key
            self.ask = Ask(
                lambda: wire(key), lambda part, error: self._part(item, part, error), self._prompt
            )
        else:
            self._read(item, None)

    def _part(self, item: Item, part: WirePart | None, error: BaseException | None) -> None:
        if error is not None:
            self._fail(error, "RETR")
        elif part is None:
            self._read(item, None)
        else:
            self.out.append(part)
            self.weight += PART

    def _top(self, argument: bytes | None, user: str | None) -> None:
        first, _, second = (argument or b"").partition(b" ")
        if not second.isdigit() or len(second) > 10:
            self._err("expected a message number and a number of lines")
        elif number := self._number(first):
            self._read(self._items[number - 1], int(second))

    def _read(self, item: Item, lines: int | None) -> None:
        drop = self._drop
        if drop is not None:
            self.ask = Ask(lambda: _begun(drop, item, lines), self._streamed, self._prompt)

    def _streamed(self, value: Any, error: BaseException | None) -> None:
        if error is not None:
            self._fail(error, "RETR")
            return
        first, self._message = value
        self._say(b"+OK message follows\r\n" + first)

    def _go_on(self) -> None:
        """The next piece of a listing, or of a message, which may have to be waited for."""
        if (listing := self._listing) is not None:
            self._listed(next(listing, None))
        elif (message := self._message) is not None:
            self.ask = Ask(lambda: next(message, None), self._continued, self._prompt)

    def _listed(self, piece: bytes | None) -> None:
        if piece is None:
            self._listing = None
        else:
            self._say(piece)

    def _continued(self, piece: Any, error: BaseException | None) -> None:
        """A message that cannot be read to its end must not look whole: the connection is cut."""
        if error is not None:
            self._policy.log.warning("a message cannot be read", login=self.login, error=error)
            self.ending = True
        elif piece is None:
            self._message = None
        else:
            self._say(piece)

    def _number(self, argument: bytes | None) -> int:
        """The message that is meant; 0 where there is none, which was answered."""
        if not argument or not argument.isdigit() or len(argument) > 9 or argument[0] == 48:
            self._err("expected a message number")
            return 0
        number = int(argument)
        if number > len(self._items):
            self._err(f"no such message, only {len(self._items)} in this drop")
            return 0
        if number in self._deleted:
            self._err(f"message {number} is deleted")
            return 0
        return number


def _scan(number: int, item: Item) -> str:
    return f"{number} {item.size or 0}\r\n"


def _unique(number: int, item: Item) -> str:
    return f"{number} {item.key}\r\n"


def _enter(entered: Entered) -> tuple[str, OpenDrop, Sequence[Item], int]:
    """What a session needs of a drop."""
    login, drop = entered
    try:
        items = drop.items()
        return login, drop, items, sum(item.size or 0 for item in items)
    except BaseException:
        drop.close()
        raise


def _begun(drop: OpenDrop, item: Item, lines: int | None) -> tuple[bytes, Iterator[bytes]]:
    """The first piece of a message, so that what is wrong with it is known before the +OK."""
    from mailflow_pop3.reply import pieces

    stream = pieces(drop.read(item.key), lines)
    return next(stream), stream


Handler = Callable[[ServerSession, "bytes | None", "str | None"], None]

COMMANDS: dict[str, tuple[int, Handler]] = {
    "CAPA": (AUTHORIZATION | TRANSACTION, ServerSession._capa),
    "DELE": (TRANSACTION, ServerSession._dele),
    "LIST": (TRANSACTION, ServerSession._list),
    "NOOP": (TRANSACTION, ServerSession._noop),
    "PASS": (AUTHORIZATION, ServerSession._pass),
    "QUIT": (AUTHORIZATION | TRANSACTION, ServerSession._quit),
    "RETR": (TRANSACTION, ServerSession._retr),
    "RSET": (TRANSACTION, ServerSession._rset),
    "STAT": (TRANSACTION, ServerSession._stat),
    "STLS": (AUTHORIZATION, ServerSession._stls),
    "TOP": (TRANSACTION, ServerSession._top),
    "UIDL": (TRANSACTION, ServerSession._uidl),
    "USER": (AUTHORIZATION, ServerSession._user_),
}
