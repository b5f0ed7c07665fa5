"""What lies in a Maildir: its folders, and its messages by a key that no reader changes.

Rule of the file: a name is what a directory said a moment ago. Readers rename files as
flags change, so the key is the part of a name that stays, and nothing but a regular file
is ever opened.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Iterable, Iterator, Mapping, Sequence

from mailflow.record import NamedTuple

INBOX = "INBOX"
"""What the Maildir itself is called among its folders."""

FLAGS = {
    "D": "draft", "F": "flagged", "P": "forwarded", "R": "answered", "S": "seen", "T": "deleted",
}  # fmt: skip
"""The letters behind ":2," in a name, and what IMAP calls them."""

SEPARATORS = ":;!"
"""What stands before the flags: ":", or another where a file system knows no colon."""


class File(NamedTuple):
    """A message's file: `place` is new or cur in the directory `folder`, "" the Maildir's."""

    folder: str
    place: str
    name: str
    inode: int = 0

    @property
    def path(self) -> str:
        return os.path.join(self.folder, self.place, self.name)


def unique(name: str) -> str:
    """The part of a name that stays when its flags change."""
    for separator in SEPARATORS:
        name = name.partition(separator)[0]
    return name


def flags(file: File) -> frozenset[str]:
    """What readers have marked it with; `recent` until one has seen it in the listing."""
    rest = file.name[len(unique(file.name)) :]
    found = {FLAGS[letter] for letter in rest[1:].removeprefix("2,") if letter in FLAGS}
    return frozenset(found | {"recent"} if file.place == "new" else found)


def with_flag(name: str, letter: str) -> str:
    """The name that says this flag too."""
    base = unique(name)
    separator = name[len(base) : len(base) + 1] or ":"
    letters = name[len(base) + 1 :].removeprefix("2,")
    return f"{base}{separator}2,{''.join(sorted({*letters, letter}))}"


def size_in(name: str) -> int | None:
    """Octets with CRLF line ends (W), else as stored (S), where the name tells them."""
    told, held = size_facts(unique(name))
    return held if told is None else told


def size_facts(base: str) -> tuple[int | None, int | None]:
    """What a name without flags tells: octets with CRLF line ends (W), and as stored (S)."""
    fields = dict(part.partition("=")[::2] for part in base.split(",")[1:])
    told, held = (fields.get(field, "") for field in "WS")
    return int(told) if told.isdecimal() else None, int(held) if held.isdecimal() else None


def folders(root: str, patterns: Sequence[str]) -> Iterator[tuple[str, str]]:
    """(name, directory) of each folder that a pattern fits, the Maildir first.

    A folder is a directory ".NAME" with a cur/ in it (Maildir++), no symbolic link.
    """
    from fnmatch import fnmatchcase

    if any(fnmatchcase(INBOX, pattern) for pattern in patterns):
        yield INBOX, ""
    names = []
    with os.scandir(root) as entries:
        for entry in entries:
            name = entry.name[1:]
            if not (entry.name.startswith(".") and name.strip(".")):
                continue
            fits = any(fnmatchcase(name, pattern.removeprefix(".")) for pattern in patterns)
            if fits and entry.is_dir(follow_symlinks=False):
                names.append(name)
    for name in sorted(names):
        if os.path.isdir(os.path.join(root, f".{name}", "cur")):
            yield name, f".{name}"


def messages(root: str, folder: str, odd: list[str]) -> dict[str, File]:
    """The messages of one folder, by the part of their names that stays; oldest name first.

    new/ is read before cur/, since readers move files that way: one that moves meanwhile is
    met twice, not missed. Of two files with one such part, the second has its inode in its
    key. What is no regular file is added to `odd`. Raises OSError.
    """
    found: dict[str, File] = {}
    for place in ("new", "cur"):
        files = sorted(_entries(root, folder, place, odd), key=lambda file: file.name)
        for file in files:
            key = unique(file.name)
            other = found.get(key)
            if other is not None and other.inode != file.inode:
                key = f"{key}#{file.inode}"
            found[key] = file
    return found


def _entries(root: str, folder: str, place: str, odd: list[str]) -> Iterator[File]:
    directory = os.path.join(root, folder, place)
    if folder and os.path.islink(directory):
        odd.append(directory)
        return
    with os.scandir(directory) as entries:
        for entry in entries:
            if entry.name.startswith("."):
                continue
            if entry.is_file(follow_symlinks=False):
                yield File(folder, place, entry.name, entry.inode())
            else:
                odd.append(entry.path)


class Glance(NamedTuple):
    """The messages of a Maildir in few octets: a tag by name.

    The name is the part that stays, and a tag such as "cur/:2,S" what is around it, so that
    most messages share one. Files that share that part are told apart by their inodes, each in
    its name, and their paths are in `twins`. `odd` are the paths of what is no message.
    """

    root: str
    found: dict[str, str]
    twins: dict[str, str]
    odd: list[str]

    def path(self, name: str, tag: str) -> str:
        """From the Maildir on."""
        return path_of(name, tag, self.twins)

    def split(self, name: str) -> None:
        """Name one of them by its inode, since others may have the same name."""
        path = self.path(name, self.found.pop(name))
        try:
            inode = os.lstat(os.path.join(self.root, path)).st_ino
        except FileNotFoundError:
            return
        self.add_twin(f"{name}#{inode}", path)

    def add_twin(self, name: str, path: str) -> None:
        self.found[name] = path[:4]
        self.twins[name] = path


def path_of(name: str, tag: str, twins: Mapping[str, str]) -> str:
    """See Glance."""
    return twins.get(name) or f"{tag[:4]}{name}{tag[4:]}"


def glance(root: str) -> Glance:
    """What lies in new/ and cur/ of the Maildir itself. new/ is read first: see `messages`.

    Raises OSError.
    """
    seen = Glance(root, {}, {}, [])
    tags: dict[tuple[str, str], str] = {}
    shared: set[str] = set()
    for place in ("new", "cur"):
        with os.scandir(os.path.join(root, place)) as entries:
            for entry in entries:
                text = entry.name
                if text.startswith("."):
                    continue
                if not entry.is_file(follow_symlinks=False) or "\n" in text:
                    seen.odd.append(f"{place}/{text}")
                    continue
                name = unique(text)
                if name in seen.found and not _is_same(seen, name, entry):
                    seen.split(name)
                    shared.add(name)
                if name in shared:
                    seen.add_twin(f"{name}#{entry.inode()}", f"{place}/{text}")
                    continue
                rest = text[len(name) :]
                tag = tags.get((place, rest)) or tags.setdefault((place, rest), f"{place}/{rest}")
                seen.found[name] = tag
    return seen


def _is_same(seen: Glance, name: str, entry: os.DirEntry[str]) -> bool:
    """Whether the file that was met before is this one, which a reader has just moved."""
    try:
        status = os.lstat(os.path.join(seen.root, seen.path(name, seen.found[name])))
    except OSError:
        return True
    return status.st_ino == entry.inode()


def open_message(root: str, file: File) -> tuple[int, os.stat_result]:
    """A descriptor of a regular file, and what fstat says. Raises OSError; FileNotFoundError
    where it has another name by now, ValueError where it is no regular file."""
    # O_NONBLOCK: to open a fifo would wait for a writer.
    mode = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
    try:
        descriptor = os.open(os.path.join(root, file.path), mode)
    except OSError as error:
        if os.path.islink(os.path.join(root, file.path)):
            raise ValueError("a symbolic link") from None
        raise error
    status = os.fstat(descriptor)
    if not stat.S_ISREG(status.st_mode):
        os.close(descriptor)
        raise ValueError("no regular file")
    return descriptor, status


def pieces(descriptor: int, size: int = 1 << 18) -> Iterable[bytes]:
    """The octets of an open file, in pieces."""
    while piece := os.read(descriptor, size):
        yield piece
