"""What the addresses of a visit have in common: where the webmail is, what of them belongs to one
session, and which number turns the page.

Rule of the file: what looks as if it were made for one session is never taken for a name.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from urllib.parse import unquote, urlsplit

from mailflow_webmail.recorded.har import Exchange
from mailflow_webmail.recorded.traces import Finder
from mailflow_webmail.recorded.visit import Recording

_PAGING = re.compile(r"page|start|offset|from|pos|first|skip|seite", re.IGNORECASE)
OPAQUE = re.compile(r"(?=.*\d)[\w.+/=:~-]{6,}|[\w+/=-]{20,}")
"""What may be a token, an id or a session."""


def turned(pages: Sequence[Exchange], rows: Sequence[int]) -> tuple[dict[str, object], str]:
    """How pages follow each other: the keys of `next` and the `param` with the number."""
    said: dict[str, list[str]] = {}
    for each in pages:
        given = dict(each.said)
        for name in {name for one in pages for name, _ in one.said}:
            said.setdefault(name, []).append(given.get(name, ""))
    fine = {
        name: sorted({int(each) for each in values if each})
        for name, values in said.items()
        if len({*values}) > 1 and all(re.fullmatch(r"\d{0,6}", each) for each in values)
    }
    if not fine:
        return {}, (
            "only one page of a list was recorded. A folder with more than one is an error until"
            " this says how the next is asked for, such as { from = 1, step = 1 }"
        )
    name = max(fine, key=lambda each: (bool(_PAGING.search(each)), len(fine[each])))
    found, most = fine[name], max(rows)
    first = found[0]
    if len(found) == 1:
        first = found[0] - most if found[0] in (most, most + 1) else found[0] - 1
    step: object = (found[1] if len(found) > 1 else found[0]) - first
    if step == most and most > 1:
        step = "rows"
    return {"param": name, "from": first, "step": step}, (
        f"{name} was {' and '.join(map(str, found))}; it could also be a link to the next page"
    )


def base_of(recording: Recording) -> str:
    """The address of the webmail: the login page's, or the directory that it lies in."""
    login = urlsplit(recording.login.page.url)
    origin, path = f"{login.scheme}://{login.netloc}", login.path
    every = [recording.login.landing, recording.shown, recording.folders, *recording.lists]
    if path.rstrip("/") and all(each.path.startswith(path.rstrip("/")) for each in every):
        return f"{origin}{path.rstrip('/')}/"
    directory = path[: path.rfind("/") + 1] or "/"
    while not all(each.path.startswith(directory) for each in every):
        directory = directory.rstrip("/")[: directory.rstrip("/").rfind("/") + 1] or "/"
    return f"{origin}{directory}"


def homes(landing: Exchange, base: str, user: str) -> list[tuple[str, str]]:
    """The address with the session in it, where a webmail keeps it there."""
    path = landing.url.partition("?")[0]
    if not path.startswith(base):
        return []
    parts = path[len(base) :].split("/")
    last = max(
        (n for n, each in enumerate(parts)
         if (OPAQUE.fullmatch(each) and not is_word(each)) or unquote(each) == user),
        default=-1,
    )  # fmt: skip
    return [(f"{base}{'/'.join(parts[: last + 1])}", "home")] if last >= 0 else []


def home_finder(home: str, base: str) -> Finder:
    parts = [
        "[^/]+" if OPAQUE.fullmatch(each) or number else re.escape(each)
        for number, each in enumerate(home[len(base) :].split("/"))
    ]
    return {"url": f"^(.*/{'/'.join(parts)})"}


def is_word(value: str) -> bool:
    """Whether it is a name with a number, as of a page or a version: "list2.php", "utf-8"."""
    return re.fullmatch(r"[A-Za-z_-]+\d{0,2}(\.[a-z]{2,5})?", value) is not None and len(value) < 20
