"""What each command brings: one class for each sort of answer.

    answer = session.search(b"UNSEEN")      # nothing is sent yet
    listing = session.facts("1:*")          # nor now
    answer.wait()                           # both leave, in one flight

Rule of the file: an untagged response belongs to the oldest command that can have asked
for it, and a message is known by its UID; what nobody asked for goes to the session.
"""

from __future__ import annotations

import re
from collections import deque
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import suppress

from mailflow.errors import (
    BadMailError,
    GoneError,
    MailflowError,
    PeerError,
    UnavailableError,
)
from mailflow.kept import drop
from mailflow.lines import to_crlf
from mailflow.mail import Content, Octets
from mailflow.record import NamedTuple
from mailflow.typed import TYPE_CHECKING, Any, TypeVar
from mailflow_imap import uids as sets
from mailflow_imap.answer import Answer, Done, Idling, Starting
from mailflow_imap.arrival import Arrival
from mailflow_imap.folders import Folders, Selected, Selecting, Standing
from mailflow_imap.responses import Fact, fact, fetched, parse
from mailflow_imap.wire import Command, Reply, Status, Untagged

if TYPE_CHECKING:
    from mailflow_imap.connection import Connection

T = TypeVar("T")

ITEM_LIMIT = 1 << 24
"""Octets of one string in what is no message."""

DRAIN = 1 << 24
"""Octets of a message that are read and dropped, rather than to end the session."""

SPLIT = 4
"""So many responses may tell of one message that was asked for once."""

SAID = 1 << 20
SAID_OF_EACH = 400
"""Octets that may be said of messages in a listing, besides so many of each: most are flags,
which take some ten times as much once they are read."""

COPIED_LIMIT = 1 << 20
"""Messages whose new UIDs are remembered."""


class Searching(Answer[list[int]]):
    """UIDs of UID SEARCH or UID SORT: in ascending order, or as sorted."""

    def __init__(self, session: Connection, command: Command, *, ordered: bool = False) -> None:
        self._ordered = ordered
        self._found: list[int] = []
        self._command = command
        super().__init__(session, [command], "search")

    def take(self, response: Untagged | Status) -> bool:
        if isinstance(response, Status):
            return False
        if response.keyword == "ESEARCH":
            return self._extended(response)
        if response.keyword not in ("SEARCH", "SORT"):
            return False
        self._found += _numbers(self.session, response, len(self._found))
        return True

    def _extended(self, response: Untagged) -> bool:
        """ESEARCH (RFC 4731, 3.1), with the tag of its command."""
        found = _told(response, self._command)
        if found is None:
            return False
        for name, value in found:
            text = value.decode("ascii", "replace") if isinstance(value, bytes) else str(value)
            if name == b"ALL":
                most = sets.at_most(self.session.exists) - len(self._found)
                try:
                    self._found += sets.expand(text, most)
                except ValueError as error:
                    raise PeerError(f"{self.session.peer} answers a search with {error}") from None
        return True

    def result(self) -> list[int]:
        return self._found if self._ordered else sorted(self._found)


def _numbers(session: Connection, response: Untagged, before: int) -> list[int]:
    """The UIDs of a SEARCH (RFC 3501, 7.2.5), behind so many others; a MODSEQ may follow them
    (RFC 7162, 3.1.5). Raises PeerError."""
    text = response.line.partition(b"(")[0]
    if before + text.count(b" ") > sets.at_most(session.exists):
        raise PeerError(f"{session.peer} finds more messages than there can be")
    try:
        if text.translate(None, b"0123456789 "):  # int() knows more than digits
            raise ValueError
        found = list(map(int, text.split()))
    except ValueError:
        raise PeerError(f"{session.peer} answers a search with no numbers") from None
    if found and not 0 < min(found) <= max(found) <= sets.UID_LIMIT:
        raise PeerError(f"{session.peer} answers a search with what are no UIDs")
    return found


def _told(response: Untagged, command: Command) -> list[tuple[Any, Any]] | None:
    """Name and value of what an ESEARCH says (RFC 4731, 3.1); None: it answers another command."""
    words = parse(response.parts)
    if not words or not isinstance(words[0], tuple) or words[0][-1:] != (command.tag,):
        return None
    rest = [word for word in words[1:] if word != b"UID"]
    return list(zip(rest[::2], rest[1::2], strict=False))


class Counting(Answer[int]):
    """How many messages a search finds (RFC 4731, 3.1: COUNT)."""

    def __init__(self, session: Connection, command: Command) -> None:
        self._command = command
        self._count = 0
        super().__init__(session, [command], "search")

    def take(self, response: Untagged | Status) -> bool:
        if isinstance(response, Status) or response.keyword not in ("ESEARCH", "SEARCH"):
            return False
        if response.keyword == "SEARCH":
            self._count += len(_numbers(self.session, response, self._count))
            return True
        found = _told(response, self._command)
        if found is None:
            return False
        for name, value in found:
            if name == b"COUNT" and isinstance(value, int):
                self._count = value
        return True

    def result(self) -> int:
        return self._count


class Stream(Answer[list[T]]):
    """Answers that are given one by one, as they arrive; `wait` gives what is left of them.

    What arrives while nobody iterates is kept: ask for no more at once than may be held, or
    `abandon` it.
    """

    counts = True

    def __init__(self, session: Connection, commands: Sequence[Command], doing: str) -> None:
        self._ready: deque[T] = deque()
        self._dropped = False
        self._given = 0
        self._octets = 0
        super().__init__(session, commands, doing)

    def give(self, found: T) -> None:
        """Hand it to whoever iterates."""
        if self._dropped:
            self.waste(found)
        else:
            self._ready.append(found)

    def limit(self, asked: int, octets: int = 0) -> None:
        """Raise PeerError where more was given than there can be of `asked` messages, or of all
        in the folder for 0. `octets` are what was said now of a message, if it is no body."""
        self._given += 1
        self._octets += octets
        messages = asked or sets.at_most(self.session.exists)
        if self._given > SPLIT * messages or self._octets > SAID + SAID_OF_EACH * messages:
            raise PeerError(f"{self.session.peer} tells of more messages than there can be")

    def abandon(self) -> None:
        """Keep nothing of what is here and still to come: nobody will iterate."""
        self._dropped = True
        while self._ready:
            self.waste(self._ready.popleft())

    def waste(self, found: T) -> None:
        """Nobody will take it: leave nothing behind."""

    def at_hand(self) -> T | None:
        """The next one, if it has arrived; what the system has got of others is taken in."""
        while not self._ready and not self.done and self.session.glance():
            pass
        return self._ready.popleft() if self._ready else None

    def __iter__(self) -> Iterator[T]:
        while True:
            while self._ready:
                yield self._ready.popleft()
            if self.done:
                break
            self.session.pump()
        if self._error is not None:
            raise self._error

    def result(self) -> list[T]:
        found = list(self._ready)
        self._ready.clear()
        return found


class Facts(Stream[Fact]):
    """UID FETCH of sizes, dates, flags."""

    def __init__(
        self, session: Connection, commands: Sequence[Command], uids: Collection[int], *, size: bool
    ) -> None:
        self._uids = uids
        self._size = size
        super().__init__(session, commands, "list the messages")

    def take(self, response: Untagged | Status) -> bool:
        if isinstance(response, Status):
            return False
        if response.keyword != "FETCH" or len(response.parts) > 1:
            return False
        found = fact(response)
        if found is None or (self._size and found.size is None):
            return False  # somebody changed its flags
        if self._uids and found.uid not in self._uids:
            return False
        self.give(found)
        self.limit(len(self._uids), len(response.line))
        return True


class Items(NamedTuple):
    """The items of one message that a FETCH asked for, by name in upper case."""

    uid: int
    items: Mapping[bytes, Any]


class Fetching(Stream[Items]):
    """UID FETCH of whatever: values as imapclient's parser gives them."""

    def __init__(
        self, session: Connection, commands: Sequence[Command], uids: Collection[int]
    ) -> None:
        self._uids = uids
        super().__init__(session, commands, "fetch")

    def arrival(self, size: int) -> Arrival | None:
        if size > ITEM_LIMIT:
            raise PeerError(f"{self.session.peer} sends a string of {size} octets")
        return Arrival(self.session.scratch)

    def take(self, response: Untagged | Status) -> bool:
        if isinstance(response, Status) or response.keyword != "FETCH":
            return False
        items = fetched(response)
        uid = items.get(b"UID")
        if not isinstance(uid, int) or not items.keys() - {b"UID", b"FLAGS", b"MODSEQ"}:
            return False
        if self._uids and uid not in self._uids:
            return False
        empty = next((name for name, value in items.items() if value == b""), None)
        if empty is not None and (long := self.session.arrived()) is not None:
            items[empty] = long.octets_of()
        self.give(Items(uid, items))
        self.limit(len(self._uids))
        return True


class Body(NamedTuple):
    """What came of one message: `octets` as counted on the wire, `content` with CRLF lines."""

    uid: int
    content: Content
    octets: int


class Missing(NamedTuple):
    """A message that was asked for and did not come."""

    uid: int
    error: MailflowError


_BODY = re.compile(rb"\(UID (\d{1,10}) (BODY\[[^\]]*\])(?:<0>)? \{\d+\}\Z", re.I)
"""What stands before the octets in the common form of an answer."""


class Bodies(Stream[Body | Missing]):
    """UID FETCH of messages, their headers, or a part of them. At most `most` octets of each."""

    def __init__(
        self,
        session: Connection,
        commands: Sequence[Command],
        uids: Iterable[int],
        section: bytes,
        most: int | None,
    ) -> None:
        self._wanted = dict.fromkeys(uids)
        first, space, _ = section.upper().partition(b" ")  # lists come back in another form
        self._name = b"BODY[" + first + (space or b"]")
        self._most = most
        self._said = ""
        super().__init__(session, commands, "fetch messages")

    def arrival(self, size: int) -> Arrival | None:
        if not self._wanted:
            return None
        if self._most is not None and size > 2 * self._most + DRAIN:
            raise PeerError(f"{self.session.peer} sends {size} octets as one message")
        return Arrival(self.session.scratch, self._most)

    def take(self, response: Untagged | Status) -> bool:
        if isinstance(response, Status) or response.keyword != "FETCH":
            return False
        uid, name, value = self._read(response)
        if uid not in self._wanted or not name.startswith(self._name):
            return False
        del self._wanted[uid]
        arrival = self.session.arrived()
        self.give(self._arrived(uid, value, arrival))
        return True

    def waste(self, found: Body | Missing) -> None:
        if isinstance(found, Body):
            drop(found.content)

    def _read(self, response: Untagged) -> tuple[int, bytes, bytes | None]:
        """(UID, name of the item, octets); a UID of 0 where it says none."""
        first = response.parts[0]
        if isinstance(first, tuple) and len(response.parts) == 2 and response.parts[1] == b")":
            found = _BODY.match(first[0])
            if found:
                return int(found[1]), found[2].upper(), first[1]
        items = fetched(response)
        uid = items.get(b"UID")
        name = next((name for name in items if name.startswith(b"BODY[")), b"")
        value = items.get(name)
        from_the_first = name.endswith((b"]", b"<0>"))
        octets = value if isinstance(value, bytes) and from_the_first else None
        return uid if isinstance(uid, int) else 0, name, octets

    def _arrived(self, uid: int, value: bytes | None, arrival: Arrival | None) -> Body | Missing:
        if value is None:
            text = f"{self.session.peer} answers without the octets of message {uid}"
            return Missing(uid, UnavailableError(text))
        size = len(value) if arrival is None else arrival.octets
        if self._most is not None and size > self._most:
            if arrival is not None:
                arrival.drop()
            text = f"message {uid} at {self.session.peer} has {size} octets, which is too many"
            return Missing(uid, BadMailError(text))
        if arrival is not None:
            return Body(uid, arrival.finish(), size)
        return Body(uid, Octets(to_crlf(value)), size)

    @property
    def refused(self) -> bool:
        """Whether the server said that it does not give all of them."""
        return bool(self._said)

    def replied(self, reply: Reply) -> None:
        """A NO may well come after some of the messages: it says that others did not come. So
        does BAD, which some servers say of a message that they cannot read themselves."""
        error = None if reply.ok else self.refusal(reply)
        if error is not None and (isinstance(error, PeerError) or not error.temporary):
            self._said = reply.text or reply.status
            reply = reply._replace(status="OK")
        super().replied(reply)

    def finish(self, reply: Reply) -> None:
        if self._error is not None:
            return
        said = f": {self._said}" if self._said else ""
        for uid in self._wanted:
            text = f"{self.session.peer} has no message {uid} any more{said}"
            self.give(Missing(uid, GoneError(text)))
        self._wanted = {}


class Placed(NamedTuple):
    """Where messages lie now: the folder's UIDVALIDITY, and the new UID of each old one."""

    uid_validity: int
    uids: Mapping[int, int]


class Copying(Answer[Placed | None]):
    """COPY or MOVE; None where the server does not say where they went (RFC 4315, 3)."""

    def __init__(self, session: Connection, commands: Sequence[Command], doing: str) -> None:
        self._validity = 0
        self._uids: dict[int, int] = {}
        super().__init__(session, commands, doing)

    def take(self, response: Untagged | Status) -> bool:
        if isinstance(response, Status) and response.code == "COPYUID":
            self._copied(response.argument)
            return True
        return False

    def replied(self, reply: Reply) -> None:
        if reply.code == "COPYUID":
            self._copied(reply.argument)
        super().replied(reply)

    def _copied(self, argument: bytes) -> None:
        words = argument.decode("ascii", "replace").split()
        try:
            most = COPIED_LIMIT - len(self._uids)
            validity = sets.number(words[0])
            old, new = sets.expand(words[1], most), sets.expand(words[2], most)
        except (ValueError, IndexError):
            return
        if len(old) == len(new):
            self._validity = validity
            self._uids.update(zip(old, new, strict=True))

    def result(self) -> Placed | None:
        return Placed(self._validity, self._uids) if self._validity else None


class Appended(NamedTuple):
    """Where the new message lies."""

    uid_validity: int
    uid: int


class Appending(Answer[Appended | None]):
    """APPEND; None where the server does not say where it went (RFC 4315, 3)."""

    def __init__(self, session: Connection, command: Command, folder: str) -> None:
        self._appended: Appended | None = None
        super().__init__(session, [command], f"add a message to the folder {folder!r}")

    def replied(self, reply: Reply) -> None:
        if reply.code == "APPENDUID":
            with suppress(ValueError):  # what cannot be read says nothing
                validity, uid = reply.argument.decode("ascii", "replace").split()
                self._appended = Appended(sets.number(validity), sets.number(uid))
        super().replied(reply)

    def result(self) -> Appended | None:
        return self._appended


__all__ = [
    "Answer", "Appended", "Appending", "Bodies", "Body", "Copying", "Counting", "Done",
    "Facts", "Fetching", "Folders", "Idling", "Items", "Missing", "Placed",
    "Searching", "Selected", "Selecting", "Standing", "Starting", "Stream",
]  # fmt: skip
