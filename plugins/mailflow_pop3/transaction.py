"""The commands after the log-in (RFC 1939, 5 and 7), and what they are about: a Visit.

Rule of the file: numbers and sizes are those of the snapshot, from its first line to its last;
DELE marks, and nothing else.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress

from mailflow.errors import MailflowError
from mailflow.mail import chunks
from mailflow.typed import TYPE_CHECKING, Any
from mailflow.values import counted
from mailflow_pop3 import reply, surrogate

if TYPE_CHECKING:
    from mailflow.kinds import Item, OpenDrop, WirePart
    from mailflow.mail import Content
    from mailflow_pop3.server import ServerSession

LINES = 1000
"""Lines of a listing that are made at a time."""

PART = 256
"""What a range of a file counts as: it is no memory, but there is an end to it."""

FEW = 20
"""So many messages are measured at once, where that waits for a disk at most."""

MANAGING = ("XSTAT", "XPOKE")
"""The commands of a drop that manages."""


class UnknownMessageError(Exception):
    """The argument names no message; its text says why."""


class Visit:
    """A drop as one session sees it, from the log-in to the end.

    `octets` is the size of all messages, `deleted` the numbers of those that are marked, `gone`
    their size, `read` how many were asked for. `head` makes of a header section what this client
    may have (RFC 6856), None where it has it as it is; `wide` are the numbers of messages
    whose size that changes, until they were measured.
    """

    __slots__ = (
        "deleted", "drop", "gone", "head", "items", "login", "manages", "octets", "prompt", "read",
        "sizes", "wide", "wire",
    )  # fmt: skip

    def __init__(
        self, login: str, drop: OpenDrop, head: Callable[[bytes], bytes] | None = None
    ) -> None:
        self.login = login
        self.drop = drop
        self.head = head
        self.items: Sequence[Item] = drop.items()
        sizes = getattr(self.items, "sizes", None) or [item.size or 0 for item in self.items]
        self.octets: int = sum(sizes)
        self.sizes: dict[int, int] = {}
        self.wide = _wide(self.items) if head is surrogate.written else ()
        self.prompt: bool = getattr(drop, "prompt", False)
        self.manages: bool = getattr(drop, "manages", False)
        self.wire: Callable[[str], WirePart | bytes | None] | None = getattr(drop, "wire", None)
        self.deleted: set[int] = set()
        self.gone = 0
        self.read = 0

    def number(self, argument: bytes | None) -> int:
        """The message that is meant. Raises UnknownMessageError."""
        if not argument or not argument.isdigit() or len(argument) > 9 or argument[0] == 48:
            raise UnknownMessageError("expected a message number")
        number = int(argument)
        if number > len(self.items):
            raise UnknownMessageError(f"no such message, only {len(self.items)} in this drop")
        if number in self.deleted:
            raise UnknownMessageError(f"message {number} is deleted")
        return number

    def marked(self) -> list[str]:
        """The keys of what is to be removed at QUIT, in order."""
        return [self.items[number - 1].key for number in sorted(self.deleted)]

    def delete(self, number: int) -> None:
        """Mark a message that is not marked."""
        self.deleted.add(number)
        self.gone += self.size(number)

    def keep(self) -> None:
        """Take back all marks."""
        self.deleted.clear()
        self.gone = 0

    def size(self, number: int) -> int:
        """The octets that this client gets of a message."""
        return self.sizes.get(number) or self.items[number - 1].size or 0

    def measure(self) -> None:
        """Have the size of every message: some come with another header section."""
        wide, self.wide = self.wide, ()
        for number in wide:
            item = self.items[number - 1]
            with suppress(MailflowError, OSError):  # RETR will say what is wrong
                head, _ = surrogate.head_of(chunks(self.drop.read(item.key)))
                more = len(surrogate.written(head)) - len(head)
                self.sizes[number] = (item.size or 0) + more
                self.octets += more

    def lines(self, line: Callable[[int, Item], str]) -> Iterator[bytes]:
        """A listing with its end, in pieces: that of a large drop is not made at once."""
        items, deleted = self.items, self.deleted
        for start in range(0, len(items), LINES):
            made = [
                line(number, item)
                for number, item in enumerate(items[start : start + LINES], start + 1)
                if number not in deleted
            ]
            yield "".join(made).encode("ascii")
        yield b".\r\n"


def _wide(items: Sequence[Item]) -> Sequence[int]:
    """The numbers of messages that are known to have UTF-8 in the header section."""
    known = getattr(items, "utf8", None)
    if known is None:
        known = [bool(item.flags and "utf8" in item.flags) for item in items]
    return [number for number, wide in enumerate(known, 1) if wide] if any(known) else ()


def _measured(session: ServerSession, then: Callable[[], None]) -> None:
    """Go on once all sizes are known."""
    visit = _visit(session)
    if visit.wide:
        prompt = visit.prompt and len(visit.wide) <= FEW
        session.do(visit.measure, lambda _, error: then(), prompt)
    else:
        then()


def stat(session: ServerSession) -> None:
    """STAT"""

    def tell() -> None:
        visit = _visit(session)
        session.ok(f"{len(visit.items) - len(visit.deleted)} {visit.octets - visit.gone}")

    _measured(session, tell)


def noop(session: ServerSession) -> None:
    """NOOP"""
    session.ok("nothing done")


def rset(session: ServerSession) -> None:
    """RSET: no message is marked any more."""
    visit = _visit(session)
    visit.keep()
    session.ok(counted(len(visit.items), "message"))


def dele(session: ServerSession, argument: bytes | None) -> None:
    """DELE: the message is marked, for QUIT."""
    if number := _number(session, argument):

        def mark() -> None:
            _visit(session).delete(number)
            session.ok(f"message {number} deleted")

        _measured(session, mark)


def list_(session: ServerSession, argument: bytes | None) -> None:
    """LIST"""

    def scan(number: int, item: Item) -> str:
        return f"{number} {sizes.get(number) or item.size or 0}\r\n"

    sizes = _visit(session).sizes
    _measured(session, lambda: _tell(session, argument, scan))


def uidl(session: ServerSession, argument: bytes | None) -> None:
    """UIDL"""
    _tell(session, argument, _unique)


def _unique(number: int, item: Item) -> str:
    return f"{number} {item.key}\r\n"


def _tell(session: ServerSession, argument: bytes | None, line: Callable[[int, Item], str]) -> None:
    """One line, or that of every message."""
    visit = _visit(session)
    if not argument:
        session.ok(counted(len(visit.items) - len(visit.deleted), "message"))
        session.listing = visit.lines(line)
    elif number := _number(session, argument):
        session.ok(line(number, visit.items[number - 1])[:-2])


def retr(session: ServerSession, argument: bytes | None) -> None:
    """RETR: a range of a file where it lies there as it goes out, else what is read of it."""
    number = _number(session, argument)
    if not number:
        return
    visit = _visit(session)
    visit.read += 1
    item = visit.items[number - 1]
    if (wire := visit.wire) is None or not _as_it_is(visit, item):
        _read(session, visit, item, None)
        return

    def found(part: Any, error: BaseException | None) -> None:
        if error is not None:
            session.fail(error, "RETR")
        elif part is None:
            _read(session, visit, item, None)
        elif isinstance(part, bytes):
            session.say(part)
        else:
            session.out.append(part)
            session.weight += PART

    session.do(lambda: wire(item.key), found, True)


def _as_it_is(visit: Visit, item: Item) -> bool:
    """Whether a message goes out as it is. Where a drop does not know what its header section
    holds, nothing is changed, or sizes would be wrong; but it may be refused."""
    if visit.head is None or item.flags is None:
        return visit.head is not surrogate.refused
    return "utf8" not in item.flags


def top(session: ServerSession, argument: bytes | None) -> None:
    """TOP: the header section, the blank line, and so many lines."""
    first, _, second = (argument or b"").partition(b" ")
    if not second.isdigit() or len(second) > 10:
        session.err("expected a message number and a number of lines")
    elif number := _number(session, first):
        visit = _visit(session)
        _read(session, visit, visit.items[number - 1], int(second))


def _read(session: ServerSession, visit: Visit, item: Item, lines: int | None) -> None:
    """Have the first piece read, so that what is wrong is known before +OK is said."""

    def begin() -> tuple[bytes, Iterator[bytes]]:
        head = None if _as_it_is(visit, item) else visit.head
        stream = reply.pieces(_content(visit.drop, item.key, lines), lines, head)
        return next(stream), stream

    def begun(value: Any, error: BaseException | None) -> None:
        if error is not None:
            session.fail(error, "RETR")
            return
        first, session.message = value
        session.ok("message follows")
        session.say(first)

    session.do(begin, begun, visit.prompt)


def _content(drop: OpenDrop, key: str, lines: int | None) -> Content:
    """What is needed of a message: less than all, for TOP, where the drop can tell it apart."""
    top = getattr(drop, "top", None)
    if lines is None or top is None:
        return drop.read(key)
    found: Content = top(key, lines)
    return found


def _number(session: ServerSession, argument: bytes | None) -> int:
    """The message that is meant; 0 where there is none, which was answered."""
    try:
        return _visit(session).number(argument)
    except UnknownMessageError as error:
        session.err(str(error))
        return 0


def _visit(session: ServerSession) -> Visit:
    visit = session.visit
    if visit is None:
        raise RuntimeError("a command of the TRANSACTION state before the log-in")
    return visit


# A drop that manages


def manage(session: ServerSession, keyword: str, argument: bytes | None) -> bool:
    """XSTAT and XPOKE, where the drop manages; False where the command is unknown here."""
    if keyword not in MANAGING or not _visit(session).manages:
        return False
    policy = session.policy
    if keyword == "XSTAT":
        session.do(policy.status, lambda value, error: _state(session, value, error), False)
        return True
    try:
        source = (argument or b"").decode("utf-8")
    except UnicodeDecodeError:
        source = ""

    if source:
        session.do(lambda: policy.poke(source), lambda _, error: _poked(session, error), False)
    else:
        session.err("expected the name of a source")
    return True


def _poked(session: ServerSession, error: BaseException | None) -> None:
    if isinstance(error, MailflowError):
        session.err(error.text)
    elif error is not None:
        session.fail(error, "XPOKE")
    else:
        session.ok("it fetches")


def _state(session: ServerSession, facts: Any, error: BaseException | None) -> None:
    """What `mailflow status --json` says, a fact a line."""
    if error is not None:
        session.fail(error, "XSTAT")
        return
    session.ok("status follows")
    lines = "".join([f"{_shown(line)}\r\n" for line in _flat(facts)]).encode("utf-8", "replace")
    session.say(lines.replace(b"\r\n.", b"\r\n..") + b".\r\n")


def _shown(line: str) -> str:
    """As one line, and nothing in it that a terminal would obey."""
    line = " ".join(line.split())
    return line if line.isprintable() else "".join(c if c.isprintable() else "?" for c in line)


def _flat(facts: object, name: str = "") -> Iterator[str]:
    """{"sources": {"work": {"failures": 2}}} as: sources.work.failures: 2."""
    if isinstance(facts, Mapping):
        for key, value in facts.items():
            yield from _flat(value, f"{name}.{key}" if name else str(key))
    elif isinstance(facts, list | tuple):
        for number, value in enumerate(facts, 1):
            yield from _flat(value, f"{name}.{number}")
    else:
        text = "" if facts is None else str(facts)
        yield f"{name}: {text}"
