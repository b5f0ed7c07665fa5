"""What somebody did at a webmail, told from what his browser recorded: which request did what.

Rule of the file: it says what is likely and keeps what else it could be; what was not recorded is
an error that says how to record it.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from typing import NamedTuple

from mailflow_webmail.recorded.har import HOW, Exchange, RecordingError
from mailflow_webmail.recorded.traces import Place, places

_MAIL = re.compile(rb"(?:\xef\xbb\xbf)?(?:>?From [^\n]*\n)?[!-9;-~]+:[^\n]*\n(?:[!-9;-~]+:|[ \t])")
_REMOVES = re.compile(r"del|trash|mov|remove|purge|expunge", re.IGNORECASE)
_MARKS = re.compile(r"flag|mark|seen|unread", re.IGNORECASE)
_LEAVES = re.compile(r"log-?_?out|log-?_?off|sign-?_?out", re.IGNORECASE)
_SHOWS = re.compile(r"source|raw|\.eml|rfc822|save|download|fetch|headers", re.IGNORECASE)
_PASSWORD = re.compile(r"pass|pwd|secret|kennwort", re.IGNORECASE)

_DIGIT = re.compile(r"\d")

_NO_LIST = (
    "a list that has the id of that message (a webmail that asks for it by its place in the list is"
    " described by hand)"
)

SOURCES = ("text/plain", "message/", "application/octet-stream")


class Login(NamedTuple):
    """`page` has the form, `sent` is what was posted, `landing` the page that came of it; `user`
    and `password` are the names of the fields."""

    page: Exchange
    sent: Exchange
    landing: Exchange
    user: str
    password: str


class Removal(NamedTuple):
    """`step` is "trash" or "delete"; `target` is the folder that it names beside its own, "" where
    it names none."""

    step: str
    sent: Exchange
    target: str


class Recording(NamedTuple):
    """A visit. `lists` are the pages of one folder, the first page first; `rows` is where its
    messages stand there, `others` where else they could, `ids` all that were listed. `shown` is
    what gave a source, `removed` what removed a message, `left` what logged out."""

    login: Login
    folders: Exchange
    boxes: Place
    lists: list[Exchange]
    rows: Place
    others: list[Place]
    ids: set[str]
    folder: str
    shown: Exchange
    removed: list[Removal]
    left: Exchange | None


def understood(visit: Sequence[Exchange], path: str) -> Recording:
    """Raises RecordingError that names all that is missing."""
    login = _login(visit)
    if login is None:
        raise RecordingError(f"{path}: nobody logs in there, with a form and a password. {HOW}")
    host = login.sent.url.split("/")[2]
    inside = [
        each for each in visit[visit.index(login.sent) + 1 :] if each.url.split("/")[2] == host
    ]
    shown = _shown(inside)
    listed = [(each, places(each.page)) for each in inside if each.page.octets]
    removals = [each for each in inside if _is_removal(each)]
    common = login.sent.values | login.landing.values | login.page.values
    rows, others = _rows(listed, shown, removals, common) if shown is not None else (None, [])
    removals = [each for each in removals if rows is not None and _ids_in(each, rows)]
    boxes = _boxes(listed, rows, shown) if rows is not None and shown is not None else None
    missing = [
        *(["the source of a message, as text or as a file"] if shown is None else []),
        *([_NO_LIST] if shown is not None and rows is None else []),
        *(["a page with links to several folders"] if rows is not None and boxes is None else []),
    ]
    if missing or rows is None or boxes is None or shown is None:
        raise RecordingError(f"{path}: it lacks {', '.join(missing)}. {HOW}")
    page, place = boxes
    lists = [
        each for each, found in listed
        if each not in removals and any(one.key == rows.key for one in found)
    ]  # fmt: skip
    lists = _before(lists, removals, inside) or lists
    folder = _folder(lists, place)
    pages = _pages(lists, folder)
    return Recording(
        login, page, place, pages, rows, others, _ids(pages, rows), folder, shown,
        list(_kinds(removals, place, folder)),
        next((each for each in reversed(inside) if _says(_LEAVES, each)), None),
    )  # fmt: skip


def ids_on(page: Exchange, rows: Place) -> tuple[str, ...]:
    """The messages on a page."""
    return next((each.values for each in places(page.page) if each.key == rows.key), ())


def _login(visit: Sequence[Exchange]) -> Login | None:
    for number, sent in enumerate(visit):
        if not sent.data:
            continue
        for page in reversed(visit[:number]):
            for form in page.page.soup.select('form:has(input[type="password" i][name])'):
                field = form.select_one('input[type="password" i][name]')
                name = str(field["name"]) if field is not None else ""
                given = dict(sent.data)
                if not given.get(name):
                    continue
                texts = [
                    str(each["name"])
                    for each in form.select("input[name]")
                    if str(each.get("type", "text")).lower() in ("text", "email", "tel", "")
                    and given.get(str(each["name"]))
                ]
                landing = _landing(visit[number:])
                if texts and landing is not None:
                    return Login(page, sent, landing, texts[0], name)
    return None


def _landing(visit: Sequence[Exchange]) -> Exchange | None:
    """The first page after a login."""
    for each in visit:
        if not each.redirect and each.page.is_html and each.page.octets:
            return each
    return None


def _shown(inside: Sequence[Exchange]) -> Exchange | None:
    """What gave the source of a message: the likeliest, the last of several."""
    found = [(score, number) for number, each in enumerate(inside) if (score := _source(each)) > 1]
    return inside[max(found)[1]] if found else None


def _source(exchange: Exchange) -> int:
    """How likely it is that an answer is a message."""
    page = exchange.page
    if exchange.method != "GET" or page.status != 200:
        return 0
    kept = page.headers.get("Content-Disposition", "")
    is_source = page.type.lower().startswith(SOURCES)
    if page.is_html:
        shown = any(_MAIL.match(each.get_text().lstrip("\n").encode()) for each in
                    page.soup.select("pre, textarea"))  # fmt: skip
        return 3 if shown else 0
    score = 2 * (is_source and bool(_MAIL.match(page.octets)))
    score += 2 * page.type.lower().startswith("message/rfc822")
    score += bool(re.search(r"\.eml\b", kept)) + ("attachment" in kept.lower())
    return score + _says(_SHOWS, exchange) if is_source else 0


def _says(what: re.Pattern[str], exchange: Exchange) -> bool:
    words = (word for field in exchange.said for word in field if len(word) < 40)
    return any(map(what.search, (exchange.path, *words)))


def _is_removal(exchange: Exchange) -> bool:
    asked = exchange.method == "POST" or not exchange.page.type.startswith(SOURCES)
    return asked and _says(_REMOVES, exchange) and not (
        _says(_MARKS, exchange) and exchange.method == "GET"
    )  # fmt: skip


def _rows(
    listed: Sequence[tuple[Exchange, list[Place]]],
    shown: Exchange,
    removals: Sequence[Exchange],
    common: set[str],
) -> tuple[Place | None, list[Place]]:
    """Where the ids of messages stand, and where else they could; `common` are no ids."""
    scores: dict[str, tuple[float, Place]] = {}
    for exchange, found in listed:
        if exchange is shown or exchange in removals:
            continue
        for place in found:
            own = {*place.values} - exchange.values - common
            named = own & shown.values
            if not named:
                continue
            removed = [own & each.values for each in removals if own & each.values]
            score = 10.0 + 3 * bool(removed) + 3 * any(named & each for each in removed)
            score += min(len(own), 20) / 10 + 2 * (len(own) > 1)
            score += 6 * any(map(_DIGIT.search, named))
            score -= len(str(place.rows)) / 200 + ("text" in place.field)
            known = scores.get(place.key)
            if known is None or known[0] < score:
                scores[place.key] = (score, place)
    best = [place for _, place in sorted(scores.values(), key=lambda each: -each[0])]
    return (best[0], [each for each in best[1:] if _are_ids(each)][:3]) if best else (None, [])


def _ids_in(exchange: Exchange, rows: Place) -> set[str]:
    return exchange.values & {*rows.values}


def _boxes(
    listed: Sequence[tuple[Exchange, list[Place]]], rows: Place, shown: Exchange
) -> tuple[Exchange, Place] | None:
    """The page with the folders, and where they stand: values that the source is asked with, too,
    or else a list."""
    lists = [each for each, found in listed if any(one.key == rows.key for one in found)]
    best: list[tuple[float, int, Exchange, Place]] = []
    for number, (exchange, found) in enumerate(listed):
        if not exchange.page.is_html and exchange in lists:
            continue
        for place in found:
            if len(place.values) < 2 or {*place.values} & {*rows.values} or "regex" in place.rows:
                continue
            asked = {value for each in lists for _, value in each.said} & {*place.values}
            in_links = "param" in place.field or "regex" in place.field
            score = 3.0 * bool(asked & shown.values) + 2 * in_links + bool(asked)
            inbox = any(each.upper() == "INBOX" for each in place.values)
            score += 2 * inbox - len(str(place.rows)) / 500
            if asked and score > 2:
                best.append((score, -number, exchange, place))
    if not best:
        return None
    _, _, exchange, place = max(best, key=lambda each: each[:2])
    return exchange, place


def _before(
    lists: Sequence[Exchange], removals: Sequence[Exchange], inside: Sequence[Exchange]
) -> list[Exchange]:
    """The lists that have what was there before anything was removed."""
    first = min((inside.index(each) for each in removals), default=len(inside))
    return [each for each in lists if inside.index(each) < first]


def _folder(lists: Sequence[Exchange], boxes: Place) -> str:
    """The folder that most pages of a list were of."""
    asked = [
        value for each in lists for _, value in each.said if value in boxes.values
    ]  # fmt: skip
    return max(asked, key=asked.count) if asked else ""


def _pages(lists: Sequence[Exchange], folder: str) -> list[Exchange]:
    """Those of that folder that are asked for alike, in the order of their pages."""
    same = [each for each in lists if not folder or folder in each.values]
    last = same[-1]
    alike = [
        each for each in same
        if each.path == last.path and _shape(each) >= _shape(last) - {("", "")}
    ]  # fmt: skip
    return alike or [last]


def _shape(exchange: Exchange) -> set[tuple[str, str]]:
    """What is asked for, but for numbers, which pages have."""
    return {(name, value) for name, value in exchange.said if value and not re.search(r"\d", value)}


def _ids(pages: Sequence[Exchange], rows: Place) -> set[str]:
    return {value for each in pages for value in ids_on(each, rows)}


def _kinds(removals: Sequence[Exchange], boxes: Place, folder: str) -> Iterator[Removal]:
    """Each way of removing, once."""
    met: set[str] = set()
    for each in removals:
        said = [value for _, value in each.said]
        target = next((one for one in said if one in boxes.values and one != folder), "")
        words = " ".join(word for field in each.said for word in field)
        moves = bool(target) or bool(re.search(r"trash|_move|=move|\bmove\b", words, re.IGNORECASE))
        if not target and moves:
            target = next((one for one in said if re.search("trash|papierkorb", one, re.I)), "")
        step = "trash" if moves else "delete"
        if step not in met:
            met.add(step)
            yield Removal(step, each, target)


def _are_ids(place: Place) -> bool:
    return len(place.values) > 1 and all(map(_DIGIT.search, place.values))
