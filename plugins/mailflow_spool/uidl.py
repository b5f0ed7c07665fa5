"""UIDLs (RFC 1939, 7): how a message of the spool is called, for good.

Rule of the file: a UIDL is 1 to 70 octets of 0x21 to 0x7E, is written down with its message
and is never made anew.
"""

from __future__ import annotations

import re

from mailflow.mail import chunks
from mailflow.options import Option
from mailflow.typed import TYPE_CHECKING

if TYPE_CHECKING:
    from mailflow.mail import Content

DEFAULT = "%08Xu%08Xv"
MOST = 70

_WORD = re.compile(r"%(?:(0\d{1,2})?(X)?([uv])|(m)|(%))")
_SOUND = re.compile(r"[!-~]{1,70}")


def is_uidl(text: str) -> bool:
    return _SOUND.fullmatch(text) is not None


class UidlFormat(Option[str]):
    """A format of UIDLs, with the words of Dovecot's pop3_uidl_format: %u is the message's
    number in its drop, %v when the drop was made, both in hexadecimal (lower case, as there)
    where they are %Xu and %Xv; %m is the MD5 of the message."""

    expected = 'a format of UIDLs such as "%08Xu%08Xv", "%v.%u" or "%m"'
    json_type = {"type": "string", "pattern": "%"}

    def convert(self, value: object, base: str) -> str:
        if not isinstance(value, str):
            raise self.reject()
        rest = _WORD.sub("", value)
        if "%" in rest:
            raise ValueError(f"expected %u, %v, %m, with a width as in %08Xu; found {value!r}")
        words = {match[3] or match[4] for match in _WORD.finditer(value)}
        if not ("m" in words or {"u", "v"} <= words):
            raise ValueError(
                "expected %u and %v together, or %m: with less a UIDL would be used again"
            )
        longest = written(value, (1 << 40) - 1, (1 << 40) - 1, "f" * 32)
        if not is_uidl(longest):
            raise ValueError("expected a format of at most 70 octets of 0x21 to 0x7E")
        return value


def needs_digest(form: str) -> bool:
    return "%m" in form


def digest_of(content: Content) -> str:
    """The MD5 of a message, as %m says it: it tells messages apart, and guards nothing."""
    from hashlib import md5

    state = md5(usedforsecurity=False)
    for piece in chunks(content):
        state.update(piece)
    return state.hexdigest()


def numbered(form: str) -> bool:
    """Whether the number alone makes a UIDL of this format new."""
    return "%m" not in form


def written(form: str, number: int, validity: int, digest: str = "") -> str:
    """The UIDL of a message."""
    if form == DEFAULT:
        return f"{number:08x}{validity:08x}"

    def word(match: re.Match[str]) -> str:
        width, base, name, by_digest, percent = match.groups()
        if percent:
            return "%"
        if by_digest:
            return digest
        value = number if name == "u" else validity
        return format(value, f"{width or ''}{'x' if base else 'd'}")

    return _WORD.sub(word, form)
