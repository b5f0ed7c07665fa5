"""One session with a real Dovecot: folders, listings, bodies, flags, copies, waiting."""

from __future__ import annotations

import gc
import threading
import weakref
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from mailflow.errors import GoneError, MailflowError, RefusedError, UnavailableError
from mailflow.halt import Halt
from mailflow.kinds import Runtime
from mailflow.mail import OctetFile, Octets, read
from mailflow.testing.dovecot import Dovecot, installed
from mailflow.testing.imap import CAPABILITIES, Faults, ImapServer
from mailflow_imap.answers import Body, Missing
from mailflow_imap.login import connect, enter
from mailflow_imap.session import Session
from mailflow_imap.settings import ImapOptions

pytestmark = pytest.mark.skipif(not installed(), reason="needs dovecot-imapd")

SECRET = "canary-7d1e"
LARGE = b"Subject: large\r\n\r\n" + b"0123456789abcde\r\n" * 40_000
MESSAGES = [b"Subject: hello %d\r\n\r\nbody %d\r\n" % (n, n) for n in range(1, 6)]


class Server:
    """Dovecot, with the words that ImapServer has."""

    host = "127.0.0.1"

    def __init__(self, dovecot: Dovecot) -> None:
        self.dovecot = dovecot
        self.port = dovecot.imap_port


@pytest.fixture(scope="module")
def dovecot(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Dovecot]:
    with Dovecot(tmp_path_factory.mktemp("dovecot"), imap=True) as dovecot:
        yield dovecot


@pytest.fixture
def session(dovecot: Dovecot, entered: Callable[..., Session], request: Any) -> Session:
    """A mailbox of its own with five short messages."""
    user = f"red{abs(hash(request.node.nodeid))}"
    dovecot.add_user(user, SECRET)
    dovecot.deliver(user, *MESSAGES)
    session = entered(Server(dovecot), user=user)
    session.user = user  # type: ignore[attr-defined]
    return session


def test_an_open_folder_says_what_it_holds(session: Session) -> None:
    selected = session.select("inbox").wait()
    assert (selected.folder, selected.exists, selected.uid_next) == ("INBOX", 5, 6)
    assert selected.uid_validity > 0
    assert not selected.read_only
    assert session.selected is selected


def test_a_folder_that_is_not_there_closes_the_one_before(session: Session) -> None:
    with pytest.raises((RefusedError, GoneError), match="'nowhere'"):
        session.select("nowhere").wait()
    assert session.selected is None


def test_a_listing_knows_sizes_dates_and_flags(session: Session) -> None:
    session.store([2], ["\\Seen"]).wait()
    facts = session.facts("1:*").wait()
    assert [fact.uid for fact in facts] == [1, 2, 3, 4, 5]
    assert [fact.size for fact in facts] == [len(message) for message in MESSAGES]
    assert all(fact.date is not None and fact.date > 1.6e9 for fact in facts)
    assert "\\Seen" in (facts[1].flags or ())


def test_a_listing_of_what_has_changed_needs_no_listing_of_all(session: Session) -> None:
    before = session.select("INBOX").wait().modseq
    session.store([3], ["\\Flagged"]).wait()
    assert before
    [fact] = session.facts("1:*", changed_since=before, size=False, date=False).wait()
    assert fact.uid == 3


def test_bodies_come_octet_for_octet_and_mark_nothing_as_seen(session: Session) -> None:
    found = list(session.bodies([1, 2, 3, 4, 5]))
    assert [read(body.content) for body in found if isinstance(body, Body)] == MESSAGES
    assert all("\\Seen" not in (fact.flags or ()) for fact in session.facts("1:*"))


def test_a_large_body_goes_to_a_file_and_a_small_one_does_not(
    session: Session, dovecot: Dovecot, scratch: Path
) -> None:
    dovecot.deliver(session.user, LARGE)  # type: ignore[attr-defined]
    session.noop().wait()
    small, large = list(session.bodies([5, 6]))
    assert isinstance(small, Body)
    assert isinstance(small.content, Octets)
    assert isinstance(large, Body)
    assert isinstance(large.content, OctetFile)
    assert large.octets == len(LARGE)
    assert read(large.content) == LARGE
    assert [str(path) for path in scratch.iterdir()] == [large.content.path]


def test_a_body_over_the_bound_is_missing_and_leaves_no_file(
    session: Session, dovecot: Dovecot, scratch: Path
) -> None:
    dovecot.deliver(session.user, LARGE)  # type: ignore[attr-defined]
    session.noop().wait()
    small, large = list(session.bodies([5, 6], most=1000))
    assert isinstance(small, Body)
    assert isinstance(large, Missing)
    assert not list(scratch.iterdir())


def test_a_body_that_is_abandoned_leaves_no_file(
    session: Session, dovecot: Dovecot, scratch: Path
) -> None:
    dovecot.deliver(session.user, LARGE, LARGE)  # type: ignore[attr-defined]
    session.noop().wait()
    bodies = session.bodies([6, 7])
    session.noop().wait()
    assert len(list(scratch.iterdir())) == 2
    bodies.abandon()
    assert not list(scratch.iterdir())


def test_the_first_octets_of_a_message_are_what_was_asked_for(session: Session) -> None:
    [head] = session.bodies([1], b"HEADER")
    assert isinstance(head, Body)
    assert read(head.content) == b"Subject: hello 1\r\n\r\n"
    [field] = session.bodies([1], b"HEADER.FIELDS (Subject)")
    assert isinstance(field, Body)
    assert read(field.content) == b"Subject: hello 1\r\n\r\n"
    [some] = session.bodies([1], first=5)
    assert isinstance(some, Body)
    assert read(some.content) == b"Subje"


def test_f9_a_message_that_is_gone_is_missing_and_the_others_come(session: Session) -> None:
    session.store([2], ["\\Deleted"]).wait()
    session.expunge([2]).wait()
    found = {each.uid: each for each in session.bodies([1, 2, 3])}
    assert isinstance(found[1], Body)
    assert isinstance(found[3], Body)
    gone = found[2]
    assert isinstance(gone, Missing)
    assert isinstance(gone.error, GoneError)


def test_bodies_of_several_commands_in_flight_are_told_apart(session: Session) -> None:
    heads = session.bodies([1, 2, 3], b"HEADER")
    whole = session.bodies([2, 3, 4])
    texts = session.bodies([3, 1], b"TEXT")
    assert [(b.uid, read(b.content)) for b in texts if isinstance(b, Body)] == [
        (1, b"body 1\r\n"),
        (3, b"body 3\r\n"),
    ]
    assert [read(b.content) for b in whole if isinstance(b, Body)] == MESSAGES[1:4]
    assert [b.octets for b in heads if isinstance(b, Body)] == [20, 20, 20]


def test_structure_and_envelope_are_what_imapclient_makes_of_them(session: Session) -> None:
    [(uid, items)] = session.fetch([4], b"ENVELOPE BODYSTRUCTURE").wait()
    assert uid == 4
    assert items[b"ENVELOPE"][1] == b"hello 4"
    assert items[b"BODYSTRUCTURE"][:2] == (b"text", b"plain")


def test_a_search_finds_what_a_user_wrote_and_nothing_else(session: Session) -> None:
    assert session.search(b"SUBJECT", "hello 3").wait() == [3]
    assert session.search(b"SUBJECT", 'hello 3" ALL "').wait() == []
    assert session.search(b"SUBJECT", "gr\u00fcn").wait() == []
    assert session.search(b"OR", (b"SUBJECT", "hello 1"), (b"UID", b"4:5")).wait() == [1, 4, 5]
    assert session.search().wait() == [1, 2, 3, 4, 5]
    assert session.count(b"UNDELETED").wait() == 5
    assert session.sort(b"REVERSE SUBJECT").wait() == [5, 4, 3, 2, 1]


def test_flags_are_added_removed_and_set(session: Session) -> None:
    session.store([1], ["\\Seen", "$Label"]).wait()
    session.store([1], ["\\Seen"], how="-").wait()
    [fact] = session.facts([1]).wait()
    assert (fact.flags or frozenset()) - {"\\Recent"} == {"$Label"}
    session.store([1], ["\\Draft"], how="").wait()
    [fact] = session.facts([1]).wait()
    assert (fact.flags or frozenset()) - {"\\Recent"} == {"\\Draft"}


def test_dal_31_only_what_was_named_is_expunged(session: Session) -> None:
    session.store([1, 2, 3], ["\\Deleted"]).wait()
    session.expunge([2]).wait()
    assert [fact.uid for fact in session.facts("1:*")] == [1, 3, 4, 5]
    assert session.exists == 4


def test_copies_and_moves_say_where_they_went(session: Session) -> None:
    session.create("Entw\u00fcrfe & mehr").wait()
    copied = session.copy([1, 3], "Entw\u00fcrfe & mehr").wait()
    moved = session.move([2], "Entw\u00fcrfe & mehr").wait()
    assert copied is not None
    assert moved is not None
    assert copied.uids == {1: 1, 3: 2}
    assert moved.uids == {2: 3}
    assert session.exists == 4
    selected = session.select("Entw\u00fcrfe & mehr").wait()
    assert (selected.exists, selected.uid_validity) == (3, copied.uid_validity)


def test_a_message_is_added_octet_for_octet_with_its_flags_and_date(session: Session) -> None:
    data = b"Subject: \xff\r\n\r\n" + b"8-bit \xe9 and more\r\n" * 50_000
    added = session.append("INBOX", Octets(data), flags=["\\Seen"], date=1e9).wait()
    assert added is not None
    assert added.uid == 6
    [body] = session.bodies([6])
    assert isinstance(body, Body)
    assert read(body.content) == data
    [fact] = session.facts([6]).wait()
    assert fact.date == 1e9
    assert "\\Seen" in (fact.flags or ())


def test_folders_are_listed_with_what_they_are_for(session: Session) -> None:
    session.create("Lists.a b").wait()
    folders = {folder.name: folder for folder in session.folders().wait()}
    assert folders["INBOX"].selectable
    assert folders["Lists.a b"].delimiter == "."


def test_the_standing_of_a_folder_is_known_without_opening_it(session: Session) -> None:
    standing = session.status("INBOX").wait()
    assert (standing["MESSAGES"], standing["UIDNEXT"], standing["UNSEEN"]) == (5, 6, 5)
    assert session.selected is not None


def test_idle_ends_when_something_is_new_and_when_the_time_is_over(
    session: Session, dovecot: Dovecot
) -> None:
    assert session.idle(0.05) is False
    user = session.user  # type: ignore[attr-defined]
    threading.Timer(0.2, dovecot.deliver, (user, b"Subject: new\r\n\r\n")).start()
    assert session.idle(10) is True
    assert session.exists == 6
    assert session.search(b"SUBJECT", "new").wait() == [6]


def test_idle_ends_when_the_engine_stops(session: Session, halt: Halt) -> None:
    threading.Timer(0.1, halt.set).start()
    with pytest.raises(UnavailableError, match="stopped on request"):
        session.idle(60)


def test_idle_tells_a_peer_that_is_gone(entered: Callable[..., Session]) -> None:
    with ImapServer({"red": SECRET}, faults=Faults(cut_before=("IDLE",))) as server:
        session = entered(server)
        with pytest.raises(UnavailableError, match="closed the connection"):
            session.idle(60)
        session.close()


def test_idle_is_begun_anew_before_servers_end_it(
    entered: Callable[..., Session], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("mailflow_imap.session.REISSUE", 0.05)
    with ImapServer({"red": SECRET}) as server:
        session = entered(server)
        assert session.idle(0.3) is False
        assert server.commands.count("IDLE") >= 3


def test_a_silent_server_is_found_out_when_idle_ends(
    entered: Callable[..., Session], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("mailflow_imap.session.REISSUE", 0.05)
    faults = Faults(answers={"IDLE +": b"+ idling\r\n", "IDLE": b""})
    with ImapServer({"red": SECRET}, faults=faults) as server:
        session = entered(server, timeout=0.3)
        with pytest.raises(UnavailableError, match="silent"):
            session.idle(60)


def test_dal_31_without_uidplus_nothing_is_expunged(entered: Callable[..., Session]) -> None:
    offers = [name for name in CAPABILITIES if name not in ("UIDPLUS", "MOVE")]
    with ImapServer({"red": SECRET}, {"red": MESSAGES}, capabilities=offers) as server:
        session = entered(server)
        assert not session.can_expunge
        assert not session.can_move
        with pytest.raises(RefusedError, match="UIDPLUS"):
            session.expunge([1])
        assert not any("EXPUNGE" in line for line in server.commands)


def test_many_uids_become_commands_of_bounded_length(entered: Callable[..., Session]) -> None:
    with ImapServer({"red": SECRET}) as server:
        session = entered(server)
        session.store(range(1, 20_000, 2), ["\\Seen"]).wait()
        stores = [line for line in server.commands if line.startswith("UID STORE")]
        assert len(stores) > 5
        assert max(map(len, stores)) < 8000


def test_an_error_of_one_command_leaves_the_session_as_it_was(session: Session) -> None:
    failing = session.select("nowhere")
    with pytest.raises(MailflowError):
        failing.wait()
    assert not session.lost
    assert session.select("INBOX").wait().exists == 5


@pytest.mark.parametrize("wire", [b"Entw\xc3\xbcrfe", b"50&50", b"caf\xe9", b'a"b\\c'])
def test_a_folder_is_opened_as_its_server_spells_it(
    entered: Callable[..., Session], wire: bytes
) -> None:
    told = b"* LIST () NIL {%d}\r\n%b\r\n<tag> OK\r\n" % (len(wire), wire)
    faults = Faults(answers={"LIST": told, "EXAMINE": b"<tag> OK open\r\n"})
    with ImapServer({"red": SECRET}, faults=faults) as server:
        session = entered(server)
        [folder] = session.folders().wait()
        session.select(folder.name, read_only=True).wait()
        said = server.commands[-1].replace('\\"', '"').replace("\\\\", "\\")
        assert wire.decode("utf-8", "replace") in said


@pytest.mark.parametrize("flag", ["", "a b", "\\Seen)", "x\r\n", "\\", "gr\u00fcn", '"x"'])
def test_what_is_no_flag_is_never_sent(entered: Callable[..., Session], flag: str) -> None:
    with ImapServer({"red": SECRET}) as server:
        session = entered(server)
        with pytest.raises(ValueError, match="is no flag"):
            session.store([1], [flag])
        with pytest.raises(ValueError, match="is no flag"):
            session.append("INBOX", Octets(b"a: b\r\n\r\n"), flags=[flag])


def test_what_asks_nothing_takes_no_answer_of_others(session: Session) -> None:
    session.select("INBOX").wait()
    assert session.facts([]).wait() == []
    assert len(session.facts("1:*").wait()) == 5


def test_nothing_stays_of_a_session_that_was_left(
    options_of: Callable[..., ImapOptions], runtime: Runtime
) -> None:
    """Not even until cycles of objects are looked for: a gateway leaves many, full of mail."""
    with ImapServer({"red": SECRET}, {"red": MESSAGES}) as server:
        options = options_of(server)
        gc.disable()
        try:
            session = connect(options, runtime)
            enter(options, session)
            session.select("INBOX").wait()
            bodies = session.bodies([1, 2, 3])
            next(iter(bodies))
            session.close()
            left = weakref.ref(session)
            del session, bodies
            assert left() is None
        finally:
            gc.enable()
