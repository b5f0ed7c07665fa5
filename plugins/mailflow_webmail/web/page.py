"""One answer of a webmail, and what is found in it.

Rule of the file: what is not there is None or an empty list, never a guess; what a page says
is never run or followed from here, and a page that is made to be endless is an error.
"""

from __future__ import annotations

import codecs
import json
import re
import time
from collections.abc import Iterable, Iterator, Mapping
from functools import cached_property
from typing import TYPE_CHECKING, Any
from urllib.parse import parse_qs, urljoin, urlsplit

from mailflow.record import NamedTuple
from mailflow_webmail.definition.decoding import decoded, is_charset, number
from mailflow_webmail.definition.patterns import Search
from mailflow_webmail.errors import LayoutError

if TYPE_CHECKING:
    from bs4 import BeautifulSoup
    from bs4.element import Tag

    from mailflow_webmail.definition.finders import Condition, Fact, Finder, Next, Rows

TAGS = 200_000
"""Tags of a page that is parsed; those of a list with a thousand rows are fewer than half."""

PATIENCE = 30.0
"""Seconds for the rows of a page; a thousand take about one."""

_DECLARATION = re.compile(r"\A\s*<\?xml[^>]{0,200}\?>")
_HALF = re.compile(r"[\ud800-\udfff]|\\u[dD][89a-fA-F]")
_CHARSET = re.compile(r"charset\s*=\s*[\"']?([\w.:-]+)", re.IGNORECASE)


class Turn(NamedTuple):
    """How the next page of a list is asked for: by its address, or by {n}."""

    url: str | None
    n: int


class Page:
    """An answer that was read whole. `url` is where it came from, after all redirects."""

    def __init__(self, url: str, status: int, headers: Mapping[str, str], octets: bytes) -> None:
        self.url = url
        self.status = status
        self.headers = headers
        self.octets = octets
        self.led = 0
        """How many redirects have led here."""
        self.search = Search()

    @property
    def type(self) -> str:
        return self.headers.get("Content-Type", "")

    @property
    def is_html(self) -> bool:
        return "html" in self.type.lower()

    @cached_property
    def body(self) -> str:
        """The answer as text: in the encoding it says, else as UTF-8, else as Windows-1252."""
        return self.octets.decode(self.charset, "replace").removeprefix("\ufeff")

    @cached_property
    def charset(self) -> str:
        """The encoding that the answer is in, as far as its octets allow what it says."""
        for name in self._encodings():
            try:
                self.octets.decode(name)
            except (UnicodeDecodeError, LookupError):
                continue
            return name.removesuffix("-sig")
        return "utf-8"

    def _encodings(self) -> Iterator[str]:
        for mark, name in ((codecs.BOM_UTF8, "utf-8-sig"), (codecs.BOM_UTF16_LE, "utf-16"),
                           (codecs.BOM_UTF16_BE, "utf-16")):  # fmt: skip
            if self.octets.startswith(mark):
                yield name
        said = _CHARSET.search(self.type)
        if said is None and self.is_html:
            said = _CHARSET.search(self.octets[:2048].decode("latin-1"))
        if said is not None and is_charset(said[1]):
            # what is called Latin 1 is Windows-1252 on the web, with typographic quotes
            name = codecs.lookup(said[1]).name
            yield "cp1252" if name == "iso8859-1" else name
        yield from ("utf-8", "cp1252")

    @cached_property
    def soup(self) -> BeautifulSoup:
        """The page as a tree; an empty one where it is no HTML. Raises LayoutError."""
        from bs4 import BeautifulSoup

        html = _DECLARATION.sub("", self.body, count=1) if self.is_html else ""
        if html.count("<") > TAGS:
            raise LayoutError(f"the page has more than {TAGS} tags")
        if "<" not in html:  # for all that it may look like the name of a file
            html = f"<html>{html}"
        octets = html.replace("\0", "\ufffd").encode("utf-8", "replace")
        return BeautifulSoup(octets, "lxml", from_encoding="utf-8")

    @cached_property
    def json(self) -> Any:
        """What the answer says as JSON, None where it is none."""
        try:
            text = self.octets.decode(json.detect_encoding(self.octets), "surrogatepass")
            found = json.loads(text)
            if _HALF.search(text):  # half a character is none, wherever it is sent or written
                said = json.dumps(found, ensure_ascii=False).encode("utf-16", "surrogatepass")
                found = json.loads(said.decode("utf-16", "replace"))
        except (ValueError, RecursionError):
            return None
        return found

    @cached_property
    def visible(self) -> str:
        """What a reader sees, without scripts, on one line."""
        return " ".join(self.soup.get_text(" ").split())

    def find(self, finder: Finder) -> str | None:
        """The first value that is not empty. Raises LayoutError where it takes too long."""
        return next((value for value in self.values(finder) if value), None)

    def fact(self, fact: Fact) -> str:
        """The value to keep; "" where there is none."""
        return self.find(fact) or fact.otherwise or ""

    def number(self, finder: Finder) -> int | None:
        """The first value that is a number."""
        return next((n for value in self.values(finder) if (n := number(value)) is not None), None)

    def values(self, finder: Finder, within: object = None) -> Iterator[str]:
        """What the finder finds, narrowed; `within` is a row."""
        for value in self._sources(finder, within):
            found: str | None = value
            if finder.param is not None:
                found = _parameter(value, finder.param)
            if found is not None and finder.regex is not None:
                found = self.search.value(finder.regex, found)
            if found is not None:
                yield decoded(found, finder.decode)

    def _sources(self, finder: Finder, within: object) -> Iterator[str]:
        if finder.css is not None:
            root: Tag = self.soup if within is None else within  # type: ignore[assignment]
            for tag in root.select(finder.css):
                value = _said(tag, finder.attr)
                if value is not None:
                    yield value
        elif finder.json is not None:
            found = at(self.json if within is None else within, finder.json)
            if found is not None:
                yield _spelled(found)
        elif finder.url is not None:
            yield from _one(self.search.value(finder.url, self.url))
        elif finder.text is not None:
            seen = self.visible if within is None else _said(within, None) or ""
            yield from _one(self.search.value(finder.text, seen))
        elif within is None:
            yield self.body
        else:
            yield from _one(_said(within, finder.attr))

    def holds(self, condition: Condition) -> bool:
        """Whether all that it says is so. Raises LayoutError where it takes too long."""
        if not self.holds_head(condition):
            return False
        if not condition.looks_inside:
            return True
        only_there = condition.css is not None and not (
            condition.attr or condition.param or condition.regex or condition.nonempty
        )
        if only_there and condition.css is not None:
            return self.soup.select_one(condition.css) is not None
        if condition.nonempty:
            return any(value.strip() for value in self.values(condition))
        return self.find(condition) is not None

    def holds_head(self, condition: Condition) -> bool:
        """Whether what it says of status and headers is so."""
        if condition.status is not None and condition.status != self.status:
            return False
        if condition.type_ and not self.type.lower().startswith(condition.type_.lower()):
            return False
        return all(
            name in self.headers and self.search.first(pattern, self.headers[name])
            for name, pattern in condition.header.items()
        )

    def rows(self, rows: Rows) -> Iterator[Mapping[str, str]]:
        """The rows, but for those to skip; a field that is not there is ""."""
        begin = time.monotonic()
        for row in self._rows(rows):
            if time.monotonic() - begin > PATIENCE:
                raise LayoutError("the rows of this page take too long to read")
            if not self.skips(rows, row):
                yield row

    def skips(self, rows: Rows, row: Mapping[str, str]) -> bool:
        """Whether a row is one to leave out."""
        return any(self.search.first(p, row.get(name, "")) for name, p in rows.skip.items())

    def _rows(self, rows: Rows) -> Iterator[dict[str, str]]:
        if rows.css is not None:
            for tag in self.soup.select(rows.css):
                yield self._fields(rows, tag)
            return
        found = at(self.json, rows.json) if rows.json is not None else self.body
        if rows.regex is not None:
            for match in self.search.each(rows.regex, _spelled(found)):
                named = {name: value or "" for name, value in match.groupdict().items()}
                yield {**named, **self._fields(rows, match[0])}
        elif isinstance(found, list):
            for each in found:
                yield self._fields(rows, each)

    def _fields(self, rows: Rows, within: object) -> dict[str, str]:
        return {
            name: next(iter(self.values(fact, within)), "") or fact.otherwise or ""
            for name, fact in rows.fields.items()
        }

    def following(self, next_: Next, n: int, rows: int) -> Turn | None:
        """The page after this one, which is page `n` and has `rows`; None behind the last.

        Raises LayoutError where a link leads nowhere.
        """
        if next_.css is not None:
            return self._linked(next_)
        if next_.offset is not None:
            found = self.number(next_.offset)
            return None if found is None or found == n else Turn(None, found)
        last = None if next_.last is None else self.number(next_.last)
        following = n + (next_.step or max(rows, 1))
        return None if last is not None and following > last else Turn(None, following)

    def _linked(self, next_: Next) -> Turn | None:
        for tag in self.soup.select(next_.css or ""):
            text = _said(tag, None) or ""
            if next_.label is not None:
                match = self.search.first(next_.label, text)
                if match is None or match[0] != text:
                    continue
            href = (_said(tag, "href") or "").strip()
            try:
                url = urljoin(self.url, href)
                scheme = urlsplit(url).scheme
            except ValueError:
                scheme = ""
            if not href or href.startswith("#") or scheme not in ("http", "https"):
                raise LayoutError(f"the link {next_.css!a} to the next page is no address")
            return Turn(url, 0)
        return None

    def pre(self, css: str) -> str | None:
        """The exact text of the one element that matches, None where none does.

        Raises LayoutError where there are several, or where an octet of the page does not
        say what it stood for.
        """
        found = self.soup.select(css)
        if not found:
            return None
        text = found[0].get_text()
        if len(found) > 1:
            raise LayoutError(f"{len(found)} elements match {css!a}; the source can be in one")
        if "\ufffd" in text and "\ufffd" not in self.octets.decode("utf-8", "ignore"):
            raise LayoutError(f"the text in {css!a} is not in the encoding that the page says")
        return text.removeprefix("\n")  # HTML takes the first line end of <pre> for layout


def at(value: Any, path: str) -> Any:
    """What lies at a dotted path; None where nothing does."""
    if path == ".":
        return value
    for name in path.split("."):
        if isinstance(value, dict):
            value = value.get(name)
        elif isinstance(value, list) and name.isascii() and name.isdigit():
            value = value[int(name)] if len(name) < 9 and int(name) < len(value) else None
        else:
            return None
    return value


def _one(value: str | None) -> Iterable[str]:
    return () if value is None else (value,)


def _parameter(link: str, name: str) -> str | None:
    """A parameter of a link, decoded; None where it has none."""
    try:
        found = parse_qs(urlsplit(link).query, keep_blank_values=True, max_num_fields=1000)
    except ValueError:
        return None
    return found[name][0] if name in found else None


def _spelled(value: Any) -> str:
    if value is None or isinstance(value, dict | list):
        return ""
    return value if isinstance(value, str) else json.dumps(value)


def _said(within: Any, attr: str | None) -> str | None:
    """The text of an element, or its attribute, None where it has none; a string is itself."""
    if not hasattr(within, "get_text"):
        return _spelled(within)
    if attr is None:
        return " ".join(within.get_text(" ").split())
    value = within.get(attr)
    return " ".join(value) if isinstance(value, list) else value
