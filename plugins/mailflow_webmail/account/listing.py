"""The messages of a folder, all of them, over all pages.

Rule of the file: a listing is proven by the count that the webmail says, or, where that is
none, by being the same twice; an empty one by what only an empty folder shows. What is not
proven is an error.
"""

from __future__ import annotations

from collections.abc import Mapping
from itertools import chain
from typing import TYPE_CHECKING

from mailflow.errors import GoneError, PeerError, UnavailableError
from mailflow.record import NamedTuple
from mailflow_webmail.account.steps import absolute, described, first_page, needed
from mailflow_webmail.definition.decoding import number
from mailflow_webmail.definition.finders import Rows
from mailflow_webmail.definition.names import OF_A_MESSAGE
from mailflow_webmail.web.unpacking import says_its_end

if TYPE_CHECKING:
    from mailflow_webmail.account.entry import Facts
    from mailflow_webmail.account.steps import Steps
    from mailflow_webmail.web.page import Page

Row = Mapping[str, str]

TRIES = 4
"""Listings of a folder in which mail comes and goes."""

PAGES = 10_000
"""Pages of one folder."""

ROWS = 1_000_000
"""Messages of one folder."""

LETTERS = 1 << 27
"""What all rows of one folder say, in letters."""

PAGE = "@page"
"""The field of a row that says where it was listed, by the numbers of the login and of the page; a
site has none of that name."""


class Place(NamedTuple):
    """How a page of a folder is asked for: by a number, or by a link."""

    n: int
    url: str = ""


class Seen(NamedTuple):
    """One walk over the pages. `hidden` are rows that the definition leaves out; `counts` are
    the announced numbers, of each page that says any."""

    rows: dict[str, Row]
    places: list[Place]
    hidden: int
    counts: list[tuple[int, ...]]
    last: Page


class Listing(NamedTuple):
    """What lies in a folder; where each page is, for a second look at it."""

    rows: dict[str, Row]
    places: list[Place]


class Lister:
    """Lists folders with the steps of a site. Any thread may list."""

    def __init__(self, steps: Steps) -> None:
        self._steps = steps
        self._site = steps.site
        rows = self._site.list_.rows
        named = (needed(self._site.step(name)) for name in OF_A_MESSAGE if self._site.has(name))
        self._handles = {"id"}.union(*named).intersection(rows.names)
        self._all = Rows({name: value for name, value in vars(rows).items() if name != "skip"})

    def whole(self, folder: str, facts: Facts) -> Listing:
        """All messages. Raises LayoutError where nothing proves it, GoneError where there is
        no such folder, UnavailableError where it changes faster than it can be listed."""
        before: Seen | None = None
        for _ in range(TRIES):
            seen = self._seen(folder, facts)
            again = before is not None and before.rows.keys() == seen.rows.keys()
            if self._counted(seen) if seen.counts else again or len(seen.places) == 1:
                return Listing(seen.rows, seen.places)
            if again and before is not None and before.counts == seen.counts:
                break
            before = seen
        said = " or ".join(str(count) for count in sorted({*chain(*seen.counts)}))
        what = f"{len(seen.rows)} messages on {len(seen.places)} pages of {folder!r}"
        if again and seen.counts:
            raise self._steps.layout("list", "total", seen.last, f"it says {said}; found {what}")
        raise UnavailableError(
            f"{self._site.name}: list: mail comes and goes faster than it can be listed: found"
            f" {what}{said and f', where it says {said}'}"
        )

    def page(self, folder: str, place: Place, number: int, facts: Facts) -> dict[str, Row]:
        """The rows of one page as they are now, by their ids."""
        page = self._asked(folder, place, facts)
        return self._shown(page, self._rows(page, folder, f"{facts.number}.{number}"))

    def first(self, folder: str, facts: Facts) -> tuple[dict[str, Row], tuple[int, ...]]:
        """The rows of the first page, by their ids, and how many messages it says there are."""
        page = self._asked(folder, Place(first_page(self._site)), facts)
        shown = self._shown(page, self._rows(page, folder, f"{facts.number}.0"))
        return shown, self._counts(page) or self._told_elsewhere(folder, facts)

    def _seen(self, folder: str, facts: Facts) -> Seen:
        place: Place | None = Place(first_page(self._site))
        met: dict[str, Row] = {}
        told = self._told_elsewhere(folder, facts)
        letters = 0
        places: list[Place] = []
        counts: list[tuple[int, ...]] = [told] if told else []
        while place is not None:
            if len(places) == PAGES:
                raise PeerError(f"{self._site.name}: list: {folder!r} has over {PAGES} pages")
            page = self._asked(folder, place, facts, first=not places)
            rows = self._rows(page, folder, f"{facts.number}.{len(places)}")
            if not places and not rows:
                self._check_empty(page)
            places.append(place)
            if count := self._counts(page):
                counts.append(count)
            elif rows and any(each.field is None for each in self._site.list_.total):
                raise self._steps.layout("list", "total", page, self._uncounted(page))
            if not counts and page.is_html and not _has_its_end(page):
                raise UnavailableError(
                    f"{self._site.name}: list: a page of {folder!r} may have been cut on its way:"
                    " it says neither its length nor how many messages there are"
                )
            known = len(met)
            for key, row in rows.items():
                if met.setdefault(key, row) is row:
                    letters += sum(map(len, row.values()))
            if len(met) > ROWS or letters > LETTERS:
                raise PeerError(f"{self._site.name}: list: {folder!r} has more than can be listed")
            if len(met) == known or (counts and len(met) >= max(chain(*counts))):
                break
            place = self._next(page, place, len(rows))
        shown = self._shown(page, met)
        return Seen(shown, places, len(met) - len(shown), counts, page)

    def _told_elsewhere(self, folder: str, facts: Facts) -> tuple[int, ...]:
        """The numbers that the page with the folders says."""
        fields = [each.field for each in self._site.list_.total if each.field is not None]
        if not fields:
            return ()
        page = self._steps.ask("folders", facts)
        rows = self._steps.rows("folders", page, self._site.folders.rows)
        here = [row for row in rows if row["id"] == folder]
        found = [number(row.get(field, "")) for row in here for field in fields]
        return tuple(count for count in found if count is not None)

    def _asked(self, folder: str, place: Place, facts: Facts, first: bool = True) -> Page:
        more = {"folder": folder, "n": str(place.n)}
        try:
            if place.url:
                return self._steps.follow("list", place.url, facts)
            return self._steps.ask("list", facts, more, before=first)
        except GoneError as error:
            text = f"{self._site.name}: list: the webmail has no folder {folder!r}"
            raise GoneError(text, **error.fields) from None

    def _rows(self, page: Page, folder: str, mark: str) -> dict[str, Row]:
        """By their ids. Raises LayoutError where a row lacks what its message is asked for by,
        or two different ones have one id."""
        fields = self._site.list_.rows.fields
        met: dict[str, Row] = {}
        with self._steps.reading("list", "rows", page):
            for found in page.rows(self._all):
                row = {name: absolute(page, fields.get(name), found[name]) for name in found}
                row["folder"], row[PAGE] = folder, mark
                for name in self._handles:
                    if not row[name]:
                        what = described(fields[name]) if name in fields else "a row lacks it"
                        raise self._steps.layout("list", f"rows.fields.{name}", page, what)
                if met.setdefault(row["id"], row) != row:
                    what = "two messages have one id"
                    raise self._steps.layout("list", "rows.fields.id", page, what)
        return met

    def _shown(self, page: Page, rows: dict[str, Row]) -> dict[str, Row]:
        """Without those that the definition leaves out."""
        rule = self._site.list_.rows
        with self._steps.reading("list", "rows.skip", page):
            return {key: row for key, row in rows.items() if not page.skips(rule, row)}

    def _check_empty(self, page: Page) -> None:
        """Raises LayoutError where nothing proves that there is no message."""
        step = self._site.list_
        with self._steps.reading("list", "empty", page):
            if step.empty is not None and not page.holds(step.empty):
                raise self._steps.layout("list", "empty", page, described(step.empty))
        if step.empty is None and 0 not in self._counts(page):
            what = f"there is no row ({described(step.rows)}), and nothing says that it is empty"
            raise self._steps.layout("list", "rows", page, what)

    def _counts(self, page: Page) -> tuple[int, ...]:
        """The numbers that a page says there are in the folder."""
        with self._steps.reading("list", "total", page):
            said = [page.number(each) for each in self._site.list_.total if each.field is None]
        return tuple(count for count in said if count is not None)

    def _uncounted(self, page: Page) -> str:
        """Why a page says no number."""
        total = next(each for each in self._site.list_.total if each.field is None)
        with self._steps.reading("list", "total", page):
            any_ = any(page.values(total))
        found = "what it finds is no number" if any_ else "it finds nothing"
        return f"{described(total)}: {found}"

    def _counted(self, seen: Seen) -> bool:
        """Whether the number found is one that was announced, from the first page to the last."""
        found = (len(seen.rows), len(seen.rows) + seen.hidden)
        same = all(counts == seen.counts[0] for counts in seen.counts)
        return same and any(number in seen.counts[0] for number in found)

    def _next(self, page: Page, place: Place, rows: int) -> Place | None:
        """Where the next page is; None behind the last one."""
        step = self._site.list_.next_
        if step is None:
            return None
        with self._steps.reading("list", "next", page):
            if step.last is not None and page.number(step.last) is None:
                raise self._steps.layout("list", "next.last", page, described(step.last))
            turn = page.following(step, place.n, rows)
        return None if turn is None else Place(turn.n, turn.url or "")


def _has_its_end(page: Page) -> bool:
    """Whether a page that ended too early would be known."""
    return says_its_end(page.headers) or b"</html" in page.octets[-1024:].lower()
