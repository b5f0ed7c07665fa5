"""The POP3 codec (RFC 1939, 2449, 5034), both roles: octets in, events out.

Rule of the file: no input, no output, no clock. What arrives octet by octet gives
the same events as what arrives in one lump, and memory is bounded whatever comes.

The client:

    state     what arrives                        event              next state
    GREETING  +OK or -ERR                         Greeting           STATUS
    STATUS    +OK or -ERR to the command due      Reply              STATUS, CLOSED after QUIT
    STATUS    +OK to a multi-line command         (none yet)         BODY
    STATUS    "+ ..." to AUTH                     Challenge          STATUS
    BODY      more octets than a piece holds      Piece              BODY
    BODY      CRLF "." CRLF                       Reply with body    STATUS
    CLOSED    anything                            (none)             CLOSED
    any       the end, with nothing due           Closed             CLOSED
    any       the end, with a reply due           UnavailableError
    any       anything else                       PeerError

The server: a line gives Request, Response (to a challenge) or Malformed; half a
line at the end gives nothing.
"""

from __future__ import annotations

import re
from collections import deque
from collections.abc import Iterator
from enum import Enum

from mailflow import lines
from mailflow.errors import PeerError, UnavailableError
from mailflow.log import printable
from mailflow.record import NamedTuple

PIECE = 1 << 18
"""A body with more octets on the wire than this comes in pieces of this many."""

LINE_LIMIT = 16384
"""A status line has 512 octets at most (RFC 2449, 4), a challenge may have more."""

LISTING_LIMIT = 1 << 26
"""The answer to LIST or UIDL: half a million messages."""

CAPA_LIMIT = 1 << 16

COMMAND_LIMIT = 255
"""A command line with its CRLF (RFC 2449, 4)."""

RESPONSE_LIMIT = 12288
"""A SASL response with its CRLF (RFC 5034, 4)."""

MULTILINE = {"CAPA": CAPA_LIMIT, "LIST": LISTING_LIMIT, "UIDL": LISTING_LIMIT, "RETR": 0, "TOP": 0}
"""Commands with a multi-line answer, each with the most that may come; 0: in pieces."""

END = b"\r\n.\r\n"


class Command:
    """One command line. Its repr does not show what might be a secret.

    LIST and UIDL with a number have a single-line answer. Raises ValueError for an
    argument that would end the line.
    """

    __slots__ = ("bound", "keyword", "multiline", "number", "octets")

    def __init__(self, keyword: str, *arguments: str | bytes | int) -> None:
        self.keyword = keyword
        self.number = arguments[0] if arguments and isinstance(arguments[0], int) else 0
        words = [keyword.encode("ascii")]
        for argument in arguments:
            word = argument if isinstance(argument, bytes) else str(argument).encode()
            if b"\r" in word or b"\n" in word or b"\0" in word:
                raise ValueError(f"an argument of {keyword} holds CR, LF or NUL")
            words.append(word)
        self.octets = b" ".join(words) + b"\r\n"
        self.multiline = keyword in MULTILINE and not (arguments and keyword in ("LIST", "UIDL"))
        self.bound = MULTILINE.get(keyword, 0)

    def __repr__(self) -> str:
        return f"{self.keyword} {self.number}" if self.number else self.keyword


class Greeting(NamedTuple):
    """The server's first line; `timestamp` is what APOP digests, if it offers it."""

    ok: bool
    text: str
    code: str
    timestamp: bytes | None


class Reply(NamedTuple):
    """The answer to `command`, whole. `code` is a response code such as "SYS/TEMP".

    `body` is what follows the status line of a multi-line answer, dots unstuffed,
    without what came as a Piece before; None for any other answer.
    """

    command: Command
    ok: bool
    text: str
    code: str
    body: bytes | None = None


class Piece(NamedTuple):
    """The next octets of a long body, dots unstuffed; a CRLF is never cut in two."""

    command: Command
    data: bytes


class Challenge(NamedTuple):
    """The server wants a SASL response; `data` is base64 as it came."""

    command: Command
    data: bytes


class Closed(NamedTuple):
    """The server has closed the connection, and nothing was due."""


Event = Greeting | Reply | Piece | Challenge | Closed


class State(Enum):
    GREETING = "greeting"
    STATUS = "status"
    BODY = "body"
    CLOSED = "closed"


class Client:
    """The client's side. `peer` names the server in errors.

    `send` gives octets to write and notes the answer that is due; `receive` takes
    octets; `next_event` gives None when it needs more of them.
    """

    def __init__(self, peer: str = "the server", piece: int = PIECE) -> None:
        self.peer = peer
        self.state = State.GREETING
        self._piece = piece
        self._due: deque[Command] = deque()
        self._buffer = bytearray()
        self._at = 0  # of a body's beginning: at the CRLF that ends the line before
        self._scanned = 0  # what is looked for does not begin before
        self._ended = False
        self._begun = False  # a piece of this body was given
        self._gathered: list[bytes] = []
        self._text, self._code = "", ""

    @property
    def due(self) -> int:
        """How many answers are still to come."""
        return len(self._due)

    @property
    def unread(self) -> int:
        """Octets received that no event came of."""
        return len(self._buffer) - self._at

    def send(self, command: Command) -> bytes:
        """The octets to write. Before the greeting only CAPA, which changes nothing."""
        early = self.state is State.GREETING and command.keyword != "CAPA"
        if early or self.state is State.CLOSED:
            raise ValueError(f"{command!r} cannot be sent in state {self.state.value}")
        self._due.append(command)
        return command.octets

    def respond(self, data: bytes) -> bytes:
        """The octets that answer a challenge: base64, or * to cancel."""
        if not self._due or self._due[0].keyword != "AUTH":
            raise ValueError("there is no challenge to respond to")
        return data + b"\r\n"

    def receive(self, data: bytes) -> None:
        """Take what the server sent; b"" is its end."""
        if not data:
            self._ended = True
        elif self.state is not State.CLOSED:
            if self._at:
                del self._buffer[: self._at]
                self._scanned -= self._at
                self._at = 0
            self._buffer += data

    def next_event(self) -> Event | None:
        """The next event, or None: more octets are needed.

        Raises UnavailableError where the server ended in the middle, PeerError where
        it broke the protocol; nothing more can be had then.
        """
        event: Event | None = None
        if self.state is State.BODY:
            event = self._body()
        elif self.state is not State.CLOSED and (line := self._line()) is not None:
            event = self._greeting(line) if self.state is State.GREETING else self._status(line)
        if event is None and self._ended:
            return self._end()
        return event

    def _line(self) -> bytes | None:
        """One line without its CRLF, which stays in front of a body."""
        buffer, at = self._buffer, self._at
        end = buffer.find(b"\n", max(at, self._scanned), at + LINE_LIMIT)
        if end < 0:
            if len(buffer) - at >= LINE_LIMIT:
                raise self._broken("a line without end", bytes(buffer[at : at + 80]))
            self._scanned = len(buffer)
            return None
        line = bytes(buffer[at:end])
        if not line.endswith(b"\r"):
            raise self._broken("a line that ends in a bare LF", line)
        self._at = self._scanned = end + 1
        return line[:-1]

    def _greeting(self, line: bytes) -> Greeting:
        ok, text, code = self._parse(line)
        self.state = State.STATUS
        stamp = _TIMESTAMP.search(line)
        return Greeting(ok, text, code, stamp.group() if stamp else None)

    def _status(self, line: bytes) -> Event | None:
        """What a line means to the command that is due."""
        if not self._due:
            ok, text, _ = self._parse(line)
            if ok:
                raise self._broken("an answer to nothing", line)
            raise UnavailableError(f"{self.peer} ended the session: {text}")
        command = self._due[0]
        if command.keyword == "AUTH" and (line == b"+" or line.startswith(b"+ ")):
            return Challenge(command, line[2:])
        ok, text, code = self._parse(line)
        if ok and command.multiline:
            self.state = State.BODY
            self._text, self._code = text, code
            self._at = self._scanned = self._at - 2
            self._begun = False
            return self._body()
        self._due.popleft()
        if command.keyword == "QUIT":
            self.state = State.CLOSED
        return Reply(command, ok, text, code)

    def _body(self) -> Reply | Piece | None:
        """The rest of a body if its end is there, else a piece if there is more than one."""
        buffer = self._buffer
        while True:
            start = self._at if self._begun else self._at + 2
            found = buffer.find(END, self._scanned, start + self._piece + len(END))
            if found >= 0:
                return self._whole(self._take(start, found + 2), found + len(END))
            if len(buffer) < start + self._piece + len(END):
                self._scanned = max(self._scanned, len(buffer) - len(END) + 1)
                return None
            cut = self._cut(start + self._piece)
            data = self._take(start, cut)
            self._at = self._scanned = cut
            self._begun = True
            command = self._due[0]
            if not command.bound:
                return Piece(command, data)
            self._gathered.append(data)
            if sum(map(len, self._gathered)) > command.bound:
                raise self._broken(f"more than {command.bound} octets to {command!r}")

    def _take(self, start: int, end: int) -> bytes:
        """Octets of the body, unstuffed. Copied once, twice where a line begins with a dot."""
        with memoryview(self._buffer) as view:
            data = bytes(view[start:end])
        return data.replace(b"\r\n.", b"\r\n") if self._begun else lines.unstuff(data)

    def _cut(self, cut: int) -> int:
        """`cut`, moved back so that what may become CRLF "." CRLF stays in one."""
        for length in range(len(END) - 1, 0, -1):
            if self._buffer.startswith(END[:length], cut - length):
                return cut - length
        return cut

    def _whole(self, data: bytes, end: int) -> Reply:
        self._at = self._scanned = end
        self.state = State.STATUS
        if self._gathered:
            data = b"".join([*self._gathered, data])
            self._gathered = []
        return Reply(self._due.popleft(), True, self._text, self._code, data)

    def _end(self) -> Closed | None:
        """The server has ended: in order, or with an answer due."""
        if self.state is State.CLOSED:
            return None
        if self.state is State.GREETING:
            where = "before it greeted"
        elif self.state is State.BODY:
            where = f"in the middle of its answer to {self._due[0]!r}"
        elif self._due:
            where = f"before its answer to {self._due[0]!r}"
        else:
            self.state = State.CLOSED
            return Closed()
        raise UnavailableError(f"{self.peer} closed the connection {where}")

    def _parse(self, line: bytes) -> tuple[bool, str, str]:
        """(ok, text, code) of a status line."""
        found = _STATUS.match(line)
        if not found:
            raise self._broken("neither +OK nor -ERR", line)
        status, code, text = found.groups()
        return status == b"+OK", printable(text), (code or b"").decode("ascii").upper()

    def _broken(self, what: str, line: bytes = b"") -> PeerError:
        command = self._due[0] if self._due else None
        asked = f" to {command!r}" if command else ""
        said = f": {printable(line, 80)}" if line else ""
        return PeerError(f"{self.peer} sent {what}{asked}{said}", lines=(printable(line, 80),))


_STATUS = re.compile(
    rb"(\+OK|-ERR)(?![A-Za-z])[ \t]*(?:\[([A-Za-z][A-Za-z0-9/-]*)\][ \t]*)?(.*)\Z", re.S
)
_TIMESTAMP = re.compile(rb"<[!-;=?-~]+@[!-;=?-~]+>")


def capabilities(body: bytes) -> dict[str, tuple[str, ...]]:
    """CAPA's answer (RFC 2449, 3): each capability with its arguments, in upper case."""
    found: dict[str, tuple[str, ...]] = {}
    for line in body.decode("ascii", "replace").upper().split("\r\n"):
        if words := line.split():
            found[words[0]] = found.get(words[0], ()) + tuple(words[1:])
    return found


def numbered(body: bytes) -> Iterator[tuple[int, bytes]]:
    """The answer to LIST or UIDL: (message number, the rest). 0 is no number at all."""
    at = 0
    while at < len(body):
        end = body.find(b"\r\n", at)
        end = len(body) if end < 0 else end
        if end > at:
            number, _, rest = body[at:end].partition(b" ")
            yield (int(number) if number.isdigit() and len(number) < 10 else 0), rest
        at = end + 2


class Request(NamedTuple):
    """A command: keyword in upper case; what follows one space, as it came, or None."""

    keyword: str
    argument: bytes | None


class Response(NamedTuple):
    """What a client answered to a challenge: base64 as it came, or *."""

    data: bytes


class Malformed(NamedTuple):
    """A line that is no command; it deserves -ERR and counts as a bad one."""

    reason: str


class Server:
    """The server's side of the lines. Set `challenged` after sending a challenge.

    A line ends at LF, with or without CR before it. A longer one than allowed is
    swallowed to its LF and gives one Malformed.
    """

    __slots__ = ("_at", "_buffer", "_swallowing", "challenged")

    def __init__(self) -> None:
        self.challenged = False
        self._buffer = b""
        self._at = 0
        self._swallowing = False

    def receive(self, data: bytes) -> None:
        """Take what the client sent."""
        rest = self._buffer[self._at :]
        self._buffer = rest + data if rest else data
        self._at = 0

    def forget(self) -> int:
        """Drop what was not read yet (after STLS: RFC 2595, 4); how many octets it was."""
        size = len(self._buffer) - self._at
        self._buffer = b""
        self._at = 0
        self._swallowing = False
        return size

    def next_event(self) -> Request | Response | Malformed | None:
        """The next line's event; None: more octets are needed."""
        buffer, at = self._buffer, self._at
        if not buffer:
            return None
        limit = RESPONSE_LIMIT if self.challenged else COMMAND_LIMIT
        end = buffer.find(b"\n", at, at + limit)
        if end < 0 or self._swallowing:
            return self._unended(limit)
        self._at = end + 1
        line = (
            buffer[at : end - 1]
            if buffer.startswith(b"\r", end - 1, end) and end > at
            else (buffer[at:end])
        )
        if self._at == len(buffer):
            self._buffer = b""
            self._at = 0
        return self._event(line)

    def _unended(self, limit: int) -> Malformed | None:
        """A line that has no end yet, or is too long: it is swallowed to its LF."""
        size = len(self._buffer) - self._at
        if not self._swallowing and size < limit:
            return None
        end = self._buffer.find(b"\n", self._at)
        self._swallowing = end < 0
        self._at = end + 1
        if end + 1 in (0, len(self._buffer)):
            self._buffer = b""
            self._at = 0
        if end < 0:
            return None
        self.challenged = False
        return Malformed("line too long")

    def _event(self, line: bytes) -> Request | Response | Malformed:
        if self.challenged:
            self.challenged = False
            return Response(line)
        if b"\0" in line or b"\r" in line:
            return Malformed("control character in a command")
        keyword, space, argument = line.partition(b" ")
        if not keyword.isalnum():
            return Malformed("no command")
        word = keyword.decode("ascii").upper()
        return tuple.__new__(Request, (word, argument if space else None))


def status(ok: bool, text: str = "", code: str = "") -> bytes:
    """A status line, cut to 512 octets (RFC 2449, 4): in ASCII, and nothing in it that a
    terminal would obey."""
    words = ["+OK" if ok else "-ERR", f"[{code}]" if code else "", text]
    line = " ".join(filter(None, words))
    if not (line.isascii() and line.isprintable()):
        line = "".join(each if " " <= each <= "~" else "?" for each in line)
    return line[:510].encode("ascii") + b"\r\n"
