"""SMTP as a client speaks it (RFC 5321): replies in, commands and content out, no I/O.

Rule of the file: nothing enters a command that was not checked, and nothing the
server says takes memory without bound.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence

from mailflow.errors import PeerError
from mailflow.log import printable
from mailflow.record import NamedTuple

LINE_KEPT = 1000
"""Octets of a reply's line that are kept; the rest is read and forgotten."""

LINES_KEPT = 100
"""Lines of a reply that are kept."""

REPLY_LIMIT = 16 << 20
"""A reply of more octets is no reply any more."""

PATH_LIMIT = 254
"""Octets of an address (RFC 5321, 4.5.3.1.3, without the brackets)."""


class Reply(NamedTuple):
    """What the server answers to one command (RFC 5321, 4.2).

    `lines` are texts without code or control characters, as many as were kept.
    """

    code: int
    lines: tuple[str, ...]

    @property
    def positive(self) -> bool:
        return 200 <= self.code < 300

    @property
    def temporary(self) -> bool:
        return 400 <= self.code < 500

    @property
    def permanent(self) -> bool:
        return self.code >= 500

    @property
    def enhanced(self) -> str:
        """The enhanced status code (RFC 2034), "" if there is none or it contradicts."""
        found = _ENHANCED.match(self.lines[0])
        return found[1] if found and int(found[1][0]) == self.code // 100 else ""

    @property
    def status(self) -> str:
        """The enhanced status code, or the general one of the reply's class (RFC 3463)."""
        return self.enhanced or f"{self.code // 100}.0.0"

    def __str__(self) -> str:
        """One line: "550 5.1.1 no such user here"."""
        code = self.enhanced
        rest = [line.removeprefix(code).strip() for line in self.lines[1:]]
        return " ".join(filter(None, (str(self.code), self.lines[0].strip(), *rest)))[:LINE_KEPT]


_ENHANCED = re.compile(r"([245]\.[0-9]{1,3}\.[0-9]{1,3})(?=\s|$)")
_LINE = re.compile(rb"([2-5][0-9][0-9])(?:([ -])(.*))?", re.DOTALL)


class ReplyReader:
    """Octets in, replies out. Raises PeerError on what is no reply."""

    def __init__(self, peer: str) -> None:
        self.peer = peer
        self._buffer = bytearray()
        self._searched = 0
        self._code = 0
        self._lines: list[str] = []
        self._octets = 0

    @property
    def pending(self) -> bool:
        """Octets are here that no command asked for."""
        return bool(self._buffer or self._lines)

    def feed(self, data: bytes) -> None:
        self._buffer += data

    def next(self) -> Reply | None:
        """The next whole reply, None if more octets are needed."""
        while (end := self._buffer.find(b"\n", self._searched)) >= 0:
            line = bytes(self._buffer[:end]).removesuffix(b"\r")
            del self._buffer[: end + 1]
            self._searched = 0
            self._count(end + 1)
            if self._take(line):
                reply = Reply(self._code, tuple(self._lines))
                self._lines = []
                self._octets = 0
                return reply
        if len(self._buffer) > 2 * LINE_KEPT:
            self._count(len(self._buffer) - 2 * LINE_KEPT)
            del self._buffer[2 * LINE_KEPT :]
        self._searched = len(self._buffer)
        return None

    def _take(self, line: bytes) -> bool:
        """Keep one line; True if it is the last of its reply."""
        found = _LINE.fullmatch(line)
        if found is None:
            raise PeerError(f"{self.peer} answered what is no SMTP reply: {printable(line, 80)!r}")
        code = int(found[1])
        if self._lines and code != self._code:
            raise PeerError(f"{self.peer} answered {self._code} and {code} in one reply")
        self._code = code
        if len(self._lines) < LINES_KEPT:
            self._lines.append(printable(found[3] or b"", LINE_KEPT))
        return found[2] != b"-"

    def _count(self, octets: int) -> None:
        self._octets += octets
        if self._octets > REPLY_LIMIT:
            raise PeerError(f"{self.peer} answered with more than {REPLY_LIMIT >> 20} MiB")


class Extensions:
    """What a server offers in its reply to EHLO (RFC 5321, 4.1.1.1); () for HELO."""

    def __init__(self, lines: Sequence[str] = ()) -> None:
        self._offered: dict[str, str] = {}
        for line in lines[1:]:
            keyword, _, parameters = line.strip().partition(" ")
            if keyword.upper().startswith("AUTH="):  # as servers of the last century say it
                keyword, parameters = "AUTH", f"{keyword[5:]} {parameters}"
            known = self._offered.get(keyword.upper(), "")
            self._offered[keyword.upper()] = f"{known} {parameters.strip()}".strip()

    def __contains__(self, keyword: str) -> bool:
        return keyword in self._offered

    @property
    def keywords(self) -> list[str]:
        """What is offered, in the order it was said."""
        return list(self._offered)

    def parameters(self, keyword: str) -> list[str]:
        """The words behind a keyword, in capitals."""
        return self._offered.get(keyword, "").upper().split()

    @property
    def size(self) -> int | None:
        """The largest message in octets (RFC 1870), None where no limit is told."""
        return _number(self.parameters("SIZE")[:1]) or None

    @property
    def recipients_max(self) -> int | None:
        """The most recipients of a transaction (RFC 9422), None where not told."""
        words = self.parameters("LIMITS")
        return _number([word[8:] for word in words if word.startswith("RCPTMAX=")]) or None


def _number(words: Sequence[str]) -> int:
    """0 if it is none."""
    return int(words[0]) if words and words[0].isascii() and words[0].isdigit() else 0


_NOT_IN_PATH = re.compile(r"[\x00-\x20\x7f-\x9f\u2028\u2029\u202a-\u202e\u2066-\u2069<>]")


def path(address: str) -> bytes:
    """An address as it stands in MAIL and RCPT; "" is the null sender.

    Raises ValueError on what could end the path or the command, or cannot be sent.
    """
    if _NOT_IN_PATH.search(address):
        raise ValueError(f"not an address: {address!r} has a space, bracket or control character")
    try:
        octets = address.encode()
    except UnicodeEncodeError:
        raise ValueError(f"not an address: {address!r} is not UTF-8") from None
    if len(octets) > PATH_LIMIT:
        raise ValueError(f"an address of {len(octets)} octets, more than {PATH_LIMIT}")
    return b"<" + octets + b">"


class Transaction:
    """One mail transaction up to the content (RFC 5321, 3.3).

    `commands` are sent in order, all at once or one by one; `take` is given each
    reply in that order. Then `accepted`, `refused` and `surplus` (over the `room` of a
    transaction, to be asked for again) hold the recipients that were answered for;
    `denied` is the reply if MAIL was refused and so everybody; `opened` says whether
    the server waits for content, even if nobody gets it. Without `data` nothing of it
    asks for content: BDAT brings its own (RFC 3030).
    """

    def __init__(
        self,
        sender: bytes,
        recipients: Sequence[str],
        parameters: bytes = b"",
        wishes: Callable[[str], bytes] = lambda recipient: b"",
        *,
        data: bool = True,
    ) -> None:
        """`sender` is a path; `recipients` were checked with `path`. `parameters` are those
        of MAIL, `wishes(recipient)` those of RCPT, each with a space before it."""
        self.recipients = tuple(recipients)
        self.data = data
        self.commands = [
            b"MAIL FROM:" + sender + parameters + b"\r\n",
            *(b"RCPT TO:" + path(to) + wishes(to) + b"\r\n" for to in recipients),
        ]
        if data:
            self.commands.append(b"DATA\r\n")
        self.accepted: list[str] = []
        self.refused: list[tuple[str, Reply]] = []
        self.surplus: list[str] = []
        self.room = 0
        self.denied: Reply | None = None
        self.opened = False
        self.answered = 0
        self.taken = 0

    @property
    def doomed(self) -> bool:
        """No command that is left can help."""
        everyone_asked = self.answered > len(self.recipients)
        return self.denied is not None or (everyone_asked and not self.accepted)

    @property
    def unanswered(self) -> list[str]:
        """Whom no reply has decided about."""
        if self.denied:
            return []
        refused = {recipient for recipient, _ in self.refused}
        return [recipient for recipient in self.recipients if recipient not in refused]

    def take(self, reply: Reply) -> None:
        """What the server answers to the next command."""
        number = self.answered
        self.answered += 1
        if number > len(self.recipients):
            self._take_data(reply)
        elif not (reply.positive or reply.temporary or reply.permanent):
            raise PeerError(f"the server answered {reply} to {'RCPT' if number else 'MAIL'}")
        elif number == 0:
            if not reply.positive:
                self.denied = reply
        else:
            self.taken += reply.positive
            if self.denied is None:
                self._take_recipient(self.recipients[number - 1], reply)

    def _take_recipient(self, recipient: str, reply: Reply) -> None:
        if reply.positive:
            self.accepted.append(recipient)
        elif self.accepted and _too_many(reply):
            self.room = self.room or len(self.accepted)
            self.surplus.append(recipient)
        else:
            self.refused.append((recipient, reply))

    def _take_data(self, reply: Reply) -> None:
        self.opened = reply.code == 354
        if self.opened:
            return
        if not (reply.temporary or reply.permanent):
            raise PeerError(f"the server answered {reply} to DATA")
        self.refused += [(recipient, reply) for recipient in self.accepted]
        self.accepted = []


def _too_many(reply: Reply) -> bool:
    """RFC 5321, 4.5.3.1.10: 452, and 552 of servers that follow RFC 821."""
    return (reply.code, reply.enhanced) in ((452, ""), (452, "4.5.3"), (552, "5.5.3"))


class Stuffer:
    """Content in the form of the wire, in pieces: CRLF line ends only, dots doubled unless
    `dots` is False, as BDAT has it, which counts octets.

    What any server might take for a line end is made one first, and so cannot hide
    the end of the data (RFC 5321, 2.3.8 and 4.5.2). `mended` counts the bare CR and
    LF that became CRLF.
    """

    def __init__(self, *, dots: bool = True) -> None:
        self.mended = 0
        self._dots = dots
        self._held = b""
        self._line_start = True

    def feed(self, data: bytes) -> bytes:
        """The next piece. A CR at its end waits for what follows it."""
        if self._held:
            data = self._held + data
            self._held = b""
        if data.endswith(b"\r"):
            data = data[:-1]
            self._held = b"\r"
        return self._stuffed(data)

    def end(self) -> bytes:
        """What is missing for the last line to be whole; the dot is not in it."""
        held, self._held = self._held, b""
        rest = self._stuffed(held)
        if not self._line_start:
            rest += b"\r\n"
            self._line_start = True
        return rest

    def _stuffed(self, data: bytes) -> bytes:
        if not data:
            return b""
        whole = data.count(b"\r\n")
        bare = data.count(b"\r") + data.count(b"\n") - 2 * whole
        if bare:
            self.mended += bare
            data = _LINE_END.sub(b"\r\n", data)
        stuffed = data
        if self._dots:
            stuffed = data.replace(b"\r\n.", b"\r\n..")
            if self._line_start and data.startswith(b"."):
                stuffed = b"." + stuffed
        self._line_start = data.endswith(b"\r\n")
        return stuffed


_LINE_END = re.compile(rb"\r\n|\r|\n")
