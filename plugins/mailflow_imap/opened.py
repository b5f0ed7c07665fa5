"""The folders of an IMAP server in one POP3 session's hands: listed, read, and at its end
relieved of what is deleted.

Rule of the file: a message is asked for by its UID in the folder with the UIDVALIDITY that it
was listed in, or not at all.
"""

from __future__ import annotations

import os
from array import array
from bisect import bisect_right
from collections.abc import Callable, Collection, Iterator, Sequence
from contextlib import suppress
from itertools import groupby

from mailflow.errors import (
    GoneError,
    MailflowError,
    PeerError,
    RefusedError,
    UnavailableError,
)
from mailflow.kinds import Item, Runtime
from mailflow.lines import stuff
from mailflow.mail import Content, OctetFile, Octets, read
from mailflow.typed import TYPE_CHECKING, Any, TypeVar
from mailflow_imap.answers import Body
from mailflow_imap.flight import Flight
from mailflow_imap.partial import PIECE, Partial
from mailflow_imap.settling import DELETED, copied, found_or_made
from mailflow_imap.uidl import writer
from mailflow_imap.wire import LITERAL_LIMIT

if TYPE_CHECKING:
    from mailflow.live import Hold
    from mailflow.log import Logger
    from mailflow_imap.answers import Answer, Facts, Items, Selected, Selecting
    from mailflow_imap.live import ImapDropOptions
    from mailflow_imap.session import Session

T = TypeVar("T")

SEEN = "\\Seen"

GRACE = 10.0
"""Seconds that the end of a session may still take when everything stops."""

AHEAD = PIECE
"""Octets of messages that are fetched before they are asked for, once a client reads them one
after the other; each that is not larger is fetched whole."""

TOGETHER = 100
"""Messages in such a flight."""

FEW = 10
"""Messages still to come when more are asked for."""

TOP = 1 << 13
"""Octets that a header section and some lines mostly have."""

LINE = 80


class Taken:
    """What lies in a folder: UIDs in ascending order, and the sizes that the server says."""

    def __init__(self, selected: Selected) -> None:
        self.folder = selected.folder
        self.validity = selected.uid_validity
        self.uid_next = selected.uid_next
        self.uids = array("L")
        self.sizes = array("Q")

    def is_in(self, selected: Selected | None) -> bool:
        """Whether it is what is open there."""
        if selected is None or selected.folder != self.folder:
            return False
        return selected.continues(self.validity, self.uid_next)


class Asked:
    """A folder whose listing is on its way."""

    def __init__(self, folder: str, selecting: Selecting, facts: Facts) -> None:
        self._folder = folder
        self._selecting = selecting
        self._facts = facts

    def wait(self, log: Logger) -> Taken:
        r"""All but what is \Deleted, which another client, or a session of ours on a server
        without UIDPLUS, has done with. Raises RefusedError where there is no such folder,
        UnavailableError, PeerError."""
        try:
            selected = self._selecting.wait()
        except GoneError as error:
            raise RefusedError(error.text) from None
        if not selected.uid_validity:
            raise PeerError(f"the folder {self._folder!r} has no UIDVALIDITY")
        if not selected.uids_stick:
            log.warning("the server gives new UIDs each time: clients take all mail for new",
                        folder=self._folder)  # fmt: skip
        taken = Taken(selected)
        found: dict[int, int] = {}
        for fact in self._facts:
            if not fact.flags or DELETED not in fact.flags:
                found[fact.uid] = fact.size or 0
        taken.uids.extend(sorted(found))
        taken.sizes.extend(found[uid] for uid in taken.uids)
        return taken


def take(session: Session, folders: Sequence[str]) -> list[Asked]:
    """Ask for what lies in each of them; it leaves in one flight."""
    return [
        Asked(folder, session.select(folder), session.facts("1:*", date=False))
        for folder in folders
    ]


class OpenImap:
    """The messages of folders there, from the log-in to the end of the session here."""

    def __init__(
        self,
        options: ImapDropOptions,
        runtime: Runtime,
        hold: Hold,
        session: Session,
        taken: Sequence[Taken],
        *,
        enter: Callable[[], Session],
        keep: Callable[[Session], None],
    ) -> None:
        """`enter` opens the connection again; `keep` takes it when the session is over."""
        self._options = options
        self._runtime = runtime
        self._hold = hold
        self._session: Session | None = session
        self._taken = taken
        self._enter = enter
        self._keep = keep
        self._starts = [0]
        keys: list[str] = []
        said: list[int] = []
        for each in taken:
            keys += map(writer(options.uidl, each.folder, each.validity), each.uids)
            said += each.sizes
            self._starts.append(len(keys))
        self._listing = hold.listing(keys, said)
        self._at = 0
        self._whole, self._tops = Flight(), Flight()
        self._read: set[int] = set()
        self._files: list[str] = []

    def items(self) -> Sequence[Item]:
        return self._listing

    def read(self, key: str) -> Content:
        """A small message, or one whose pieces come as they are read. Raises GoneError,
        UnavailableError, PeerError."""
        index = self._index(key)
        said = self._said(index)
        self._read.add(index)
        if said > AHEAD:
            content = Partial(
                lambda offset, octets: self._fetch(index, offset, octets),
                said, at_end=lambda octets: self._measure(index, octets),
            )  # fmt: skip
            if not content.read_at(1, 0):  # what is gone is known before anything is said of it
                raise GoneError(f"message {key} is empty now")
            return content
        found = self._together(self._whole, index).content
        if isinstance(found, Octets):
            lacking = 2 if found.data[-2:] not in (b"", b"\r\n") else 0
            self._measure(index, found.size + lacking)
        return found

    def wire(self, key: str) -> bytes | None:
        """A small one that has arrived with those before it: it is worth no thread."""
        index = self._index(key)
        body = self._whole.at_hand(index)
        if body is None:
            return None
        if not isinstance(body.content, Octets):
            self._whole.put_back(index, body)
            return None
        self._whole.in_turn(index)
        self._read.add(index)
        data = body.content.data
        data += b"" if data[-2:] in (b"", b"\r\n") else b"\r\n"
        self._measure(index, len(data))
        self._ask_ahead(index)
        return b"+OK message follows\r\n%b.\r\n" % stuff(data)

    def top(self, key: str, lines: int) -> Content:
        """The beginning of a message, and the rest where that is read. Raises as `read`."""
        index = self._index(key)
        first = min(TOP + LINE * lines, PIECE)
        body = self._together(self._tops, index, first)
        begin = b"" if body.octets != body.content.size else read(body.content)
        return Partial(
            lambda offset, octets: self._fetch(index, offset, octets),
            self._said(index), first=first, begin=begin,
        )  # fmt: skip

    def close(self, delete: Collection[str] = ()) -> None:
        """Remove these there, and leave. Raises what says that not all are removed for sure:
        UnavailableError, RefusedError and the like."""
        try:
            doomed = sorted(map(self._index, delete))
            if self._options.seen and self._read:
                self._mark_seen()
            for folder, indexes in groupby(doomed, self._folder):
                self._delete(folder, [self._uid(index) for index in indexes])
            session = self._session
            if session is not None and not session.lost and not session.busy:
                self._session = None
                self._keep(session)
        finally:
            self._leave()
            for path in self._files:
                with suppress(OSError):
                    os.unlink(path)
            self._hold.release(self._runtime.log)

    # What is where

    def _index(self, key: str) -> int:
        """Raises KeyError."""
        self._at = self._listing.keys.number(key, self._at)
        return self._at

    def _folder(self, index: int) -> int:
        return bisect_right(self._starts, index) - 1

    def _uid(self, index: int) -> int:
        folder = self._folder(index)
        return self._taken[folder].uids[index - self._starts[folder]]

    def _said(self, index: int) -> int:
        """The size that the server says."""
        folder = self._folder(index)
        return self._taken[folder].sizes[index - self._starts[folder]]

    def _measure(self, index: int, octets: int) -> None:
        listed = self._listing.sizes[index]
        if octets == listed:
            return
        key = self._listing.keys[index]
        if self._hold.measured(key, octets, listed):
            self._runtime.log.info("another size than was listed", key=key, said=listed, had=octets)

    # The connection

    def _leave(self) -> None:
        """The session is over; the snapshot is as it was."""
        session, self._session = self._session, None
        for flight in (self._whole, self._tops):
            flight.drop()
        if session is not None:
            session.part()

    def _do(self, folder: int, act: Callable[[Session], T]) -> T:
        """`act` in that folder, once more on another connection where one is lost meanwhile."""
        again = False
        while True:
            again = again or self._session is None
            try:
                return act(self._opened(folder))
            except MailflowError as error:
                if self._session is not None and not self._session.lost:
                    raise
                self._leave()
                if again or not isinstance(error, UnavailableError):
                    raise

    def _opened(self, number: int) -> Session:
        """A session in which the folder is open, if it is still the same one."""
        if self._session is None:
            self._session = self._enter()
        session, taken = self._session, self._taken[number]
        if session.selected is None or session.selected.folder != taken.folder:
            session.select(taken.folder).wait()
        if not taken.is_in(session.selected):
            raise GoneError(f"the folder {taken.folder!r} was made anew")
        return session

    def _ready(self, number: int) -> Session | None:
        """The session, where nothing need be waited for to ask for messages of that folder."""
        session = self._session
        if session is None or session.lost or not self._taken[number].is_in(session.selected):
            return None
        return session

    # What is read

    def _together(self, flight: Flight, index: int, first: int = 0) -> Body:
        """A whole message, or its `first` octets; where a client reads one behind the other,
        some more come with it."""
        in_turn = flight.in_turn(index)
        found = flight.here(index)
        if found is not None:
            return found

        def ask(session: Session) -> Body:
            found = flight.wait(index)
            if found is None:
                coming = dict(self._following(index, first) if in_turn else [self._one(index)])
                flight.begin(session.bodies(list(coming), first=first), coming)
                found = flight.wait(index)
            if found is None:
                raise GoneError(f"{session.peer} gives no message with UID {self._uid(index)}")
            return found

        body = self._do(self._folder(index), ask)
        if isinstance(body.content, OctetFile):  # the server has said that it was small
            self._files.append(body.content.path)
        return body

    def _ask_ahead(self, index: int) -> None:
        """Once the last of those that were asked for together are coming, ask for some more of
        the folder that this message is in."""
        flight = self._whole
        start, folder = flight.end, self._folder(index)
        if not start or not flight.alone or flight.coming > FEW:
            return
        if start >= self._starts[folder + 1] or self._said(start) > AHEAD:
            return
        if (session := self._ready(folder)) is not None:
            coming = dict(self._following(start, 0))
            flight.add(session.bodies(list(coming)), coming)
            session.glance()  # which sends it

    def _one(self, index: int) -> tuple[int, int]:
        return self._uid(index), index

    def _following(self, index: int, first: int) -> Iterator[tuple[int, int]]:
        """(UID, index) of that message and those behind it, as many as may be held."""
        end = min(self._starts[self._folder(index) + 1], index + TOGETHER)
        octets = 0
        for number in range(index, end):
            octets += min(first or self._said(number), self._said(number))
            if number > index and octets > AHEAD:
                return
            yield self._one(number)

    def _fetch(self, index: int, offset: int, octets: int) -> Callable[[], bytes]:
        """Ask for a piece of a message; what waits for it."""
        folder, uid = self._folder(index), self._uid(index)
        if offset > LITERAL_LIMIT:
            raise PeerError(f"message {uid} has no end: {offset} octets of it have come")
        item = b"BODY.PEEK[]<%d.%d>" % (offset, octets)
        session = self._ready(folder)
        asked = None if session is None else session.fetch([uid], item)

        def wait() -> bytes:
            if asked is not None and session is not None and session is self._session:
                try:
                    return _octets(asked.wait(), offset, octets)
                except UnavailableError:
                    if not session.lost:
                        raise
            return self._do(
                folder, lambda other: _octets(other.fetch([uid], item).wait(), offset, octets)
            )

        return wait

    # What is changed

    def _mark_seen(self) -> None:
        for folder, indexes in groupby(sorted(self._read), self._folder):
            uids = [self._uid(index) for index in indexes]
            try:
                self._do(folder, lambda session, uids=uids: session.store(uids, [SEEN]).wait())  # type: ignore[misc]
            except MailflowError as error:
                self._runtime.log.warning("not marked as seen", error=error.text)

    def _delete(self, folder: int, uids: list[int]) -> None:
        try:
            self._do(folder, lambda session: self._remove(session, uids))
        except GoneError as error:
            raise UnavailableError(f"{error.text}: nothing was deleted in it") from None

    def _remove(self, session: Session, uids: list[int]) -> None:
        selected = session.selected
        if selected is None or selected.read_only:
            raise UnavailableError("the folder cannot be changed: nothing was deleted in it")
        session.wire.grace = GRACE
        if self._options.trash is not None:
            target = found_or_made(session, self._options.trash, self._options.folders)
            if target is None:
                raise UnavailableError(
                    f"{session.peer} has no folder for {self._options.trash}: nothing was deleted"
                )
            if session.can_move:
                session.move(uids, target).wait()
                return
            copied(session, uids, target)  # unless that was done before the connection was lost
        answers: list[Answer[Any]] = [session.store(uids, [DELETED, SEEN])]
        if session.can_expunge:
            answers.append(session.expunge(uids))
        else:
            self._runtime.log.warning(
                "the server cannot remove single messages (it has no UIDPLUS): they are marked as"
                " deleted, not served any more, and go when somebody expunges the folder"
            )
        for answer in answers:
            answer.wait()


def _octets(found: Sequence[Items], offset: int, octets: int) -> bytes:
    """The one value of a piece; a server that gives no pieces gives the whole. Raises GoneError,
    UnavailableError, PeerError for another piece than was asked for."""
    if not found:
        raise GoneError("the message is not there any more")
    for name, value in found[0].items.items():
        if not name.startswith(b"BODY[") or not isinstance(value, bytes):
            continue
        if name == b"BODY[]":
            return value[offset : offset + octets]
        if name == b"BODY[]<%d>" % offset and len(value) <= octets:
            return value
        raise PeerError("the server sends another part of a message than was asked for")
    raise UnavailableError("the server answers without the octets of the message")
