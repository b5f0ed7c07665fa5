"""What a message is called: its folder, the folder's UIDVALIDITY, and its UID (RFC 9051, 2.3.1.1).

Rule of the file: a key outlives the session; a sequence number has no place here.
"""

from __future__ import annotations

from mailflow.record import NamedTuple


class Place(NamedTuple):
    """Where a message lies. `folder` is as the user sees it."""

    folder: str
    validity: int
    uid: int

    @property
    def key(self) -> str:
        return f"{self.folder};{self.validity};{self.uid}"


def place_of(key: str) -> Place | None:
    """The place that a key names; None for what is no key of ours."""
    folder, _, numbers = key.rpartition(";")
    folder, _, validity = folder.rpartition(";")
    if folder and validity.isdecimal() and numbers.isdecimal():
        return Place(folder, int(validity), int(numbers))
    return None
