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

if TYPE_CHECKING:
    from mailflow_webmail.session import Row

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
    do not say that."""

    said: str = ""
    checked: float = 0.0
    anchors: Mapping[str, str] = {}
    seen: frozenset[str] = frozenset()
    large: frozenset[str] = frozenset()
    most: int = 0

    def is_to_be_checked(self, said: str, now: float) -> bool:
        """Whether a message is to be compared: the pages have changed, or it is long ago."""
        return said != self.said or not now - DAY < self.checked <= now + SKEW


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
                sorted(left.large), left.most,
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


def digest_of(content: Content) -> str:
    """Of a header section."""
    return sha256(head(content)).hexdigest()[:16]


def anchors(digests: Mapping[str, str], rows: Sequence[Row]) -> dict[str, str]:
    """Those by which the folder is known the next time: of both its ends."""
    here = [row["id"] for row in rows if row["id"] in digests]
    kept = here if len(here) <= ANCHORS else here[: ANCHORS // 2] + here[-ANCHORS // 2 :]
    return {each: digests[each] for each in kept}


def _left(said: Any, checked: Any, anchors: Any, seen: Any, large: Any, most: Any) -> Left:
    """Raises TypeError or ValueError where these are no such facts."""
    known = {str(id_): str(digest) for id_, digest in anchors.items()}
    marked, over = frozenset(map(str, seen)), frozenset(map(str, large))
    return Left(str(said), float(checked), known, marked, over, int(most))
