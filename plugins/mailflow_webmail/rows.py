"""What the rows of a list say for sure: in which order messages came, and how large they are.

Rule of the file: what a row leaves open is None, and never guessed.
"""

from __future__ import annotations

import re
from collections.abc import Sequence

from mailflow.typed import TYPE_CHECKING

if TYPE_CHECKING:
    from mailflow_webmail.account.session import Row

NUMBER = re.compile("[1-9][0-9]{0,14}")

_ARRIVAL = re.compile(r"([0-9]{1,20})(?:[.]|\Z)")


def arrival(id_: str) -> int | None:
    """The number that an id begins with, which is higher the later its message came; None where
    it begins with none."""
    found = _ARRIVAL.match(id_)
    return None if found is None else int(found[1])


def as_they_came(rows: Sequence[Row]) -> list[Row]:
    """The oldest first: by numbers that all ids begin with, as UIDs of IMAP and names in a
    Maildir do; else turned round, since a page shows the newest first."""
    numbers = [arrival(row["id"]) for row in rows]
    if None in numbers:
        return list(reversed(rows))
    keyed = zip((number or 0 for number in numbers), rows, strict=True)
    return [row for _, row in sorted(keyed, key=lambda each: (each[0], each[1]["id"]))]


def size_of(row: Row) -> int | None:
    """Octets, where the page writes them out."""
    text = row.get("size", "")
    return int(text) if NUMBER.fullmatch(text) else None
