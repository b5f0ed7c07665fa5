"""Which rows a page of a folder has, and which message a row's link means.

Rule of the file: the newest message is the first row; what is shown for another reason than
that is a trouble.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, NamedTuple
from urllib.parse import urlencode

if TYPE_CHECKING:
    from mailflow_webmail.testbed.app import Bed
    from mailflow_webmail.testbed.folder import Folder, Letter

ERROR_SUBJECT = '<p id="denied">session_error(1)</p> You must be logged in <input type="password">'


class Row(NamedTuple):
    uid: str
    sender: str
    subject: str
    date: str
    size: int | None
    seen: bool
    source: str


class Shown(NamedTuple):
    """A page: its number of so many, how many messages all of them have, and whether links name
    messages by their place."""

    rows: list[Row]
    number: int
    pages: int
    total: int
    by_place: bool


def shown(bed: Bed, folder: Folder, asked: str) -> Shown:
    """The page of that number; the last one for any that is greater."""
    number = int(asked) if asked.isascii() and asked.isdigit() else 1
    letters = _letters(bed, folder, number)
    size = bed.settings.page_size
    last = max(1, -(-len(letters) // size))
    number = min(max(number, 1), last)
    start = (number - 1) * size
    end = start + size
    if number == last > 1 and bed.troubles.strikes("overlap", "list"):
        start, end = max(0, len(letters) - size), len(letters)
    text = ERROR_SUBJECT if bed.troubles.strikes("subject", "list") else None
    by_place = bed.troubles.strikes("positions", "list") is not None
    sized = bed.troubles.get("unsized") is None
    rows = [
        _row(bed, folder, each, text, place if by_place else 0)._replace(
            size=each.size if sized else None
        )
        for place, each in enumerate(letters[start:end], start + 1)
    ]
    return Shown(rows, number, last, len(letters), by_place)


def _letters(bed: Bed, folder: Folder, number: int) -> list[Letter]:
    if bed.troubles.strikes("empty", "list"):
        return []
    letters = folder.letters()[::-1]
    if letters and number == 1 and bed.troubles.strikes("arriving", "list"):
        return letters[1:]
    if letters and number > 1 and bed.troubles.strikes("leaving", "list"):
        return letters[1:]
    return letters


def _row(bed: Bed, folder: Folder, letter: Letter, text: str | None, place: int) -> Row:
    handle = {"pos": place} if place else {"uid": letter.uid}
    return Row(
        letter.uid, _shown(letter.sender), _shown(text or letter.subject), _shown(letter.date),
        letter.size, (folder.name, letter.uid) in bed.seen,
        f"/source?{urlencode({'folder': folder.name, **handle})}",
    )  # fmt: skip


def chosen(folder: Folder, query: Mapping[str, str]) -> Letter | None:
    """The message that a link to a source names."""
    place = query.get("pos", "")
    if not place:
        return folder.letter(query.get("uid", ""))
    letters = folder.letters()[::-1]
    return letters[int(place) - 1] if place.isdigit() and 0 < int(place) <= len(letters) else None


def _shown(text: str) -> str:
    return "".join(c if c.isprintable() else " " for c in text)
