"""SMTP, the client's side: the same replies however the octets of a server come."""

from __future__ import annotations

import re

from mailflow.errors import PeerError
from mailflow_smtp.wire import LINES_KEPT, Extensions, Reply, ReplyReader, Stuffer, Transaction

PACKAGES = ["mailflow_smtp"]
WORDS = [
    b"220 ", b"250-", b"250 ", b"354 ", b"421 ", b"452 4.5.3 ", b"550 5.1.1 ", b"\r\n", b"\n",
    b"SIZE 1000", b"PIPELINING", b"AUTH PLAIN LOGIN", b"AUTH=LOGIN", b"LIMITS RCPTMAX=2",
    b"CHUNKING", b"8BITMIME", b"SMTPUTF8", b"\r\n.\r\n", b"\r.\r", b"\xc3\xa9", b"\xff", b"\0",
    b"\x1b[2J",
]  # fmt: skip
SEEDS = [
    b"\x03250-mx.example.org\r\n250-SIZE 1000\r\n250-AUTH PLAIN LOGIN\r\n250 PIPELINING\r\n"
    b"250 2.1.0 yes\r\n550 5.1.1 no such user\r\n452 4.5.3 too many\r\n354 go on\r\n",
    b"\x40250 a\n250 b\n250-c\n250 d\r\n421 4.3.2 closing\r\n.\r\n..a\rb\n.",
]
STATUS = re.compile(r"[2345]\.[0-9]{1,3}\.[0-9]{1,3}")


def replies(octets: bytes, step: int) -> list[Reply | str]:
    reader = ReplyReader("mail.example.org")
    found: list[Reply | str] = []
    try:
        for at in range(0, len(octets), step):
            reader.feed(octets[at : at + step])
            while (reply := reader.next()) is not None:
                found.append(reply)
    except PeerError as error:
        assert error.text.isprintable(), error.text
        found.append(error.text)
    return found


def judge(said: list[Reply]) -> None:
    """What a transaction makes of them: each recipient has one fate, if any."""
    transaction = Transaction(b"<>", ["a@x.org", "b@x.org", "c@x.org"])
    try:
        for reply in said[: len(transaction.commands)]:
            transaction.take(reply)
    except PeerError as error:
        assert error.text.isprintable(), error.text
    fates = [*transaction.accepted, *(to for to, _ in transaction.refused), *transaction.surplus]
    assert len(fates) == len(set(fates))
    assert set(fates) <= set(transaction.recipients)
    assert not transaction.opened or transaction.answered == len(transaction.commands)


def stuffed(octets: bytes, step: int, *, dots: bool) -> bytes:
    stuffer = Stuffer(dots=dots)
    pieces = [stuffer.feed(octets[at : at + step]) for at in range(0, len(octets), step)]
    return b"".join([*pieces, stuffer.end()])


def one(data: bytes) -> None:
    step, octets = 1 + (data[0] if data else 0) % 64, data[1:]
    whole = max(1, len(octets))
    found = replies(octets, step)
    assert found == replies(octets, whole)
    said = [each for each in found if isinstance(each, Reply)]
    for reply in said:
        assert str(reply).isprintable()
        assert 200 <= reply.code < 600
        assert 0 < len(reply.lines) <= LINES_KEPT
        assert STATUS.fullmatch(reply.status), reply.status
        offered = Extensions(reply.lines)
        for number in (offered.size, offered.recipients_max):
            assert number is None or number > 0
        for keyword in offered.keywords:
            offered.parameters(keyword)
    judge(said)
    sent = stuffed(octets, step, dots=True)
    assert sent == stuffed(octets, whole, dots=True)
    assert b"\r\n.\r\n" not in b"\r\n" + sent, "the end of the data is hidden in it"
    assert sent.count(b"\r") == sent.count(b"\n") == sent.count(b"\r\n")
    assert not sent or sent.endswith(b"\r\n")
