"""Which folders are read: names, patterns, and what is left out.

Rule of the file: a folder is named as its user sees it or as the webmail calls it in its links;
a pattern is tried on the name alone.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from mailflow.options import Text
from mailflow.record import NamedTuple
from mailflow.typed import TYPE_CHECKING, Any
from mailflow.wildcards import fits

if TYPE_CHECKING:
    from mailflow_webmail.account.session import Row


class FolderPattern(Text):
    """A folder's name, or a pattern; after "!", not those."""

    def __init__(self, doc: str, **default: Any) -> None:
        super().__init__(doc, **default)
        self.expected = 'a folder such as "INBOX", "Lists*" or "!Junk"'

    def convert(self, value: object, base: str) -> str:
        text = super().convert(value, base)
        if not text.removeprefix("!"):
            raise self.reject()
        return text


class Folder(NamedTuple):
    """`id` is what the webmail calls it, `name` what its user sees."""

    id: str
    name: str


def is_certain(patterns: Sequence[str]) -> bool:
    """Whether nobody needs to be asked which folders there are: INBOX is there by that name."""
    return all(pattern == "INBOX" for pattern in patterns)


def is_plain(pattern: str) -> bool:
    """Whether it is a name."""
    return not pattern.startswith("!") and "*" not in pattern


def chosen(patterns: Sequence[str], rows: Iterable[Row]) -> list[Folder]:
    """The folders that are read, each once: those of the first pattern first. A name that is not
    listed is read all the same; there may be a folder that the list does not show."""
    folders = [Folder(row["id"], row.get("name") or row["id"]) for row in rows]
    found: dict[str, Folder] = {}
    for pattern in [each for each in patterns if not each.startswith("!")] or ["*"]:
        meant = matching(pattern, folders)
        if not meant and is_plain(pattern):
            meant = [Folder(pattern, pattern)]
        found.update((folder.id, folder) for folder in meant)
    for pattern in patterns:
        if pattern.startswith("!"):
            for folder in matching(pattern[1:], folders):
                found.pop(folder.id, None)
    return list(found.values())


def matching(pattern: str, folders: Sequence[Folder]) -> list[Folder]:
    """The folders that one pattern means; a name that is an `id` means that one alone."""
    exact = [folder for folder in folders if folder.id == pattern]
    if not exact:
        exact = [folder for folder in folders if folder.name == pattern]
    if exact or "*" not in pattern:
        return exact
    return [folder for folder in folders if fits(pattern, folder.name)]
