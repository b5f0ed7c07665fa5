"""The mark: what a visit has seen of each folder, by which the next one knows it again.

Rule of the file: no webmail says UIDVALIDITY. That ids still mean what they meant is told by a
few messages whose header sections were digested; in doubt, it is not.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

from mailflow.digests import sha256
from mailflow.mail import Content, head
from mailflow.record import NamedTuple
from mailflow.typed import TYPE_CHECKING, Any
from mailflow_webmail.rows import arrival

if TYPE_CHECKING:
    from mailflow_webmail.account.session import Row

FORM = 1
"""Marks of another form say nothing."""

DAY = 86400.0
"""Seconds after which a message is looked at, though the pages say what they said."""

SKEW = 300.0
"""Seconds by which a mark may be ahead of the clock, and both be right."""

ANCHORS = 4
"""Messages of a folder that are known by their digests."""

SAID = ("size", "from", "subject")
"""What a page says of a message and does not say otherwise tomorrow."""


class Left(NamedTuple):
    """How a visit has left a folder. `said` is a digest of its pages, `checked` when a message
    was compared last, in seconds since the epoch; `anchors` are digests by id, `seen` ids that
    were marked as seen, `large` those of messages with more than `most` octets, of which the pages
    do not say that. `first` is a digest of its first page, where that would show what is new, and
    `whole` when all pages were read last, for what `asked` stands for."""

    said: str = ""
    checked: float = 0.0
    anchors: Mapping[str, str] = {}
    seen: frozenset[str] = frozenset()
    large: frozenset[str] = frozenset()
    most: int = 0
    first: str = ""
    whole: float = 0.0
    asked: str = ""

    def is_to_be_checked(self, said: str, now: float) -> bool:
        """Whether a message is to be compared: the pages have changed, or it is long ago."""
        return said != self.said or not _is_of_today(self.checked, now)

    def may_glance(self, asked: str, now: float) -> bool:
        """Whether the first page alone would show that nothing has come."""
        return bool(self.first) and self.asked == asked and _is_of_today(self.whole, now)


class Mark(NamedTuple):
    """How each folder was left, by its id."""

    folders: Mapping[str, Left] = {}

    @classmethod
    def read(cls, text: str) -> Mark:
        """What a mark says; an empty one for what is none."""
        import json

        try:
            form, folders = json.loads(text)
            if form != FORM:
                return cls()
            return cls({str(name): _left(*facts) for name, facts in folders.items()})
        except (ValueError, TypeError, AttributeError, OverflowError, RecursionError):
            return cls()

    def write(self) -> str:
        """One line of text."""
        import json

        folders = {
            name: (
                left.said, round(left.checked), dict(left.anchors), sorted(left.seen),
                sorted(left.large), left.most, left.first, round(left.whole), left.asked,
            )
            for name, left in self.folders.items()
        }  # fmt: skip
        return json.dumps([FORM, folders], separators=(",", ":"))


def said(rows: Iterable[Row]) -> str:
    """Stands for what the pages of a folder say of its messages."""
    digest = sha256()
    for row in rows:
        facts = (row["id"], *(row.get(name, "") for name in SAID))
        digest.update("\0".join(facts).encode("utf-8", "surrogatepass") + b"\n")
    return digest.hexdigest()[:16]


def first_page(rows: Sequence[Row]) -> str:
    """Stands for the first page of a folder with more of them, as it was listed; "" where it
    would not show what has come: messages must have come in the order of their numbers, the
    newest first."""
    from mailflow_webmail.account.listing import PAGE

    numbers = [arrival(row["id"]) for row in rows]
    if None in numbers or sorted(numbers, reverse=True) != numbers:  # type: ignore[type-var]
        return ""
    first = [row for row in rows if row.get(PAGE, "").endswith(".0")]
    return page_of(first, len(rows)) if len(first) < len(rows) else ""


def page_of(rows: Iterable[Row], count: int) -> str:
    """Stands for a page of a folder with so many messages."""
    return f"{count}.{said(rows)}"


def _is_of_today(then: float, now: float) -> bool:
    return now - DAY < then <= now + SKEW


def digest_of(content: Content) -> str:
    """Of a header section."""
    return sha256(head(content)).hexdigest()[:16]


def anchors(digests: Mapping[str, str], rows: Sequence[Row]) -> dict[str, str]:
    """Those by which the folder is known the next time: of both its ends."""
    here = [row["id"] for row in rows if row["id"] in digests]
    kept = here if len(here) <= ANCHORS else here[: ANCHORS // 2] + here[-ANCHORS // 2 :]
    return {each: digests[each] for each in kept}


def _left(*facts: Any) -> Left:
    """Raises TypeError or ValueError where these are no such facts."""
    said, checked, anchors, seen, large, most, first, whole, asked = facts
    return Left(
        str(said), float(checked), {str(id_): str(each) for id_, each in anchors.items()},
        frozenset(map(str, seen)), frozenset(map(str, large)), int(most),
        str(first), float(whole), str(asked),
    )  # fmt: skip
