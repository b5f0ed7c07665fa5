"""Awkward mail: what arrives in the wild and what programs have lost, cut or mangled.

    for sample in AWKWARD:
        source.put(sample.octets)

Rule of the file: a sample is octets with the line ends it has, small, and named after
what is odd about it; what is large is a `Large`, which makes its octets as they are read.
"""

from __future__ import annotations

import io
import re
from collections.abc import Iterator
from typing import BinaryIO, NamedTuple

HEAD = b"From: Ann <ann@example.org>\r\nTo: bob@example.org\r\nSubject: %b\r\n"


class Sample(NamedTuple):
    """One message. `str(sample)` names a test after it."""

    name: str
    octets: bytes

    def __str__(self) -> str:
        return self.name

    @property
    def stored(self) -> bytes:
        """As mailflow holds it."""
        return stored(self.octets)


def stored(octets: bytes) -> bytes:
    """A message as mailflow holds it: a bare LF has become CRLF, all else stays.

    Not by mailflow.lines, which is what the suites put to the test.
    """
    return re.sub(rb"(?<!\r)\n", b"\r\n", octets)


def _message(subject: bytes, body: bytes, *fields: bytes) -> bytes:
    return HEAD % subject + b"".join(field + b"\r\n" for field in fields) + b"\r\n" + body


def _nested(depth: int) -> bytes:
    """Multiparts in multiparts, none of which ends."""
    parts = (
        b'Content-Type: multipart/mixed; boundary="%d"\r\n\r\n--%d\r\n' % (number, number)
        for number in range(depth)
    )
    return b"".join(parts)


def _samples() -> Iterator[Sample]:
    yield Sample("plain", _message(b"plain", b"hello\r\n"))
    yield Sample("no-body", HEAD % b"no body" + b"\r\n")
    yield Sample("only-header", HEAD % b"no blank line")
    yield Sample("header-cut-in-mid-line", HEAD % b"cut" + b"X-Cut: in mid-li")
    yield Sample("no-header", b"\r\njust text\r\n")
    yield Sample("no-field-at-all", b"just text, of which no line is a field\r\n")
    yield Sample("one-octet", b"x")
    yield Sample("only-line-end", b"\r\n")
    yield Sample("no-end-of-line", _message(b"no end of line", b"the last line has none"))
    yield Sample("blank-lines-at-the-end", _message(b"blank lines", b"text\r\n\r\n\r\n\r\n"))
    yield Sample("bare-lf", _message(b"bare LF", b"one\ntwo\n\nthree\n").replace(b"\r\n", b"\n"))
    yield Sample("mixed-line-ends", _message(b"mixed", b"one\ntwo\r\nthree\r\n\nfour\n"))
    yield Sample("bare-cr", _message(b"bare CR", b"one\rtwo\r\r\nthree\r\n"))
    yield Sample("cr-at-the-end", _message(b"CR at the end", b"one\r"))
    yield Sample("cr-cr-lf", _message(b"CR CR LF", b"one\r\r\ntwo\r\r\n"))
    yield Sample("nul", _message(b"NUL", b"one\0two\r\n\0\r\n"))
    yield Sample("controls", _message(b"controls", bytes(range(1, 9)) + b"\x1b[2J\x7f\r\n"))
    yield Sample("8-bit", _message(b"8 bit", bytes(range(128, 256)) + b"\r\n"))
    yield Sample("8-bit-header", _message(b"Gr\xfc\xdfe \xff\xfe", b"latin-1 in the header\r\n"))
    yield Sample("utf-8-header", _message("Grüße, 日本".encode(), b"RFC 6532\r\n"))
    yield Sample(
        "smtputf8-addresses", _message(b"addresses", b"\r\n", "Cc: jörg@exämple.org".encode())
    )
    yield Sample("utf-16-body", _message(b"UTF-16", "zwölf\r\n".encode("utf-16")))
    yield Sample("lone-dot", _message(b"dots", b".\r\n"))
    yield Sample("dots", _message(b"dots", b".\r\n..\r\n...\r\n.one\r\n\r\n.\r\n.\r\nmore\r\n"))
    yield Sample("dot-behind-bare-cr", _message(b"dots", b"one\r.\rtwo\r\n"))
    yield Sample("dot-behind-bare-lf", _message(b"dots", b"one\n.\ntwo\n"))
    yield Sample(
        "smuggled", _message(b"outer", b"one\n.\r\nMAIL FROM:<x@y>\r\nDATA\r\n\r\ntwo\r\n")
    )
    yield Sample(
        "from-line",
        b"From ann@example.org Fri Nov 21 01:02:03 2025\r\n" + _message(b"mbox", b"x\r\n"),
    )
    yield Sample(
        "from-lines-in-the-body", _message(b"mbox", b"From here on\r\n>From\r\n\r\nFrom x Fri\r\n")
    )
    yield Sample("long-line", _message(b"long", b"x" * 20_000 + b"\r\n"))
    yield Sample("long-field", _message(b"long", b"x\r\n", b"X-Long: " + b"y" * 20_000))
    yield Sample(
        "folded-1000-times", _message(b"folded", b"x\r\n", b"X-Fold: a" + b"\r\n b" * 1000)
    )
    yield Sample("folded-with-blank-lines", _message(b"folded\r\n \r\n\t", b"x\r\n"))
    yield Sample(
        "2000-fields", _message(b"fields", b"x\r\n", *[b"X-%d: x" % n for n in range(2000)])
    )
    yield Sample(
        "fields-twice", _message(b"one", b"x\r\n", b"Subject: two", b"From: c@example.org")
    )
    yield Sample("field-without-value", _message(b"", b"x\r\n", b"X-Empty:", b"Message-ID:"))
    yield Sample("field-that-is-none", _message(b"odd", b"x\r\n", b"no colon here", b"X-After: y"))
    yield Sample("space-before-colon", _message(b"odd", b"x\r\n", b"X-Space : y"))
    yield Sample(
        "bad-addresses", _message(b"odd", b"x\r\n", b'Cc: <<a@b>, "c, d@, ;', b"Reply-To: @")
    )
    yield Sample(
        "bad-encoded-words", _message(b"=?utf-8?b?/w==?= =?x?q?=?= =?utf-8?b?a?=", b"x\r\n")
    )
    yield Sample("encoded-line-end", _message(b"=?utf-8?q?one=0D=0ABcc:_x@y?=", b"x\r\n"))
    yield Sample("bad-date", _message(b"odd", b"x\r\n", b"Date: Thu, 32 Foo 99999 25:61:99 +9999"))
    yield Sample(
        "multipart-that-does-not-end",
        _message(
            b"MIME", b"--b\r\n\r\none\r\n--b\r\n", b'Content-Type: multipart/mixed; boundary="b"'
        ),
    )
    yield Sample(
        "multipart-without-boundary",
        _message(b"MIME", b"--\r\n\r\none\r\n", b"Content-Type: multipart/mixed"),
    )
    yield Sample("nested-200-deep", HEAD % b"MIME" + _nested(200) + b"x\r\n")
    yield Sample("bad-base64", _message(b"MIME", b"%%%=\r\n", b"Content-Transfer-Encoding: base64"))
    yield Sample(
        "charset-that-is-none",
        _message(b"MIME", b"x\r\n", b"Content-Type: text/plain; charset=x-none"),
    )
    yield Sample("terminal-escapes", _message(b"\x1b]0;owned\x07\x9b31m", b"x\r\n"))
    yield Sample("turned-direction", _message("gpj\u202e.exe".encode(), b"x\r\n"))
    yield Sample("automatic", _message(b"Out of office", b"x\r\n", b"Auto-Submitted: auto-replied"))
    yield Sample(
        "bounce", _message(b"Undelivered", b"x\r\n", b"Return-Path: <>", b"Precedence: bulk")
    )
    yield Sample(
        "own-list",
        _message(b"loop", b"x\r\n", b"List-Id: <red.example.org>", b"X-Loop: red@example.org"),
    )
    yield Sample("100-hops", _message(b"hops", b"x\r\n", *[b"Received: by x"] * 100))


AWKWARD: tuple[Sample, ...] = tuple(_samples())
"""Every sample that is small; names are unique."""


class Large:
    """Content of `size` octets or a little more, made while it is read: no memory, no disk.

    Lines of 78 octets behind a header that names it, each with its number. It is a
    mail.Content, and may be written to a source piece by piece with `pieces`.
    """

    LINES = 1024

    def __init__(self, size: int, subject: str = "large") -> None:
        self._head = _message(subject.encode(), b"", f"Message-ID: <{subject}@large>".encode())
        body = max(0, size - len(self._head))
        self._blocks = -(-body // (78 * self.LINES))
        self.size = len(self._head) + self._blocks * 78 * self.LINES

    def pieces(self) -> Iterator[bytes]:
        """The octets, in pieces of less than 128 KiB."""
        yield self._head
        for block in range(self._blocks):
            first = block * self.LINES
            numbers = range(first, first + self.LINES)
            yield b"".join(b"%075d.\r\n" % number for number in numbers)

    def open(self) -> BinaryIO:
        """A fresh, seekable reader at octet 0; the caller closes it."""
        return io.BufferedReader(_Reader(self))


class _Reader(io.RawIOBase):
    """Makes what is asked for, wherever it stands."""

    def __init__(self, large: Large) -> None:
        self._large = large
        self._head = large._head
        self._at = 0

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def readinto(self, buffer: bytearray | memoryview) -> int:  # type: ignore[override]
        wanted = min(len(buffer), self._large.size - self._at)
        if wanted <= 0:
            return 0
        if self._at < len(self._head):
            data = self._head[self._at : self._at + wanted]
        else:
            number, inside = divmod(self._at - len(self._head), 78)
            last = (self._at + wanted - 1 - len(self._head)) // 78
            lines = b"".join(b"%075d.\r\n" % each for each in range(number, last + 1))
            data = lines[inside : inside + wanted]
        buffer[: len(data)] = data
        self._at += len(data)
        return len(data)

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        start = {io.SEEK_SET: 0, io.SEEK_CUR: self._at, io.SEEK_END: self._large.size}[whence]
        self._at = max(0, start + offset)
        return self._at


__all__ = ["AWKWARD", "Large", "Sample"]
