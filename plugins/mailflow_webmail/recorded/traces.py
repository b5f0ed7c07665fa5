"""Where a value stands in a page, and which others stand alike: the rows of a list, a token.

Rule of the file: a place is told by names and structure, never by words that a user's language
changes, and what is told holds no value itself.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from itertools import pairwise
from typing import TYPE_CHECKING, Any, NamedTuple
from urllib.parse import parse_qsl, unquote, urlsplit

from mailflow_webmail.web.page import Page, at

if TYPE_CHECKING:
    from bs4.element import Tag

LINKED = ("href", "src", "action", "data-href", "data-url")

DEPTH = 20
"""Objects within objects that are looked into."""

_PARAM = re.compile(r"[\w.\[\]-]+")
_PLAIN = re.compile(r"[A-Za-z_][\w-]*")
_NUMBER = re.compile(r"\d+")
_CALL = re.compile(r"([\w.$]+\()[\"']?$")
_KEY = re.compile(r"([\"']?[\w.-]{2,40}[\"']?\s*[:=]\s*[\"']?)$")

Finder = dict[str, object]
"""The keys of a finder, as a definition has them."""


class Place(NamedTuple):
    """Where values stand alike: `rows` are the keys of that table but for the fields, `field`
    finds the value in a row; empty where a group of a regex does."""

    rows: Finder
    field: Finder
    values: tuple[str, ...]

    @property
    def key(self) -> str:
        return json.dumps([self.rows, self.field])


def places(page: Page) -> list[Place]:
    """All of a page. Raises LayoutError where it is made to be endless."""
    found: dict[str, tuple[Finder, Finder, dict[str, None]]] = {}
    every = _of_html(page) if page.is_html else _of_json(page.json)
    for rows, field, value in every:
        known = found.setdefault(json.dumps([rows, field]), (rows, field, {}))
        known[2][value] = None
    return [Place(rows, field, tuple(values)) for rows, field, values in found.values()]


def _of_html(page: Page) -> Iterator[tuple[Finder, Finder, str]]:
    for tag in page.soup.find_all(True):
        for name, given in tag.attrs.items():
            text = given if isinstance(given, str) else ""
            if not text or name in ("class", "style", "type") or not _PLAIN.fullmatch(name):
                continue
            if name in LINKED:
                yield from _of_link(tag, name, text)
            elif name in ("value", "id") or name.startswith("data-"):
                css = _selector(tag, "" if name == "value" and tag.get("name") else f"[{name}]")
                yield {"css": css}, {"attr": name}, text
                digits = re.fullmatch(r"([A-Za-z_-]+)(\d+)", text)
                if digits:
                    css = _selector(tag, f'[{name}^="{digits[1]}"]')
                    yield {"css": css}, {"attr": name, "regex": r"(\d+)$"}, digits[2]
    for script in page.soup.select("script"):
        yield from _of_text(script.get_text(), {})


def _of_link(tag: Tag, name: str, link: str) -> Iterator[tuple[Finder, Finder, str]]:
    for param, value in _parameters(link):
        css = _selector(tag, f'[{name}*="{param}="]')
        yield {"css": css}, {"attr": name, "param": param}, value
    names = [each for each in link.partition("?")[0].split("/") if each]
    for before, last in pairwise(names):
        if _PLAIN.fullmatch(before):
            css = _selector(tag, f'[{name}*="/{before}/"]')
            field: Finder = {"attr": name, "regex": f"/{before}/([^/?#]+)", "decode": "percent"}
            yield {"css": css}, field, unquote(last)


def _parameters(link: str) -> Iterator[tuple[str, str]]:
    """Those of a link that a selector can name."""
    try:
        found = parse_qsl(urlsplit(link).query, max_num_fields=1000)
    except ValueError:
        return
    yield from (each for each in found if _PARAM.fullmatch(each[0]))


def _of_json(found: Any) -> Iterator[tuple[Finder, Finder, str]]:
    for path, value in walked(found):
        if isinstance(value, list) and value and all(isinstance(each, dict) for each in value):
            for each in value:
                for key, one in each.items():
                    if isinstance(one, str | int) and "." not in key:
                        yield {"json": path}, {"json": key}, str(one)
        elif isinstance(value, str) and len(value) > 30:
            yield from _of_text(value, {"json": path})


def _of_text(text: str, rows: Finder) -> Iterator[tuple[Finder, Finder, str]]:
    """Calls in a script whose first argument is a number or a word."""
    for line in text.splitlines():
        call = re.match(r"\s*([\w.$]+)\((\d+|\"[\w.:-]+\"|'[\w.:-]+')[,)]", line)
        if call is None:
            continue
        value = call[2].strip("\"'")
        quoted = call[2][0] if call[2] != value else ""
        group = r"\d+" if value.isdecimal() else r"[\w.:-]+"
        pattern = rf"(?m)^\s*{re.escape(call[1])}\({quoted}(?P<id>{group}){quoted}[,)].*"
        yield {**rows, "regex": pattern}, {}, value


def walked(value: Any, path: str = "", depth: int = 0) -> Iterator[tuple[str, Any]]:
    """Everything in JSON with its dotted path; the elements of lists are left out."""
    yield path or ".", value
    if isinstance(value, dict) and depth < DEPTH:
        for key, each in value.items():
            if key and "." not in key:
                yield from walked(each, f"{path}.{key}" if path else key, depth + 1)


def numbers(page: Page) -> Iterator[tuple[Finder, int]]:
    """Numbers that a page tells alone: in JSON, and in elements with an id or class."""
    if not page.is_html:
        for path, value in walked(page.json):
            if isinstance(value, int) and not isinstance(value, bool):
                yield {"json": path}, value
        return
    for tag in page.soup.select("[id], [class]"):
        text = " ".join(tag.get_text(" ").split())
        if len(text) > 60:
            continue
        found = _NUMBER.findall(text)
        name = f"#{tag['id']}" if _PLAIN.fullmatch(str(tag.get("id", ""))) else ""
        if not name:
            classes = [each for each in tag.get("class") or () if _PLAIN.fullmatch(each)]
            name = f"{tag.name}.{classes[0]}" if classes else ""
        if found and name:
            yield {"css": name, "regex": r"(\d+)\D*$"}, int(found[-1])


def token(page: Page, value: str) -> Finder | None:
    """Where a value stands that goes out later; None where it does not."""
    if page.is_html:
        for tag in page.soup.select("input[name], meta[name]"):
            attr = "value" if tag.name == "input" else "content"
            if tag.get(attr) == value and _named(str(tag["name"])):
                return {"css": f'{tag.name}[name="{tag["name"]}"]', "attr": attr}
        for tag in page.soup.select("[href]"):
            for param, one in _parameters(str(tag["href"])):
                if one == value:
                    return {"css": f'{tag.name}[href*="{param}="]', "attr": "href", "param": param}
    else:
        for path, one in walked(page.json):
            if one == value and at(page.json, path) == value:
                return {"json": path}
    start = page.body.find(value)
    key = _KEY.search(page.body[max(0, start - 60) : start]) if start >= 0 else None
    if key is None:
        return None
    after = page.body[start + len(value) : start + len(value) + 1]
    end = re.escape(after) if after in ('"', "'") else ""
    return {"regex": f"{re.escape(key[1])}([A-Za-z0-9_.~+/=-]+){end}"}


def _selector(tag: Tag, more: str) -> str:
    """A selector of elements like this one, within what is named around it."""
    name = tag.get("name")
    own = f'{tag.name}[name="{name}"]' if isinstance(name, str) and _named(name) else tag.name
    for parent in tag.parents:
        id_ = parent.get("id") if parent.attrs else None
        if isinstance(id_, str) and _PLAIN.fullmatch(id_) and not any(map(str.isdigit, id_)):
            return f"#{id_} {own}{more}"
    return f"{own}{more}"


def _named(name: str) -> bool:
    return re.fullmatch(r"[A-Za-z_][\w-]*(\[\])?", name) is not None
