"""One session with one source: what is fetched, what is settled, and what is left alone."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Collection, Iterable, Iterator
from typing import Any

import pytest

from mailflow.engine.config import FetchStep
from mailflow.engine.intake import HEADS_FROM, START_LIMIT
from mailflow.engine.journal import Database, Lane
from mailflow.engine.journal.arrivals import MISSING_SECONDS, TOGETHER, known
from mailflow.errors import (
    ConfigError,
    GoneError,
    InUseError,
    JournalError,
    LoginError,
    PeerError,
    UnavailableError,
)
from mailflow.kinds import Context, Fetched, Item, Trouble
from mailflow.mail import Envelope, Mail, OctetFile, Octets
from mailflow.query import Query
from mailflow.verdicts import Hold, Retry, Stop

from .parts import BoxFetcher, Mailbox, Post, Works, distribute, fetch, message, process, react

DAY = 86400.0


def mailbox(count: int = 3, name: str = "box") -> Mailbox:
    return Mailbox(name, **{f"k{number}": message(f"m{number}") for number in range(count)})


def here() -> Post:
    """A destination on this machine: no question about `start`, deliver-first."""
    return Post(repeatable=True, per_recipient=False)


class TestKnownKeys:
    def test_what_was_fetched_is_not_fetched_again(self, works: Works) -> None:
        box, post = mailbox(), Post()
        pipeline = works.pipeline([fetch(box)], [distribute(post)])
        works.run(pipeline)
        box.add(k3=message("m3"))
        works.run(pipeline)
        assert box.fetched == ["k0", "k1", "k2", "k3"]
        assert post.subjects == ["m0", "m1", "m2", "m3"]

    def test_two_sources_know_each_their_own_keys(self, works: Works) -> None:
        one, two, post = mailbox(2, "one"), mailbox(2, "two"), Post()
        works.run(works.pipeline([fetch(one, "one"), fetch(two, "two")], [distribute(post)]))
        assert sorted(post.subjects) == ["m0", "m0", "m1", "m1"]

    @pytest.mark.parametrize("post", [Post, here])
    def test_after_a_cut_session_nothing_is_fetched_twice(self, works: Works, post: type) -> None:
        box, place = mailbox(5), post()

        def cut(key: str) -> None:
            if key == "k3" and box.sessions == 1:
                raise UnavailableError("the line is cut")

        box.on_fetch = cut
        pipeline = works.pipeline([fetch(box, keep=0.0)], [distribute(place)])
        assert works.run(pipeline) == 75
        assert works.run(pipeline, force=True) == 0
        assert box.fetched == ["k0", "k1", "k2", "k3", "k4"]
        assert place.subjects == ["m0", "m1", "m2", "m3", "m4"]
        assert box.messages == {}

    def test_what_cannot_be_had_is_passed_by_and_tried_the_next_time(self, works: Works) -> None:
        box, post = mailbox(), Post()
        box.missed["k1"] = GoneError("it is not there any more")
        pipeline = works.pipeline([fetch(box, keep=0.0)], [distribute(post)])
        assert works.run(pipeline) == 0
        assert post.subjects == ["m0", "m2"]
        assert list(box.messages) == ["k1"]
        box.missed.clear()
        works.run(pipeline)
        assert post.subjects == ["m0", "m2", "m1"]

    def test_limit_takes_the_first_ones_and_the_next_run_the_next(self, works: Works) -> None:
        box, post = mailbox(5), Post()
        pipeline = works.pipeline([fetch(box, limit=2)], [distribute(post)])
        for count in (2, 4, 5, 5):
            works.run(pipeline)
            assert len(post.sent) == count

    def test_f17_a_message_nobody_asked_for_or_a_second_one_is_not_taken(
        self, works: Works
    ) -> None:
        box, post = mailbox(2), Post()
        step = fetch(box)

        def babble(self: BoxFetcher, keys: list[str]) -> Iterator[Fetched]:
            for key in ("stranger", "k0", "k0", "k1"):
                yield Fetched(key, Octets(message(key)), Envelope("", ("bob@example.org",)))

        step.component.retrieve = babble
        works.run(works.pipeline([step], [distribute(post)]))
        assert post.subjects == ["k0", "k1"]

    @pytest.mark.parametrize("key", [5, None, "", "caf\udce9"])
    def test_a_key_that_cannot_be_written_down_is_the_plugins_fault(
        self, works: Works, key: Any
    ) -> None:
        box = mailbox(1)
        box.messages[key] = message("odd")
        assert works.run(works.pipeline([fetch(box)], [distribute(Post())])) == 78
        assert box.fetched == []

    def test_keys_long_absent_from_complete_listings_are_forgotten(self, works: Works) -> None:
        box = mailbox(2)
        pipeline = works.pipeline([fetch(box)], [distribute(here())])
        works.run(pipeline)
        del box.messages["k0"]
        works.run(pipeline)
        assert works.rows("SELECT key, missing IS NULL FROM seen") == [("k0", 0), ("k1", 1)]
        works.change("UPDATE seen SET missing = missing - ?", MISSING_SECONDS + 1)
        works.run(pipeline)
        assert works.rows("SELECT key FROM seen") == [("k1",)]

    def test_a_key_that_comes_back_in_time_is_still_known(self, works: Works) -> None:
        box, post = mailbox(2), here()
        pipeline = works.pipeline([fetch(box)], [distribute(post)])
        works.run(pipeline)
        away = box.messages.pop("k0")
        works.run(pipeline)
        works.change("UPDATE seen SET missing = missing - ?", MISSING_SECONDS - DAY)
        box.messages["k0"] = away
        works.run(pipeline)
        assert works.rows("SELECT key, missing FROM seen") == [("k0", None), ("k1", None)]
        assert post.subjects == ["m0", "m1"]

    @pytest.mark.parametrize("back", ["done", "settled", "passed"])
    def test_many_keys_that_come_back_at_once_are_still_known(
        self, works: Works, back: str
    ) -> None:
        box, post = mailbox(2 * TOGETHER + 1), here()
        pipeline = works.pipeline([fetch(box)], [distribute(post)])
        works.run(pipeline)
        works.change("UPDATE seen SET state = ?, why = 'start', digest = NULL", back)
        away = {key: box.messages.pop(key) for key in list(box.messages)}
        works.run(pipeline)
        assert works.rows("SELECT count(*), count(missing) FROM seen") == [(len(away), len(away))]
        box.messages = away
        works.run(pipeline)
        assert works.rows("SELECT count(*), count(missing) FROM seen") == [(len(away), 0)]
        assert len(box.fetched) == len(post.subjects) == len(away)

    def test_a_session_does_not_read_what_has_long_gone(self, works: Works) -> None:
        """Else each one takes memory and time for the mail of a month."""
        box, lane = mailbox(0), Lane("red", "box", "box")
        pipeline = works.pipeline([fetch(box, keep=0.0)], [distribute(here())])
        read = []
        for turn in range(4):
            box.add(**{f"k{turn}-{number}": message(f"m{turn}-{number}") for number in range(5)})
            works.run(pipeline)
            journal = works.journal()
            read.append(len(journal.read(lambda tx: known(tx, lane, box.messages))))
            journal.close()
        assert works.rows("SELECT count(*) FROM seen") == [(20,)]
        assert read == [5, 5, 5, 5]


class TestSettling:
    def test_keep_0_settles_in_the_same_session_what_is_committed(self, works: Works) -> None:
        box = mailbox()
        works.run(works.pipeline([fetch(box, keep=0.0)], [distribute(Post())]))
        assert box.settled == ["k0", "k1", "k2"]
        assert box.messages == {}

    def test_keep_forever_settles_nothing(self, works: Works) -> None:
        box = mailbox()
        pipeline = works.pipeline([fetch(box)], [distribute(Post())])
        works.run(pipeline)
        works.change("UPDATE seen SET at = 0")
        works.run(pipeline)
        assert box.settled == []

    def test_keep_14d_settles_after_14_days(self, works: Works) -> None:
        box = mailbox()
        pipeline = works.pipeline([fetch(box, keep=14 * DAY)], [distribute(Post())])
        works.run(pipeline)
        works.change("UPDATE seen SET at = at - ? WHERE key != 'k1'", 14 * DAY)
        works.change("UPDATE seen SET at = at - ? WHERE key = 'k1'", 13 * DAY)
        works.run(pipeline)
        assert box.settled == ["k0", "k2"]
        assert list(box.messages) == ["k1"]

    def test_nothing_is_settled_before_the_journal_has_it(self, works: Works) -> None:
        box = mailbox(20)
        settle = BoxFetcher.settle
        unknown: list[str] = []

        class Watching(BoxFetcher):
            def settle(self, key: str, fate: object) -> None:
                if not works.rows("SELECT 1 FROM seen WHERE key = ?", key):
                    unknown.append(key)
                settle(self, key, fate)  # type: ignore[arg-type]

        step = fetch(box, keep=0.0)
        step = step._replace(component=type("Fetcher", (Watching,), {"box": box}))
        works.run(works.pipeline([step], [distribute(Post())]))
        assert unknown == []
        assert len(box.settled) == 20

    def test_f13_what_the_source_did_not_confirm_is_settled_again_and_not_fetched(
        self, works: Works
    ) -> None:
        box, post = mailbox(), Post()

        def no_reply() -> None:
            if box.sessions == 1:
                raise UnavailableError("no reply to QUIT")

        box.on_quit = no_reply
        pipeline = works.pipeline([fetch(box, keep=0.0)], [distribute(post)])
        assert works.run(pipeline) == 75
        assert len(box.messages) == 3
        assert works.run(pipeline, force=True) == 0
        assert box.settled == ["k0", "k1", "k2"] * 2
        assert box.messages == {}
        assert len(post.sent) == len(box.fetched) == 3

    def test_f13_a_source_that_keeps_what_it_said_to_delete_is_told_each_time(
        self, works: Works
    ) -> None:
        box, post = mailbox(1), Post()
        pipeline = works.pipeline([fetch(box, keep=0.0)], [distribute(post)])
        works.run(pipeline)
        box.add(k0=message("m0"))
        works.run(pipeline)
        assert box.settled == ["k0", "k0"]
        assert len(post.sent) == 1

    def test_what_the_journal_cannot_take_stays_at_the_source(
        self, works: Works, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        from mailflow.engine.journal import arrivals

        def full(*arguments: object) -> None:
            raise JournalError("the disk is full")

        box = mailbox()
        pipeline = works.pipeline([fetch(box, keep=0.0)], [distribute(Post())])
        with monkeypatch.context() as patch:
            patch.setattr(arrivals, "accept", full)
            assert works.run(pipeline) == JournalError.exit_code
        assert box.settled == []
        assert len(box.messages) == 3
        assert works.run(pipeline, force=True) == 0
        assert box.messages == {}


class TestWhere:
    def test_what_the_listing_decides_is_not_read(self, works: Works) -> None:
        box, post = mailbox(), Post()
        box.add(large=message("large", "x" * 5000))
        works.run(works.pipeline([fetch(box, where="size < 1000", keep=0.0)], [distribute(post)]))
        assert box.fetched == ["k0", "k1", "k2"]
        assert list(box.messages) == ["large"]

    def test_what_headers_decide_costs_a_header(self, works: Works) -> None:
        box, post = mailbox(), Post()
        where = 'subject is "m1"'
        works.run(works.pipeline([fetch(box, where=where, keep=0.0)], [distribute(post)]))
        assert box.headed == ["k0", "k1", "k2"]
        assert box.fetched == ["k1"]
        assert post.subjects == ["m1"]

    def test_what_it_refuses_after_reading_is_not_read_again_and_never_settled(
        self, works: Works
    ) -> None:
        box, post = mailbox(), Post()
        step = fetch(box, where='content contains "hello" and subject is "m1"', keep=0.0)
        pipeline = works.pipeline([step], [distribute(post)])
        for _ in range(3):
            works.run(pipeline)
        assert post.subjects == ["m1"]
        assert box.settled == ["k1"]
        assert box.fetched == ["k0", "k1", "k2"]

    def test_another_where_looks_at_them_again(self, works: Works) -> None:
        box, post = mailbox(), Post()
        for where in ('content contains "x"', 'content contains "hello"'):
            works.run(works.pipeline([fetch(box, where=where)], [distribute(post)]))
        assert post.subjects == ["m0", "m1", "m2"]

    def test_the_same_where_in_other_words_is_the_same(self, works: Works) -> None:
        box = mailbox()
        for where in ('content contains "x"', '  content   contains   "x"  '):
            works.run(works.pipeline([fetch(box, where=where)], [distribute(Post())]))
        assert box.fetched == ["k0", "k1", "k2"]

    def test_a_message_it_cannot_be_asked_about_is_left_and_the_others_go_on(
        self, works: Works, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        box, post = mailbox(), Post()
        step = fetch(box, where='content contains "hello" or subject is "x"', keep=0.0)
        matches = Query.matches

        def choke(self: Query, facts: object) -> bool:
            if facts.mail.header().get("Subject") == "m1":  # type: ignore[attr-defined]
                raise RecursionError("hostile")
            return matches(self, facts)  # type: ignore[arg-type]

        monkeypatch.setattr(Query, "matches", choke)
        assert works.run(works.pipeline([step], [distribute(post)])) != 0
        assert post.subjects == ["m0", "m2"]
        assert list(box.messages) == ["k1"]

    def test_octets_that_are_refused_do_not_stay_on_the_disk(self, works: Works) -> None:
        box = mailbox(10)
        kept: list[int] = []

        def spool(runtime: object, octets: bytes) -> OctetFile:
            path = os.path.join(runtime.scratch, os.urandom(4).hex())  # type: ignore[attr-defined]
            with open(path, "wb") as file:
                file.write(octets)
            kept.append(len(os.listdir(runtime.scratch)))  # type: ignore[attr-defined]
            return OctetFile(path)

        box.make = spool
        step = fetch(box, where='content contains "nothing like it"')
        works.run(works.pipeline([step], [distribute(Post())]))
        assert max(kept) <= 3  # the lock, this one, perhaps the one before


class TestRenamedKeys:
    def test_f07_renamed_messages_are_recognised_and_not_delivered_again(
        self, works: Works
    ) -> None:
        box, post = mailbox(), Post()
        pipeline = works.pipeline([fetch(box)], [distribute(post)])
        works.run(pipeline)
        box.messages = {f"new-{key}": octets for key, octets in box.messages.items()}
        works.run(pipeline)
        works.run(pipeline)
        assert len(post.sent) == 3
        assert works.rows("SELECT key, state FROM seen") == [
            ("new-k0", "done"), ("new-k1", "done"), ("new-k2", "done"),
        ]  # fmt: skip

    def test_f07_of_many_only_the_headers_are_read(self, works: Works) -> None:
        box, post = mailbox(HEADS_FROM), here()
        pipeline = works.pipeline([fetch(box)], [distribute(post)])
        works.run(pipeline)
        box.messages = {f"new-{key}": octets for key, octets in box.messages.items()}
        box.add(fresh=message("fresh"))
        works.run(pipeline)
        assert len(box.headed) == HEADS_FROM + 1
        assert box.fetched[HEADS_FROM:] == ["fresh"]
        assert len(post.sent) == HEADS_FROM + 1

    def test_keep_goes_on_from_the_day_of_the_first_name(self, works: Works) -> None:
        box = mailbox(1)
        pipeline = works.pipeline([fetch(box, keep=14 * DAY)], [distribute(Post())])
        works.run(pipeline)
        works.change("UPDATE seen SET at = at - ?", 14 * DAY)
        box.messages = {"new": box.messages["k0"]}
        works.run(pipeline)
        assert box.settled == ["new"]
        assert box.messages == {}

    def test_an_equal_message_while_the_old_one_is_still_there_is_another_mail(
        self, works: Works
    ) -> None:
        box, post = mailbox(1), Post()
        pipeline = works.pipeline([fetch(box)], [distribute(post)])
        works.run(pipeline)
        box.add(again=message("m0"))
        works.run(pipeline)
        assert post.subjects == ["m0", "m0"]

    def test_an_equal_message_after_the_old_one_was_settled_is_another_mail(
        self, works: Works
    ) -> None:
        box, post = mailbox(1), Post()
        pipeline = works.pipeline([fetch(box, keep=0.0)], [distribute(post)])
        works.run(pipeline)
        box.add(again=message("m0"))
        works.run(pipeline)
        assert post.subjects == ["m0", "m0"]

    def test_without_a_message_id_equal_headers_prove_nothing(self, works: Works) -> None:
        box, post = Mailbox(a=b"Subject: report\r\n\r\nmonday\r\n"), Post()
        pipeline = works.pipeline([fetch(box)], [distribute(post)])
        works.run(pipeline)
        box.messages = {"b": b"Subject: report\r\n\r\ntuesday\r\n"}
        works.run(pipeline)
        assert len(post.sent) == 2

    def test_two_equal_new_ones_for_one_old_one_are_one_renamed_and_one_new(
        self, works: Works
    ) -> None:
        box, post = mailbox(1), Post()
        pipeline = works.pipeline([fetch(box)], [distribute(post)])
        works.run(pipeline)
        box.messages = {"x": message("m0"), "y": message("m0")}
        works.run(pipeline)
        assert post.subjects == ["m0", "m0"]


class TestFirstVisit:
    def test_a_full_mailbox_that_would_all_be_sent_asks_for_start(
        self, works: Works, capfd: pytest.CaptureFixture[str]
    ) -> None:
        box, post = mailbox(START_LIMIT + 1), Post()
        pipeline = works.pipeline([fetch(box)], [distribute(post)])
        (works.root / "red.toml").write_text("# red\n\n[[fetch]]\nuse = 'box'\n")
        for _ in range(2):  # the failure does not make it rest
            assert works.run(pipeline) == ConfigError.exit_code
            said = capfd.readouterr().err
            assert 'add start = "all"' in said
            assert 'start = "new"' in said
            assert "red.toml:3: fetch.box: " in said
        assert box.fetched == post.sent == []

    def test_start_all_takes_all(self, works: Works) -> None:
        box, post = mailbox(START_LIMIT + 1), Post()
        assert works.run(works.pipeline([fetch(box, start="all")], [distribute(post)])) == 0
        assert len(post.sent) == START_LIMIT + 1

    def test_start_new_takes_only_what_comes_after(self, works: Works) -> None:
        box, post = mailbox(START_LIMIT + 1), Post()
        pipeline = works.pipeline([fetch(box, start="new", keep=0.0)], [distribute(post)])
        assert works.run(pipeline) == 0
        box.add(later=message("later"))
        assert works.run(pipeline) == 0
        assert post.subjects == ["later"]
        assert box.settled == ["later"]
        assert len(box.messages) == START_LIMIT + 1

    def test_start_new_holds_for_an_empty_mailbox_too(self, works: Works) -> None:
        box, post = mailbox(0), Post()
        pipeline = works.pipeline([fetch(box, start="new")], [distribute(post)])
        works.run(pipeline)
        box.add(later=message("later"))
        works.run(pipeline)
        assert post.subjects == ["later"]

    def test_start_new_passes_by_what_where_refused_that_day_for_good(self, works: Works) -> None:
        box, post = mailbox(3), Post()
        works.run(
            works.pipeline([fetch(box, start="new", where='subject is "m1"')], [distribute(post)])
        )
        works.run(works.pipeline([fetch(box, start="new")], [distribute(post)]))
        assert post.sent == []

    def test_start_new_is_not_spoilt_by_a_first_visit_that_failed(self, works: Works) -> None:
        box, post = mailbox(2), Post()

        def fail() -> None:
            if box.sessions == 1:
                raise UnavailableError("down")

        box.on_listing = fail
        pipeline = works.pipeline([fetch(box, start="new")], [distribute(post)])
        works.run(pipeline)
        works.run(pipeline, force=True)
        assert post.sent == []

    def test_up_to_a_hundred_no_question_is_asked(self, works: Works) -> None:
        box, post = mailbox(START_LIMIT), Post()
        assert works.run(works.pipeline([fetch(box)], [distribute(post)])) == 0

    def test_where_nothing_is_sent_no_question_is_asked(self, works: Works) -> None:
        box, post = mailbox(START_LIMIT + 1), here()
        assert works.run(works.pipeline([fetch(box)], [distribute(post)])) == 0

    def test_only_what_where_wants_is_counted(self, works: Works) -> None:
        box, post = mailbox(START_LIMIT + 50), Post()
        step = fetch(box, where='subject in ("m1", "m2")')
        assert works.run(works.pipeline([step], [distribute(post)])) == 0
        assert post.subjects == ["m1", "m2"]

    def test_after_the_first_visit_no_question_is_asked(self, works: Works) -> None:
        box, post = mailbox(1), Post()
        pipeline = works.pipeline([fetch(box)], [distribute(post)])
        works.run(pipeline)
        box.add(**mailbox(START_LIMIT + 5).messages)
        assert works.run(pipeline) == 0


class TestFailure:
    @pytest.mark.parametrize(
        ("error", "status"),
        [(UnavailableError("down"), 75), (LoginError("wrong password"), 77),
         (PeerError("gibberish"), 76), (InUseError("locked there"), 75),
         (OSError(28, "full"), 75), (ZeroDivisionError("bug"), 78), (MemoryError(), 75)],
    )  # fmt: skip
    def test_a_source_that_fails_ends_in_its_status_and_the_others_go_on(
        self, works: Works, error: Exception, status: int
    ) -> None:
        bad, good, post = mailbox(1, "bad"), mailbox(1, "good"), Post()

        def fail() -> None:
            raise error

        bad.on_listing = fail
        pipeline = works.pipeline([fetch(bad, "bad"), fetch(good, "good")], [distribute(post)])
        assert works.run(pipeline) == status
        assert post.subjects == ["m0"]

    def test_it_rests_after_a_failure_and_says_so_with_75(self, works: Works) -> None:
        box = mailbox(1)

        def fail() -> None:
            raise LoginError("wrong password")

        box.on_listing = fail
        pipeline = works.pipeline([fetch(box)], [distribute(Post())])
        assert works.run(pipeline) == 77
        assert works.run(pipeline) == 75
        assert box.sessions == 1

    def test_it_rests_longer_and_longer_and_at_most_as_its_reactor_says(self, works: Works) -> None:
        box = mailbox(1)

        def fail() -> None:
            raise LoginError("wrong password")

        box.on_listing = fail
        pipeline = works.pipeline([fetch(box)], [distribute(Post())])
        waits = []
        for _ in range(5):
            works.run(pipeline, force=True)
            ((until,),) = works.rows("SELECT next_try FROM source")
            waits.append(round((until - time.time()) / 60))
        assert waits == sorted(waits)
        assert waits[0] == 1
        assert waits[-1] >= 30
        asked: list[int] = []

        def decide(trouble: Trouble, context: Context) -> Retry:
            asked.append(trouble.attempt)
            return Retry(7 * 60)

        works.run(
            works.pipeline([fetch(box)], [distribute(Post())], react=[react(decide)]), force=True
        )
        ((until,),) = works.rows("SELECT next_try FROM source")
        assert round((until - time.time()) / 60) == 7
        assert asked == [6]

    @pytest.mark.parametrize(
        ("delay", "minutes"), [(3600, 60), (1.0, 1), (1e12, 24 * 60), (-5, 1), ("soon", 1)]
    )
    def test_it_rests_as_long_as_the_server_asks_for_within_a_day(
        self, works: Works, delay: object, minutes: int
    ) -> None:
        box = mailbox(1)

        def fail() -> None:
            raise UnavailableError("too many requests", delay=delay)

        box.on_listing = fail
        decided = react(lambda trouble, context: Retry(60))
        works.run(works.pipeline([fetch(box)], [distribute(Post())], react=[decided]))
        ((until,),) = works.rows("SELECT next_try FROM source")
        assert round((until - time.time()) / 60) == minutes

    def test_when_the_rest_is_over_it_is_tried_and_success_clears_the_count(
        self, works: Works
    ) -> None:
        box, post = mailbox(1), Post()

        def fail() -> None:
            if box.sessions == 1:
                raise UnavailableError("down")

        box.on_listing = fail
        pipeline = works.pipeline([fetch(box)], [distribute(post)])
        works.run(pipeline)
        works.change("UPDATE source SET next_try = 0")
        assert works.run(pipeline) == 0
        assert works.rows("SELECT failures, error FROM source") == [(0, "")]
        assert post.subjects == ["m0"]

    def test_now_does_not_wait(self, works: Works) -> None:
        box = mailbox(1)

        def fail() -> None:
            raise UnavailableError("down")

        box.on_listing = fail
        pipeline = works.pipeline([fetch(box)], [distribute(Post())])
        works.run(pipeline)
        works.run(pipeline, force=True)
        assert box.sessions == 2

    def test_a_file_that_was_mended_is_tried_at_once(self, works: Works) -> None:
        box = mailbox(1)

        def fail() -> None:
            raise LoginError("wrong password")

        box.on_listing = fail
        pipeline = works.pipeline([fetch(box)], [distribute(Post())])
        works.run(pipeline)
        with open(pipeline.path, "w") as file:
            file.write("# mended\n")
        os.utime(pipeline.path, (time.time() + 1, time.time() + 1))
        works.run(pipeline)
        assert box.sessions == 2

    def test_the_journal_failing_under_a_source_is_a_failure_of_the_run(
        self, works: Works, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
    ) -> None:
        from mailflow.engine.journal import arrivals

        def fail(*arguments: object) -> None:
            raise JournalError("the disk is gone")

        monkeypatch.setattr(arrivals, "source_state", fail)
        pipeline = works.pipeline([fetch(mailbox(1))], [distribute(Post())])
        assert works.run(pipeline) == JournalError.exit_code
        assert "Traceback" not in capfd.readouterr().err

    def test_a_fetcher_whose_making_fails_is_one_failed_source(self, works: Works) -> None:
        good, post = mailbox(1, "good"), Post()
        bad = fetch(mailbox(1, "bad"), "bad")

        def refuse(self: object, options: object, runtime: object) -> None:
            raise ZeroDivisionError("bug")

        bad.component.__init__ = refuse
        pipeline = works.pipeline([bad, fetch(good, "good")], [distribute(post)])
        assert works.run(pipeline) == 78
        assert post.subjects == ["m0"]

    def test_hold_and_stop_of_a_source(self, works: Works) -> None:
        """A source has no mail to hold: only Stop ends the run."""
        bad, good, post = mailbox(1, "bad"), mailbox(1, "good"), Post()
        failed = threading.Event()

        def fail() -> None:
            raise UnavailableError("down")

        bad.on_listing = fail
        good.on_listing = lambda: bool(failed.wait(5))  # type: ignore[assignment, return-value]

        def decide(trouble: Trouble, context: Context) -> Hold:
            threading.Timer(0.1, failed.set).start()
            return Hold("what?")

        steps = [fetch(bad, "bad"), fetch(good, "good")]
        works.run(works.pipeline(steps, [distribute(post)], react=[react(decide)]))
        assert post.subjects == ["m0"]
        good.add(k1=message("m1"))
        failed.clear()

        def stop(trouble: Trouble, context: Context) -> Stop:
            threading.Timer(0.1, failed.set).start()
            return Stop("enough")

        pipeline = works.pipeline(steps, [distribute(post)], react=[react(stop)])
        assert works.run(pipeline, force=True) == 75
        assert post.subjects == ["m0"]


class TestOneSessionAtATime:
    def test_f28_a_second_run_ends_quietly_with_0(
        self, works: Works, capfd: pytest.CaptureFixture[str]
    ) -> None:
        """Another process, that is: its lock is held on the same mailbox."""
        import fcntl

        box, post = mailbox(1), Post()
        pipeline = works.pipeline([fetch(box)], [distribute(post)])
        works.run(pipeline)
        (lock,) = (works.root / "home" / ".local" / "state" / "mailflow" / "locks").iterdir()
        box.add(k1=message("m1"))
        with open(lock) as held:
            fcntl.flock(held, fcntl.LOCK_EX)
            assert works.run(pipeline) == 0
        assert capfd.readouterr() == ("", "")
        assert box.sessions == 1
        assert works.run(pipeline) == 0
        assert post.subjects == ["m0", "m1"]

    def test_two_pipelines_of_one_run_take_turns_on_one_mailbox(self, works: Works) -> None:
        box, one, two = mailbox(2), Post(), Post()
        inside: list[int] = []

        def listing() -> None:
            inside.append(1)
            assert len(inside) == 1
            time.sleep(0.05)
            inside.clear()

        box.on_listing = listing
        status = works.run(
            works.pipeline([fetch(box)], [distribute(one)], name="red"),
            works.pipeline([fetch(box)], [distribute(two)], name="blue"),
        )
        assert status == 0
        assert one.subjects == two.subjects == ["m0", "m1"]


def test_a_run_that_breaks_leaves_no_source_waiting(
    works: Works, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    """Whatever breaks between two commits: the sources hear, the run ends, mail stays."""
    from mailflow.engine import work

    box = mailbox(30)

    def broken(*arguments: object) -> None:
        raise ZeroDivisionError("a bug of the engine")

    monkeypatch.setattr(work.bodies, "store", broken)
    pipeline = works.pipeline([fetch(box, keep=0.0)], [distribute(Post())])
    assert works.run(pipeline) == 78
    assert box.settled == []
    assert "ZeroDivisionError: a bug of the engine" in capfd.readouterr().err
    monkeypatch.undo()
    assert works.rows("SELECT count(*) FROM seen") == [(0,)]


def test_the_mark_of_the_last_complete_session_is_given_back(works: Works) -> None:
    box, marks = mailbox(1), []
    box.mark = "uid 17"
    listing = BoxFetcher.listing

    def look(self: BoxFetcher, where: Query, mark: str = "") -> object:
        marks.append(mark)
        return listing(self, where, mark)

    step = fetch(box)
    step.component.listing = look
    pipeline = works.pipeline([step], [distribute(Post())])
    works.run(pipeline)
    works.run(pipeline)
    assert marks == ["", "uid 17"]


def test_memory_is_bounded_by_octets_and_a_larger_mail_passes_alone(works: Works) -> None:
    from mailflow.engine.supervisor import INBOX_OCTETS

    box, post = Mailbox(), Post()
    sizes = [INBOX_OCTETS + 1000, 10, INBOX_OCTETS // 2, INBOX_OCTETS // 2, 10]
    box.add(**{f"k{n}": message(f"m{n}", "x" * size) for n, size in enumerate(sizes)})
    assert works.run(works.pipeline([fetch(box)], [distribute(post)])) == 0
    assert post.subjects == ["m0", "m1", "m2", "m3", "m4"]


def test_no_transaction_stays_open_between_reads(works: Works) -> None:
    """A reader that kept one would let the write-ahead log grow without bound."""
    states: list[bool] = []

    def look(mail: Mail, context: Context) -> Iterator[Mail]:
        journal: Database = context._ledger.flow.journal  # type: ignore[attr-defined]
        context.memory.get("x")
        states.append(journal._connection.in_transaction)
        yield mail

    works.run(works.pipeline([fetch(mailbox(3))], [distribute(Post())], [process(look)]))
    assert states == [False] * 3


class GrowingFetcher(BoxFetcher):
    """One whose listing starts after the last key of the visit before, as IMAP's UIDs let it;
    nothing leaves the mailbox for being settled."""

    removes = False

    def listing(self, where: Query, mark: str = "") -> Iterable[Item]:
        last, _, again = mark.partition(" ")
        self.complete = not mark or self.box.renumbered
        items = [
            item
            for item in super().listing(where)
            if self.complete or item.key > last or item.key in again.split()
        ]
        self.mark = max(self.box.messages, default=last)
        return items

    def unfinished(self, keys: Collection[str]) -> None:
        self.mark = " ".join([self.mark, *sorted(keys)])

    def __exit__(self, kind: object, error: object, trace: object) -> None:
        if error is None:
            self.box.on_quit()


class TestListingsThatStartAfterTheLast:
    def step(self, box: Mailbox, **words: Any) -> FetchStep:
        return fetch(box, **{"keep": 0.0, **words})._replace(
            component=type("Fetcher", (GrowingFetcher,), {"box": box})
        )

    def test_only_what_is_new_is_fetched(self, works: Works) -> None:
        box, post = mailbox(), Post()
        pipeline = works.pipeline([self.step(box)], [distribute(post)])
        works.run(pipeline)
        box.add(k3=message("m3"))
        works.run(pipeline)
        assert post.subjects == ["m0", "m1", "m2", "m3"]
        assert box.settled == ["k0", "k1", "k2", "k3"]

    def test_what_is_not_listed_is_not_missing(self, works: Works) -> None:
        box = mailbox()
        pipeline = works.pipeline([self.step(box)], [distribute(Post())])
        works.run(pipeline)
        works.run(pipeline)
        assert works.rows("SELECT count(*) FROM seen WHERE missing IS NULL") == [(3,)]

    def test_an_equal_message_is_another_mail_as_nothing_is_known_to_be_gone(
        self, works: Works
    ) -> None:
        box, post = mailbox(1), Post()
        pipeline = works.pipeline([self.step(box)], [distribute(post)])
        works.run(pipeline)
        box.add(k1=message("m0"))
        works.run(pipeline)
        assert post.subjects == ["m0", "m0"]

    def test_ours_of_a_cut_visit_is_settled_though_it_is_not_listed(self, works: Works) -> None:
        box = mailbox(2)
        pipeline = works.pipeline([self.step(box)], [distribute(Post())])
        works.run(pipeline)
        works.change("UPDATE seen SET state = 'done' WHERE key = ?", "k0")
        works.run(pipeline)
        assert box.settled == ["k0", "k1", "k0"]
        assert works.rows("SELECT DISTINCT state FROM seen") == [("settled",)]

    def test_what_could_not_be_had_is_listed_again(self, works: Works) -> None:
        box, post = mailbox(), Post()
        box.missed["k0"] = PeerError("not now")
        pipeline = works.pipeline([self.step(box)], [distribute(post)])
        works.run(pipeline)
        box.missed.clear()
        works.run(pipeline)
        assert post.subjects == ["m1", "m2", "m0"]

    def test_what_was_over_the_limit_is_listed_again(self, works: Works) -> None:
        box, post = mailbox(5), Post()
        pipeline = works.pipeline([self.step(box, limit=2)], [distribute(post)])
        for _ in range(3):
            works.run(pipeline)
        assert post.subjects == ["m0", "m1", "m2", "m3", "m4"]

    def test_f14_new_numbers_for_all_are_known_by_their_content(self, works: Works) -> None:
        bare = b"Subject: no message id\r\n\r\nmonday\r\n"
        box, post = mailbox(2), Post()
        box.add(k2=bare)
        pipeline = works.pipeline([self.step(box)], [distribute(post)])
        works.run(pipeline)
        box.messages = {f"n{key}": octets for key, octets in box.messages.items()}
        box.add(nk3=message("m3"))
        box.renumbered = True
        works.run(pipeline)
        assert post.subjects[3:] == ["m3"]
        assert works.rows("SELECT key FROM seen") == [("nk0",), ("nk1",), ("nk2",), ("nk3",)]
