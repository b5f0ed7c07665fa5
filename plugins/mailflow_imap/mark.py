"""The mark: what a visit has seen of each folder, so that the next one asks for the rest.

Rule of the file: a mark is believed only where it fits what is asked now; in doubt, it says
nothing, and everything is listed.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from mailflow.record import NamedTuple
from mailflow.typed import TYPE_CHECKING, Any
from mailflow_imap.uids import UID_LIMIT, ranges

if TYPE_CHECKING:
    from mailflow.query import Query

FORM = 1
"""Marks of another form say nothing."""

WEEK = 7 * 86400.0
"""Seconds after which everything is listed again, whatever the mark says."""

SKEW = 300.0
"""Seconds by which a mark may be ahead of the clock, and both be right."""

RUNS = 200
"""So many runs of UIDs that are still wanted are written down; of more, where they begin."""


class Left(NamedTuple):
    """How a visit has left a folder: messages with `next` or a higher UID came since, those
    in `open`, (first, last) each, are still wanted. `modseq` is its HIGHESTMODSEQ
    (RFC 7162), 0 for none."""

    validity: int
    next: int
    modseq: int = 0
    open: tuple[tuple[int, int], ...] = ()

    def wants(self, uid: int) -> bool:
        """Whether the next listing is to have it."""
        return uid >= self.next or any(first <= uid <= last for first, last in self.open)

    def keeping(self, uids: Iterable[int]) -> Left:
        """The same with these still wanted."""
        runs = tuple(ranges(uid for uid in uids if uid < self.next))
        if len(runs) > RUNS:
            return self._replace(next=runs[0][0], open=())
        return self._replace(open=runs)


class Mark(NamedTuple):
    """`complete_at`: when everything was listed last, in seconds since the epoch. `asked` stands
    for what was asked for then; with another `where`, other messages are wanted."""

    complete_at: float = 0.0
    asked: str = ""
    folders: Mapping[str, Left] = {}

    @classmethod
    def read(cls, text: str) -> Mark:
        """What a mark says; an empty one for what is none."""
        import json

        try:
            form, complete_at, asked, folders = json.loads(text)
            if form != FORM or not isinstance(asked, str):
                return cls()
            found = {name: _left(*facts) for name, facts in folders.items()}
            return cls(float(complete_at), asked, found)
        except (ValueError, TypeError, AttributeError, OverflowError, RecursionError):
            return cls()

    def write(self) -> str:
        """One line of text."""
        import json

        folders = {name: tuple(left) for name, left in self.folders.items()}
        return json.dumps(
            [FORM, round(self.complete_at), self.asked, folders], separators=(",", ":")
        )

    def holds(self, asked: str, now: float) -> bool:
        """Whether a listing may leave out what was listed by then."""
        return (
            bool(self.folders)
            and self.asked == asked
            and now - WEEK < self.complete_at <= now + SKEW
        )


def _left(validity: Any, next_: Any, modseq: Any, open_: Any) -> Left:
    """Raises ValueError or TypeError where these are not such numbers."""
    runs = tuple((int(first), int(last)) for first, last in open_)
    left = Left(int(validity), int(next_), int(modseq), runs)
    inside = [each for run in runs for each in run]
    if (
        not 0 <= left.validity <= UID_LIMIT
        or not 1 <= left.next <= UID_LIMIT + 1
        or left.modseq < 0
    ):
        raise ValueError("no such folder")
    if not all(1 <= each <= UID_LIMIT for each in inside):
        raise ValueError("no such messages")
    return left


def asked_for(where: Query, max_size: int | None) -> str:
    """What stands for a question: those with the same answer may be equal, others are not."""
    return f"{where.hash} {max_size}"
