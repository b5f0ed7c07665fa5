"""Which messages of an open folder are meant, and in which order: UIDs, settled at once.

Rule of the file: the server may only narrow; what it leaves open is asked of facts, then
of headers, then of whole messages, and of no more of them than must be.
"""

from __future__ import annotations

import time
from collections.abc import Collection, Iterable, Iterator, Sequence

from mailflow.errors import GoneError, RefusedError
from mailflow.kept import kept
from mailflow.kinds import Item
from mailflow.mail import Envelope, Header, Mail, head
from mailflow.mailboxes import order as orders
from mailflow.query import ItemFacts, MailFacts, Query
from mailflow.typed import TYPE_CHECKING
from mailflow_imap.answers import Body
from mailflow_imap.keys import Place, place_of
from mailflow_imap.names import canonical
from mailflow_imap.search import Search, compiled, trusted
from mailflow_imap.uids import sets

if TYPE_CHECKING:
    from mailflow_imap.responses import Fact
    from mailflow_imap.session import Session

Chosen = Query | Collection[str]

_SORTS = {"created": b"ARRIVAL", "size": b"SIZE", "subject": b"SUBJECT",
          "from": b"FROM", "to": b"TO", "cc": b"CC"}  # fmt: skip
"""What the server can sort by (RFC 5256, 3)."""


class Finding:
    """Asks `session`, which has the folder open, as of `now`."""

    def __init__(self, session: Session, now: float | None = None) -> None:
        if session.selected is None:
            raise ValueError("no folder is open")
        self._session = session
        self._folder = session.selected.folder
        self._validity = session.selected.uid_validity
        self._now = time.time() if now is None else now

    @property
    def validity(self) -> int:
        return self._validity

    def count(self, chosen: Chosen) -> int:
        """How many there are; of what the server alone can decide, without a list."""
        if isinstance(chosen, Query):
            asked = self._compiled(chosen)
            if asked is None:
                return 0
            if asked.rest is None and not asked.charset:
                return self._session.count(*asked.words).wait()
        return len(self.uids(chosen))

    def uids(self, chosen: Chosen) -> list[int]:
        """The UIDs of those that are there now, ascending."""
        if not isinstance(chosen, Query):
            return self._there(chosen)
        found, rest = self._found(chosen)
        if rest is None or not found:
            return found
        doubtful = self._doubtful(chosen, found)
        sure = [uid for uid in found if uid not in doubtful]
        return sorted([*sure, *self._fitting(doubtful.intersection(found), rest)])

    def _found(self, where: Query) -> tuple[list[int], Query | None]:
        """What the server finds, and what must still hold of it."""
        for charset in (True, False):
            asked = self._compiled(where, charset=charset)
            if asked is None:
                break
            try:
                return self._session.search(*asked.words).wait(), asked.rest
            except RefusedError:  # BADCHARSET, or words that this server does not know
                if not asked.charset:
                    raise
        return [], None

    def _doubtful(self, where: Query, found: Sequence[int]) -> set[int]:
        """Those that may not be meant: what a search for the opposite does not find is."""
        opposite = self._compiled(~where)
        if opposite is None:
            return set()
        if opposite.words == (b"ALL",):
            return set(found)
        return set(self._found(~where)[0])

    def ordered(self, uids: Sequence[int], order: str) -> list[int]:
        """These in an order such as "-created". Raises ValueError."""
        keys = orders.parse(order)
        if [key.name for key in keys] == ["uid"]:
            return sorted(uids, reverse=keys[0].falling)
        if self._session.offers("SORT") and all(key.name in _SORTS for key in keys):
            words = b" ".join(
                b"REVERSE " * key.falling + _SORTS[key.name] for key in keys
            )  # fmt: skip
            wanted = set(uids)
            return [uid for uid in self._session.sort(words).wait() if uid in wanted]
        return orders.ordered(list(self._values(uids, keys)), keys)

    def _compiled(self, where: Query, *, charset: bool = True) -> Search | None:
        return compiled(
            where, folder=self._folder, charset=charset, now=self._now,
            texts=trusted(self._session, where),
        )  # fmt: skip

    def _there(self, keys: Collection[str]) -> list[int]:
        """Those of the keys that name messages of this folder as it is."""
        places = [place_of(key) for key in keys]
        wanted = {
            place.uid for place in places
            if place is not None
            and (canonical(place.folder), place.validity) == (self._folder, self._validity)
        }  # fmt: skip
        found: list[int] = []
        for each in sets(wanted):
            found += self._session.search(b"UID", each.encode()).wait()
        return sorted(found)

    def item(self, fact: Fact) -> Item:
        """A message as a listing says it."""
        key = Place(self._folder, self._validity, fact.uid).key
        return Item(key, fact.size, fact.date, fact.flags, self._folder, fact.uid)

    def _fitting(self, uids: Iterable[int], where: Query) -> Iterator[int]:
        """Those for which it holds."""
        open_: dict[int, Item] = {}
        for fact in self._session.facts(uids):
            item = self.item(fact)
            decided = where.decide(ItemFacts(item, now=self._now))
            if decided:
                yield fact.uid
            elif decided is None:
                open_[fact.uid] = item
        for section, whole in ((b"HEADER", False), (b"", True)):
            if not open_ or (whole and where.reach != "body"):
                return
            left: dict[int, Item] = {}
            for body in self._session.bodies(open_, section):
                if not isinstance(body, Body):
                    if not isinstance(body.error, GoneError):
                        self._session.log.warning(
                            "left out, since it cannot be read", uid=body.uid, error=body.error.text
                        )
                    continue
                item = open_[body.uid]
                mail = Mail("", Envelope(), kept(body.content))
                decided = where.decide(MailFacts(mail, item, now=self._now, whole=whole))
                if decided:
                    yield body.uid
                elif decided is None:
                    left[body.uid] = item
            open_ = left

    def _values(
        self, uids: Sequence[int], keys: Sequence[orders.Key]
    ) -> Iterator[tuple[int, list[object]]]:
        """(UID, what it is ordered by) of each."""
        listed = {fact.uid: self.item(fact) for fact in self._session.facts(uids)}
        if orders.reach(keys) == "listing":
            for uid, item in listed.items():
                yield uid, [orders.value(key, item, None) for key in keys]
            return
        for body in self._session.bodies(listed, _SECTION):
            if isinstance(body, Body):
                header = Header(head(body.content))
                yield body.uid, [orders.value(key, listed[body.uid], header) for key in keys]


_SECTION = b"HEADER.FIELDS (SUBJECT FROM TO CC)"

__all__ = ["Chosen", "Finding"]
