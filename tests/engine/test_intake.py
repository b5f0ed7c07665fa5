"""One session with one source: what is fetched, what is settled, and what is left alone."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from mailflow.engine.journal import Database
from mailflow.errors import (
    InUseError,
    JournalError,
    LoginError,
    PeerError,
    UnavailableError,
)
from mailflow.kinds import Context, Trouble
from mailflow.mail import Mail
from mailflow.options import Options, Secret
from mailflow.query import Query
from mailflow.verdicts import Hold, Retry, Stop

from .parts import (
    BoxFetcher,
    Mailbox,
    Post,
    Works,
    distribute,
    fetch,
    mailbox,
    message,
    process,
    react,
)

DAY = 86400.0


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

    def test_a_file_of_its_password_that_was_mended_is_tried_at_once(
        self, works: Works, tmp_path: Path
    ) -> None:
        class BoxOptions(Options):
            password = Secret("The password.")

        box, secret = mailbox(1), tmp_path / "box.secret"

        def fail() -> None:
            raise LoginError("wrong password")

        box.on_listing = fail
        secret.write_text("wrong")
        step = fetch(box)._replace(options=BoxOptions.read({"password": {"file": str(secret)}}))
        pipeline = works.pipeline([step], [distribute(Post())])
        for _ in range(2):
            works.run(pipeline)
        assert box.sessions == 1
        os.utime(secret, (time.time() + 1, time.time() + 1))
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
