"""A server that means harm: no answer takes memory, time or log lines without bound."""

from __future__ import annotations

import tracemalloc
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from mailflow.errors import LoginError, PeerError, UnavailableError
from mailflow.mail import Octets
from mailflow.sasl import Credentials
from mailflow.testing.mouth import Mouth
from mailflow_imap import folders, responses, uids, wire
from mailflow_imap.answer import Idling
from mailflow_imap.answers import Missing
from mailflow_imap.folders import Selected
from mailflow_imap.login import log_in
from mailflow_imap.session import RELAPSE, Session
from mailflow_imap.wire import Command

DIGITS = b"9" * 5000


@pytest.fixture
def told() -> list[str]:
    """The warnings of the session."""
    return []


@pytest.fixture
def hearing(tmp_path: Path, told: list[str]) -> Callable[..., Session]:
    """A session that hears this behind a greeting, with a folder of five messages open."""

    def make(said: bytes, *, exists: int = 5) -> Session:
        log: Any = SimpleNamespace(warning=lambda event, **facts: told.append(event))
        mouth: Any = Mouth(b"* OK [CAPABILITY IMAP4rev1 ESEARCH UIDPLUS] hello\r\n" + said)
        session = Session(mouth, log, str(tmp_path))
        session.selected = Selected("INBOX", read_only=False)
        session.selected.exists = exists
        session._capabilities = frozenset(("IMAP4REV1", "ESEARCH", "UIDPLUS"))
        return session

    return make


@pytest.fixture
def few(monkeypatch: pytest.MonkeyPatch) -> None:
    """A folder has no more than a hundred messages."""
    monkeypatch.setattr(uids, "MESSAGES_LIMIT", 50)
    monkeypatch.setattr(uids, "ARRIVING", 50)


def lines(line: bytes, times: int) -> bytes:
    return b"".join(line % number for number in range(1, times + 1)) + b"m1 OK done\r\n"


def test_empty_literals_take_of_the_room_of_a_response(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(wire, "RESPONSE_LIMIT", 100_000)
    client = wire.Client("test")
    client.receive(b"* OK hello\r\n* 1 FETCH (" + b" {0}\r\n" * 1000 + b")\r\n")
    client.next_event()
    with pytest.raises(PeerError, match="more than 100000 octets"):
        client.next_event()


@pytest.mark.parametrize("word", [b"()", b"1 ", b" NIL"])
def test_a_response_of_very_many_words_is_not_parsed(word: bytes) -> None:
    tracemalloc.start()
    try:
        text = b"(" + word * (responses.WORDS_LIMIT + 1) + b")"
        tracemalloc.reset_peak()
        with pytest.raises(PeerError, match="words"):
            responses.parse([text])
        assert tracemalloc.get_traced_memory()[1] < 1 << 22
    finally:
        tracemalloc.stop()


@pytest.mark.usefixtures("few")
def test_a_folder_as_full_as_numbers_go_is_not_believed(hearing: Callable[..., Session]) -> None:
    session = hearing(
        b'* ESEARCH (TAG "m1") UID ALL 1:4294967295\r\nm1 OK done\r\n', exists=4294967295
    )
    with pytest.raises(PeerError, match="more than 100 numbers"):
        session.search(b"ALL").wait()


FLOODS = {
    "facts": (b"* 1 FETCH (UID %d RFC822.SIZE 5 FLAGS ())\r\n", lambda s: s.facts("1:*")),
    "one fact": (b"* %d FETCH (UID 1 RFC822.SIZE 5 FLAGS ())\r\n", lambda s: s.facts([1])),
    "pieces": (b"* %d FETCH (UID 1 BODY[]<0> {3}\r\nabc)\r\n", lambda s: s.fetch([1], b"BODY[]")),
    "numbers": (b"* SEARCH %d 2 3\r\n", lambda s: s.search(b"ALL")),
    "sets": (b'* ESEARCH (TAG "m1") UID ALL %d:105\r\n', lambda s: s.search(b"ALL")),
    "counts": (b"* SEARCH %d 2 3\r\n", lambda s: s.count(b"ALL")),
}


@pytest.mark.usefixtures("few")
@pytest.mark.parametrize("flood", FLOODS)
def test_answers_without_end_end_the_session(hearing: Callable[..., Session], flood: str) -> None:
    line, ask = FLOODS[flood]
    session = hearing(lines(line, 10_000))
    with pytest.raises(PeerError, match=r"there can be|more than"):
        ask(session).wait()


ENDLESS = {
    "capabilities": (b"* CAPABILITY IMAP4rev1\r\n", lambda s: s.noop()),
    "names": (b"* ID NIL\r\n", lambda s: s.noop()),
    "empty searches": (b"* SEARCH\r\n", lambda s: s.search(b"ALL")),
    "empty sets": (b'* ESEARCH (TAG "m1") UID\r\n', lambda s: s.search(b"ALL")),
    "counts": (b'* ESEARCH (TAG "m1") UID COUNT 5\r\n', lambda s: s.count(b"ALL")),
    "news of a folder": (b"* 5 EXISTS\r\n", lambda s: s.select("INBOX")),
    "facts of a folder": (b"* OK [UIDNEXT 5] x\r\n", lambda s: s.select("INBOX")),
    "standings": (b"* STATUS INBOX (MESSAGES 1)\r\n", lambda s: s.status("INBOX")),
    "standings in a list": (b"* STATUS x ()\r\n", lambda s: s.folders()),
    "places": (b"* OK [COPYUID 1 1 1] x\r\n", lambda s: s.copy([1], "there")),
}


@pytest.mark.parametrize("flood", ENDLESS)
def test_what_was_asked_for_once_is_not_heard_for_ever(
    hearing: Callable[..., Session], monkeypatch: pytest.MonkeyPatch, flood: str
) -> None:
    monkeypatch.setattr("mailflow_imap.connection.UNASKED", 50_000)
    line, ask = ENDLESS[flood]
    with pytest.raises(PeerError, match="too much"):
        ask(hearing(line * 1001)).wait()


def test_leave_to_go_on_is_not_heard_for_ever(
    hearing: Callable[..., Session], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("mailflow_imap.connection.UNASKED", 50_000)
    idling = Idling(hearing(b"+ idling\r\n" * 1001), [Command("IDLE", alone=True)], "idle")
    with pytest.raises(PeerError, match="too much"):
        idling.wait()


def test_long_lists_of_flags_end_the_session(
    hearing: Callable[..., Session], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("mailflow_imap.answers.SAID", 1000)
    flags = b" ".join(b"k%d" % number for number in range(300))
    line = b"* 1 FETCH (UID %d RFC822.SIZE 5 FLAGS (" + flags + b"))\r\n"
    with pytest.raises(PeerError, match="there can be"):
        hearing(lines(line, 10)).facts(range(1, 11)).wait()


def test_long_lists_of_flags_are_not_remembered() -> None:
    responses.flags(b"\\Seen $Forwarded")
    before = responses._few.cache_info().currsize
    found = responses.flags(b" ".join(b"k%d" % number for number in range(100)))
    assert len(found) == 100
    assert responses._few.cache_info().currsize == before


def test_of_a_folder_no_more_is_heard_than_was_asked_for(hearing: Callable[..., Session]) -> None:
    line = b"* STATUS INBOX (X%d 1 MESSAGES 7)\r\n"
    assert hearing(lines(line, 100)).status("INBOX").wait() == {"MESSAGES": 7}


def test_a_folder_has_the_attributes_that_mean_something(hearing: Callable[..., Session]) -> None:
    said = rb'* LIST (\HasChildren \Sent \X1 \X2) "/./" there' + b"\r\nm1 OK done\r\n"
    [found] = hearing(said).folders().wait()
    assert (found.attributes, found.delimiter) == ({"sent"}, "")


def test_names_that_change_with_every_list_are_not_kept(hearing: Callable[..., Session]) -> None:
    said = b'* LIST () "/" "\xff%d"\r\nm%d OK done\r\n'
    session = hearing(b"")
    for number in range(1, 4):
        session.wire.rest.append(said % (number, number))  # type: ignore[attr-defined]
        [found] = session.folders().wait()
    assert session.spelled == {found.name: b"\xff3"}


def test_a_folder_with_a_name_of_any_length_is_none(hearing: Callable[..., Session]) -> None:
    said = b'* LIST () "/" ' + b"a" * (folders.NAME_LIMIT + 1) + b"\r\nm1 OK done\r\n"
    with pytest.raises(PeerError, match="4097 octets"):
        hearing(said).folders().wait()


def test_folders_without_end_end_the_session(
    hearing: Callable[..., Session], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("mailflow_imap.folders.NAMES_LIMIT", 100_000)
    session = hearing(lines(b'* LIST () "/" folder%d\r\n', 10_000))
    with pytest.raises(PeerError, match="too many folders"):
        session.folders().wait()


def test_alerts_without_end_fill_no_log(hearing: Callable[..., Session], told: list[str]) -> None:
    hearing(lines(b"* OK [ALERT] number %d\r\n", 1000)).noop().wait()
    assert len(told) == 10


@pytest.mark.parametrize(
    "said",
    [b"COPYUID %b 1 2", b"COPYUID 1 %b 2", b"COPYUID 1:2 1 2", b"COPYUID 1", b"COPYUID x 1 2"],
)
def test_a_copyuid_that_says_nothing_is_none(hearing: Callable[..., Session], said: bytes) -> None:
    session = hearing(b"m1 OK [" + said.replace(b"%b", DIGITS) + b"] done\r\n")
    assert session.copy([1], "there").wait() is None


@pytest.mark.parametrize("said", [b"%b 2", b"1 %b", b"1:2 3", b"1", b"0 1", b"1 2 3"])
def test_an_appenduid_that_says_nothing_is_none(
    hearing: Callable[..., Session], said: bytes
) -> None:
    octets = b"+ go on\r\nm1 OK [APPENDUID " + said.replace(b"%b", DIGITS) + b"] done\r\n"
    session = hearing(b"")
    session._client.free = 100
    session.wire.rest.append(b"* OK hello\r\n" + octets.removeprefix(b"+ go on\r\n"))  # type: ignore[attr-defined]
    assert session.append("there", Octets(b"x\r\n")).wait() is None


@pytest.mark.parametrize("modseq", [b"7", b"x", DIGITS])
def test_a_modseq_behind_a_search_is_no_uid(hearing: Callable[..., Session], modseq: bytes) -> None:
    search = hearing(b"* SEARCH 1 3 (MODSEQ %b)\r\nm1 OK done\r\n" % modseq).search(b"ALL")
    assert search.wait() == [1, 3]


@pytest.mark.parametrize("number", [b"-5", b"0", b"4294967296", b"1_0", b"+7", b"2\t3", DIGITS])
def test_a_search_finds_uids(hearing: Callable[..., Session], number: bytes) -> None:
    with pytest.raises(PeerError, match=r"no (UIDs|numbers)"):
        hearing(b"* SEARCH 1 %b\r\nm1 OK done\r\n" % number).search(b"ALL").wait()


@pytest.mark.parametrize("size", [b"-5", b"99999999999999999999", b'"5"'])
def test_a_message_of_no_possible_size_is_there(
    hearing: Callable[..., Session], size: bytes
) -> None:
    line = b"* 1 FETCH (UID 7 RFC822.SIZE %b FLAGS ())\r\nm1 OK done\r\n" % size
    [found] = hearing(line).facts("1:*").wait()
    assert (found.uid, found.size) == (7, 0)


@pytest.mark.parametrize(
    "date", [b"31-Dec-9999 23:59:59 -9999", b"01-Jan-0001 00:00:00 +9999", b"00-Jan-2020 0:0:0 +0"]
)
def test_a_moment_outside_of_all_calendars_is_none(date: bytes) -> None:
    assert responses.date(date) is None


def test_what_a_server_offers_shows_no_control_characters(
    hearing: Callable[..., Session],
) -> None:
    session = hearing(
        b"* CAPABILITY IMAP4rev1 LOGINDISABLED AUTH=\x1b[31mX"
        + b"".join(b" AUTH=Y%d" % n for n in range(900))
        + b"\r\nm1 OK x\r\n"
    )
    session.ask_capabilities().wait()
    with pytest.raises(LoginError, match="no way to log in") as raised:
        log_in(session, Credentials("ann", "secret"), ("login",), lambda: None)
    assert raised.value.text.isprintable()
    assert len(raised.value.text) < 1000


def test_an_idle_that_the_server_ends_at_once_is_not_begun_anew_at_once(
    hearing: Callable[..., Session],
) -> None:
    session = hearing(b"m1 OK over\r\n")
    rests: list[float] = []

    def rest(seconds: float) -> None:
        rests.append(seconds)
        session.wire.rest.append(b"* 6 EXISTS\r\nm2 OK over\r\n")  # type: ignore[attr-defined]

    session.wire.halt = SimpleNamespace(wait=rest)  # type: ignore[assignment]
    assert session.idle(600)
    assert rests == [RELAPSE]


@pytest.mark.parametrize("origin", [b"<5>", b"<4294967295>", b"<-1>"])
@pytest.mark.parametrize("more", [b"", b" FLAGS ()"])
def test_the_middle_of_a_message_is_not_its_beginning(
    hearing: Callable[..., Session], origin: bytes, more: bytes
) -> None:
    line = b"* 1 FETCH (UID 1 BODY[HEADER]%b {3}\r\nabc%b)\r\nm1 OK done\r\n" % (origin, more)
    [found] = hearing(line).bodies([1], b"HEADER", first=100)
    assert isinstance(found, Missing)
    assert isinstance(found.error, UnavailableError)


@pytest.mark.parametrize(
    ("offered", "free"), [(b"", 0), (b" LITERAL-", 4096), (b" LITERAL+", wire.WITHOUT_LIMIT)]
)
def test_a_literal_waits_for_leave_where_the_server_does_not_offer_more_any_longer(
    hearing: Callable[..., Session], offered: bytes, free: int
) -> None:
    said = b"* CAPABILITY IMAP4rev1%b\r\nm%d OK done\r\n"
    session = hearing(said % (b" LITERAL+", 1))
    session.ask_capabilities().wait()
    session.wire.rest.append(said % (offered, 2))  # type: ignore[attr-defined]
    session.ask_capabilities().wait()
    assert session._client.free == free


def test_what_cannot_be_read_is_told_with_who_sent_it(hearing: Callable[..., Session]) -> None:
    session = hearing(b"* LIST (\r\nm1 OK done\r\n")
    with pytest.raises(PeerError) as raised:
        session.folders().wait()
    assert raised.value.text == f"{session.peer} sent a response that cannot be read: ("
