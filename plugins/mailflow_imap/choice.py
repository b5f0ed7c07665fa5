"""Which folders are read: names, patterns, and what a folder is for (RFC 6154).

Rule of the file: what a pattern means is said in `names`; a "!" before one takes its
folders out again.
"""

from __future__ import annotations

from collections.abc import Sequence

from mailflow.errors import RefusedError
from mailflow.options import Text
from mailflow_imap.names import SPECIAL, Folder, canonical, matching


class FolderPattern(Text):
    r"""A folder's name, or a pattern, or a special use such as "\Junk"; after "!", not those."""

    expected = r'a folder such as "INBOX", "Lists/*", "\\Sent" or "!\\Junk"'

    def convert(self, value: object, base: str) -> str:
        text = super().convert(value, base)
        word = text.removeprefix("!")
        if not word:
            raise self.reject()
        special(word)
        return text


def special(word: str) -> bool:
    r"""Whether it is a special use. Raises ValueError where it is one that nobody knows."""
    if word.startswith("\\") and word[1:].lower() not in SPECIAL:
        known = ", ".join(f"\\{use.capitalize()}" for use in SPECIAL)
        raise ValueError(f"expected a special use among {known}")
    return word.startswith("\\")


def is_plain(patterns: Sequence[str]) -> bool:
    """Whether they are names, so that nobody needs to be asked which folders there are."""
    return not any(pattern.startswith(("!", "\\")) or {*"*%"} & {*pattern} for pattern in patterns)


def chosen(patterns: Sequence[str], folders: Sequence[Folder]) -> list[str]:
    """The names of the folders that are read, each once: those of the first pattern first. One
    that is named as it is, is read even if LIST does not show it; it may be hidden."""
    wanted = [pattern for pattern in patterns if not pattern.startswith("!")] or ["*"]
    shut = [pattern[1:] for pattern in patterns if pattern.startswith("!")]
    listed = {folder.name for folder in folders}
    found: dict[str, None] = {}
    for pattern in wanted:
        found.update((folder.name, None) for folder in matching([pattern], folders))
        if is_plain([pattern]) and canonical(pattern) not in listed:
            found[canonical(pattern)] = None
    for folder in matching(shut, folders):
        found.pop(folder.name, None)
    return list(found)


def fruitless(patterns: Sequence[str], folders: Sequence[Folder]) -> list[str]:
    """Those that are no plain names and bring no folder. One behind "!" need not."""
    return [
        pattern
        for pattern in patterns
        if not (pattern.startswith("!") or is_plain([pattern]) or matching([pattern], folders))
    ]


def reads(patterns: Sequence[str], name: str) -> bool:
    r"""Whether a folder of that name, or for that use, is read, as far as the file tells."""
    use = frozenset((name[1:].lower(),)) if special(name) else frozenset()
    name = canonical(name)
    return name in chosen(patterns, [Folder(name, "/", use)])


def target_of(name: str, patterns: Sequence[str], folders: Sequence[Folder]) -> str | None:
    r"""The one folder of that name, or for a special use such as "\Archive"; None where there is
    none. Raises RefusedError where it is read: what is moved there would come again."""
    meant = matching([name], folders)
    exact = [each.name for each in meant if special(name) or each.name == canonical(name)]
    if exact and exact[0] in chosen(patterns, folders):
        raise RefusedError(
            f"the folder {exact[0]!r}, where {name} leads, is one of those that are read:"
            " what is moved there would come again"
        )
    return exact[0] if exact else None
