"""What was written for a program, made what a person reads: names, links, strings of scripts.

Rule of the file: what is not written so is left as it is; nothing is an error here.
"""

from __future__ import annotations

import codecs
import re
from collections.abc import Callable, Iterable, Mapping

_ESCAPE = re.compile(r"\\(?:u\{([0-9A-Fa-f]{1,6})\}|u([0-9A-Fa-f]{4})|x([0-9A-Fa-f]{2})|(.))", re.S)
_NO_CHARSETS = frozenset({"idna", "punycode", "raw-unicode-escape", "undefined", "unicode-escape"})
"""Codecs of Python that no page is written in; two of them take hours for a page of megabytes."""

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.:-]{0,39}")
_LETTERS = {"n": "\n", "t": "\t", "r": "\r", "b": "\b", "f": "\f", "v": "\v", "0": "\0"}


def modified_utf_7(text: str) -> str:
    """The names of IMAP's folders (RFC 3501, 5.1.3): "Entw&APw-rfe" is "Entwürfe"."""
    from imapclient import imap_utf7

    try:
        octets = text.encode("ascii")
        decoded = imap_utf7.decode(octets)
        if isinstance(decoded, str) and imap_utf7.encode(decoded) == octets:
            return decoded
    except (UnicodeError, ValueError, IndexError):
        pass
    return text


def javascript(text: str) -> str:
    r"""The inside of a string of JavaScript or JSON: "caf\u00e9" is "café"."""

    def one(match: re.Match[str]) -> str:
        code = match[1] or match[2] or match[3]
        if code is None:
            return _LETTERS.get(match[4], match[4])
        number = int(code, 16)
        return chr(number) if number < 0x110000 else match[0]

    joined = _ESCAPE.sub(one, text)
    # a character beyond U+FFFF is written as two halves
    return joined.encode("utf-16", "surrogatepass").decode("utf-16", "replace")


def percent(text: str) -> str:
    from urllib.parse import unquote

    return unquote(text)


def html(text: str) -> str:
    """Markup as it is read: the text of "<b>a&amp;b</b>" is "a&b"."""
    from html import unescape

    return unescape(re.sub(r"<[^<>]*>", "", text))


DECODINGS: Mapping[str, Callable[[str], str]] = {
    "modified-utf-7": modified_utf_7,
    "percent": percent,
    "javascript": javascript,
    "html": html,
}


def decoded(text: str, how: Iterable[str]) -> str:
    """One after the other."""
    for name in how:
        text = DECODINGS[name](text)
    return text


def is_charset(name: str) -> bool:
    """Whether a page may be written in the encoding of that name, and is readable then."""
    if not _NAME.fullmatch(name):
        return False
    try:
        found = codecs.lookup(name)
    except LookupError:
        return False
    return found._is_text_encoding and found.name.replace("_", "-") not in _NO_CHARSETS


def number(text: str) -> int | None:
    """The number that a page shows, with or without marks between its groups of three:
    "1,234", "1.234", "1 234" and "1234"; None where it is none."""
    text = text.strip()
    if len(text) > 20 or not re.fullmatch(
        r"\d+|\d{1,3}(?:([.,'\u2019 \u00a0\u202f])\d{3}(?:\1\d{3})*)", text
    ):
        return None
    return int(re.sub(r"\D", "", text))
