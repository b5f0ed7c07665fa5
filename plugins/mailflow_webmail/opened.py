"""The folders of a webmail in one POP3 session's hands: listed, read, and at its end relieved of
what is deleted.

Rule of the file: no size is guessed. A message whose size nobody knows is loaded before it is
listed, and lies ready for whoever reads it.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from itertools import groupby

from mailflow.digests import blake2b
from mailflow.errors import BadMailError, MailflowError
from mailflow.kept import drop
from mailflow.kinds import Item, Runtime
from mailflow.mail import Content
from mailflow.typed import TYPE_CHECKING
from mailflow_webmail.choice import chosen, is_certain
from mailflow_webmail.loading import Loader
from mailflow_webmail.rows import as_they_came

if TYPE_CHECKING:
    from mailflow.live import Hold, Listing
    from mailflow_webmail.account.session import Row, Session
    from mailflow_webmail.live import WebmailDropOptions

AHEAD = 1 << 20
"""Octets of a message that is loaded before it is asked for, once a client reads them one
after the other."""

REFUSED = 0
"""The size that is kept of what is too large to be served: no message has it."""


def uidl(folder: str, id_: str) -> str:
    """The unique-id of a message (RFC 1939, 7): 40 octets that its folder and its id give."""
    said = f"{len(folder)} {folder}{id_}".encode("utf-8", "surrogateescape")
    return blake2b(said, digest_size=20).hexdigest()


def served(session: Session, patterns: Sequence[str]) -> list[str]:
    """The folders that are served, as the webmail calls them."""
    rows = () if is_certain(patterns) else session.folders()
    return [folder.id for folder in chosen(patterns, rows)]


def octets_sent(content: Content) -> int:
    """How many octets POP3 has of it: its last line ends."""
    with content.open() as file:
        file.seek(max(0, content.size - 2))
        return content.size + (0 if file.read(2) in (b"", b"\r\n") else 2)


class OpenWebmail:
    """The messages of folders there, from the log-in to the end of the session here."""

    def __init__(
        self,
        options: WebmailDropOptions,
        runtime: Runtime,
        hold: Hold,
        session: Session,
        keep: Callable[[], None],
    ) -> None:
        """`keep` is called when the session ended in order, and has it for the next one. Raises
        what listing and loading raise; the session and `hold` are still the caller's then."""
        self._options = options
        self._runtime = runtime
        self._hold = hold
        self._session = session
        self._keep = keep
        rows = [
            row
            for folder in served(session, options.folders)
            for row in as_they_came(session.listing(folder))
        ]
        self._rows = {uidl(row["folder"], row["id"]): row for row in rows}
        self._loader = Loader(
            lambda key: session.raw(self._rows[key]), options.parallel, runtime.scratch
        )
        try:
            self._listing = self._measured()
        except BaseException:
            self._loader.close()
            raise
        self._read: set[str] = set()
        self._at = -1

    def items(self) -> Sequence[Item]:
        return self._listing

    def read(self, key: str) -> Content:
        """The message, whole. Raises GoneError, UnavailableError, PeerError."""
        number = self._number(key)
        if number == self._at + 1:
            self._loader.ahead(self._following(number))
        self._at = number
        content = self._loader.get(key)
        self._read.add(key)
        self._measure(number, octets_sent(content))
        return content

    def top(self, key: str, lines: int) -> Content:
        """All of it, which does not count as read: a page gives the whole or nothing."""
        self._number(key)
        return self._loader.get(key)

    def close(self, delete: Collection[str] = ()) -> None:
        """Remove these there, and see that they are gone. Raises what says that not all are
        removed for sure."""
        try:
            self._loader.close()
            doomed = sorted(delete, key=self._number)
            if self._options.seen:
                self._mark_seen(sorted(self._read.difference(doomed), key=self._number))
            self._remove(doomed)
        except BaseException:
            part(self._session)
            raise
        else:
            self._keep()
        finally:
            self._hold.release(self._runtime.log)

    # What is where

    def _number(self, key: str) -> int:
        """Raises KeyError."""
        return self._listing.keys.number(key, max(0, self._at))

    def _following(self, number: int) -> Iterator[str]:
        """The next ones that are small, that one among them."""
        for other in range(number, min(number + self._options.parallel, len(self._rows))):
            if self._listing.sizes[other] <= AHEAD:
                yield self._listing.keys[other]

    def _by_folder(self, keys: Iterable[str]) -> Iterator[list[Row]]:
        for _, rows in groupby((self._rows[key] for key in keys), lambda row: row["folder"]):
            yield list(rows)

    # Sizes

    def _measured(self) -> Listing:
        """Load what nobody has measured, and list it; what cannot be had is not served."""
        hold = self._hold
        new = [key for key in self._rows if hold.known(key) is None]
        for key, found in self._loader.every(new, self._others_come):
            if not isinstance(found, MailflowError):
                hold.measured(key, octets_sent(found), -1)
                continue
            self._runtime.log.warning("a message is not served", error=found.text)
            if isinstance(found, BadMailError):
                hold.measured(key, REFUSED, -1)  # or it would be loaded each time
            else:
                del self._rows[key]
        refused = [key for key in self._rows if hold.known(key) == REFUSED]
        for key in refused:
            del self._rows[key]
        listing = hold.listing(list(self._rows), [0] * len(self._rows))
        for key in refused:
            hold.measured(key, REFUSED, -1)
        return listing

    def _others_come(self, key: str, error: MailflowError) -> bool:
        """Whether it is that message alone: one that was measured before still comes. Without
        such a one nothing is known, and a drop is rather closed than empty."""
        for other, row in self._rows.items():
            if self._hold.known(other):
                try:
                    drop(self._session.raw(row))
                except MailflowError:
                    return False
                return True
        return False

    def _measure(self, number: int, octets: int) -> None:
        listed = self._listing.sizes[number]
        key = self._listing.keys[number]
        if self._hold.measured(key, octets, listed):
            self._runtime.log.info("another size than was listed", key=key, said=listed, had=octets)

    # What is changed

    def _remove(self, keys: Iterable[str]) -> None:
        """Also when everything stops, for a moment: a client has said QUIT."""
        with self._session.browser.parting():
            for rows in self._by_folder(keys):
                self._session.remove(rows, "trash" if self._options.trash else "delete")

    def _mark_seen(self, keys: Iterable[str]) -> None:
        for rows in self._by_folder(keys):
            try:
                self._session.remove(rows, "seen")
            except MailflowError as error:
                self._runtime.log.warning("not marked as read", error=error.text)


def part(session: Session) -> None:
    """End it; what it says of that changes nothing."""
    try:
        session.close()
    except MailflowError:
        return
