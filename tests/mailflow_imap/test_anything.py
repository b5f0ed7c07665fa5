"""Whatever a server says, what is raised is an error of ours, and nothing is left behind."""

from __future__ import annotations

import tempfile
from pathlib import Path
from types import SimpleNamespace
from typing import Any

from hypothesis import example, given, settings
from hypothesis import strategies as st

from mailflow.errors import MailflowError
from mailflow.testing.mouth import Mouth
from mailflow_imap.answers import Body
from mailflow_imap.session import Session

HEADS = st.sampled_from(
    b"* 1 FETCH (|* 1 FETCH (UID 1 |* 2 FETCH (UID 2 BODY[] |* SEARCH |* SORT |* 3 EXISTS|* LIST |"
    b"* ESEARCH |* ESEARCH (TAG m1) UID |* ESEARCH (TAG m2) |* STATUS |* STATUS INBOX (|"
    b"* 1 EXPUNGE|* VANISHED |* VANISHED (EARLIER) |* FLAGS (|* ENABLED |* CAPABILITY |* OK |"
    b"* OK [|* NO [|* BYE |* 0 RECENT|* ID (|m1 OK |m2 NO |m3 BAD |m4 OK [|"
    b"m5 OK |m6 OK [|m7 OK [|m8 OK [|m9 NO [|m10 OK |m11 OK [|m12 OK |+ |* |m99 OK ||m1".split(b"|")
)
WORDS = st.sampled_from(
    [
        *b"( ) [ ] \" \\ } * : , NIL 1 0 2:3 -1 4294967295 4294967296 UID BODY[] BODY[HEADER] "
        b"RFC822.SIZE INTERNALDATE MODSEQ FLAGS ALL COUNT TAG m1 () (()) (1) ((a)b) INBOX \xff \0 "
        b"UIDVALIDITY COPYUID APPENDUID MODIFIED CAPABILITY HIGHESTMODSEQ 1:3 4:6 EARLIER".split(),
        b" ", b" ", b" ", b"{3}\r\nabc", b"{0}\r\n", b"{9", b"x" * 300,
        b"{300000}\r\n" + b"y" * 300_000,
    ]
)  # fmt: skip
LINES = st.builds(
    lambda head, words, end: head + b"".join(words) + end,
    HEADS,
    st.lists(WORDS, max_size=12),
    st.sampled_from((b"\r\n", b"\r\n", b")\r\n", b"] done\r\n", b"\n", b"")),
)


def ask(session: Session) -> list[Any]:
    """One of each command."""
    return [
        session.search(b"ALL"),
        session.count(b"ALL"),
        session.sort(b"ARRIVAL"),
        session.facts("1:*"),
        session.bodies([1, 2, 3]),
        session.fetch([1], b"ENVELOPE"),
        session.store([1], ["\\Seen"]),
        session.copy([1], "a"),
        session.folders(),
        session.status("INBOX"),
        session.select("INBOX"),
        session.noop(),
    ]


def outcome(answer: Any) -> tuple[Any, MailflowError | None]:
    try:
        return answer.wait(), None
    except MailflowError as error:
        return None, error


@settings(max_examples=150, deadline=None)
@given(st.lists(LINES, max_size=12).map(b"".join))
@example(b"* ESEARCH () ALL 1\r\n")
@example(b"* ESEARCH (TAG m1) ALL\r\n* ESEARCH NIL\r\n")
@example(b"* STATUS () ()\r\n* LIST () () ()\r\n* LIST NIL NIL NIL\r\n* STATUS NIL (1 2)\r\n")
@example(b"* 1 FETCH (NIL NIL UID NIL)\r\n* 1 FETCH (UID (1))\r\n* 1 FETCH ((1) 1 UID 1)\r\n")
@example(b"* LIST () (a) b\r\n")
@example(b"* 1 FETCH (UID 1 RFC822.SIZE 5 MODSEQ ())\r\n* SEARCH 1 (MODSEQ x)\r\n")
@example(b"* 1 FETCH (X {300000}\r\n" + bytes(300_000) + b" UID 1 X NIL)\r\n")
def test_f18_anything_at_all_is_an_answer_or_an_error_of_ours(said: bytes) -> None:
    with tempfile.TemporaryDirectory() as scratch:
        log: Any = SimpleNamespace(warning=lambda *_, **__: None)
        wire: Any = Mouth(b"* OK [CAPABILITY IMAP4rev1 ESEARCH] hello\r\n" + said, 50)
        session = Session(wire, log, scratch)
        session._capabilities = frozenset(("IMAP4REV1", "ESEARCH"))
        answers = ask(session)
        for answer in answers:
            found, error = outcome(answer)
            assert error is None or error.text.isprintable()
            for each in found if isinstance(found, list) else ():
                assert not isinstance(each, Body) or each.uid in (1, 2, 3)
        for answer in answers:
            answer.abandon()
        session.close()
        assert not list(Path(scratch).iterdir())
