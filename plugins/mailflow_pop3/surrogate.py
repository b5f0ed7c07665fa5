"""What a client that has not said UTF8 gets of a message whose header section is in UTF-8.

Rule of the file: nothing that the field says is lost: it is written with encoded words, and
an address that cannot be written so becomes the name of a group of nobody (RFC 6858, 2). The
body is not touched, nor is what is no UTF-8.
"""

from __future__ import annotations

import re
from collections.abc import Iterator

from mailflow.errors import MailflowError
from mailflow.mail import HEADER_LIMIT

_FIELD = re.compile(rb"[^\r\n][^\r\n]*(?:\r\n[ \t][^\r\n]*)*\r\n")

LARGE = 1 << 16
"""Octets of a header section beyond which it is written in the simplest way: the parser of
the standard library takes ten seconds for a megabyte."""

_WORD = 42
"""Octets of an encoded word before they are encoded; with them it has 68 (RFC 2047, 2)."""

_ADDRESSES = frozenset(
    f"{resent}{name}"
    for resent in ("", "resent-")
    for name in ("from", "sender", "to", "cc", "bcc", "reply-to")
)


class Utf8NeededError(MailflowError):
    """The message is only for clients that have said UTF8."""


def is_utf8(head: bytes) -> bool:
    """Whether a header section holds UTF-8, and nothing that is none (RFC 6532)."""
    if head.isascii():
        return False
    try:
        head.decode("utf-8")
    except UnicodeDecodeError:
        return False
    return True


def refused(head: bytes) -> bytes:
    """The header section as it is. Raises Utf8NeededError where UTF8 must be said first."""
    if is_utf8(head):
        raise Utf8NeededError("this message has a header in UTF-8: say UTF8 before the log-in")
    return head


def written(head: bytes) -> bytes:
    """The header section in ASCII, where it holds UTF-8."""
    if not is_utf8(head):
        return head
    return _FIELD.sub(_field if len(head) <= LARGE else _plain_field, head)


def _field(found: re.Match[bytes]) -> bytes:
    octets = found.group()
    name, colon, value = octets.partition(b":")
    if octets.isascii() or not colon:
        return octets
    word = name.decode("ascii", "replace").strip()
    text = " ".join(value.decode("utf-8").split())
    if word.lower() in _ADDRESSES:
        text = _addresses(text)
        if text.isascii():
            return b"%b: %b\r\n" % (name, text.encode("ascii"))
    return _folded(word, text)


def _plain_field(found: re.Match[bytes]) -> bytes:
    """The field as nothing but encoded words; addresses become the name of a group of nobody."""
    octets = found.group()
    name, colon, value = octets.partition(b":")
    if octets.isascii() or not colon:
        return octets
    word = name.decode("ascii", "replace").strip()
    words = _plain_words(b" ".join(value.split()))
    end = b" :;\r\n" if word.lower() in _ADDRESSES else b"\r\n"
    return word.encode("ascii", "replace") + b": " + words + end


def _plain_words(text: bytes) -> bytes:
    """UTF-8 as encoded words in base64, a line each; no character is cut in two."""
    from binascii import b2a_base64

    words = []
    at = 0
    while at < len(text):
        end = at + _WORD
        while end < len(text) and text[end] & 0xC0 == 0x80:
            end -= 1
        words.append(b"=?utf-8?b?%b?=" % b2a_base64(text[at:end], newline=False))
        at = end
    return b"\r\n ".join(words)


def _addresses(text: str) -> str:
    """Mailboxes, each with a name in encoded words."""
    from email.utils import formataddr, getaddresses

    made = []
    for name, address in getaddresses([text]):
        if address.isascii():
            made.append(formataddr((name, address)))
        else:
            made.append(f"{_words(f'{name} {address}'.strip())} :;")
    return ",\r\n ".join(made)


def _words(text: str) -> str:
    from email.header import Header

    return Header(text, "utf-8").encode(linesep="\r\n")


def _folded(name: str, text: str) -> bytes:
    """A field in lines of ASCII: parameters as RFC 2231 has them, all else in encoded words."""
    from email.policy import SMTP

    try:
        folded: str = SMTP.header_factory(name, text).fold(policy=SMTP)
        if folded.isascii():
            return folded.encode("ascii")
    except Exception:  # noqa: BLE001, S110  # the parser of the standard library gave up
        pass
    return f"{name}: {_words(text)}\r\n".encode("ascii")


def head_of(pieces: Iterator[bytes]) -> tuple[bytes, bytes]:
    """The header section with its blank line, and what was read behind it."""
    data = b""
    for piece in pieces:
        data += piece
        if data.startswith(b"\r\n"):
            return data[:2], data[2:]
        if (end := data.find(b"\r\n\r\n")) >= 0:
            return data[: end + 4], data[end + 4 :]
        if len(data) > HEADER_LIMIT:
            break
    return data, b""
