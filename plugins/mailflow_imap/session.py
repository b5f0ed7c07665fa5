"""One connection to an IMAP server, used by one thread at a time.

    session = Session.open(dial, context=context, name="imap.example.org", implicit=True, ...)
    selecting, facts = log_in(session, credentials, ("plain", "login"), lambda: (
        session.select("INBOX"), session.facts("1:*")))       # one flight
    for fact in facts: ...

Every command gives an Answer at once; what is queued leaves together when somebody waits
for an answer or iterates over one.

Rule of the file: messages are named by their UIDs; a sequence number never leaves it.
"""

from __future__ import annotations

import re
import time
from collections.abc import Iterable, Sequence

from mailflow.errors import RefusedError
from mailflow.mail import Octets
from mailflow.typed import TYPE_CHECKING, TypeVar
from mailflow_imap import uids as sets
from mailflow_imap.answers import (
    Appending,
    Bodies,
    Copying,
    Counting,
    Done,
    Facts,
    Fetching,
    Folders,
    Idling,
    Searching,
    Selected,
    Selecting,
    Standing,
)
from mailflow_imap.connection import Connection
from mailflow_imap.names import canonical, encode
from mailflow_imap.wire import MONTHS, Command, Literal, Word

if TYPE_CHECKING:
    from mailflow.mail import Content

T = TypeVar("T")

REISSUE = 9 * 60.0
"""Seconds after which IDLE is ended and begun anew: servers end it after 30 minutes, address
translators forget a silent connection after 10 (RFC 2177, 3)."""

RELAPSE = 30.0
"""Seconds before IDLE is begun anew where the server ends it by itself, which it should not."""

Uids = str | Iterable[int]
"""UIDs, or a set of them as IMAP writes it, such as "1:*"."""


class Session(Connection):
    """A connection with the commands of somebody who is logged in.

    Every command gives an Answer; what its wait raises is said at Connection.
    """

    # Folders

    def select(self, folder: str, *, read_only: bool = False) -> Selecting:
        """SELECT, or EXAMINE, which marks nothing as recent; the answer is a Selected."""
        folder = canonical(folder)
        words: list[Word] = [self._spelled(folder)]
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
        return Standing(self, Command("STATUS", self._spelled(folder), wanted), folder, items)

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
    ) -> Facts:
        """A Fact of each message. `changed_since` needs CONDSTORE (RFC 7162)."""
        items = [b"UID"]
        items += [b"RFC822.SIZE"] * size + [b"INTERNALDATE"] * date + [b"FLAGS"] * flags
        extra: list[Word] = []
        if changed_since is not None:
            extra = [b"(CHANGEDSINCE %d)" % changed_since]
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
        first: int = 0,
        most: int | None = None,
    ) -> Bodies:
        """A Body or Missing of each message, in the order the server sends them; nothing is
        marked as seen. `section` is such as b"HEADER"; 0 for `first` octets means all."""
        uids, spelled = _sets(uids)
        item = b"BODY.PEEK[%b]" % section + (b"<0.%d>" % first if first else b"")
        commands = [Command("UID FETCH", each, b"(UID %b)" % item) for each in spelled]
        return Bodies(self, commands, uids, section, most)

    def store(
        self,
        uids: Uids,
        flags: Iterable[str],
        *,
        how: str = "+",
    ) -> Done:
        r"""STORE silently: "+" adds the flags, "-" removes them, "" sets exactly these."""
        item = b"%bFLAGS.SILENT" % how.encode("ascii")
        words = _flags(flags)
        commands = [Command("UID STORE", each, item, words) for each in _sets(uids)[1]]
        return Done(self, commands, "change flags")

    def copy(self, uids: Uids, folder: str) -> Copying:
        commands = [Command("UID COPY", each, self._spelled(folder)) for each in _sets(uids)[1]]
        return Copying(self, commands, f"copy to the folder {folder!r}")

    def move(self, uids: Uids, folder: str) -> Copying:
        """MOVE (RFC 6851), which the server must offer."""
        commands = [Command("UID MOVE", each, self._spelled(folder)) for each in _sets(uids)[1]]
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
        words: list[Word] = [self._spelled(folder)]
        words.append(_flags(flags))
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
            if not self._idle(selected, before, min(left, REISSUE)):
                self.wire.halt.wait(min(left, RELAPSE))
        return selected.news != before

    def _idle(self, selected: Selected, before: int, seconds: float) -> bool:
        """One IDLE, of `seconds` at most; False where the server has ended it for no reason. That
        its end is answered shows that somebody is there."""
        idling = Idling(self, [Command("IDLE", alone=True)], "tell of changes")
        until = time.monotonic() + seconds
        while not idling.done and selected.news == before:
            left = until - time.monotonic()
            if left <= 0 or (idling.begun and not self.wire.listen(left)):
                break
            self.pump()
        ended = idling.done and selected.news == before
        if idling.begun and not idling.done:
            self.wire.write(self._client.respond(b"DONE"))
        idling.wait()
        return not ended

    def _spelled(self, folder: str) -> Word:
        """A folder's name as the wire has it: as LIST has spelled it, else as the standard does."""
        odd = self.spelled.get(folder)
        return encode(folder) if odd is None else Literal(Octets(odd))

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


_FLAG = re.compile(r"\\?[!#$&'+,\-./0-9:;<=>?@A-Z\[^_`a-z|}~]+")


def _flags(flags: Iterable[str]) -> tuple[bytes, ...]:
    """Raises ValueError for what cannot be a flag (RFC 3501, 9: flag)."""
    found = tuple(flags)
    for flag in found:
        if not _FLAG.fullmatch(flag):
            raise ValueError(f"{flag!r} is no flag")
    return tuple(flag.encode("ascii") for flag in found)


def _sets(uids: Uids) -> tuple[frozenset[int], list[bytes]]:
    """The UIDs where they are known, and what names them in commands of bounded length."""
    if isinstance(uids, str):
        return frozenset(), [uids.encode("ascii")]
    known = frozenset(uids)
    return known, [each.encode("ascii") for each in sets.sets(known)]


def _internal_date(seconds: float) -> str:
    """INTERNALDATE in UTC (RFC 3501, 9: date-time)."""
    year, month, day, hour, minute, second = time.gmtime(seconds)[:6]
    return f"{day:2d}-{MONTHS[month - 1]}-{year:04d} {hour:02d}:{minute:02d}:{second:02d} +0000"
