"""Pages that were not as expected, kept for a report that may be posted anywhere.

Rule of the file: what a page is built of is kept, what it says is not: of all words only those
stay that stand in the site's definition too, of the rest so much that one sees there was one.
"""

from __future__ import annotations

import json
import os
import re
from base64 import b64encode
from collections import Counter
from collections.abc import Iterable, Iterator
from contextlib import suppress
from html import escape
from typing import TYPE_CHECKING, Any
from urllib.parse import quote, quote_plus, urlsplit

from mailflow.digests import sha256
from mailflow.durable import make_directory, replace
from mailflow.options import Options
from mailflow_webmail.web.page import Page

if TYPE_CHECKING:
    from bs4.element import Tag

    from mailflow_webmail.definition.language import Site

KEPT = 20
"""Pages that are kept; the oldest go."""

SIZE = 200_000
"""Characters of a page that are kept."""

ALIKE = 3
"""Rows that are kept of many."""

_ROWS = ("tr", "li", "option", "dt", "dd", "article")

_BUILT = frozenset(
    ("id", "class", "name", "type", "rel", "method", "for", "role", "enctype", "lang", "dir",
     "http-equiv", "charset", "colspan", "rowspan", "headers", "scope", "target")
)  # fmt: skip
"""Attributes that say how a page is built."""

_MORE = frozenset(
    ("content", "form", "http-equiv", "role", "placeholder", "pattern", "required", "autofocus",
     "autocomplete", "formaction", "formmethod", "formenctype", "style", "onclick", "onsubmit",
     "onchange", "onload", "srcdoc", "sandbox", "async", "defer", "integrity", "crossorigin", "min",
     "max", "step", "list", "open", "hidden", "download", "novalidate", "srcset", "sizes",
     "template", "loading", "svg", "path", "use", "g", "d", "viewbox", "picture", "slot", "dialog",
     "main")
)  # fmt: skip
"""Names of elements and attributes besides those that lxml knows."""

_WORD = re.compile(r"[^\W_]+")
_LONG = re.compile(r"[^\s@\"'<>]{1,64}@[^\s@\"'<>]{1,255}|\w{16,}")
_STRING = re.compile(
    r"\"(?:[^\"\\\n]|\\.)*\\?(?:\"|$)|'(?:[^'\\\n]|\\.)*\\?(?:'|$)|`(?:[^`\\]|\\.)*\\?(?:`|\Z)"
    r"|//[^\n]*|/\*.*?(?:\*/|\Z)",
    re.DOTALL | re.MULTILINE,
)
_KEY = re.compile(r"\w{1,40}")


class Saved:
    """A directory of such pages, and of nothing else. Any thread may keep one."""

    def __init__(self, directory: str) -> None:
        self._directory = directory

    def keep(self, site: Site, page: Page, step: str, key: str, private: Iterable[str]) -> str:
        """The path of a file for this user alone; "" where none can be written. An equal page
        is kept once."""
        head = f"{site.name}: {step}: {key}, status {page.status}, {page.type}"
        text, suffix = trimmed(site, page, private)
        text = f"<!-- {head.replace('--', '- -')} -->\n{text}" if suffix == "html" else text
        data = text.encode("utf-8", "replace")
        software = re.sub(r"[^a-z0-9]+", "-", site.name.lower()).strip("-")
        digest = sha256(data).hexdigest()[:12]
        path = os.path.join(self._directory, f"{software}-{step}-{digest}.{suffix}")
        try:
            make_directory(self._directory)
            replace(path, data)
            self._clear()
        except OSError:
            return ""
        return path

    def _clear(self) -> None:
        with os.scandir(self._directory) as entries:
            found = sorted((each.stat().st_mtime, each.path) for each in entries)
        for _, path in found[:-KEPT]:
            with suppress(FileNotFoundError):  # another process was here
                os.unlink(path)


def trimmed(site: Site, page: Page, private: Iterable[str]) -> tuple[str, str]:
    """The page, or so much of it that it has SIZE characters at most, without what is private;
    and what the name of its file ends with."""
    trim = _Trim(_words(site), private)
    if page.is_html:
        return _cut(trim.html(page) + f"\n<!-- {trim.masked(urlsplit(page.url).path)} -->"), "html"
    if page.json is not None:
        with suppress(RecursionError):  # what can be read may be too deep to be written
            return _cut(json.dumps(trim.json(page.json), indent=1)), "json"
    return _cut(trim.masked(page.octets[:SIZE].decode("utf-8", "replace"))), "txt"


def _cut(text: str) -> str:
    return text if len(text) <= SIZE else f"{text[:SIZE]}\n... cut"


def _words(site: Options) -> set[str]:
    """The words of a definition."""
    return {word for text in _texts(site) for word in _WORD.findall(text)}


def _texts(value: object) -> Iterator[str]:
    if isinstance(value, str):
        yield value
    elif isinstance(value, Options):
        for each in vars(value).values():
            yield from _texts(each)
    elif isinstance(value, dict):
        yield from value
        for each in value.values():
            yield from _texts(each)
    elif isinstance(value, tuple | list):
        for each in value:
            yield from _texts(each)


class _Trim:
    """Takes from a page what is private."""

    def __init__(self, known: set[str], private: Iterable[str]) -> None:
        secrets = {each for each in private if each}
        self._known = known - {word for each in secrets for word in _WORD.findall(each)}
        forms = {form for each in secrets for form in _forms(each) if form}
        either = sorted(map(_pattern, forms), key=len, reverse=True)
        self._private = re.compile("|".join(either) or r"(?!)", re.IGNORECASE)

    def html(self, page: Page) -> str:
        from bs4.element import PreformattedString, Script, Stylesheet

        octets = page.body[:SIZE].encode("utf-8", "replace")
        soup = Page(
            page.url, page.status, {"Content-Type": "text/html; charset=utf-8"}, octets
        ).soup
        _thin(soup.find_all(_ROWS))
        for text in list(soup.find_all(string=True)):
            if isinstance(text, Script):
                text.replace_with(Script(self.script(text)))
            elif isinstance(text, PreformattedString | Stylesheet):  # comments and the like
                text.extract()
            else:
                text.replace_with(self.masked(text))
        for tag in soup.find_all(True):
            tag.name = self._named(tag.name)
            self._attributes(tag)
        return str(soup)

    def json(self, value: Any) -> Any:
        if isinstance(value, dict):
            items = list(value.items())[: 20 * ALIKE]
            return {
                self.guarded(name) if _KEY.fullmatch(name) else self.masked(name): self.json(each)
                for name, each in items
            }
        if isinstance(value, list):
            return [self.json(each) for each in value[:ALIKE]]
        if isinstance(value, str):
            return self.script(value) if "\n" in value else self.masked(value)
        return 0 if isinstance(value, float) or (isinstance(value, int) and value > 1e6) else value

    def script(self, text: str) -> str:
        """A program without the strings and remarks in it; the keys of its objects stay."""

        def one(found: re.Match[str]) -> str:
            quote_, inside = found[0][0], found[0][1:]
            if quote_ == "/":
                return ""
            inside = inside.removesuffix(quote_)
            follows = text[found.end() : found.end() + 2].strip()
            is_key = follows.startswith(":") and _KEY.fullmatch(inside)
            return f"{quote_}{(self.guarded if is_key else self.masked)(inside)}{quote_}"

        lines = self.guarded(_STRING.sub(one, text[:SIZE])).splitlines()
        return "\n".join(line if _is_even(line) else self.masked(line) for line in lines)

    def masked(self, text: str) -> str:
        """The words that the definition does not have become x, digits 0."""

        def one(found: re.Match[str]) -> str:
            return found[0] if found[0] in self._known else _shape(found[0])

        return _WORD.sub(one, self._private.sub("x", text))

    def guarded(self, text: str) -> str:
        """The text without what is private; tokens and addresses become x."""

        def one(found: re.Match[str]) -> str:
            is_word = "@" not in found[0] and not any(map(str.isdigit, found[0]))
            return found[0] if is_word or found[0] in self._known else "x"

        return _LONG.sub(one, self._private.sub("x", text))

    def _named(self, name: str) -> str:
        """The name of an element or an attribute, which a quote too few makes of any word."""
        from lxml.html import defs  # type: ignore[import-untyped]

        is_known = name in defs.tags or name in defs.safe_attrs or name in _MORE
        if is_known or name.startswith("data-"):
            return self.guarded(name)
        return self.masked(name)

    def _attributes(self, tag: Tag) -> None:
        kind = str(tag.get("type", "")).lower()
        for said, value in list(tag.attrs.items()):
            del tag.attrs[said]
            name = self._named(said)
            text = " ".join(value) if isinstance(value, list) else str(value)
            if name == "value" and kind in ("hidden", "password", "text", "email"):
                tag[name] = "x" if text else ""
            else:
                tag[name] = (self.guarded if name in _BUILT else self.masked)(text)


def _thin(tags: Iterable[Tag]) -> None:
    """Remove the elements that follow ALIKE others of the same name and parent."""
    kept: Counter[tuple[int, str]] = Counter()
    for tag in tags:
        if tag.decomposed:
            continue
        same = id(tag.parent), tag.name  # the hash of a tag is that of all its text
        if kept[same] == ALIKE:
            tag.decompose()
        else:
            kept[same] += 1


def _shape(word: str) -> str:
    return re.sub(r"\d", "0", re.sub(r"[^\W\d]", "x", word[:8]))


def _is_even(line: str) -> bool:
    """Whether its quotes go in pairs, so that strings were told from the program."""
    return not (line.count('"') % 2 or line.count("'") % 2)


def _forms(secret: str) -> tuple[str, ...]:
    """What it may look like in a page."""
    octets = secret.encode("utf-8", "surrogateescape")
    packed = b64encode(octets).decode().rstrip("=")
    urlsafe = packed.translate({ord("+"): "-", ord("/"): "_"})
    escaped = (escape(secret), quote(secret, ""), quote_plus(secret), json.dumps(secret)[1:-1])
    return (secret, *escaped, packed, urlsafe, octets.hex())


def _pattern(secret: str) -> str:
    escaped = re.escape(secret)
    return escaped if len(secret) > 3 else rf"(?<!\w){escaped}(?!\w)"
