"""What a server says of its folders: those there are, the one that is open, how another stands."""

from __future__ import annotations

from collections.abc import Collection, Mapping

from mailflow.errors import PeerError
from mailflow.typed import TYPE_CHECKING, Any
from mailflow_imap.answer import Answer
from mailflow_imap.names import ATTRIBUTES, Folder, decode, encode
from mailflow_imap.responses import parse
from mailflow_imap.wire import Command, Reply, Status, Untagged

if TYPE_CHECKING:
    from mailflow_imap.connection import Connection


NAMES_LIMIT = 1 << 24
"""Octets of all names of folders together, each taken for some more than it has."""

NAME_LIMIT = 4096
"""Octets of one: as many as a path may have where folders are directories."""


class Selected:
    """The folder that is open. The server changes `exists` while it is."""

    def __init__(self, folder: str, read_only: bool) -> None:
        self.folder = folder
        self.read_only = read_only
        self.exists = 0
        self.uid_validity = 0
        self.uid_next = 0
        self.modseq = 0
        """HIGHESTMODSEQ; 0 where the server keeps none for this folder (RFC 7162, 3.1.2)."""
        self.uids_stick = True
        self.news = 0
        """How often the server has told of a change: more, fewer or changed messages."""

    def continues(self, validity: int, uid_next: int) -> bool:
        """Whether it is still the folder that had this UIDVALIDITY when UIDNEXT was that: UIDs
        that have gone back since tell of another one, by a server whose clock stands still."""
        return self.uid_validity == validity and not 0 < self.uid_next < uid_next

    def hear(self, response: Untagged | Status) -> bool:
        """Take over what a response says of the folder, if it does."""
        if isinstance(response, Status):
            return False
        if response.keyword == "EXISTS":
            self.news += response.number != self.exists
            self.exists = response.number
        elif response.keyword == "EXPUNGE":
            self.news += 1
            self.exists = max(0, self.exists - 1)
        elif response.keyword == "FETCH":
            self.news += 1
        else:
            return response.keyword in ("FLAGS", "RECENT")
        return True


class Selecting(Answer[Selected]):
    """SELECT or EXAMINE (RFC 3501, 6.3.1)."""

    def __init__(self, session: Connection, command: Command, folder: str, read_only: bool) -> None:
        self._selected = Selected(folder, read_only)
        super().__init__(session, [command], f"open the folder {folder!r}")

    def take(self, response: Untagged | Status) -> bool:
        selected = self._selected
        if isinstance(response, Untagged):
            return selected.hear(response)
        numbers = {"UIDVALIDITY": "uid_validity", "UIDNEXT": "uid_next", "HIGHESTMODSEQ": "modseq"}
        if response.code in numbers:
            if response.argument.isdigit() and len(response.argument) < 20:
                setattr(selected, numbers[response.code], int(response.argument))
        elif response.code == "UIDNOTSTICKY":
            selected.uids_stick = False
        else:
            return False
        return True

    def finish(self, reply: Reply) -> None:
        self._selected.news = 0
        if reply.code == "READ-ONLY":
            self._selected.read_only = True
        self.session.selected = self._selected if self._error is None else None

    def result(self) -> Selected:
        return self._selected


class Folders(Answer[list[Folder]]):
    """LIST (RFC 3501, 7.2.2; RFC 5258)."""

    def __init__(self, session: Connection, command: Command) -> None:
        self._found: dict[str, Folder] = {}
        self._spelled: dict[str, bytes] = {}
        self._octets = 0
        super().__init__(session, [command], "list the folders")

    def take(self, response: Untagged | Status) -> bool:
        if isinstance(response, Status) or response.keyword not in ("LIST", "STATUS"):
            return False
        if response.keyword == "LIST":
            words = parse(response.parts)
            if len(words) < 3 or not isinstance(words[0], tuple):
                raise PeerError(f"{self.session.peer} lists a folder without its name")
            attributes = (word for word in words[0] if isinstance(word, bytes))
            wire, delimiter = octets(words[2]), octets(words[1] or b"")
            if len(wire) > NAME_LIMIT:
                raise PeerError(
                    f"{self.session.peer} has a folder whose name has {len(wire)} octets"
                )
            self._octets += 100 + len(wire)
            if self._octets > NAMES_LIMIT:
                raise PeerError(f"{self.session.peer} has too many folders")
            name = decode(wire)
            if name != "INBOX" and encode(name).encode() != wire:
                self._spelled[name] = wire
            self._found[name] = Folder(
                name,
                delimiter.decode("ascii", "replace") if len(delimiter) == 1 else "",
                ATTRIBUTES.intersection(
                    each.decode("ascii", "replace").lstrip("\\").lower() for each in attributes
                ),
            )
        return True

    def finish(self, reply: Reply) -> None:
        self.session.spelled = self._spelled  # not beside what earlier lists said: it would grow

    def result(self) -> list[Folder]:
        return list(self._found.values())


class Standing(Answer[Mapping[str, int]]):
    """STATUS of a folder (RFC 3501, 6.3.10): numbers by item, such as "UIDNEXT"."""

    def __init__(
        self, session: Connection, command: Command, folder: str, items: Collection[str]
    ) -> None:
        self._folder = folder
        self._items = items
        self._found: dict[str, int] = {}
        super().__init__(session, [command], f"look at the folder {folder!r}")

    def take(self, response: Untagged | Status) -> bool:
        if isinstance(response, Status) or response.keyword != "STATUS":
            return False
        words = parse(response.parts)
        if len(words) != 2 or not isinstance(words[1], tuple):
            raise PeerError(f"{self.session.peer} answers STATUS without numbers")
        if decode(octets(words[0])) != self._folder:
            return False
        for word, value in zip(words[1][::2], words[1][1::2], strict=False):
            name = octets(word).decode("ascii", "replace").upper()
            if name in self._items and isinstance(value, int):
                self._found[name] = value
        return True

    def result(self) -> Mapping[str, int]:
        return self._found


def octets(word: Any) -> bytes:
    """A word that is a string, though it may look like a number or NIL (RFC 3501, 9: astring)."""
    if word is None:
        return b"NIL"
    return word if isinstance(word, bytes) else str(word).encode()
