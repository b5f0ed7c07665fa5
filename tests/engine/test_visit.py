"""Which messages of a source are known, which are wanted, and by what they are told."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from typing import Any

import pytest

from mailflow.engine.config import FetchStep
from mailflow.engine.journal import Lane
from mailflow.engine.journal.arrivals import MISSING_SECONDS, TOGETHER, known
from mailflow.engine.visit import HEADS_FROM, START_LIMIT
from mailflow.errors import (
    ConfigError,
    GoneError,
    PeerError,
    UnavailableError,
)
from mailflow.kinds import Fetched, Item
from mailflow.mail import Envelope, OctetFile, Octets
from mailflow.options import FOREVER
from mailflow.query import Query

from .parts import BoxFetcher, Mailbox, Post, Works, distribute, fetch, mailbox, message

DAY = 86400.0


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


class GrowingFetcher(BoxFetcher):
    """One whose listing starts after the last key of the visit before, as IMAP's UIDs let it;
    nothing leaves the mailbox for being settled."""

    removes = False
    renewed = False
    doubtful: Callable[[str], bool] | None = None
    date: float | None = None

    def lists(self, key: str) -> bool:
        return True

    def listing(self, where: Query, mark: str = "") -> Iterable[Item]:
        last, _, again = mark.partition(" ")
        self.complete = not mark or self.box.renumbered
        items = [
            item._replace(date=self.date)
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
    def step(self, box: Mailbox, traits: Mapping[str, object] = {}, **words: Any) -> FetchStep:
        return fetch(box, **{"keep": 0.0, **words})._replace(
            component=type("Fetcher", (GrowingFetcher,), {"box": box, **traits})
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

    def test_f14_a_key_that_may_name_another_message_is_told_by_its_content(
        self, works: Works
    ) -> None:
        box, post = mailbox(3), Post()
        works.run(works.pipeline([self.step(box)], [distribute(post)]))
        box.messages = {"k1": message("other"), "k2": message("m2")}
        box.renumbered = True
        doubtful = self.step(box, {"doubtful": lambda self, key: True})
        for _ in range(2):
            works.run(works.pipeline([doubtful], [distribute(post)]))
        assert post.subjects == ["m0", "m1", "m2", "other"]
        assert box.fetched == ["k0", "k1", "k2", "k1"]
        assert works.rows("SELECT key FROM seen") == [("k1",), ("k2",)], "k0 may name another, too"

    @pytest.mark.parametrize(("age", "come"), [(DAY, []), (-DAY, ["m0", "m1"])])
    def test_f14_under_such_a_key_what_was_there_at_the_start_is_told_by_its_date(
        self, works: Works, age: float, come: list[str]
    ) -> None:
        box, post = mailbox(2), Post()
        traits = {"date": time.time() - age}
        works.run(works.pipeline([self.step(box, traits, start="new")], [distribute(post)]))
        box.renumbered = True
        doubtful = self.step(box, {**traits, "doubtful": lambda self, key: True}, start="new")
        works.run(works.pipeline([doubtful], [distribute(post)]))
        assert post.subjects == come

    def test_where_keys_are_fickle_what_is_settled_late_is_what_was_fetched(
        self, works: Works
    ) -> None:
        """Another message under the key of one that was to be removed is fetched instead."""
        box, post = mailbox(2), Post()
        fickle = self.step(box, {"fickle": True, "removes": True}, keep=FOREVER)
        works.run(works.pipeline([fickle], [distribute(post)]))
        box.messages["k1"] = message("other")
        box.renumbered = True
        due = fickle._replace(keep=0.0)
        works.run(works.pipeline([due], [distribute(post)]))
        assert box.headed == ["k0", "k1"]
        assert post.subjects == ["m0", "m1", "other"]
        assert box.settled == ["k0", "k1"]
        assert box.fetched == ["k0", "k1", "k1"]

    def test_where_keys_are_fickle_nothing_is_read_before_it_is_to_be_settled(
        self, works: Works
    ) -> None:
        box = mailbox(2)
        fickle = self.step(box, {"fickle": True}, keep=FOREVER)
        box.renumbered = True
        for _ in range(2):
            works.run(works.pipeline([fickle], [distribute(Post())]))
        assert box.headed == []

    @pytest.mark.parametrize(("name", "come"), [("m0", ["m0"]), ("other", ["m0", "other"])])
    def test_f14_under_such_a_key_a_cut_delivery_is_resumed_of_the_same_message_alone(
        self, works: Works, name: str, come: list[str]
    ) -> None:
        box, post = mailbox(1), here()
        works.run(works.pipeline([self.step(box)], [distribute(post)]))
        works.change("UPDATE mail SET state = 'intent', ended = NULL, owner = 'dead', working = 1")
        works.change("DELETE FROM delivery")
        works.change("DELETE FROM seen")
        box.messages = {"k0": message(name)}
        box.renumbered = True
        doubtful = self.step(box, {"doubtful": lambda self, key: True})
        works.run(works.pipeline([doubtful], [distribute(post)]))
        assert post.subjects == come
        assert works.waits() == []
