"""What a client that has not said UTF8 gets of a message whose header section is in UTF-8.

Rule of the file: nothing that the field says is lost: it is written with encoded words, and
an address that cannot be written so becomes the name of a group of nobody (RFC 6858, 2). The
body is not touched, nor is what is no UTF-8.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

from mailflow.errors import MailflowError
from mailflow.mail import HEADER_LIMIT

LARGE = 1 << 15
"""Octets of a header section beyond which it is written in the simplest way: the parser of
the standard library takes ten seconds for a megabyte."""

LONG = 998
"""Octets of a field that is no list of addresses, beyond which it is written so, too: twenty
thousand semicolons in Content-Type take that parser six seconds."""

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
    return b"".join(_written(head, _field if len(head) <= LARGE else _plain_field))


def _written(head: bytes, made: Callable[[bytes], bytes]) -> Iterator[bytes]:
    """Each field, written anew. No regular expression: a line without an end, of which the
    sender decides, would take it hours."""
    *lines, rest = head.split(b"\r\n")
    field: list[bytes] = []
    for line in lines:
        if field and not line.startswith((b" ", b"\t")):
            yield made(b"".join(field))
            field = []
        if line or field:
            field += (line, b"\r\n")
        else:
            yield b"\r\n"
    if field:
        yield made(b"".join(field))
    yield rest


def _field(octets: bytes) -> bytes:
    name, colon, value = octets.partition(b":")
    if octets.isascii() or not colon:
        return octets
    word = name.decode("ascii", "replace").strip()
    text = " ".join(value.decode("utf-8").split())
    try:
        if word.lower() in _ADDRESSES:
            text = _addresses(text)
            if text.isascii():
                return b"%b: %b\r\n" % (name, text.encode("ascii"))
        if len(text) <= LONG:
            return _folded(word, text)
    except Exception:  # noqa: BLE001, S110  # such as parentheses deeper than it can count
        pass
    return _plain_field(octets)


def _plain_field(octets: bytes) -> bytes:
    """The field as nothing but encoded words; addresses become the name of a group of nobody."""
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
