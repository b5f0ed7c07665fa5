"""What the IMAP fetcher does at the server with what is safe here, and with nothing else."""

from __future__ import annotations

from pathlib import Path

import pytest

from mailflow.errors import UnavailableError
from mailflow.kinds import Fetched
from mailflow.query import Query
from mailflow.testing.imap import CAPABILITIES, ImapServer
from mailflow.testing.imap_link import Faults
from mailflow.verdicts import Fate
from mailflow_imap import loading
from mailflow_imap.fetcher import ImapFetcher

from .conftest import MAIL, SECRET, Log, Make, asked, message, visit


def settle_each(fetcher: ImapFetcher, came: list[str] | None = None) -> None:
    """A session that settles each message when it has come; `came` are their keys."""
    with fetcher:
        for each in fetcher.retrieve([item.key for item in fetcher.listing(Query.always)]):
            fetcher.settle(each.key, Fate.DONE)
            if came is not None:
                came.append(each.key)


def test_f14_nothing_is_fetched_on_where_what_is_settled_lies_in_another_folder_by_now(
    server: ImapServer, make: Make
) -> None:
    def made_anew(right: bytes) -> bytes:
        return right.replace(b"[UIDVALIDITY 1000000]", b"[UIDVALIDITY 1000001]")

    server.faults = Faults(answers={"SELECT": made_anew})
    with make(on_done="delete") as fetcher:
        got = fetcher.retrieve([item.key for item in fetcher.listing(Query.always)])
        fetcher.settle(next(got).key, Fate.DONE)
        with pytest.raises(UnavailableError, match="made anew"):
            list(got)
    assert server.messages("red") == MAIL


def test_what_can_only_be_looked_into_is_fetched_though_nothing_is_settled(
    server: ImapServer, make: Make, log: Log, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(loading, "AHEAD", 1)
    server.faults = Faults(answers={"SELECT": b"<tag> NO not for you\r\n"})
    with make(on_done="delete", batch=1) as fetcher:
        got = fetcher.retrieve([item.key for item in fetcher.listing(Query.always)])
        fetcher.settle(next(got).key, Fate.DONE)
        assert all(isinstance(each, Fetched) for each in got)
    assert len(asked(server, "EXAMINE")) == 2, "a refused SELECT leaves no folder open"
    assert "on_done is not done" in log.warnings()
    assert server.messages("red") == MAIL


@pytest.mark.parametrize("fate", [Fate.LATER, Fate.REFUSED])
def test_pml_13_what_is_not_safe_here_stays(server: ImapServer, make: Make, fate: Fate) -> None:
    with make() as fetcher:
        for item in list(fetcher.listing(Query.always)):
            fetcher.settle(item.key, fate)
    assert server.messages("red") == MAIL


def test_f14_nothing_is_settled_under_an_old_uidvalidity(server: ImapServer, make: Make) -> None:
    with make() as fetcher:
        old = next(iter(fetcher.listing(Query.always))).key
    server.renumber("red")
    with make() as fetcher:
        fetcher.settle(old, Fate.DONE)
        fetcher.settle("no key", Fate.DONE)
    assert asked(server, "SELECT")
    assert server.messages("red") == MAIL


def test_f14_nothing_is_settled_where_uids_went_back_since_the_listing(
    server: ImapServer, make: Make
) -> None:
    """As in a folder that another client has made anew, by a server whose clock stands still."""
    folder = server.folder("red")
    with make(on_done="delete") as fetcher:
        (first, *_) = fetcher.listing(Query.always)
        folder.messages, folder.uid_next = [], 1
        server.deliver("red", b"Subject: new\r\n\r\n")
        fetcher.settle(first.key, Fate.DONE)
    assert server.messages("red") == [b"Subject: new\r\n\r\n"]


def test_what_was_not_listed_is_settled_too(server: ImapServer, make: Make) -> None:
    """As after a crash: the journal has it, and the mark is behind it."""
    with make() as fetcher:
        first = next(iter(fetcher.listing(Query.always))).key
    mark = fetcher.mark
    with make() as fetcher:
        assert list(fetcher.listing(Query.always, mark)) == []
        fetcher.settle(first, Fate.DONE)
    assert server.messages("red") == MAIL[1:]


@pytest.mark.parametrize(
    ("on_done", "removes"),
    [("delete", True), ("move Done", True), ("seen", False), ("flag", False), ("keep", False)],
)
def test_it_says_whether_what_is_settled_is_gone(make: Make, on_done: str, removes: bool) -> None:
    fetcher = make(on_done=on_done)
    visit(fetcher)
    assert fetcher.removes is removes


def test_without_uidplus_what_is_settled_is_marked_and_nothing_expunged(
    fetcher_of: Make, log: Log
) -> None:
    poor = [each for each in CAPABILITIES if each not in ("UIDPLUS", "MOVE")]
    with ImapServer({"red": SECRET}, {"red": MAIL[:2]}, capabilities=poor) as server:
        with fetcher_of(server) as fetcher:
            for item in list(fetcher.listing(Query.always)):
                fetcher.settle(item.key, Fate.DONE)
            assert not fetcher.removes
        assert server.messages("red") == MAIL[:2]
        assert asked(server, "EXPUNGE", "CLOSE", "UID EXPUNGE") == []
    assert len([line for line in log.warnings() if "UIDPLUS" in line]) == 1


def test_without_move_what_was_copied_before_a_crash_is_not_copied_again(
    fetcher_of: Make,
) -> None:
    poor = [each for each in CAPABILITIES if each != "MOVE"]
    with ImapServer({"red": SECRET}, {"red": MAIL[:2]}, capabilities=poor) as server:
        server.deliver("red", MAIL[0], "Done")  # copied and marked, and then the power failed
        server.folder("red").messages[0].change(b"+FLAGS", ["\\Deleted"])
        with fetcher_of(server, on_done="move Done") as fetcher:
            for item in list(fetcher.listing(Query.always)):
                fetcher.settle(item.key, Fate.DONE)
        assert sorted(server.messages("red", "Done")) == MAIL[:2]


def test_what_is_marked_already_is_not_marked_again(server: ImapServer, make: Make) -> None:
    for _ in range(2):
        with make(on_done="seen") as fetcher:
            for item in list(fetcher.listing(Query.always)):
                fetcher.settle(item.key, Fate.DONE)
    assert len(asked(server, "UID STORE")) == 1


def test_what_time_may_mend_ends_the_session_so_that_it_is_settled_again(
    server: ImapServer, make: Make
) -> None:
    server.faults = Faults(answers={"UID MOVE": b"<tag> NO [OVERQUOTA] full\r\n"})
    came: list[str] = []
    with pytest.raises(UnavailableError, match="full"):
        settle_each(make(on_done="move Done", batch=1), came)
    assert len(came) == len(MAIL), "mail comes in though it cannot be moved away"


def test_what_time_may_mend_is_not_forgotten_for_what_is_settled_after_it(
    server: ImapServer, make: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(loading, "AHEAD", 1)
    server.faults = Faults(answers={"UID MOVE 1 ": b"<tag> NO [OVERQUOTA] full\r\n"})
    with pytest.raises(UnavailableError, match="full"):
        settle_each(make(on_done="move Done", batch=1))
    assert len(asked(server, "UID MOVE")) < len(MAIL), "the server has no room now"


def test_what_comes_for_nobody_while_the_last_is_settled_is_not_kept(
    server: ImapServer, make: Make, scratch: Path
) -> None:
    for number in (5, 6, 7):
        server.deliver("red", message(number, 400_000))
    with make() as fetcher:
        got = fetcher.retrieve([item.key for item in fetcher.listing(Query.always)][4:])
        fetcher.settle(next(got).key, Fate.DONE)
        got.close()
    assert server.messages("red") == [
        *MAIL[:4],
        *(message(number, 400_000) for number in (5, 6, 7)),
    ]
    assert list(scratch.iterdir()) == []


def test_to_settle_again_in_the_next_batch_is_to_settle_once(
    server: ImapServer, make: Make, log: Log
) -> None:
    with make(on_done="move Done", batch=1) as fetcher:
        keys = [item.key for item in fetcher.listing(Query.always)]
        for _ in fetcher.retrieve(keys):
            fetcher.settle(keys[0], Fate.DONE)
    assert (server.messages("red"), server.messages("red", "Done")) == (MAIL[1:], MAIL[:1])
    assert log.warnings() == []


def test_a_refusal_to_settle_is_told_and_the_mail_is_here(
    server: ImapServer, make: Make, log: Log
) -> None:
    server.faults = Faults(answers={"UID STORE": b"<tag> NO [NOPERM] not yours\r\n"})
    with make() as fetcher:
        for item in list(fetcher.listing(Query.always)):
            fetcher.settle(item.key, Fate.DONE)
    assert log.warnings() == ["on_done is not done"]


def test_a_folder_that_can_only_be_read_is_told(server: ImapServer, make: Make, log: Log) -> None:
    read_only = {"SELECT": lambda right: right.replace(b"[READ-WRITE]", b"[READ-ONLY]")}
    server.faults = Faults(answers=read_only)
    with make() as fetcher:
        for item in list(fetcher.listing(Query.always)):
            fetcher.settle(item.key, Fate.DONE)
    assert log.warnings() == ["on_done is not done: the folder cannot be changed"]
    assert asked(server, "UID STORE") == []


def test_to_move_into_what_is_not_there_is_told_where_only_a_use_is_named(
    server: ImapServer, make: Make, log: Log
) -> None:
    with make(on_done="move \\Archive") as fetcher:
        for item in list(fetcher.listing(Query.always)):
            fetcher.settle(item.key, Fate.DONE)
    assert log.warnings() == ["on_done is not done: there is no such folder"]
    assert server.messages("red") == MAIL


@pytest.mark.parametrize(
    ("folders", "on_done"),
    [(["\\Archive"], "move Old"), (["INBOX", "Old"], "move \\Archive")],
)
def test_nothing_is_moved_to_where_it_would_come_again(
    server: ImapServer, make: Make, log: Log, folders: list[str], on_done: str
) -> None:
    """What a use stands for is known only there."""
    server.deliver("red", MAIL[0], "Old")
    server.folder("red", "Old").attributes = ["\\Archive"]
    with make(folders=folders, on_done=on_done) as fetcher:
        for item in list(fetcher.listing(Query.always)):
            fetcher.settle(item.key, Fate.DONE)
    assert log.warnings() == ["on_done is not done"]
    assert server.messages("red") == MAIL
    assert server.folder("red", "Old").uid_next == 2
    with make(folders=folders, on_done=on_done) as fetcher:
        assert any("nothing is moved" in line for line in fetcher.offers())
