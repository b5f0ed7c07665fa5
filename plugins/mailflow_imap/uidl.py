"""Unique-ids of POP3 (RFC 1939, 7) for the messages of folders, made of what IMAP says of them.

Rule of the file: a unique-id is made of the UIDVALIDITY and the UID, and of the folder where
there is more than one; nothing that another client can change is in it.
"""

from __future__ import annotations

import re

from mailflow.digests import blake2b
from mailflow.options import Option
from mailflow.typed import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

DEFAULT = "%08Xu%08Xv%h"

_WORD = re.compile(r"%(?:(0\d{1,2})?(X)?([uv])|([mh%]))")
_SOUND = re.compile(r"[!-~]{1,70}")
_LARGEST = (1 << 32) - 1


class UidlFormat(Option[str]):
    """A format of unique-ids, with words of Dovecot's pop3_uidl_format."""

    expected = 'a format of UIDLs such as "%08Xu%08Xv%h", "%v-%u" or "%m"'
    json_type = {"type": "string", "pattern": "%"}

    def convert(self, value: object, base: str) -> str:
        if not isinstance(value, str):
            raise self.reject()
        if "%" in _WORD.sub("", value):
            raise ValueError(f"expected %u, %v, %h or %m, with a width as in %08Xu; found {value}")
        found = words(value)
        if not ("m" in found or {"u", "v"} <= found):
            raise ValueError(
                "expected %u and %v together, or %m: with less a UIDL would be used again"
            )
        if not _SOUND.fullmatch(writer(value, "x", _LARGEST)(_LARGEST)):
            raise ValueError("expected a format of at most 70 octets of 0x21 to 0x7E")
        return value


def words(form: str) -> set[str]:
    """The letters behind the percent signs of a format."""
    return {found[3] or found[4] for found in _WORD.finditer(form)}


def tells_folders_apart(form: str) -> bool:
    return bool(words(form) & {"h", "m"})


def writer(form: str, folder: str, validity: int) -> Callable[[int], str]:
    """Gives the unique-id of each UID of a folder."""
    name = folder.encode("utf-8", "surrogateescape")
    mark = "" if folder == "INBOX" else blake2b(name, digest_size=4).hexdigest()
    if form == DEFAULT:
        end = f"{validity:08x}{mark}"
        return lambda uid: f"{uid:08x}{end}"

    def written(uid: int) -> str:
        def word(found: re.Match[str]) -> str:
            width, base, number, other = found.groups()
            if other == "m":
                return _md5(b"%b\0%d\0%d" % (name, validity, uid))
            if other:
                return mark if other == "h" else "%"
            value = uid if number == "u" else validity
            return format(value, f"{width or ''}{'x' if base else 'd'}")

        return _WORD.sub(word, form)

    return written


def _md5(octets: bytes) -> str:
    """It tells messages apart, and guards nothing."""
    from hashlib import md5

    return md5(octets, usedforsecurity=False).hexdigest()
