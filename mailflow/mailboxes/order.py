"""In which order messages are selected: as the SORT of IMAP has it (RFC 5256).

Rule of the file: a server that sorts, and what is sorted here, come to the same order.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterable, Sequence

from mailflow.record import NamedTuple
from mailflow.typed import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from mailflow.kinds import Item
    from mailflow.mail import Header

LISTED = ("uid", "created", "size")
HEADED = ("subject", "from", "to", "cc")
NAMES = (*LISTED, *HEADED)


class Key(NamedTuple):
    """One of the fields to order by; `falling`: the greatest first."""

    name: str
    falling: bool = False


def parse(order: str) -> list[Key]:
    """The keys of an order such as "subject, -created". Raises ValueError."""
    keys = []
    for word in order.split(","):
        text = word.strip()
        name = text.removeprefix("-")
        if name not in NAMES:
            from mailflow.values import instead

            hint = instead(name, NAMES)
            raise ValueError(f"there is no order by {name!r}{hint}")
        keys.append(Key(name, text.startswith("-")))
    return keys


def reach(keys: Iterable[Key]) -> str:
    """What must be had of each message: listing or header."""
    return "header" if any(key.name in HEADED for key in keys) else "listing"


def value(key: Key, item: Item, header: Header | None) -> Any:
    """What one message is ordered by; what is not known comes first."""
    if key.name == "uid":
        return item.uid or 0
    if key.name == "created":
        return item.date or 0.0
    if key.name == "size":
        return item.size or 0
    if header is None:
        return ""
    if key.name == "subject":
        return folded(base_subject(header.decoded("Subject") or ""))
    from mailflow.addresses import addresses

    found = addresses(header.get(key.name) or "").found
    return folded(found[0].rpartition("@")[0]) if found else ""


def ordered(rows: Sequence[tuple[int, Sequence[Any]]], keys: Sequence[Key]) -> list[int]:
    """The UIDs of (UID, values) in this order, equal ones by their UIDs."""
    found = sorted(rows)
    for number in reversed(range(len(keys))):
        found.sort(key=lambda row: row[1][number], reverse=keys[number].falling)
    return [uid for uid, _ in found]


def folded(text: str) -> str:
    """Without the difference of case, as i;unicode-casemap has it (RFC 5051)."""
    if text.isascii():
        return text.upper()
    titled = "".join(t if len(t := each.title()) == 1 else each for each in text)
    return unicodedata.normalize("NFKD", titled)


SUBJECT_LIMIT = 1000
"""Characters of a subject that are compared."""

_BLOB = r"\[[^\[\]]*\][ \t]*"
_LEADER = re.compile(rf"(?:{_BLOB})*(?:re|fwd?)[ \t]*(?:{_BLOB})?:[ \t]*", re.I)
_BEFORE = re.compile(rf"[ \t]*{_BLOB}(?=[^ \t])")
_BEHIND = re.compile(r"(?:\(fwd\)|[ \t])+\Z", re.I)
_FORWARDED = re.compile(r"\[fwd:(.*)\]\Z", re.I | re.S)


def base_subject(subject: str) -> str:
    """A subject without "Re:", "[list]", "(fwd)" and their like (RFC 5256, 2.1)."""
    text = re.sub(r"[ \t\r\n]+", " ", subject[:SUBJECT_LIMIT])
    while True:
        text = _BEHIND.sub("", text)
        while True:
            before = text
            text = text.lstrip(" ")
            if leader := _LEADER.match(text):
                text = text[leader.end() :]
            elif blob := _BEFORE.match(text):
                text = text[blob.end() :]
            if text == before:
                break
        forwarded = _FORWARDED.match(text)
        if not forwarded:
            return text
        text = forwarded[1]
