"""The IMAP codec of a client (RFC 3501, RFC 9051): octets in, events out.

Rule of the file: no input, no output, no clock. What arrives octet by octet gives the
same events as what arrives in one lump; nothing is allocated because a server claims a
size; and nothing that a user wrote can end a command or begin another one.

    what arrives                              event
    the first line: * OK, PREAUTH or BYE      Status
    * OK, NO, BAD, BYE                        Status
    * anything else                           Untagged, its literals within
    a literal of FETCH longer than a piece    Piece ..., then the Untagged without it
    + to a literal that waits                 (none: the rest of the command may go out)
    + to AUTHENTICATE or IDLE                 Continuation
    a tag that is due                         Reply
    the end, with nothing due                 Closed
    the end, with something due               UnavailableError
    anything else                             PeerError
"""

from __future__ import annotations

import re
from collections import deque
from collections.abc import Iterator

from mailflow.errors import PeerError, UnavailableError
from mailflow.log import printable
from mailflow.record import NamedTuple
from mailflow.typed import TYPE_CHECKING

if TYPE_CHECKING:
    from mailflow.mail import Content

PIECE = 1 << 18
"""A literal with more octets than this comes in pieces."""

RESPONSE_LIMIT = 1 << 25
"""Octets of one response without its pieces: a SEARCH that finds four million messages."""

LITERAL_COST = 200
"""What a literal takes of that besides its octets: about the memory that an empty one does."""

LITERAL_LIMIT = (1 << 32) - 1
"""The most octets that a literal may have (RFC 3501, 9: number)."""

QUOTED_LIMIT = 1000
"""A longer string goes as a literal: servers bound the length of a line (RFC 7162, 4)."""

MINUS_LIMIT = 4096
"""The longest literal that needs no leave under LITERAL- (RFC 7888, 5)."""

UNASKED_CONTENT = 1 << 20
"""A longer message waits for leave in any case: that it is too large is told before it is sent."""

WITHOUT_LIMIT = 1 << 62

NUMBER_LIMIT = (1 << 32) - 1

MONTHS = ("Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec")
"""As dates have them (RFC 3501, 9: date-month)."""


class Literal:
    """The octets of a Content as one argument, sent as they are. Only APPEND has one."""

    __slots__ = ("content",)

    def __init__(self, content: Content) -> None:
        self.content = content

    def pieces(self) -> Iterator[bytes]:
        """Raises ValueError where there are not as many octets as were promised."""
        left = self.content.size
        with self.content.open() as file:
            while left and (data := file.read(min(left, PIECE))):
                left -= len(data)
                yield data
        if left:
            raise ValueError(f"{left} octets less than the size that was told")


Word = bytes | str | int | Literal | tuple["Word", ...] | list["Word"]
"""An argument: bytes are syntax and go verbatim, str is data and is quoted, a tuple or
list is put in parentheses."""


class Command:
    """One command. Its repr does not show its arguments, which may be secret.

    `alone`: nothing may follow it before it is answered. Raises ValueError for
    arguments that no server could be given.
    """

    __slots__ = ("alone", "keyword", "tag", "words")

    def __init__(self, keyword: str, *words: Word, alone: bool = False) -> None:
        self.keyword = keyword
        self.words = words
        self.alone = alone
        self.tag = b""

    def __repr__(self) -> str:
        return self.keyword

    def segments(self, free: int) -> list[bytes | Literal | None]:
        """Its octets without the tag; None where the server must give leave to go on.

        `free` is how many octets a literal may have that needs no leave.
        """
        found: list[bytes | Literal | None] = [self.keyword.encode("ascii")]
        for word in self.words:
            found.append(b" ")
            _spell(word, free, found)
        found.append(b"\r\n")
        return found


def _spell(word: Word, free: int, found: list[bytes | Literal | None]) -> None:
    if isinstance(word, bytes):
        if _NOT_SYNTAX.search(word):
            raise ValueError("syntax of a command holds CR, LF, NUL or a brace")
        found.append(word)
    elif isinstance(word, str):
        octets = word.encode()
        if _QUOTABLE.fullmatch(octets):
            found.append(b'"' + octets.replace(b"\\", b"\\\\").replace(b'"', b'\\"') + b'"')
        elif b"\0" in octets:
            raise ValueError("an argument of a command holds NUL")
        else:
            _announce(len(octets), free, found)
            found.append(octets)
    elif isinstance(word, int):
        found.append(b"%d" % word)
    elif isinstance(word, Literal):
        _announce(word.content.size, min(free, UNASKED_CONTENT), found)
        found.append(word)
    else:
        found.append(b"(")
        for number, each in enumerate(word):
            if number:
                found.append(b" ")
            _spell(each, free, found)
        found.append(b")")


def _announce(size: int, free: int, found: list[bytes | Literal | None]) -> None:
    """The head of a literal (RFC 7888, 3)."""
    if size <= free:
        found.append(b"{%d+}\r\n" % size)
    else:
        found += [b"{%d}\r\n" % size, None]


_NOT_SYNTAX = re.compile(rb"[\r\n\0{}]")
_QUOTABLE = re.compile(rb"[\x01-\x09\x0b\x0c\x0e-\x7f]{0,%d}" % QUOTED_LIMIT)


class Status(NamedTuple):
    """An untagged OK, NO, BAD, BYE or PREAUTH; `code` is in upper case, "" for none."""

    kind: str
    code: str
    argument: bytes
    text: str


class Untagged(NamedTuple):
    """Any other untagged response: "* 12 FETCH (UID 7 ...)" has the number 12.

    `parts` is what follows the keyword, in the form that imapclient parses: text, or a
    text that ends in "{n}" together with its n octets, and so on. A literal that came in
    pieces is empty here.
    """

    number: int
    keyword: str
    parts: list[bytes | tuple[bytes, bytes]]

    @property
    def line(self) -> bytes:
        """The text of a response without literals; b"" of one that has some."""
        first = self.parts[0]
        return first if isinstance(first, bytes) else b""


class Piece(NamedTuple):
    """The next octets of a long literal: the one at `parts[part]` of the Untagged to come.

    `head` is the text before it, `size` how many octets it has in all, `first` whether these
    are its first.
    """

    number: int
    part: int
    head: bytes
    size: int
    data: bytes
    first: bool = False


class Continuation(NamedTuple):
    """The server waits for the rest of `command`; `data` is what followed the "+"."""

    command: Command
    data: bytes


class Reply(NamedTuple):
    """The tagged answer to `command`: `status` is OK, NO or BAD."""

    command: Command
    status: str
    code: str
    argument: bytes
    text: str

    @property
    def ok(self) -> bool:
        return self.status == "OK"


class Closed(NamedTuple):
    """The server has closed the connection, and nothing was due."""


Event = Status | Untagged | Piece | Continuation | Reply | Closed


class Client:
    """The client's side. `peer` names the server in errors.

    `send` takes commands; `outgoing` gives what may be written now; `receive` takes
    octets; `next_event` gives None when it needs more of them. `free` is how many octets
    a literal may have that waits for no leave; without `pipelining` a command is sent when
    nothing is due.
    """

    def __init__(self, peer: str = "the server", piece: int = PIECE) -> None:
        self.peer = peer
        self.free = 0
        self.pipelining = True
        self.greeted = False
        self._piece = piece
        self._tags = 0
        self._due: dict[bytes, Command] = {}
        self._queue: deque[Command] = deque()
        self._sending: Iterator[bytes | None] | None = None
        self._current: Command | None = None  # whose octets are on their way
        self._waiting = False  # for leave to send the rest of it
        self._alone: Command | None = None  # answered before anything else is sent
        self._buffer = bytearray()
        self._at = 0
        self._scanned = 0
        self._ended = False
        self._number = 0
        self._keyword = ""
        self._parts: list[bytes | tuple[bytes, bytes]] = []
        self._size = 0  # of the response without its pieces
        self._head = b""
        self._literal = 0  # its size
        self._left = -1  # octets of a literal to come; -1: not in one
        self._streams = False

    @property
    def due(self) -> int:
        """How many commands were sent, or are to be, that are not answered."""
        return len(self._due) + len(self._queue)

    @property
    def unread(self) -> int:
        """Octets received that no event came of."""
        return len(self._buffer) - self._at

    @property
    def in_literal(self) -> bool:
        """Whether octets of a message are on their way."""
        return self._left > 0

    def send(self, command: Command) -> None:
        """Queue it; its octets come out of `outgoing` when it may be sent."""
        self._queue.append(command)

    def respond(self, data: bytes) -> bytes:
        """The octets that answer a Continuation: base64, "*" or DONE."""
        if self._alone is None:
            raise ValueError("no command waits for a response")
        return data + b"\r\n"

    def outgoing(self) -> bytes:
        """The next octets to write, b"" if nothing may be sent now."""
        found: list[bytes] = []
        size = 0
        while size < self._piece and not self._waiting:
            if self._sending is None:
                if not self._queue or self._alone is not None:
                    break
                if self._due and not self.pipelining:
                    break
                self._sending = self._spelled(self._queue.popleft())
            octets = next(self._sending, b"")
            if octets:
                found.append(octets)
                size += len(octets)
            elif octets is not None:
                self._sending = None
        return b"".join(found)

    def _spelled(self, command: Command) -> Iterator[bytes | None]:
        segments = command.segments(self.free)
        self._tags += 1
        command.tag = b"m%d" % self._tags
        self._due[command.tag] = self._current = command
        together = [command.tag, b" "]
        for segment in segments:
            if isinstance(segment, bytes):
                together.append(segment)
                continue
            yield b"".join(together)
            together = []
            if segment is None:
                self._waiting = True
                yield None
            else:
                yield from segment.pieces()
        if command.alone:
            self._alone = command
        self._current = None
        yield b"".join(together)

    def receive(self, data: bytes) -> None:
        """Take what the server sent; b"" is its end."""
        if not data:
            self._ended = True
            return
        if self._at:
            del self._buffer[: self._at]
            self._scanned -= self._at
            self._at = 0
        self._buffer += data

    def forget(self) -> None:
        """Drop the octets received that no event came of, and the memory for them."""
        self._buffer = bytearray()
        self._at = self._scanned = 0

    def next_event(self) -> Event | None:
        """The next event, or None: more octets are needed.

        Raises UnavailableError where the server ended in the middle, PeerError where
        it broke the protocol; nothing more can be had then.
        """
        while True:
            if self._left >= 0:
                if self._streams and self._left:
                    if piece := self._next_piece():
                        return piece
                    break
                if not self._take_literal():
                    break
            line = self._line()
            if line is None:
                break
            event = self._response(line)
            if event is not None:
                return event
        if self._at == len(self._buffer) and not self._due:
            self.forget()  # it may rest for long
        return self._end() if self._ended else None

    def _line(self) -> bytes | None:
        """The next line without its CRLF; None: it has no end yet."""
        end = self._buffer.find(b"\r\n", self._scanned)
        if end < 0:
            size = len(self._buffer)
            self._scanned = max(self._at, size - 1)
            if size - self._at + self._size > RESPONSE_LIMIT:
                raise self._broken(f"a response with more than {RESPONSE_LIMIT} octets")
            return None
        with memoryview(self._buffer) as view:
            line = bytes(view[self._at : end])
        self._at = self._scanned = end + 2
        return line

    def _response(self, line: bytes) -> Event | None:
        """A line begins a response, or goes on with one behind a literal."""
        if self._parts:
            return self._part(line)
        if line.startswith(b"* ") and self.greeted:
            found = _UNTAGGED.match(line)
            if not found:
                return self._status(line)
            number, keyword = found.groups()
            self._number = int(number or 0)
            if self._number > NUMBER_LIMIT:
                raise self._broken("a number over 32 bits", line)
            self._keyword = keyword.decode("ascii").upper()
            self._size = 0
            if self._keyword in _STATUSES:
                return self._status(line)
            return self._part(line[found.end() :])
        if line.startswith(b"* "):
            return self._status(line)
        if not self.greeted:
            raise self._broken("no greeting of IMAP", line)
        if line.startswith(b"+"):
            return self._continuation(line[1:].removeprefix(b" "))
        return self._tagged(line)

    def _part(self, text: bytes) -> Event | None:
        """A line of a response: its last, or one that ends in the size of a literal."""
        self._size += len(text)
        if self._parts and text[:1] not in _BEHIND:
            raise self._broken("a literal that is not as long as it said", text)
        if not text.endswith(b"}"):
            parts, self._parts = self._parts, []
            parts.append(text)
            return tuple.__new__(Untagged, (self._number, self._keyword, parts))
        found = _LITERAL.search(text)
        size = int(found[1]) if found else -1
        if not 0 <= size <= LITERAL_LIMIT:
            raise self._broken("a literal of no possible size", text[-80:])
        self._streams = size > self._piece
        if self._streams and self._keyword != "FETCH":
            raise self._broken(f"a literal of {size} octets in {self._keyword}", text)
        self._size += LITERAL_COST + (0 if self._streams else size)
        if self._size > RESPONSE_LIMIT:
            raise self._broken(f"a response with more than {RESPONSE_LIMIT} octets")
        self._head, self._literal, self._left = text, size, size
        if self._streams:
            self._parts.append((text[: text.rindex(b"{")] + b"{0}", b""))
        return None

    def _take_literal(self) -> bool:
        """Whether a literal is here whole; it is taken then."""
        if not self._streams:
            end = self._at + self._left
            if end > len(self._buffer):
                return False
            with memoryview(self._buffer) as view:
                self._parts.append((self._head, bytes(view[self._at : end])))
            self._at = self._scanned = end
        self._left = -1
        return True

    def _next_piece(self) -> Piece | None:
        size = min(self._left, len(self._buffer) - self._at)
        if not size:
            return None
        with memoryview(self._buffer) as view:
            data = bytes(view[self._at : self._at + size])
        self._at += size
        self._scanned = self._at
        first = self._left == self._literal
        self._left -= size
        return Piece(self._number, len(self._parts) - 1, self._head, self._literal, data, first)

    def _status(self, line: bytes) -> Status:
        found = _STATUS.match(line, 2)
        kind = found[1].decode("ascii").upper() if found else ""
        if not found or (kind == "PREAUTH" and self.greeted):
            raise self._broken("no response of IMAP", line)
        if not self.greeted and kind not in ("OK", "PREAUTH", "BYE"):
            raise self._broken("no greeting of IMAP", line)
        self.greeted = True
        return Status(kind, *_told(found))

    def _continuation(self, data: bytes) -> Continuation | None:
        if self._waiting:
            self._waiting = False
            return None
        if self._alone is None or self._alone.tag not in self._due:
            raise self._broken("a continuation that nothing waits for", data)
        return Continuation(self._alone, data)

    def _tagged(self, line: bytes) -> Reply:
        tag, _, rest = line.partition(b" ")
        found = _STATUS.match(rest)
        status = found[1].decode("ascii").upper() if found else ""
        command = self._due.pop(tag, None)
        if not self.greeted or command is None or not found or status not in ("OK", "NO", "BAD"):
            raise self._broken("neither a response nor the answer to a command", line)
        if command is self._current:
            if status == "OK":
                raise self._broken(f"an answer to half of {command!r}", line)
            if self._waiting:  # no leave: the rest of it is not wanted
                self._waiting, self._sending, self._current = False, None, None
        if command is self._alone:
            self._alone = None
        return Reply(command, status, *_told(found))

    def _end(self) -> Closed:
        if not self.greeted:
            where = "before it greeted"
        elif self._left >= 0 or self._parts or self.unread:
            where = "in the middle of a response"
        elif self._due:
            where = f"before its answer to {next(iter(self._due.values()))!r}"
        else:
            return Closed()
        raise UnavailableError(f"{self.peer} closed the connection {where}")

    def _broken(self, what: str, line: bytes = b"") -> PeerError:
        said = f": {printable(line, 80)}" if line else ""
        return PeerError(f"{self.peer} sent {what}{said}", lines=(printable(line, 80),))


_BEHIND = (b" ", b")", b"")
"""What stands behind a literal: another word, the end of a list, or the end of the line."""

_STATUSES = frozenset(("OK", "NO", "BAD", "BYE", "PREAUTH"))
_UNTAGGED = re.compile(rb"\* (?:(\d{1,10}) )?([A-Za-z][A-Za-z0-9.-]*)(?: |\Z)")
_LITERAL = re.compile(rb"\{(\d{1,10})\}\Z")
_STATUS = re.compile(
    rb"(OK|NO|BAD|BYE|PREAUTH)(?: (?:\[([!-Z^-~]+)(?: ([^\r\n]*?))?\](?: |\Z))?(.*))?\Z",
    re.I | re.S,
)


def _told(found: re.Match[bytes]) -> tuple[str, bytes, str]:
    """(code, argument, text) of a status response."""
    _, code, argument, text = found.groups()
    return (code or b"").decode("ascii").upper(), argument or b"", printable(text or b"")
