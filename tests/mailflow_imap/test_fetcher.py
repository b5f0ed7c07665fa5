"""What the IMAP fetcher asks a server for, and what it makes of the answers."""

from __future__ import annotations

import re
import time
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mailflow.errors import ConfigError, GoneError, LoginError, RefusedError, UnavailableError
from mailflow.kinds import Item, Missed
from mailflow.query import Query
from mailflow.testing.imap import CAPABILITIES, ImapServer
from mailflow.testing.imap_link import Faults
from mailflow.verdicts import Fate
from mailflow_imap import fetcher as module
from mailflow_imap import loading
from mailflow_imap.loading import MOST, batches
from mailflow_imap.mark import WEEK

from .conftest import MAIL, SECRET, Log, Make, asked, fetch, message, modseq, visit

# What is listed


def test_a_listing_says_all_that_imap_says_of_a_message(server: ImapServer, make: Make) -> None:
    server.deliver("red", MAIL[0], "Lists", "\\Seen")
    with make(folders=["Lists"]) as fetcher:
        (item,) = fetcher.listing(Query.always)
    assert item.key == f"Lists;{server.folder('red', 'Lists').uid_validity};1"
    assert (item.size, item.folder, item.uid) == (len(MAIL[0]), "Lists", 1)
    assert item.flags == {"\\Seen"}
    assert item.date == server.folder("red", "Lists").messages[0].date


def test_the_second_visit_lists_what_came_since(server: ImapServer, make: Make) -> None:
    first = make()
    assert visit(first) == [1, 2, 3, 4, 5]
    assert first.complete
    server.deliver("red", message(6))
    second = make()
    server.commands.clear()
    assert visit(second, first.mark) == [6]
    assert not second.complete
    assert not [line for line in asked(server, "UID FETCH") if "1:*" in line]


def test_a_visit_to_what_has_nothing_new_is_a_few_flights(server: ImapServer, make: Make) -> None:
    first = make()
    visit(first)
    server.flights = 0
    assert visit(make(), first.mark) == []
    assert server.flights <= 3


def test_what_is_still_wanted_is_listed_again_and_nothing_else(
    server: ImapServer, make: Make
) -> None:
    first = make()
    visit(first, unfinished=2)
    server.deliver("red", message(6))
    assert visit(make(), first.mark) == [4, 5, 6]


def test_without_uidnext_what_was_seen_last_is_where_the_next_visit_starts(
    server: ImapServer, make: Make
) -> None:
    untold = {"EXAMINE": lambda right: right.replace(b"UIDNEXT", b"X-NEXT")}
    server.faults = Faults(answers=untold)
    mark = ""
    for found in ([1, 2, 3, 4, 5], [], []):
        fetcher = make()
        assert visit(fetcher, mark) == found
        mark = fetcher.mark


def test_after_a_week_everything_is_listed(make: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    first = make()
    visit(first)
    later = time.time() + WEEK + 1
    monkeypatch.setattr(module.time, "time", lambda: later)
    second = make()
    assert visit(second, first.mark) == [1, 2, 3, 4, 5]
    assert second.complete


def test_another_question_is_asked_of_every_message(make: Make) -> None:
    first = make(max_size=10)
    assert visit(first) == []
    assert visit(make(max_size=1000), first.mark) == [1, 2, 3, 4, 5]


def test_what_is_over_max_size_is_told_and_stays(server: ImapServer, make: Make, log: Log) -> None:
    server.deliver("red", message(6, 5000))
    assert visit(make(max_size=1000)) == [1, 2, 3, 4, 5]
    assert log.warnings() == ["messages over max_size stay on the server"]


def test_a_message_larger_than_was_said_is_missed_where_max_size_says_so(
    server: ImapServer, make: Make
) -> None:
    server.deliver("red", message(6, 500_000))
    size = str(len(message(6, 500_000))).encode()
    server.faults = Faults(answers={"UID FETCH 1:*": lambda right: right.replace(size, b"77")})
    with make(max_size=100_000) as fetcher:
        keys = [item.key for item in fetcher.listing(Query.always)]
        got = fetch(fetcher, keys)
    assert len(got) == 6
    assert [type(each) for each in got.values()].count(str) == 1


def test_flags_that_may_change_are_searched_for_in_each_visit(
    server: ImapServer, make: Make
) -> None:
    server.folder("red").messages[1].change(b"+FLAGS", ["\\Flagged"])
    first = make()
    assert visit(first, where="flagged") == [2]
    assert not first.complete
    server.folder("red").messages[0].change(b"+FLAGS", ["\\Flagged"])
    assert visit(make(), first.mark, "flagged") == [1, 2]
    assert [line.split()[-1] for line in asked(server, "UID SEARCH")] == ["FLAGGED", "FLAGGED"]


@pytest.mark.parametrize(("later", "found"), [(701, []), (9, [1, 2, 3, 4, 5])])
def test_where_a_folder_counts_its_changes_from_one_again_none_is_overlooked(
    fetcher_of: Make, later: int, found: list[int]
) -> None:
    nothing = {"UID FETCH 1:* (UID RFC822.SIZE INTERNALDATE FLAGS) (CHANGED": b"<tag> OK none\r\n"}
    able = [*CAPABILITIES, "CONDSTORE"]
    with ImapServer({"red": SECRET}, {"red": MAIL}, capabilities=able) as server:
        server.faults = Faults(before=modseq(700), answers=nothing)
        first = fetcher_of(server)
        assert visit(first, where="flagged") == []
        server.folder("red").messages[1].change(b"+FLAGS", ["\\Flagged"])
        server.faults = Faults(before=modseq(later), answers=nothing)
        assert visit(fetcher_of(server), first.mark, "flagged") == found


def test_the_first_visit_is_narrowed_and_the_next_needs_no_search(
    server: ImapServer, make: Make
) -> None:
    server.deliver("red", message(6, 5000))
    first = make()
    assert visit(first, where="size > 1000") == [6]
    server.deliver("red", message(7))
    assert visit(make(), first.mark, "size > 1000") == [7], "the engine looks at what is new"
    assert len(asked(server, "UID SEARCH")) == 1


def test_what_no_message_can_be_is_not_asked_for(server: ImapServer, make: Make) -> None:
    assert visit(make(), where='folder is "Lists"') == []
    assert asked(server, "UID") == []


@pytest.mark.parametrize("answer", [b"<tag> NO [BADCHARSET] no\r\n", b"<tag> BAD too long\r\n"])
def test_where_a_search_is_refused_all_is_listed(
    server: ImapServer, make: Make, answer: bytes
) -> None:
    server.faults = Faults(answers={"UID SEARCH": answer})
    fetcher = make()
    assert visit(fetcher, where="flagged") == [1, 2, 3, 4, 5]
    assert fetcher.complete


def test_of_several_folders_only_those_with_news_are_opened(server: ImapServer, make: Make) -> None:
    folders = [f"Lists/{number}" for number in range(20)]
    for folder in folders:
        server.deliver("red", MAIL[0], folder)
    first = make(folders=folders)
    assert visit(first) == [1] * 20
    assert first.complete
    server.deliver("red", MAIL[1], folders[7])
    server.commands.clear()
    second = make(folders=folders)
    assert visit(second, first.mark) == [2]
    assert not second.complete
    assert [line.split()[1].strip('"') for line in asked(server, "EXAMINE")] == [folders[7]]
    assert visit(make(folders=folders), second.mark) == []


def test_a_folder_that_cannot_be_opened_is_told_and_the_others_are_read(
    server: ImapServer, make: Make, log: Log
) -> None:
    fetcher = make(folders=["Secret", "INBOX", "Other"])
    assert visit(fetcher) == [1, 2, 3, 4, 5]
    assert [fetcher.lists(f"{name};1000000;9") for name in ("INBOX", "Other")] == [True, False]
    assert log.warnings() == ["a folder is left out"] * 2


def test_where_no_folder_can_be_opened_the_session_fails(make: Make) -> None:
    with pytest.raises((RefusedError, GoneError), match="Secret"):
        visit(make(folders=["Secret"]))


def test_a_pattern_without_a_folder_is_no_silence(make: Make) -> None:
    with pytest.raises(GoneError, match="no folder like Lists"):
        visit(make(folders=["Lists/*"]))


def test_a_use_that_no_folder_has_is_told_once_and_an_empty_pattern_is_not(
    make: Make, log: Log
) -> None:
    with make(folders=["INBOX", "\\All", "Listen/*", "!\\Junk"]) as fetcher:
        for _ in range(2):
            assert {item.folder for item in fetcher.listing(Query.always)} == {"INBOX"}
    (told,) = log.warnings()
    assert told.endswith("has no folder for \\All")


def test_f14_what_is_made_anew_is_listed_whole(server: ImapServer, make: Make, log: Log) -> None:
    server.deliver("red", MAIL[0], "Lists")
    folders = ["Lists", "INBOX"]
    first = make(folders=folders)
    visit(first)
    server.renumber("red")
    second = make(folders=folders)
    assert len(visit(second, first.mark)) == 6, "renamed messages are told by what is gone"
    assert second.complete
    assert log.warnings() == ["the folder was made anew: its messages are told by their content"]


def test_f14_uids_that_went_back_are_listed_whole(server: ImapServer, make: Make) -> None:
    first = make()
    visit(first)
    back = {"EXAMINE": lambda right: right.replace(b"[UIDNEXT 6]", b"[UIDNEXT 3]")}
    server.faults = Faults(answers=back)
    second = make()
    assert visit(second, first.mark) == [1, 2, 3, 4, 5]
    assert second.complete


@pytest.mark.parametrize(
    "faults",
    [
        Faults(before={"EXAMINE": b"* NO [UIDNOTSTICKY] they change\r\n"}),
        Faults(answers={"EXAMINE": lambda right: right.replace(b"UIDVALIDITY", b"X-NUMBER")}),
    ],
    ids=["not sticky", "no validity"],
)
def test_uids_that_do_not_last_are_refused(server: ImapServer, make: Make, faults: Faults) -> None:
    server.faults = faults
    with pytest.raises(RefusedError, match="do not last"):
        visit(make())


# What is fetched


def test_nothing_is_marked_and_nothing_opened_for_writing(server: ImapServer, make: Make) -> None:
    with make() as fetcher:
        keys = [item.key for item in fetcher.listing(Query.always)]
        list(fetcher.heads(keys))
        assert list(fetch(fetcher, keys).values()) == MAIL
    assert asked(server, "SELECT", "UID STORE") == []
    assert all("PEEK" in line for line in asked(server, "UID FETCH") if "BODY" in line)


def test_dal_32_messages_are_named_by_their_uids_alone(server: ImapServer, make: Make) -> None:
    with make(on_done="move Done") as fetcher:
        for item in list(fetcher.listing(Query("not flagged"))):
            fetcher.settle(item.key, Fate.DONE)
    numbered = ("FETCH", "STORE", "COPY", "MOVE", "SEARCH", "EXPUNGE")
    assert asked(server, *numbered) == []
    assert asked(server, *(f"UID {keyword}" for keyword in numbered))


def test_dal_33_many_messages_are_asked_for_at_once_in_batches_of_about_one_size(
    server: ImapServer, make: Make
) -> None:
    for number in range(95):
        server.deliver("red", message(number + 5, 1000))
    with make(batch="20k") as fetcher:
        keys = [item.key for item in fetcher.listing(Query.always)]
        server.flights = 0
        assert len(fetch(fetcher, keys)) == 100
    bodies = [line for line in asked(server, "UID FETCH") if "BODY" in line]
    assert 5 <= len(bodies) <= 7
    assert server.flights <= 2


def test_no_more_is_asked_for_ahead_than_may_be_held(
    server: ImapServer, make: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(loading, "AHEAD", 1)
    with make(batch=1) as fetcher:
        keys = [item.key for item in fetcher.listing(Query.always)]
        got = fetcher.retrieve(keys)
        next(got)
        assert len([line for line in asked(server, "UID FETCH") if "BODY" in line]) <= 2
        assert len(list(got)) == len(MAIL) - 1


@given(st.lists(st.integers(0, 3000), max_size=60), st.integers(1, 4000))
def test_batches_have_all_messages_in_their_order_and_a_bound(
    sizes: list[int], octets: int
) -> None:
    uids = list(range(1, len(sizes) + 1))
    found = list(batches(uids, dict(zip(uids, sizes, strict=True)), octets))
    assert [uid for batch, _ in found for uid in batch] == uids
    for batch, size in found:
        assert size == sum(sizes[uid - 1] for uid in batch)
        assert len(batch) == 1 or size <= octets


def test_a_batch_of_tiny_messages_ends_too() -> None:
    found = list(batches(range(2 * MOST), dict.fromkeys(range(2 * MOST), 0), 1))
    assert [len(batch) for batch, _ in found] == [MOST, MOST]


@pytest.mark.parametrize(
    "answer",
    [
        b"<tag> OK FETCH completed\r\n",
        b"* 2 FETCH (UID 2 BODY[] NIL)\r\n<tag> OK done\r\n",
        b"* 2 FETCH (UID 2)\r\n<tag> OK done\r\n",
        b"* 2 FETCH (BODY[] {5}\r\nhello)\r\n<tag> OK done\r\n",
        b"* 2 FETCH (UID 77 BODY[] {5}\r\nhello)\r\n<tag> OK done\r\n",
        b"<tag> NO it is broken\r\n",
        b"<tag> BAD it is broken\r\n",
    ],
    ids=["nothing", "nil", "no body", "no uid", "another", "no", "bad"],
)
def test_f17_what_comes_without_a_message_is_missed_and_stays(
    server: ImapServer, make: Make, answer: bytes
) -> None:
    server.faults = Faults(answers={"UID FETCH 2 ": answer})
    with make(batch=1) as fetcher:
        keys = [item.key for item in fetcher.listing(Query.always)]
        got = fetch(fetcher, keys)
        for key, each in got.items():
            if isinstance(each, bytes):
                fetcher.settle(key, Fate.DONE)
        fetcher.unfinished([keys[1]])
    assert [each for each in got.values() if isinstance(each, bytes)] == [MAIL[0], *MAIL[2:]]
    assert server.messages("red") == [MAIL[1]]
    assert visit(make(), fetcher.mark) == [2]


def test_f17_one_message_that_spoils_a_batch_spoils_no_other(
    server: ImapServer, make: Make
) -> None:
    no = b"<tag> NO one message cannot be read\r\n"
    server.faults = Faults(answers={"UID FETCH 1:5 (UID BODY": no, "UID FETCH 3 ": no})
    with make() as fetcher:
        keys = [item.key for item in fetcher.listing(Query.always)]
        got = fetch(fetcher, keys)
    assert sorted(each for each in got.values() if isinstance(each, bytes)) == sorted(
        [*MAIL[:2], *MAIL[3:]]
    )
    assert "cannot be read" in str(got[keys[2]])


def test_f17_a_message_that_comes_twice_is_given_once(server: ImapServer, make: Make) -> None:
    def twice(right: bytes) -> bytes:
        lines, last = right[: right.rindex(b"m")], right[right.rindex(b"m") :]
        return lines + lines + last

    server.faults = Faults(answers={"UID FETCH 1:5 (UID BODY": twice})
    with make() as fetcher:
        keys = [item.key for item in fetcher.listing(Query.always)]
        assert list(fetch(fetcher, keys).values()) == MAIL


def test_f16_what_others_do_meanwhile_moves_no_deletion(server: ImapServer, make: Make) -> None:
    news = b"* 1 EXPUNGE\r\n* 1 EXPUNGE\r\n* 9 EXISTS\r\n* 2 FETCH (FLAGS (\\Deleted) UID 4)\r\n"
    server.faults = Faults(before={"UID FETCH": news, "UID STORE": news, "SELECT": news})
    with make() as fetcher:
        keys = [item.key for item in fetcher.listing(Query.always)]
        assert list(fetch(fetcher, keys).values()) == MAIL
        fetcher.settle(keys[2], Fate.DONE)
    assert server.messages("red") == [MAIL[0], MAIL[1], MAIL[3], MAIL[4]]


def test_f14_what_was_made_anew_since_the_listing_is_not_fetched(
    server: ImapServer, make: Make
) -> None:
    server.deliver("red", MAIL[0], "Lists")
    with make(folders=["Lists", "INBOX"]) as fetcher:
        keys = [item.key for item in fetcher.listing(Query.always)]
        server.renumber("red", "Lists")
        with pytest.raises(UnavailableError, match="made anew"):
            fetch(fetcher, keys)


# What the file says


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"on_done": "burn"}, "on_done: expected"),
        ({"on_done": "move "}, "expected a folder"),
        ({"on_done": "move \\Bin"}, "expected a special use"),
        ({"on_done": "move Lists/red", "folders": ["Lists/*"]}, "it would come again"),
        ({"on_done": "move \\Trash", "folders": ["*"]}, "it would come again"),
        ({"folders": []}, "at least one folder"),
        ({"folders": ["!\\Junk"]}, "at least one folder"),
        ({"folders": ["\\Bin"]}, "expected a special use"),
    ],
)
def test_what_cannot_be_meant_is_told_at_check(
    make: Make, options: dict[str, Any], said: str
) -> None:
    with pytest.raises(ConfigError, match=re.escape(said)):
        make(**options)


def test_what_is_moved_may_be_left_out_of_what_is_read(make: Make) -> None:
    make(on_done="move \\Trash", folders=["*", "!\\Trash"])
    make(on_done="move Done", folders=["INBOX"])


def test_a_wrong_password_says_so(server: ImapServer, make: Make) -> None:
    with pytest.raises(LoginError) as told:
        visit(make(password="canary-wrong"))
    assert "canary" not in told.value.text


def test_items_and_misses_are_what_the_engine_knows(make: Make) -> None:
    with make() as fetcher:
        assert all(isinstance(item, Item) for item in fetcher.listing(Query.always))
        assert [type(each) for each in fetcher.retrieve(["no key"])] == [Missed]
