"""A draft of a definition, from what was recorded of one visit.

Rule of the file: whatever is no fact of the recording is marked as a guess, with what else it could
be.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Sequence
from typing import NamedTuple
from urllib.parse import urlsplit

from mailflow.log import clean
from mailflow_webmail.definition.written import key, text
from mailflow_webmail.recorded.addresses import turned
from mailflow_webmail.recorded.traces import Finder, numbers
from mailflow_webmail.recorded.visit import Recording, ids_on
from mailflow_webmail.recorded.worded import Asked, Requests

HEAD = """\
# A draft that `mailflow webmail record` has made of one visit to {url}
# Each "guess" below stands in `guesses`, too, and the file is refused as long as any does. Look at
# one, mend it or not, and take its name out there. `mailflow webmail check FILE URL` tries them at
# the webmail as they stand; --change ID the removal of a message, which nothing else shows.
# What a failure looks like was not recorded: `signal` tells an outage from a changed page.
"""

_COUNT = re.compile(r"count|total|exist|num|message", re.IGNORECASE)
_HASH = re.compile(r"[0-9a-f]{32}|[0-9a-f]{40}|[0-9a-f]{64}", re.IGNORECASE)


class Line(NamedTuple):
    """A key of a step; `guess` says what else it could be, "" where there is nothing to doubt."""

    name: str
    value: object
    guess: str = ""


class Draft:
    """What is written of one recording. Raises RecordingError where something secret would be."""

    def __init__(self, recording: Recording) -> None:
        self._seen = recording
        self._requests = Requests(recording)
        self.guesses: list[str] = []

    @property
    def url(self) -> str:
        return self._requests.base

    def toml(self) -> str:
        """The file."""
        steps = {
            "login": self._login(), "folders": self._folders(), "list": self._list(),
            "raw": self._raw(),
            **{each.step: self._removal(each.step) for each in self._seen.removed},
            **({"logout": self._logout()} if self._seen.left is not None else {}),
        }  # fmt: skip
        for name, (step, _, finder) in self._requests.captured.items():
            lines = steps[step]
            lines.append(Line(f"capture.{key(name)}", finder))
        parts = [self._table(name, lines) for name, lines in steps.items()]
        host = urlsplit(self.url).hostname or ""
        head = [HEAD.format(url=clean(self.url)), "format = 1", f"name = {text(host)}",
                "shared = false                # true where a second login leaves the first alone",
                f"guesses = {text(self.guesses)}", ""]  # fmt: skip
        written = "\n".join([*head, *parts])
        self._requests.check(written)
        return written

    def _table(self, name: str, lines: Iterable[Line]) -> str:
        out = [f"[{name}]"]
        for line in lines:
            if line.guess:
                out.append(f"# guess: {clean(line.guess)}")
                self.guesses.append(f"{name}.{line.name}")
            if line.value is not None:
                out.append(f"{line.name} = {text(line.value)}")
        return "\n".join(out) + "\n"

    def _login(self) -> list[Line]:
        login = self._seen.login
        name = login.password.replace("\\", "\\\\").replace('"', '\\"')
        form = f'form:has(input[name="{name}"])'
        tag = login.page.page.soup.select_one(form)
        buttons = tag.select("button[name], input[type=submit][name]") if tag is not None else []
        pressed = [
            str(each["name"]) for each in buttons if str(each["name"]) in dict(login.sent.data)
        ]
        asked = self._requests.asked(login.page, "login")
        password = self._requests.password
        digits = len(password) if _HASH.fullmatch(password) else 0
        hashed = (
            f"the password went out as {digits} digits. If that is not what was typed, a script has"
            " made it, and a `hook` must"
            if digits
            else ""
        )
        expect, others = self._inside()
        return [
            *_request(asked, "GET"),
            Line("form", form),
            Line("fill", {login.user: "{user}", login.password: "{password}"}, hashed),
            *([Line("click", pressed[0])] if pressed else []),
            Line("expect", {"css": expect}, "what no page has before somebody is logged in; it"
                 f" could also be {_or(others)}"),
        ]  # fmt: skip

    def _inside(self) -> tuple[str, list[str]]:
        """What the page after a login has, and the one before has not."""
        before, after = self._seen.login.page.page.soup, self._seen.login.landing.page.soup
        ids = [f"#{each['id']}" for each in after.select("[id]")
               if re.fullmatch(r"[A-Za-z_-]+", str(each["id"]))]  # fmt: skip
        box = self._seen.boxes.rows.get("css")
        known = [str(box)] if box else []
        known += ['a[href*="logout"]', "frameset", "iframe", *ids]
        fine = [each for each in known if after.select_one(each) and not before.select_one(each)]
        fine.append('body:not(:has(input[type="password"]))')
        return fine[0], fine[1:4]

    def _folders(self) -> list[Line]:
        boxes = self._seen.boxes
        named: dict[str, object] = {}
        either = "the same as `id`, with `decode`, where its links have names of IMAP"
        if all(each.isascii() for each in boxes.values) and any(
            each.upper() == "INBOX" for each in boxes.values
        ):
            named = {**boxes.field, "decode": "modified-utf-7"}
            either = "{ }, the text that its user sees, which may be in his language"
        rows = {**boxes.rows, "fields": {"id": boxes.field, "name": named}}
        return [
            *_request(self._requests.asked(self._seen.folders, "folders"), "GET"),
            Line("rows", rows,
                 f"each folder; found {len(boxes.values)}. `name` could also be {either}"),
        ]  # fmt: skip

    def _list(self) -> list[Line]:
        pages, place = self._seen.lists, self._seen.rows
        turn, why = turned(pages, [len(ids_on(each, place)) for each in pages])
        param = turn.pop("param", None)
        numbered = [each for each in pages if param in dict(each.said)]
        page = (numbered or pages)[-1]
        asked = self._requests.asked(page, "list", pages, str(param) if param else "")
        rows: Finder = {**place.rows, **({"fields": {"id": place.field}} if place.field else {})}
        others = [f"{text(each.rows)} with {text(each.field)}" for each in self._seen.others]
        total, other_totals = self._total()
        found = len(self._seen.ids)
        lines = [
            *_request(asked, page.method),
            Line("rows", rows, f"each message; found {found} on {len(pages)} pages. It could also"
                 f" be {_or(others)}"),
            Line("total", total, f"the number of messages, which was {found} as far as pages were"
                 f" seen; it could also be {_or(other_totals)}" if total else "where does the page"
                 " say how many messages there are, or what does an empty folder show (`empty`)?"
                 " Nothing was found"),
            Line("next", turn or None, why),
        ]  # fmt: skip
        if not {"{folder}"} & {*asked.query.values(), *asked.data.values()} and (
            "{folder}" not in asked.address
        ):
            lines[0] = lines[0]._replace(guess="where does it say which folder? None was asked for")
        return lines

    def _total(self) -> tuple[Finder | None, list[str]]:
        said: dict[str, tuple[Finder, list[int]]] = {}
        for each in self._seen.lists:
            for finder, number in numbers(each.page):
                said.setdefault(text(finder), (finder, []))[1].append(number)
        seen, pages = len(self._seen.ids), len(self._seen.lists)
        fine = [
            (number == seen, len(_COUNT.findall(name)), -len(name), finder)
            for name, (finder, found) in said.items()
            for number, times in Counter(found).items()
            if times == pages and number >= seen and seen
            and (number == seen or _COUNT.search(name))
        ]  # fmt: skip
        best = [each[3] for each in sorted(fine, key=lambda each: each[:3], reverse=True)]
        return (best[0] if best else None), [text(each) for each in best[1:4]]

    def _raw(self) -> list[Line]:
        shown = self._seen.shown
        asked = self._requests.asked(shown, "raw")
        lines = _request(asked, "GET")
        page = shown.page
        if page.is_html:
            found = page.soup.select("pre, textarea")
            longest = max(found, key=lambda each: len(each.get_text()))
            css = f"{longest.name}#{longest['id']}" if longest.get("id") else longest.name
            why = (
                "the element with the source; a page often has only what its user sees of a"
                " message, so compare one octet for octet"
            )
            lines.append(Line("pre", css, why))
            return [*lines, *self._before(asked)]
        expect: dict[str, object] = {"type": page.type.partition(";")[0].strip()}
        if "attachment" in page.headers.get("Content-Disposition", "").lower():
            expect["header"] = {"Content-Disposition": "^attachment"}
        lines.append(Line("expect", expect, "what no page with an error is headed by; octets that"
                          " are not those of the message want `recode`"))  # fmt: skip
        return [*lines, *self._before(asked)]

    def _removal(self, step: str) -> list[Line]:
        removal = next(each for each in self._seen.removed if each.step == step)
        asked = self._requests.asked(removal.sent, step)
        other = "delete, for good" if step == "trash" else "trash, where it only moves the message"
        lines = _request(asked, removal.sent.method)
        where = f", to {removal.target}, which another account may call otherwise" * bool(
            removal.target
        )
        kind = f"that it does as [{step}] says{where}; it could also be {other}"
        lines[0] = lines[0]._replace(guess=kind)
        return [*lines, *self._before(asked)]

    def _logout(self) -> list[Line]:
        left = self._seen.left
        if left is None:
            return []
        asked = self._requests.asked(left, "logout")
        return [*_request(asked, left.method), *self._before(asked)]

    def _before(self, asked: Asked) -> list[Line]:
        """The steps that capture what is needed, and what was left out."""
        captured = self._requests.captured
        steps = {captured[name][0] for name in asked.names if name in captured}
        return [Line("before", sorted(steps - {"login"}))] if steps - {"login"} else []


def _request(asked: Asked, method: str) -> list[Line]:
    post = method == "POST"
    lines = [Line("post" if post else "get", asked.address)]
    for name, found in (("query", asked.query), ("data", asked.data), ("headers", asked.headers)):
        left_out = ", ".join(asked.left_out.get(name, ()))
        why = f"{left_out} was left out: it changes each time, and no earlier page says it"
        if found or left_out:
            lines.append(Line(name, found, why if left_out else ""))
    return lines


def _or(others: Sequence[str]) -> str:
    return " or ".join(others) if others else "nothing else that was found"
