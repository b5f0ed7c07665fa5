"""Which folders are read: names, patterns, and what a folder is for (RFC 6154).

Rule of the file: a name is text as the user sees it; "*" stands for any letters, and no other
letter for anything but itself, since servers name folders "[Gmail]/Sent Mail".
"""

from __future__ import annotations

import re
from collections.abc import Collection, Sequence

from mailflow.options import Text
from mailflow.record import NamedTuple

INBOX = "INBOX"

USES = ("All", "Archive", "Drafts", "Flagged", "Important", "Junk", "Sent", "Trash")
r"""Special uses: \Junk and its like (RFC 6154, 2; RFC 8457)."""

_CLOSED = frozenset(("noselect", "nonexistent"))
r"""What has these attributes holds no messages (RFC 9051, 7.3.1)."""


class Shelf(NamedTuple):
    r"""A folder as LIST tells it: `marks` are its attributes, such as "\Junk"."""

    name: str
    marks: frozenset[str] = frozenset()

    @property
    def words(self) -> frozenset[str]:
        """Its attributes in lower case, without the backslash."""
        return frozenset(mark.lstrip("\\").lower() for mark in self.marks)


class FolderPattern(Text):
    r"""A folder's name, or a pattern, or a special use such as "\Junk"; after "!", not those."""

    expected = r'a folder such as "INBOX", "Lists/*", "\\Sent" or "!\\Junk"'

    def convert(self, value: object, base: str) -> str:
        text = super().convert(value, base)
        word = text.removeprefix("!")
        if not word:
            raise self.reject()
        if word.startswith("\\") and word[1:].capitalize() not in USES:
            known = ", ".join(f"\\{use}" for use in USES)
            raise ValueError(f"expected a special use among {known}")
        return text


def fits(pattern: str, shelf: Shelf) -> bool:
    """Whether the folder is meant. INBOX is so in any case (RFC 9051, 5.1)."""
    if pattern.startswith("\\"):
        return pattern[1:].lower() in shelf.words
    if pattern.upper() == INBOX:
        return shelf.name.upper() == INBOX
    if "*" not in pattern:
        return pattern == shelf.name
    parts = map(re.escape, pattern.split("*"))
    return re.fullmatch(".*".join(parts), shelf.name, re.DOTALL) is not None


def is_plain(patterns: Sequence[str]) -> bool:
    """Whether they are names, so that nobody needs to be asked which folders there are."""
    return not any(pattern.startswith(("!", "\\")) or "*" in pattern for pattern in patterns)


def chosen(patterns: Sequence[str], shelves: Collection[Shelf]) -> list[str]:
    """The names of the folders that are read, each once: those of the first pattern first. One
    that is named as it is, is read even if LIST does not show it; it may be hidden."""
    shut = [pattern[1:] for pattern in patterns if pattern.startswith("!")]
    wanted = [pattern for pattern in patterns if not pattern.startswith("!")] or ["*"]
    found: dict[str, None] = {}
    for pattern in wanted:
        open_ = [shelf for shelf in shelves if not shelf.words & _CLOSED and fits(pattern, shelf)]
        if not open_ and is_plain([pattern]):
            open_ = [Shelf(pattern)]
        found.update(
            (shelf.name, None) for shelf in open_ if not any(fits(each, shelf) for each in shut)
        )
    return list(found)


def use_of(name: str, shelves: Collection[Shelf]) -> str | None:
    r"""The folder for a special use such as "\Archive"; a name is that of itself; None where
    there is none."""
    if not name.startswith("\\"):
        return name
    return next((shelf.name for shelf in shelves if fits(name, shelf)), None)
