"""What goes wrong on the wire: a message is whole or missing, and one clear line says why."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from mailflow.errors import GoneError, MailflowError, PeerError, UnavailableError
from mailflow.mail import read
from mailflow.testing.imap import Faults, ImapServer
from mailflow_imap.answers import Body, Missing
from mailflow_imap.session import Session
from mailflow_imap.wire import PIECE

SECRET = "canary-7d1e"
USERS = {"red": SECRET}
MESSAGES = [
    b"Subject: short\r\n\r\n{5}\r\n)\r\n* BYE\r\nm9 OK done\r\n",
    b"Subject: large\r\n\r\n" + b"0123456789abcde\r\n" * (PIECE // 16),
    b"Subject: last\r\n\r\nlast\r\n",
]

Entered = Callable[..., Session]


@pytest.fixture
def server() -> Iterator[ImapServer]:
    with ImapServer(USERS, {"red": MESSAGES}) as server:
        yield server


def take(session: Session, found: dict[int, bytes]) -> None:
    """All messages, into `found` as they come."""
    for each in session.bodies([1, 2, 3]):
        assert isinstance(each, Body), each
        found[each.uid] = read(each.content)


def fetched(session: Session) -> dict[int, bytes]:
    found: dict[int, bytes] = {}
    take(session, found)
    return found


def octets_of_a_fetch(entered: Entered, server: ImapServer) -> tuple[int, int]:
    """How many octets a session is sent before the bodies, and after them."""
    session = entered(server)
    before = server.sent
    assert list(fetched(session).values()) == MESSAGES
    after = server.sent
    session.close()
    return before, after


@pytest.mark.parametrize("reset", [False, True])
def test_f1_a_cut_at_any_octet_of_a_fetch_gives_whole_messages_and_an_error(
    entered: Entered, server: ImapServer, scratch: Path, reset: bool
) -> None:
    before, after = octets_of_a_fetch(entered, server)
    for path in scratch.iterdir():
        path.unlink()
    near = [before + 1, before + 30, before + 60, before + 70, before + 75, before + 110]
    cuts = [*near, *range(before + 200, after - 100, 49_999), *range(after - 70, after, 3)]
    for cut in cuts:
        server.faults = Faults(cut_at=cut, reset=reset)
        session = entered(server)
        found: dict[int, bytes] = {}
        with pytest.raises(UnavailableError, match=r"closed the connection|is lost"):
            take(session, found)
        assert all(data == MESSAGES[uid - 1] for uid, data in found.items())
        assert session.lost
        session.close()
    whole = [path for path in scratch.iterdir() if path.read_bytes() != MESSAGES[1]]
    assert whole == [], "half a message was left behind"


def length(by: int) -> Callable[[bytes], bytes]:
    """The right answer of the first message with another literal length."""

    def change(right: bytes) -> bytes:
        size = len(MESSAGES[0])
        body = b"* 1 FETCH (UID 1 BODY[] {%d}\r\n" % (size + by) + MESSAGES[0] + b")\r\n"
        return body + right

    return change


@pytest.mark.parametrize("by", [-20, -3, -1, 1, 2, 5])
def test_f15_a_literal_of_another_length_is_no_message(entered: Entered, by: int) -> None:
    faults = Faults(answers={"UID FETCH": length(by)})
    with ImapServer(USERS, faults=faults) as server:
        session = entered(server, timeout=0.3)
        with pytest.raises((PeerError, UnavailableError)):
            session.bodies([1]).wait()
        assert session.lost


@pytest.mark.parametrize("size", [b"{4294967296}", b"{-1}", b"{5+}"])
def test_f15_a_literal_of_no_possible_size_ends_the_session(entered: Entered, size: bytes) -> None:
    faults = Faults(before={"UID FETCH": b"* 1 FETCH (UID 1 BODY[] " + size + b"\r\n"})
    with ImapServer(USERS, faults=faults) as server:
        session = entered(server)
        with pytest.raises(PeerError, match="no possible size"):
            session.bodies([1]).wait()


UNASKED = {
    "exists": b"* 9 EXISTS\r\n",
    "expunge": b"* 1 EXPUNGE\r\n",
    "flags": b"* 2 FETCH (FLAGS (\\Seen))\r\n",
    "flags with uid": b"* 2 FETCH (UID 2 FLAGS (\\Seen))\r\n",
    "flags of the last": b"* 3 FETCH (FLAGS (\\Deleted) UID 3)\r\n",
    "alert": b"* OK [ALERT] look\r\n",
    "recent": b"* 0 RECENT\r\n",
    "vanished": b"* VANISHED 1\r\n",
    "another body": b"* 7 FETCH (UID 77 BODY[] {3}\r\nabc)\r\n",
    "a body without uid": b"* 2 FETCH (BODY[] {3}\r\nabc)\r\n",
    "a large body of another": b"* 7 FETCH (UID 77 BODY[] {300000}\r\n" + b"x" * 300_000 + b")\r\n",
    "search": b"* SEARCH 1 2 3\r\n",
    "unknown": b'* XYZZY (a (b c)) "d"\r\n',
}


@pytest.mark.parametrize("what", UNASKED)
def test_f16_what_nobody_asked_for_changes_no_message(
    entered: Entered, scratch: Path, what: str
) -> None:
    faults = Faults(before={"UID FETCH": UNASKED[what]})
    with ImapServer(USERS, {"red": MESSAGES}, faults=faults) as server:
        session = entered(server)
        assert list(fetched(session).values()) == MESSAGES
        assert len(list(scratch.iterdir())) == 1
        assert [fact.uid for fact in session.facts("1:*")] == [1, 2, 3]


def test_f16_an_expunge_in_the_middle_lowers_a_count_and_names_no_message(
    entered: Entered,
) -> None:
    faults = Faults(before={"UID STORE": b"* 1 EXPUNGE\r\n"})
    with ImapServer(USERS, {"red": MESSAGES}, faults=faults) as server:
        session = entered(server)
        session.store([2], ["\\Deleted"]).wait()
        session.expunge([2]).wait()
        assert server.messages("red") == [MESSAGES[0], MESSAGES[2]]
        assert session.exists == 1


def test_f16_a_bye_in_the_middle_says_why(entered: Entered) -> None:
    faults = Faults(
        before={"UID FETCH": b"* BYE [UNAVAILABLE] going down\r\n"}, cut_before=("NOOP",)
    )
    with ImapServer(USERS, {"red": MESSAGES}, faults=faults) as server:
        session = entered(server)
        assert list(fetched(session).values()) == MESSAGES
        with pytest.raises(UnavailableError, match="going down") as caught:
            session.noop().wait()
        session.close()
        assert caught.value.fields["code"] == "UNAVAILABLE"


def replaced(answer: bytes) -> Faults:
    return Faults(answers={"UID FETCH": answer})


@pytest.mark.parametrize(
    ("answer", "temporary"),
    [
        (b"<tag> OK FETCH completed\r\n", False),
        (b"* 1 FETCH (UID 1 BODY[] NIL)\r\n<tag> OK\r\n", True),
        (b"* 1 FETCH (UID 1 BODY[] 12)\r\n<tag> OK\r\n", True),
        (b"* 1 FETCH (BODY[] {3}\r\nabc)\r\n<tag> OK\r\n", False),
        (b"* 1 FETCH (UID 1 FLAGS ())\r\n<tag> OK\r\n", False),
        (b"* 1 FETCH (UID 1 BODY[HEADER] {3}\r\nabc)\r\n<tag> OK\r\n", False),
        (b"* 1 FETCH (UID 2 BODY[] {3}\r\nabc)\r\n<tag> OK\r\n", False),
        (b"<tag> NO some are gone\r\n", False),
        (b"<tag> BAD cannot read that one\r\n", False),
        (b"<tag> NO [EXPUNGEISSUED] gone\r\n", None),
    ],
)
def test_f17_a_message_that_does_not_come_is_missing(
    entered: Entered, answer: bytes, temporary: bool | None
) -> None:
    with ImapServer(USERS, faults=replaced(answer)) as server:
        session = entered(server)
        if temporary is None:
            with pytest.raises(UnavailableError):
                session.bodies([1]).wait()
        else:
            [missing] = session.bodies([1]).wait()
            assert isinstance(missing, Missing)
            assert missing.error.temporary is temporary
        assert not session.lost


def test_f17_of_two_bodies_the_first_counts(entered: Entered) -> None:
    answer = b"* 1 FETCH (UID 1 BODY[] {3}\r\nabc)\r\n* 1 FETCH (UID 1 BODY[] {3}\r\nxyz)\r\n"
    answer += b"<tag> OK\r\n"
    with ImapServer(USERS, faults=replaced(answer)) as server:
        [body] = entered(server).bodies([1]).wait()
        assert isinstance(body, Body)
        assert read(body.content) == b"abc"


def test_f17_a_uid_may_stand_behind_the_body(entered: Entered) -> None:
    large = b"x" * (PIECE + 1)
    answer = (
        b"* 1 FETCH (BODY[] {3}\r\nabc UID 1)\r\n"
        b"* 2 FETCH (FLAGS (\\Seen) BODY[] {%d}\r\n%b UID 2)\r\n"
        b'* 3 FETCH (UID 3 BODY[] "a \\"b\\"")\r\n<tag> OK\r\n'
    ) % (len(large), large)
    with ImapServer(USERS, faults=replaced(answer)) as server:
        assert fetched(entered(server)) == {1: b"abc", 2: large, 3: b'a "b"'}


@pytest.mark.parametrize(
    "flood",
    [
        b"* OK still here\r\n",
        b"* 5 EXISTS\r\n",
        b"* 2 FETCH (FLAGS (\\Seen))\r\n",
        b"* X {9}\r\n123456789\r\n",
    ],
)
def test_f18_a_flood_of_what_nobody_asked_for_is_given_up(
    entered: Entered, flood: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("mailflow_imap.connection.UNASKED", 1 << 18)
    faults = Faults(before={"NOOP": flood * ((1 << 18) // 50 + 1)})
    with ImapServer(USERS, faults=faults) as server:
        session = entered(server)
        with pytest.raises(PeerError, match="nobody asked for"):
            session.noop().wait()
        session.close()


def test_f18_a_large_body_that_nobody_asked_for_is_written_nowhere(
    entered: Entered, scratch: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("mailflow_imap.connection.UNASKED", 1 << 20)
    large = b"* 7 FETCH (UID 77 BODY[] {2000000}\r\n" + b"x" * 2_000_000
    with ImapServer(USERS, faults=Faults(before={"NOOP": large})) as server:
        session = entered(server)
        with pytest.raises(PeerError, match="nobody asked for"):
            session.noop().wait()
        session.close()
        assert not list(scratch.iterdir())


@pytest.mark.parametrize(
    "answer",
    [b"m99 OK not yet\r\n", b"A1 OK not ours\r\n", b"hello\r\n", b"+ go on\r\n", b"* PREAUTH\r\n"],
)
def test_f18_what_is_no_answer_ends_the_session(entered: Entered, answer: bytes) -> None:
    with ImapServer(USERS, faults=Faults(before={"NOOP": answer})) as server:
        session = entered(server)
        with pytest.raises(PeerError):
            session.noop().wait()
        with pytest.raises(PeerError):
            session.select("INBOX").wait()


@pytest.mark.parametrize("command", ["UID FETCH", "NOOP", "UID STORE"])
def test_f4_silence_is_a_temporary_error(entered: Entered, command: str) -> None:
    with ImapServer(USERS, faults=Faults(answers={command: b""})) as server:
        session = entered(server, timeout=0.2)
        answers = [session.noop(), session.bodies([1]), session.store([1], ["\\Seen"])]
        with pytest.raises(UnavailableError, match="silent"):
            [answer.wait() for answer in answers]
        session.close()


def test_f3_a_body_that_trickles_is_given_up(
    entered: Entered, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("mailflow.net.PATIENCE", 1)
    with ImapServer(USERS, {"red": MESSAGES}) as server:
        session = entered(server, timeout=0.1)
        for link in server.links:
            link.faults = Faults(trickle=0.05)
        with pytest.raises(UnavailableError, match="too slow"):
            session.bodies([1]).wait()
        session.close()


@pytest.mark.parametrize(
    ("answer", "words"),
    [
        (b'* ESEARCH (TAG "<tag>") UID ALL 1:4294967295\r\n<tag> OK\r\n', "more than"),
        (b"* SEARCH 1 2 x\r\n<tag> OK\r\n", "no numbers"),
        (b'* ESEARCH (TAG "<tag>") UID ALL 1,,2\r\n<tag> OK\r\n', "no set"),
    ],
)
def test_f18_a_search_that_cannot_be_is_a_broken_protocol(
    entered: Entered, answer: bytes, words: str
) -> None:
    with ImapServer(USERS, faults=Faults(answers={"UID SEARCH": answer})) as server:
        searching = entered(server).search(b"ALL")
        with pytest.raises(PeerError, match=words):
            searching.wait()


def test_f9_what_is_gone_is_told_from_what_a_server_cannot_give_now(entered: Entered) -> None:
    with ImapServer(USERS, {"red": MESSAGES}) as server:
        session = entered(server)
        server.folder("red").remove(3)
        session.noop().wait()
        *_, missing = session.bodies([1, 3]).wait()
        assert isinstance(missing, Missing)
        assert isinstance(missing.error, GoneError)


def test_no_error_has_more_than_one_line(entered: Entered) -> None:
    for answer in (b"<tag> NO a\x1b[31m b\x00 c\r\n", b"* \xff\xfe\r\n", b"what\x07\r\n"):
        with ImapServer(USERS, faults=Faults(answers={"NOOP": answer})) as server:
            noop = entered(server).noop()
            with pytest.raises(MailflowError) as caught:
                noop.wait()
            assert caught.value.text.isprintable()
