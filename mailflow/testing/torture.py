"""Mail that is made to break programs: what is odd, huge, deep or cut where it hurts.

    for sample in torture():
        source.put(sample.octets)

    python -m mailflow.testing.torture DIRECTORY       a file for each, .eml

Rule of the file: all of it is made here, the same each time, and no sample is larger than
ten megaoctets or so; the samples of the corpus come first.
"""

from __future__ import annotations

import base64
import random
import sys
from collections.abc import Iterator
from pathlib import Path

from mailflow.testing.corpus import AWKWARD, Sample

MEGA = 1 << 20

_HEAD = b"From: Ann <ann@example.org>\r\nTo: bob@example.org\r\nSubject: torture\r\n"

_PIECES = (8192, 65536, 128 * 1024)
"""Where those who read in pieces have a border."""


def torture() -> Iterator[Sample]:
    """Every sample; names are unique."""
    yield from AWKWARD
    yield from _huge()
    yield from _deep()
    yield from _many()
    yield from _lines()
    yield from _words()


def _message(body: bytes, *fields: bytes) -> bytes:
    return _HEAD + b"".join(field + b"\r\n" for field in fields) + b"\r\n" + body


def _huge() -> Iterator[Sample]:
    yield Sample("10-MB-line", _message(b"x" * (10 * MEGA) + b"\r\n"))
    yield Sample("1-MB-field", _message(b"x\r\n", b"X-Huge: " + b"y" * MEGA))
    yield Sample("1-MB-field-name", _message(b"x\r\n", b"X" * MEGA + b": y"))
    yield Sample("1-MB-of-header-and-no-body", _HEAD + b"X-Fold: a" + b"\r\n b" * (MEGA // 4))
    yield Sample("1-MB-of-NULs", _message(b"\0" * MEGA))
    yield Sample("1-MB-of-noise", _message(random.Random(1).randbytes(MEGA)))  # to be made again
    boundary = b"b" * (MEGA // 16)
    field = b'Content-Type: multipart/mixed; boundary="%b"' % boundary
    yield Sample("huge-boundary", _message(b"--%b\r\n\r\nx\r\n" % boundary, field))
    word = base64.b64encode("Grüße ".encode() * (MEGA // 16))
    yield Sample("huge-encoded-word", _message(b"x\r\n", b"Comments: =?utf-8?b?%b?=" % word))


def _deep() -> Iterator[Sample]:
    parts = b"".join(
        b'Content-Type: multipart/mixed; boundary="%d"\r\n\r\n--%d\r\n' % (number, number)
        for number in range(1000)
    )
    ends = b"".join(b"\r\n--%d--\r\n" % number for number in reversed(range(1000)))
    yield Sample("multiparts-1000-deep", _HEAD + parts + b"\r\ndeep\r\n" + ends)
    inner = b"Content-Type: message/rfc822\r\n\r\n" * 1000
    yield Sample("messages-1000-deep", _HEAD + inner + b"\r\ndeep\r\n")
    yield Sample("same-boundary-1000-deep", _HEAD + parts.replace(b"1", b"0") + b"--0--\r\n")
    yield Sample("comments-deep", _message(b"x\r\n", b"Cc: " + b"(" * 50_000 + b"a@b"))
    yield Sample("groups-deep", _message(b"x\r\n", b"Cc: " + b"a:" * 20_000 + b";"))
    yield Sample("quotes-that-do-not-end", _message(b"x\r\n", b'Cc: "' + b'\\"' * 50_000))


def _many() -> Iterator[Sample]:
    numbered = [b"X-%d: x" % number for number in range(10_000)]
    yield Sample("10000-fields", _message(b"x\r\n", *numbered))
    yield Sample("10000-Received", _message(b"x\r\n", *[b"Received: by x; Thu, 1 Jan"] * 10_000))
    every = (b"From: b@c", b"Subject: again", b"Date: x", b"Message-ID: <1@x>", b"MIME-Version: 9")
    yield Sample("fields-1000-times", _message(b"x\r\n", *every * 1000))
    people = b",\r\n ".join(b"p%d@example.org" % number for number in range(10_000))
    yield Sample("10000-recipients", _message(b"x\r\n", b"Cc: " + people))
    parts = b"".join(b"--b\r\n\r\n%d\r\n" % number for number in range(10_000))
    multipart = b'Content-Type: multipart/mixed; boundary="b"'
    yield Sample("10000-parts", _message(parts + b"--b--\r\n", multipart))
    pieces = b";".join(b'\r\n name*%d*="%%41"' % number for number in range(1000))
    yield Sample("1000-pieces-of-a-parameter", _message(b"x\r\n", b"Content-Type: a/b;" + pieces))


def _lines() -> Iterator[Sample]:
    yield Sample("only-dots", _message(b".\r\n" * 20_000))
    yield Sample("only-From-lines", _message(b"From ann Fri Nov 21 01:02:03 2025\r\n\r\n" * 5000))
    yield Sample("From-lines-quoted-ever-deeper", _message(_quoted()))
    yield Sample("only-CR", _message(b"\r" * 20_000 + b"\n"))
    yield Sample("only-LF", _message(b"\n" * 20_000))
    yield Sample("CR-in-the-header", _message(b"x\r\n", b"X-Odd: a\rBcc: x@y\r\r"))
    yield Sample("NUL-in-the-header", _message(b"x\r\n", b"X-Odd: a\0b", b"\0: c"))
    yield Sample("every-octet-in-the-header", _message(b"x\r\n", b"X: " + bytes(range(14, 256))))
    yield Sample("BOM-before-the-header", "\ufeff".encode() + _message(b"x\r\n"))
    yield Sample("header-begins-folded", b" folded\r\n" + _message(b"x\r\n"))
    yield Sample("field-without-a-name", _message(b"x\r\n", b": nameless"))
    yield Sample("ends-in-a-dot", _message(b"one\r\n."))
    yield Sample("ends-in-CR-LF-dot-CR", _message(b"one\r\n.\r"))
    for border in _PIECES:
        for name, octets in ((b"CRLF", b"\r\n"), (b"dot", b"\r\n.\r\n"), (b"From", b"\r\nFrom ")):
            head = _message(b"")
            for near in range(1, len(octets)):
                body = b"y" * (border - len(head) - near) + octets + b"z\r\n"
                yield Sample(f"{name.decode()}-{near}-over-{border}", head + body)


def _quoted() -> bytes:
    return b"".join(b">" * depth + b"From here\r\n" for depth in range(500))


def _words() -> Iterator[Sample]:
    words = b"\r\n ".join([b"=?utf-8?q?=C3?=", b"=?utf-8?q?=BC?="] * 1000)
    yield Sample("octets-cut-over-encoded-words", _message(b"x\r\n", b"Comments: " + words))
    yield Sample("encoded-words-in-each-other", _message(b"x\r\n", b"X: " + b"=?utf-8?q?" * 5000))
    for charset in (b"utf-7", b"x" * 10_000, b"'; --", b"../../etc/passwd", b"utf-8\0", b"idna"):
        field = b"Content-Type: text/plain; charset=%b" % charset
        odd = b"Comments: =?%b?q?a?=" % charset
        yield Sample(f"charset-{charset[:20]!a}", _message(b"+AGE-\r\n", field, odd))
    addresses = "Grüße <jörg@exämple.org>, 日本@例え.jp, \u202e@x".encode()
    yield Sample("SMTPUTF8-everywhere", _message("ü\r\n".encode(), b"Cc: " + addresses))
    yield Sample("UTF-8-that-is-none", _message(b"\xc3\x28\xed\xa0\x80\xf8\r\n", b"X: \xc0\xaf"))
    encodings = (b"uuencode", b"base64", b"x-" + b"y" * 1000, b"8bit, 7bit")
    for encoding in encodings:
        field = b"Content-Transfer-Encoding: " + encoding
        yield Sample(f"encoding-{encoding[:12].decode()}", _message(b"====\r\n\xff\r\n", field))


def main(directory: str) -> None:
    """Write a file for each."""
    for number, sample in enumerate(torture()):
        name = "".join(letter if letter.isalnum() else "-" for letter in sample.name)
        Path(directory, f"{number:03}-{name}.eml").write_bytes(sample.octets)


if __name__ == "__main__":
    main(sys.argv[1])

__all__ = ["torture"]
