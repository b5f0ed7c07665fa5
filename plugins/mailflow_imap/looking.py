"""What is in a folder: all of it, what came since the last visit, or what a SEARCH finds.

Rule of the file: a folder is looked at in one flight where that is possible, and what comes
back counts only under the UIDVALIDITY that was expected.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

from mailflow.errors import PeerError, RefusedError
from mailflow.record import NamedTuple
from mailflow.typed import TYPE_CHECKING
from mailflow_imap.mark import Left, Mark
from mailflow_imap.search import compiled, trusted

if TYPE_CHECKING:
    from mailflow.query import Query
    from mailflow_imap.answers import Facts, Searching, Selected
    from mailflow_imap.responses import Fact
    from mailflow_imap.session import Session

TOGETHER = 16
"""So many folders are looked at in one flight."""


class Renewed(Exception):  # noqa: N818  # not an error: a folder was made anew
    """A folder has another UIDVALIDITY than when it was left."""

    def __init__(self, folder: str, before: int, now: int) -> None:
        self.folder, self.before, self.now = folder, before, now


class Look(NamedTuple):
    """What was found in a folder: facts by UID, and how it is left.
    `whole` says that these are all the messages in it, `back` that its UIDs have gone back:
    those that were given before may be given to others. `uid_next` is as it was told."""

    folder: str
    facts: dict[int, Fact]
    left: Left
    whole: bool
    back: bool = False
    uid_next: int = 0


class Plan:
    """How the folders are looked at: `where` and `mark` say what need not be listed. `whole`:
    everything is listed."""

    def __init__(self, where: Query, mark: Mark, *, held: bool, whole: bool) -> None:
        self.where = where
        self.mark = mark
        self.whole = whole
        self.held = held and not whole
        self._final = where.final
        self._flags_only = not where.fields & {"age", "created"}

    @property
    def searches(self) -> bool:
        """Whether a SEARCH comes first, for which the server must have said what it can."""
        return not self.whole and (not self.held or not self._final) and bool(self.where.fields)

    def left(self, folder: str) -> Left | None:
        """How the folder was left, where that counts."""
        return self.mark.folders.get(folder) if self.held else None

    def has_news(self, folder: str, standing: Mapping[str, int]) -> bool:
        """Whether STATUS tells of anything that is not listed yet."""
        left = self.left(folder)
        if left is None or left.open or not self._final:
            return True
        same = standing.get("UIDVALIDITY") == left.validity
        return not same or standing.get("UIDNEXT") != left.next

    def begin(self, session: Session, folder: str) -> Callable[[], Look]:
        """Ask; what it gives is called for the answer."""
        selecting = session.select(folder, read_only=True)
        left = self.left(folder)
        changed = self._flags_only and left is not None and left.modseq
        changed = changed and session.offers("CONDSTORE", "QRESYNC", "IMAP4REV2")
        if left is None or not (self._final or changed):
            if self.searches:
                return self._search(session, folder, selecting.wait)
            everything = session.facts("1:*")
            return lambda: self._look(selecting.wait(), [everything], whole=True)
        asked: list[Facts] = []
        if left.open:
            spelled = (f"{first}:{last}" for first, last in left.open)
            asked.append(session.facts(",".join(spelled)))
        if self._final:
            asked.append(session.facts(f"{left.next}:*"))
        else:
            asked.append(session.facts("1:*", changed_since=left.modseq))
        wants = left.wants if self._final else lambda uid: True
        return lambda: self._look(selecting.wait(), asked, wants)

    def _search(
        self, session: Session, folder: str, select: Callable[[], Selected]
    ) -> Callable[[], Look]:
        search = compiled(self.where, folder=folder, texts=trusted(session, self.where))
        if search is not None and search.words == (b"ALL",):
            asked = session.facts("1:*")
            return lambda: self._look(select(), [asked], whole=True)
        found: Searching | None = None if search is None else session.search(*search.words)

        def look() -> Look:
            selected = select()
            try:
                uids = found.wait() if found is not None else []
            except (RefusedError, PeerError):  # a server need not take every SEARCH
                return self._look(selected, [session.facts("1:*")], whole=True)
            return self._look(selected, [session.facts(uids)] if uids else [])

        return look

    def _look(
        self,
        selected: Selected,
        asked: Sequence[Facts],
        wants: Callable[[int], bool] = lambda uid: True,
        *,
        whole: bool = False,
    ) -> Look:
        """`wants`: N:* is the last message, where N is behind it."""
        folder, validity = selected.folder, selected.uid_validity
        if not selected.uids_stick or not validity:
            raise RefusedError(f"the UIDs in {folder} do not last: nobody can tell what is new")
        before = self.mark.folders.get(folder)
        same = before is not None and before.validity == validity
        back = before is not None and same and 0 < selected.uid_next < before.next
        if before is not None and not self.whole and (back or not same or self._lost(selected)):
            raise Renewed(folder, before.validity, validity)
        found = {fact.uid: fact for answer in asked for fact in answer if wants(fact.uid)}
        held = self.left(folder)
        least = max(selected.uid_next, max(found, default=0) + 1, held.next if held else 1)
        left = Left(validity, least, selected.modseq)
        return Look(folder, found, left, whole, back, selected.uid_next)

    def _lost(self, selected: Selected) -> bool:
        """Whether the folder does not know any more what has changed since it was left: some
        servers count from 1 again when they make its index anew."""
        left = self.left(selected.folder)
        return not self._final and left is not None and selected.modseq < left.modseq
