"""Addresses out of header fields (RFC 5322, 3.4): what is not clear is said to be so.

Rule of the file: who a mail is from decides what it may do, so nothing is guessed.
An element that can be read in two ways gives no address, and the field is not clean.
"""

from __future__ import annotations

import re

from mailflow.record import NamedTuple
from mailflow.typed import TYPE_CHECKING

if TYPE_CHECKING:
    from mailflow.mail import Mail


class Addresses(NamedTuple):
    """The addr-specs of a field, in order; `clean`: it held these and nothing else."""

    found: tuple[str, ...] = ()
    clean: bool = True


_ATEXT = r"[^\s\x00-\x20\x7f\"(),:;<>@\[\\\]\ud800-\udfff]+"  # and what is beyond ASCII
_QUOTED = r'"(?:[^"\\\x00-\x1f\x7f\ud800-\udfff]|\\[ -~])*+"'
_LITERAL = r"\[[0-9A-Za-z.:-]+\]"
_ADDR_SPEC = re.compile(f"(?:{_ATEXT}|{_QUOTED})@(?:{_ATEXT}|{_LITERAL})")
_REST = r"<[^<>]*+>|[,:;]|\(|[^\s\",:;<(]+|\s+|."
_TOKEN = re.compile(r'"(?:[^"\\]|\\.)*+"|' + _REST, re.DOTALL)
_NO_STRING = re.compile(_REST, re.DOTALL)
_COMMENT = re.compile(r"[()]|\\.", re.DOTALL)


def addresses(value: str) -> Addresses:
    """The addresses of one field's unfolded value (From, To, Cc ...)."""
    found: list[str] = []
    clean = True
    element: list[str] = []
    token = _TOKEN
    at = 0
    while at < len(value):
        piece = token.match(value, at).group()  # type: ignore[union-attr]  # "." takes the rest
        at += len(piece)
        if piece == '"':
            # Not closed, and so none behind it is: looked for again at each, a field of
            # a million quotes would take hours.
            token = _NO_STRING
        if piece == "(":
            end = _after_comment(value, at)
            clean = clean and end > 0
            at = end or len(value)
            element.append(" ")
        elif piece not in (",", ";", ":"):
            element.append(piece)
        else:
            # Before ":" stands the name of a group, before ";" its last member.
            single = piece != ":" and _take(element, found)
            clean = clean and single and piece == ","
            element = []
    clean = _take(element, found) and clean
    return Addresses(tuple(dict.fromkeys(found)), clean)


def _take(element: list[str], found: list[str]) -> bool:
    """Add the address of one element; False if it is not one address and no more."""
    words = [piece for piece in element if not piece.isspace()]
    angles = [piece for piece in words if piece.startswith("<")]
    if not words:
        return True
    if '"' in words or "<" in words:  # opened and never closed
        return False
    text = "".join(element).strip()
    if angles:
        if len(angles) > 1 or words[-1] != angles[0]:
            return False
        text = angles[0][1:-1].strip()
    if _ADDR_SPEC.fullmatch(text) is None:
        return False
    found.append(text)
    return True


def _after_comment(value: str, at: int) -> int:
    """Where the comment ends that was opened before `at`; 0 if it is not closed."""
    depth = 1
    for mark in _COMMENT.finditer(value, at):
        depth += {"(": 1, ")": -1}.get(mark.group(), 0)
        if depth == 0:
            return mark.end()
    return 0


def same(address: str) -> str:
    """A form that is equal for equal mailboxes: case is ignored, needless quotes too.

    RFC 5321 (2.4) lets a host tell upper from lower case in the local part; none
    that people write to does, and they write it as they like.
    """
    local, _, domain = address.rpartition("@")
    quoted = _NEEDLESS_QUOTES.fullmatch(local)
    return f"{quoted[1] if quoted else local}@{domain}".lower()


_NEEDLESS_QUOTES = re.compile(r"\"([\w.!#$%&'*+/=?^`{|}~-]+)\"")


def reverse_path(mail: Mail) -> str | None:
    """Whom the transport names as sender: the envelope, else the one Return-Path.

    "" is the null sender. None is not known: no Return-Path, two, or one that is no
    address. The final delivery writes it and drops any other (RFC 5321, 4.4).
    """
    if mail.envelope.sender is not None:
        return mail.envelope.sender
    written = mail.header().get_all("Return-Path")
    if len(written) != 1:
        return None
    path = written[0].strip()
    if path == "<>":
        return ""
    named = addresses(path)
    return named.found[0] if named.clean and len(named.found) == 1 else None
