"""Where messages are now: the last listing of each folder, and a second look where places shift.

Rule of the file: a place that shifts is believed when it is the same before a message is read
and after; that a message has gone is believed of a whole new listing.
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
    """A second look at one page."""

    login: int
    began: float
    rows: dict[str, Row]


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
        self._looking = threading.Lock()

    def listed(self, folder: str, facts: Facts) -> Listing:
        """A new listing. Raises what listing raises."""
        began = time.monotonic()
        found = self._lister.whole(folder, facts)
        before = self._known.get(folder)
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
            now = self._now(row, facts, began)
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
                there = not self._shifts or self._is_there(now, facts)
            finally:
                if not there:
                    drop(source.content)
            if there:
                return source
        raise UnavailableError(
            f"{self._name}: raw: mail comes and goes faster than it can be read in its place"
        )

    def _now(self, row: Row, facts: Facts, began: float) -> Row:
        """The row with what it is asked for by in this login."""
        if not self._handles:
            return row
        with self._lock:
            known = self._known.get(row["folder"])
            if known is None or known.login != facts.number:
                return self._of(self.listed(row["folder"], facts), row)
            if row["id"] in known.listing.rows or known.tells(row, began):
                return self._of(known.listing, row)
            return self._of(self.listed(row["folder"], facts), row)

    def _of(self, listing: Listing, row: Row) -> Row:
        found = listing.rows.get(row["id"])
        if found is None:
            raise GoneError(f"{self._name}: message {row['id']!a} is not listed any more")
        return found

    def _check_gone(self, row: Row, facts: Facts, began: float) -> None:
        """Raises GoneError if a whole listing since then does not have the message."""
        with self._lock:
            known = self._known.get(row["folder"])
            if known is not None and known.tells(row, began):
                self._of(known.listing, row)
            else:
                self._of(self.listed(row["folder"], facts), row)

    def _is_there(self, row: Row, facts: Facts) -> bool:
        """Whether its page has it in that place after it was read. Where not, what is known
        of the folder is out of date."""
        ended = time.monotonic()
        folder, number = row["folder"], int(row[PAGE].partition(".")[2])
        with self._looking:
            look = self._looks.get((folder, number))
            if look is None or look.began <= ended or look.login != facts.number:
                known = self._known[folder]
                if known.login != facts.number or number >= len(known.listing.places):
                    return False
                place = known.listing.places[number]
                began = time.monotonic()
                rows = self._lister.page(folder, place, number, facts)
                look = self._looks[folder, number] = Look(facts.number, began, rows)
        now = look.rows.get(row["id"], {})
        if now and all(now.get(name) == row.get(name) for name in self._handles):
            return True
        with self._lock:
            known = self._known[folder]
            if known.began < look.began:
                self.listed(folder, facts)
        return False
