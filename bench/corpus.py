"""The messages that are fetched: about 20 KB each, all different, always the same ones.

Rule of the file: lines as they come in mail, with lines that begin with a dot, lines of
8-bit text, an empty line at some ends; stored with LF, as a mail server's Maildir is.
"""

from __future__ import annotations

import base64
import random
from collections.abc import Iterator

_TEXT = (
    "The quick brown fox jumps over the lazy dog, and nobody knows why it does that.\n",
    "Well, what is this supposed to be? A message of the usual length, it seems.\n",
    "> quoted from an earlier message, as people do and other people complain about\n",
    "Gr\u00fc\u00dfe aus K\u00f6ln, \u00e0 bient\u00f4t, hasta ma\u00f1ana \u2014 text of 8 bits\n",
    "\n",
)


def messages(count: int, *, size: int = 20_000, seed: int = 1) -> Iterator[bytes]:
    """`count` messages with LF line ends, of 0.8 to 1.2 times `size` octets."""
    source = random.Random(seed)
    blob = base64.encodebytes(source.randbytes(2 * size)).decode()
    text = "".join(source.choice(_TEXT) for _ in range(2 * size // 60))
    for number in range(count):
        most = source.randrange(int(size * 0.8), int(size * 1.2))
        pool = blob if number % 3 == 0 else text
        start = pool.index("\n", source.randrange(len(pool) // 4)) + 1
        body = pool[start : start + most - 600]
        dots = ".a line that begins with a dot, which is doubled on the wire\n" * (number % 3)
        yield (_header(number, source) + dots + body.rstrip("\n") + "\n").encode()


def _header(number: int, source: random.Random) -> str:
    token = f"{source.getrandbits(64):016x}"
    clock = f"10:{number // 60 % 60:02d}:{number % 60:02d} +0000"
    hops = "".join(
        f"Received: from relay{hop}.example.net (relay{hop}.example.net [192.0.2.{hop}])\n"
        f"\tby mx{hop}.example.org with ESMTPS id {token[hop:]}\n"
        f"\tfor <red@example.org>; Mon, 5 Jan 2026 {clock}\n"
        for hop in (1, 2)
    )
    return (
        f"Return-Path: <ann{number}@example.com>\n{hops}"
        f"Date: Mon, 5 Jan 2026 {clock}\n"
        f"From: Ann <ann{number}@example.com>\nTo: Red <red@example.org>\n"
        f"Subject: message {number} about something\nMessage-ID: <{token}@example.com>\n"
        "MIME-Version: 1.0\nContent-Type: text/plain; charset=utf-8\n"
        "Content-Transfer-Encoding: 8bit\n\n"
    )


def long_message(size: int) -> Iterator[bytes]:
    """One message of about `size` octets, in pieces."""
    yield _header(0, random.Random(0)).encode()
    piece = base64.encodebytes(random.Random(2).randbytes(738_720))  # about 1 MB
    for _ in range(max(1, size // len(piece))):
        yield piece
