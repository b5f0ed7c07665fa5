"""Where messages are now: the last listing of each folder, and a second look where places shift.

Rule of the file: a place that shifts is believed when its whole page, and the first one, on which
mail arrives, are the same before a message is read and after, and no look meanwhile, for whatever
message, has seen the folder otherwise: a place may have come back to where it was. That a message
has gone is believed of a whole new listing.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from typing import TYPE_CHECKING

from mailflow.errors import GoneError, UnavailableError
from mailflow.kept import drop
from mailflow.record import NamedTuple
from mailflow_webmail.account.listing import PAGE, Row
from mailflow_webmail.account.original import NoMessageError
from mailflow_webmail.account.steps import needed

if TYPE_CHECKING:
    from mailflow_webmail.account.entry import Facts
    from mailflow_webmail.account.listing import Lister, Listing
    from mailflow_webmail.account.original import Source
    from mailflow_webmail.definition.language import Site

TRIES = 4
"""Loads of a message whose place shifts."""


class Known(NamedTuple):
    """A listing: of which login, and when it was begun, in seconds of the monotonic clock; `lost`
    are ids that earlier ones had and it has not."""

    login: int
    began: float
    listing: Listing
    lost: frozenset[str]

    def tells(self, row: Row, began: float) -> bool:
        """Whether that the row is not in it shows that its message has gone: a row that came
        from elsewhere may be newer."""
        return self.began > began or row["id"] in self.lost


class Look(NamedTuple):
    """A second look at one page of what was known, and when it was begun."""

    known: Known
    began: float


class Whereabouts:
    """The listings of a session. Any thread may ask."""

    def __init__(self, site: Site, lister: Lister) -> None:
        self._name = site.name
        self._lister = lister
        self._handles = needed(site.raw) & {*site.list_.rows.names} - {"id"}
        self._shifts = site.list_.volatile and bool(self._handles)
        self._lock = threading.Lock()
        self._known: dict[str, Known] = {}
        self._looks: dict[tuple[str, int], Look] = {}
        self._outdated: dict[str, Known] = {}
        self._looking = threading.Lock()

    def listed(self, folder: str, facts: Facts) -> Listing:
        """A new listing. Raises what listing raises.

        From its beginning on the one before counts no more: to list is to have the webmail look
        where messages are."""
        began = time.monotonic()
        before = self._known.get(folder)
        if before is not None:
            self._outdated[folder] = before
        found = self._lister.whole(folder, facts)
        lost: frozenset[str] = frozenset()
        if before is not None:
            lost = (before.lost | before.listing.rows.keys()) - found.rows.keys()
        self._known[folder] = Known(facts.number, began, found, lost)
        return found

    def first(self, folder: str, facts: Facts) -> tuple[dict[str, Row], tuple[int, ...]]:
        """The rows of the first page, and the number of messages that it says, if any."""
        return self._lister.first(folder, facts)

    def loaded(self, row: Row, facts: Facts, read: Callable[[Row], Source]) -> Source:
        """What `read` gives for the row, as it is now. Raises GoneError where a new listing
        does not have it."""
        for _ in range(TRIES):
            began = time.monotonic()
            known, now = self._now(row, facts, began)
            try:
                source = read(now)
            except (GoneError, NoMessageError) as error:
                self._check_gone(row, facts, began)
                if self._shifts:
                    continue
                raise UnavailableError(
                    f"{error.text}; a new listing has the message, so it is not gone"
                ) from None
            there = False
            try:
                there = known is None or self._still(known, now, facts)
            finally:
                if not there:
                    drop(source.content)
            if there:
                return source
        raise UnavailableError(
            f"{self._name}: raw: mail comes and goes faster than it can be read in its place"
        )

    def _now(self, row: Row, facts: Facts, began: float) -> tuple[Known | None, Row]:
        """The row with what it is asked for by in this login, and, where that shifts, the listing
        that says so."""
        if not self._handles:
            return None, row
        folder = row["folder"]
        with self._lock:
            known = self._known.get(folder)
            if (
                known is None
                or known.login != facts.number
                or not self._holds(known, folder)
                or not (row["id"] in known.listing.rows or known.tells(row, began))
            ):
                self.listed(folder, facts)
                known = self._known[folder]
        return known if self._shifts else None, self._of(known.listing, row)

    def _of(self, listing: Listing, row: Row) -> Row:
        found = listing.rows.get(row["id"])
        if found is None:
            raise GoneError(f"{self._name}: message {row['id']!r} is not listed any more")
        return found

    def _check_gone(self, row: Row, facts: Facts, began: float) -> None:
        """Raises GoneError if a whole listing since then does not have the message."""
        with self._lock:
            known = self._known.get(row["folder"])
            if known is not None and known.tells(row, began):
                self._of(known.listing, row)
            else:
                self._of(self.listed(row["folder"], facts), row)

    def _still(self, known: Known, row: Row, facts: Facts) -> bool:
        """Whether the folder is as it was listed, now that the row was read by its place."""
        ended = time.monotonic()
        folder, number = row["folder"], int(row[PAGE].partition(".")[2])
        if known.login != facts.number or number >= len(known.listing.places):
            return False
        with self._looking:
            for each in {number, 0}:
                if not self._holds(known, folder):
                    return False
                look = self._looks.get((folder, each))
                if look is None or look.began <= ended or look.known is not known:
                    look = Look(known, time.monotonic())
                    if not self._same(known.listing, folder, each, facts):
                        self._outdated[folder] = known
                    self._looks[folder, each] = look
            return self._holds(known, folder)

    def _holds(self, known: Known, folder: str) -> bool:
        return known is self._known[folder] and known is not self._outdated.get(folder)

    def _same(self, listing: Listing, folder: str, number: int, facts: Facts) -> bool:
        """Whether a page has the rows that it had, in their places."""
        page = self._lister.page(folder, listing.places[number], number, facts)
        name = f"{facts.number}.{number}"
        if any(each[PAGE] == name and key not in page for key, each in listing.rows.items()):
            return False
        none: Row = {}
        return all(
            row[handle] == listing.rows.get(key, none).get(handle)
            for key, row in page.items()
            for handle in self._handles
        )
