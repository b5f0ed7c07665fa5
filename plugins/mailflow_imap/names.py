"""Names of folders: as the user sees them, as the wire has them, and what they are for.

Rule of the file: inside mailflow a folder's name is text as the user sees it; modified
UTF-7 (RFC 3501, 5.1.3) and the server's case of INBOX stay on the wire.
"""

from __future__ import annotations

from collections.abc import Iterable

from mailflow.record import NamedTuple
from mailflow.wildcards import fits

SPECIAL = ("all", "archive", "drafts", "flagged", "important", "junk", "sent", "trash")
"""What a folder may be for, as \\Sent and so on (RFC 6154; RFC 8457), in lower case."""


ATTRIBUTES = frozenset((*SPECIAL, "noselect", "nonexistent"))
"""What is heard of what a server says of a folder."""


class Folder(NamedTuple):
    """One line of LIST. `attributes` are in lower case without "\\", such as "noselect"."""

    name: str
    delimiter: str
    attributes: frozenset[str]

    @property
    def selectable(self) -> bool:
        return not self.attributes & {"noselect", "nonexistent"}

    @property
    def special(self) -> str:
        """What it is for, as in SPECIAL; "" for nothing in particular."""
        return next((word for word in SPECIAL if word in self.attributes), "")


def encode(name: str) -> str:
    """As it goes over the wire."""
    if name.isascii() and "&" not in name and name.isprintable():
        return name
    from imapclient import imap_utf7

    return str(imap_utf7.encode(name), "ascii")


def decode(name: bytes) -> str:
    """As the user sees it. What is no modified UTF-7 is read as UTF-8, so that it has a name,
    though one that is spelled in another way there."""
    if name.upper() == b"INBOX":
        return "INBOX"
    if b"&" in name:
        from imapclient import imap_utf7

        try:
            text = str(imap_utf7.decode(name))
            if text and encode(text).encode() == name:
                return text
        except ValueError:  # half a pair of surrogates, too
            pass
    return name.decode("utf-8", "backslashreplace")


def canonical(name: str) -> str:
    """INBOX in any case is one folder (RFC 3501, 5.1)."""
    return "INBOX" if name.upper() == "INBOX" else name


def matching(patterns: Iterable[str], folders: Iterable[Folder]) -> list[Folder]:
    r"""The folders meant by `patterns`, in their order, each once, those that can be opened.

    A pattern is a name, a name with "*" (anything) or "%" (anything within one level), or
    what a folder is for, such as "\Sent".
    """
    there = [folder for folder in folders if folder.selectable]
    found: dict[str, Folder] = {}
    for pattern in patterns:
        for folder in there:
            if _matches(pattern, folder):
                found.setdefault(folder.name, folder)
    return list(found.values())


def _matches(pattern: str, folder: Folder) -> bool:
    if pattern.startswith("\\"):
        return pattern[1:].lower() in folder.attributes
    if folder.name == canonical(pattern):
        return True
    return fits(pattern, folder.name, folder.delimiter)
