"""One answer of a webmail, and what is found in it.

Rule of the file: what is not there is an empty list, never a guess; what a page says is
never run, followed or shown from here.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from functools import cached_property
from typing import TYPE_CHECKING, Any
from urllib.parse import parse_qs, urlsplit

if TYPE_CHECKING:
    from bs4 import BeautifulSoup
    from bs4.element import Tag

    from mailflow_webmail.site import Condition, Finder, Rows


class Page:
    """An answer that was read whole. `url` is where it came from, after all redirects."""

    def __init__(self, url: str, status: int, headers: Mapping[str, str], octets: bytes) -> None:
        self.url = url
        self.status = status
        self.headers = headers
        self.octets = octets

    @property
    def type(self) -> str:
        return self.headers.get("Content-Type", "")

    @cached_property
    def body(self) -> str:
        return self.octets.decode("utf-8", "replace")

    @cached_property
    def soup(self) -> BeautifulSoup:
        from bs4 import BeautifulSoup

        html = self.octets if "html" in self.type else b""
        return BeautifulSoup(html, "lxml", from_encoding="utf-8" if html else None)

    @cached_property
    def json(self) -> Any:
        try:
            return json.loads(self.octets)
        except (ValueError, RecursionError):
            return None

    def find(self, finder: Finder) -> str | None:
        """The first value that is not empty."""
        return next((value for value in self.values(finder) if value), None)

    def values(self, finder: Finder, within: object = None) -> Iterator[str]:
        """What the finder finds, narrowed; `within` is a row."""
        for value in self._sources(finder, within):
            if finder.param is not None:
                found = parse_qs(urlsplit(value).query, keep_blank_values=True)
                value = found.get(finder.param, [""])[0]
            if finder.regex is not None:
                match = re.search(finder.regex, value)
                if match is None:
                    continue
                value = match[1] if match.re.groups else match[0]
            yield value

    def _sources(self, finder: Finder, within: object) -> Iterator[str]:
        if finder.css is not None:
            root: Tag = within if within is not None else self.soup  # type: ignore[assignment]
            for tag in root.select(finder.css):
                yield _said(tag, finder.attr)
        elif finder.json is not None:
            yield _spelled(at(self.json if within is None else within, finder.json))
        elif finder.url is not None:
            match = re.search(finder.url, self.url)
            if match is not None:
                yield match[1] if match.re.groups else match[0]
        elif finder.text is not None:
            match = re.search(finder.text, self.soup.get_text(" ", strip=True))
            if match is not None:
                yield match[1] if match.re.groups else match[0]
        elif within is not None:
            yield _said(within, finder.attr)  # type: ignore[arg-type]
        else:
            yield self.body

    def holds(self, condition: Condition) -> bool:
        if condition.status is not None and condition.status != self.status:
            return False
        if condition.type_ is not None and not self.type.startswith(condition.type_):
            return False
        for name, pattern in condition.header.items():
            if not re.search(pattern, self.headers.get(name, "")):
                return False
        sources = (condition.css, condition.json, condition.url, condition.text, condition.regex)
        if condition.css is not None and not (condition.attr or condition.regex):
            return self.soup.select_one(condition.css) is not None
        return not any(each is not None for each in sources) or self.find(condition) is not None

    def rows(self, rows: Rows) -> Iterator[Mapping[str, str]]:
        for row in self._rows(rows):
            if not any(re.search(p, row.get(name, "")) for name, p in rows.skip.items()):
                yield row

    def _rows(self, rows: Rows) -> Iterator[dict[str, str]]:
        if rows.css is not None:
            for tag in self.soup.select(rows.css):
                yield self._fields(rows, tag)
            return
        found = at(self.json, rows.json) if rows.json is not None else self.body
        if rows.regex is not None:
            for match in re.finditer(rows.regex, _spelled(found)):
                yield {name: value or "" for name, value in match.groupdict().items()}
        elif isinstance(found, list):
            for each in found:
                yield self._fields(rows, each)

    def _fields(self, rows: Rows, within: object) -> dict[str, str]:
        return {
            name: next(iter(self.values(finder, within)), "")
            for name, finder in rows.fields.items()
        }


def at(value: Any, path: str) -> Any:
    """What lies at a dotted path; None where nothing does."""
    for name in path.split("."):
        if isinstance(value, dict):
            value = value.get(name)
        elif isinstance(value, list) and name.isdigit() and int(name) < len(value):
            value = value[int(name)]
        else:
            return None
    return value


def _spelled(value: Any) -> str:
    if value is None or isinstance(value, dict | list):
        return ""
    return value if isinstance(value, str) else json.dumps(value)


def _said(tag: Tag, attr: str | None) -> str:
    if attr is None:
        return tag.get_text(" ", strip=True)
    value = tag.get(attr) or ""
    return value if isinstance(value, str) else " ".join(value)
