"""IMAP: whatever a server says, each command has an answer or an error of ours."""

from __future__ import annotations

import os
import tempfile
from types import SimpleNamespace
from typing import Any

from mailflow.errors import MailflowError
from mailflow.testing.mouth import Mouth
from mailflow_imap.answers import Body
from mailflow_imap.names import decode, encode
from mailflow_imap.session import Session

PACKAGES = ["mailflow_imap"]
WORDS = [
    b"* 1 FETCH (UID 1 ", b"BODY[] ", b"{3}\r\nabc", b"{0}\r\n", b"* SEARCH ", b"* ESEARCH ",
    b"(TAG m1)", b"* LIST () ", b"* STATUS ", b"* VANISHED ", b"* OK [", b"* BYE ", b"m1 OK\r\n",
    b"m2 NO ", b"m3 BAD ", b"\r\n", b"NIL", b"(", b")", b'"', b"ENVELOPE ", b"FLAGS (",
    b"INTERNALDATE ", b"MODSEQ (1)", b"+ ", b"UIDVALIDITY ", b"4294967295", b"&AOk-",
    b"RFC822.SIZE 5",
]  # fmt: skip
SEEDS = [
    b"\x31* SEARCH 1 2 3\r\nm1 OK\r\n* 2 EXISTS\r\nm2 OK\r\n"
    b"* 1 FETCH (UID 1 RFC822.SIZE 5)\r\nm3 OK\r\n"
    b'* 1 FETCH (UID 1 BODY[] {3}\r\nabc)\r\nm4 OK\r\nm5 OK\r\n* LIST () "/" INBOX\r\nm6 OK\r\n',
    b"\x05* ESEARCH (TAG m1) UID ALL 1:3\r\nm1 OK\r\nm2 NO [IN-USE] later\r\n* BYE gone\r\n",
]


def one(data: bytes) -> None:
    step, octets = 1 + (data[0] if data else 0) % 64, data[1:]
    with tempfile.TemporaryDirectory() as scratch:
        log: Any = SimpleNamespace(warning=lambda *_, **__: None)
        wire: Any = Mouth(b"* OK [CAPABILITY IMAP4rev1 ESEARCH] hello\r\n" + octets, step)
        session = Session(wire, log, scratch)
        session._capabilities = frozenset(("IMAP4REV1", "ESEARCH"))
        answers: list[Any] = [
            session.search(b"ALL"), session.count(b"ALL"), session.facts("1:*"),
            session.bodies([1, 2, 3]), session.fetch([1], b"ENVELOPE"),
            session.store([1], ["\\Seen"]), session.copy([1], "a"), session.folders(),
            session.status("INBOX"), session.select("INBOX"), session.noop(),
        ]  # fmt: skip
        for answer in answers:
            try:
                found = answer.wait()
            except MailflowError as error:
                assert error.text.isprintable(), error.text
                continue
            for each in found if isinstance(found, list) else ():
                assert not isinstance(each, Body) or each.uid in (1, 2, 3)
        for answer in answers:
            answer.abandon()
        session.close()
        assert not os.listdir(scratch)
    name = decode(octets[:200])
    assert decode(encode(name).encode()) == name
