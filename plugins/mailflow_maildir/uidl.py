"""UIDLs of a Maildir: those that Dovecot has given its messages, and those of file names.

Rule of the file: a UIDL is made of what never changes about a message, and Dovecot's files
are only read: Dovecot may be at work in the same Maildir.
"""

from __future__ import annotations

import os
import re
from collections.abc import Collection, Iterator

from mailflow.errors import UnavailableError
from mailflow.options import Option
from mailflow.record import NamedTuple
from mailflow_maildir.reading import unique

DOVECOT = "dovecot-uidlist"

MOST = 70
"""Octets that a UIDL may have (RFC 1939, 7)."""

_VALID = re.compile(r"[!-~]{1,70}")
_PART = re.compile(r"%(0?)([0-9]*)([XM]*)([A-Za-z%])")


class Listed(NamedTuple):
    """What Dovecot has written of one message: its UID, the UIDVALIDITY of the list, and the
    UIDL that came with the message from another server, or ""."""

    uid: int
    validity: int
    uidl: str = ""


def valid(uidl: str, used: Collection[str] = ()) -> bool:
    """Whether POP3 takes it, and no other message has it."""
    return uidl not in used and _VALID.fullmatch(uidl) is not None


class UidlFormat:
    """Dovecot's pop3_uidl_format: %u is the UID, %v the UIDVALIDITY, %f the file name. Before
    the letter may stand X for hexadecimal digits (small ones) or M for the MD5, and before
    that a width: with a zero at least so many characters, without one at most."""

    def __init__(self, text: str) -> None:
        """Raises ValueError."""
        self.text = text
        self._parts: list[str | tuple[str, int, str, str]] = []
        end = 0
        for found in _PART.finditer(text):
            self._parts.append(_plain(text[end : found.start()]))
            zero, width, modifiers, letter = found.groups()
            if letter == "%":
                self._parts.append("%")
            elif letter not in "uvf" or len(modifiers) > 1 or (letter == "f" and modifiers == "X"):
                raise ValueError(f"expected %u, %v or %f, perhaps as %08Xu; found {found[0]}")
            else:
                self._parts.append((zero, int(width or 0), modifiers, letter))
            end = found.end()
        self._parts.append(_plain(text[end:]))
        self._letters = {part[3] for part in self._parts if isinstance(part, tuple)}
        if not self._letters & {"u", "f"}:
            raise ValueError("expected %u or %f: each message has a UIDL of its own")

    @property
    def by_name(self) -> bool:
        """Whether a message needs no UID to have one."""
        return self._letters == {"f"}

    def render(self, base: str, listed: Listed | None) -> str:
        """That of a message; it may be none that POP3 takes."""
        facts: dict[str, int | str] = {"f": base}
        if listed is not None:
            facts |= {"u": listed.uid, "v": listed.validity}
        return "".join(
            part if isinstance(part, str) else _fitted(facts[part[3]], *part[:3])
            for part in self._parts
        )

    def __repr__(self) -> str:
        return f"UidlFormat({self.text!r})"


def _plain(text: str) -> str:
    if "%" in text:
        raise ValueError(f"expected a letter behind %; found {text}")
    return text


def _fitted(value: int | str, zero: str, width: int, modifier: str) -> str:
    if modifier == "M":
        from hashlib import md5

        value = md5(
            str(value).encode("utf-8", "surrogateescape"), usedforsecurity=False
        ).hexdigest()
    elif modifier == "X":
        value = f"{value:x}"
    return str(value).rjust(width, "0") if zero else str(value)[: width or None]


class UidlOption(Option[UidlFormat]):
    """A format in Dovecot's notation, such as "%08Xu%08Xv"."""

    expected = 'a format such as "%08Xu%08Xv" or "%f"'
    json_type = {"type": "string"}

    def convert(self, value: object, base: str) -> UidlFormat:
        if not isinstance(value, str):
            raise self.reject()
        return UidlFormat(value)


def by_name(base: str) -> str:
    """The UIDL of a message that no list knows: the unique part of its name, else a digest."""
    name = base.partition(",")[0]
    return name if valid(name) else digest(base)


def digest(base: str) -> str:
    from mailflow.digests import blake2b

    return blake2b(base.encode("utf-8", "surrogateescape"), digest_size=16).hexdigest()


def dovecot_list(root: str, wanted: Collection[str]) -> dict[str, Listed] | None:
    """What dovecot-uidlist says of the messages that are `wanted`, by the part of their names
    that stays; None where Dovecot has never been here. Raises OSError, UnavailableError for
    a list of a version that is not known."""
    try:
        with open(os.path.join(root, DOVECOT), encoding="utf-8", errors="surrogateescape",
                  newline="\n") as file:  # fmt: skip
            header = file.readline().split()
            if not header:
                return None
            if header[0] != "3":
                raise UnavailableError(
                    f"{root}/{DOVECOT} is of version {header[0][:20]!a}, not of 3 as Dovecot has"
                    " written since 1.1: let a newer Dovecot open the Maildir once"
                )
            validity = next((int(word[1:]) for word in header if word[0] == "V"), 0)
            return dict(_listed(file, validity, wanted))
    except FileNotFoundError:
        return None
    except ValueError:
        raise UnavailableError(f"{root}/{DOVECOT} is damaged: let Dovecot mend it") from None


def _listed(
    lines: Iterator[str], validity: int, wanted: Collection[str]
) -> Iterator[tuple[str, Listed]]:
    """A line is: UID, words of a letter and a value, " :" and the name."""
    for line in lines:
        facts, colon, name = line.partition(" :")
        base = unique(name.rstrip("\n"))
        if not (colon and base in wanted and line.endswith("\n")):
            continue  # others', or a line that is being written
        uid, *words = facts.split(" ")
        uidl = next((word[1:] for word in words if word.startswith("P")), "")
        yield base, Listed(int(uid), validity, uidl)
