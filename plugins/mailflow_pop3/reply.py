"""A message as the answer to RETR or TOP: dots stuffed, the end marked (RFC 1939, 3 and 7).

Rule of the file: a message goes through in pieces, cut wherever they were cut, and the last
line of one that lacks its CRLF gets it. One that ends early has no end here.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

from mailflow.errors import UnavailableError
from mailflow.lines import crlf_pieces
from mailflow.mail import Content, chunks
from mailflow_pop3.surrogate import head_of

PIECE = 1 << 16


def pieces(
    content: Content,
    lines: int | None = None,
    head: Callable[[bytes], bytes] | None = None,
) -> Iterator[bytes]:
    """What follows the status line, from the first octet to the terminator.

    `lines`: the header section, the blank line, and so many lines of the body. `head` makes
    another header section of that of the message. Raises UnavailableError where fewer octets
    can be read than there are.
    """
    plain = crlf_pieces(_whole(content))
    if head is not None:
        plain = _headed(plain, head)
    last = b"\r\n"  # the two octets before what comes: a dot after CRLF begins a line
    for piece in plain if lines is None else top(plain, lines):
        if not piece:
            continue
        stuffed = (last + piece).replace(b"\r\n.", b"\r\n..")[2:]
        last = (last + piece[-2:])[-2:]
        yield stuffed
    yield b".\r\n" if last == b"\r\n" else b"\r\n.\r\n"


def _whole(content: Content) -> Iterator[bytes]:
    had = 0
    for piece in chunks(content, PIECE):
        had += len(piece)
        yield piece
    if had < content.size:  # asked for last: what is still on its way knows it only then
        raise UnavailableError("the message is shorter than it was")


def _headed(plain: Iterator[bytes], head: Callable[[bytes], bytes]) -> Iterator[bytes]:
    found, rest = head_of(plain)
    yield head(found) + rest
    yield from plain


def top(source: Iterator[bytes], lines: int) -> Iterator[bytes]:
    """The header section with its blank line, and `lines` lines of the body."""
    tail = b"\r\n"
    in_body = False
    for piece in source:
        if not in_body:
            end = (tail + piece).find(b"\r\n\r\n")
            if end < 0:
                yield piece
                tail = (tail + piece)[-3:]
                continue
            in_body = True
            cut = end + 4 - len(tail)
            yield piece[:cut]
            piece = piece[cut:]
        at = 0
        while lines and (found := piece.find(b"\r\n", at)) >= 0:
            at = found + 2
            lines -= 1
        if not lines:
            yield piece[:at]
            return
        yield piece
