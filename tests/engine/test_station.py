"""A pipeline that is kept at work: what others leave to it, what breaks it, what ends it."""

from __future__ import annotations

import os
import shutil
import threading
from typing import Any

import pytest

from mailflow.engine import station, upkeep
from mailflow.engine.config import DistributeStep
from mailflow.engine.journal import Database, arrivals, plans
from mailflow.errors import JournalError, UnavailableError
from mailflow.verdicts import LATER, SENT, Report, Retry, Stop

from .parts import Mailbox, Post, Works, distribute, fetch, message, react
from .standing import eventually, standing


def test_what_is_due_is_delivered_when_its_time_has_come(works: Works) -> None:
    box, post = Mailbox(a=message("a")), Post()
    answers = iter([LATER, SENT])
    post.act = lambda mail, ticket: [Report(to, next(answers)) for to in ticket.recipients]
    reactors = [react(lambda trouble, context: Retry(0.05))]
    pipeline = works.pipeline([fetch(box)], [distribute(post)], react=reactors)
    with standing(works, pipeline):
        eventually(lambda: len(post.tickets) == 2)
    assert works.waits() == []


def test_a_journal_that_is_away_is_not_made_anew_and_used_again_when_it_is_back(
    works: Works, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Without what it knows, all mail would be fetched and delivered once more."""
    monkeypatch.setattr(station, "AGAIN", (0.02,))
    box, post = Mailbox(a=message("a")), Post()
    pipeline = works.pipeline([fetch(box, every=0.02, keep=3600.0)], [distribute(post)])
    journal = pipeline.journal
    with standing(works, pipeline) as at_work:
        eventually(lambda: post.subjects == ["a"])
        os.rename(journal, f"{journal}.away")
        eventually(lambda: "gone" in at_work.error)
        box.add(b=message("b"))
        assert not os.path.exists(journal)
        os.rename(f"{journal}.away", journal)
        eventually(lambda: post.subjects == ["a", "b"])
        assert at_work.error == ""


def test_a_journal_that_was_replaced_is_opened_anew(
    works: Works, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(station, "AGAIN", (0.02,))
    box, post = Mailbox(a=message("a")), Post()
    pipeline = works.pipeline([fetch(box, every=0.02, keep=3600.0)], [distribute(post)])
    journal = pipeline.journal
    with standing(works, pipeline) as at_work:
        eventually(lambda: post.subjects == ["a"])
        first = at_work.line
        shutil.copy(journal, f"{journal}.copy")
        os.rename(f"{journal}.copy", journal)
        eventually(lambda: at_work.line not in (None, first))
        eventually(lambda: at_work.state == "running")


def test_what_another_process_has_left_is_taken_up(works: Works) -> None:
    """As a hook does that could not deliver in its time."""
    box, post = Mailbox(a=message("a")), Post()
    post.act = lambda mail, ticket: [Report(to, LATER) for to in ticket.recipients]
    pipeline = works.pipeline([fetch(box, every=3600.0)], [distribute(post)])
    works.run(pipeline)
    post.act = post.take
    with standing(works, pipeline):
        eventually(lambda: box.sessions == 2)
        assert not post.sent
        works.due_now()
        eventually(lambda: post.subjects == ["a"])


def test_mail_in_the_hands_of_a_process_that_has_died_is_freed_while_it_runs(
    works: Works, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(station, "MEND_SECONDS", 0.01)
    box, post = Mailbox(a=message("a")), Post()
    post.act = lambda mail, ticket: [Report(to, LATER) for to in ticket.recipients]
    pipeline = works.pipeline([fetch(box, every=3600.0)], [distribute(post)])
    works.run(pipeline)
    post.act = post.take
    with standing(works, pipeline):
        other = works.journal()
        eventually(lambda: box.sessions == 2)
        assert other.commit(lambda tx: plans.claim(tx, other.owner.id, "red", 1e12)).jobs
        works.due_now()
        _die(other)
        eventually(lambda: post.subjects == ["a"])


def _die(journal: Database) -> None:
    """Its lock is gone, and nothing was given back."""
    os.close(journal.owner._lock)
    journal.owner._lock = -1
    journal._connection.close()


def test_old_stories_are_forgotten_while_it_runs(
    works: Works, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(station, "TIDY_SECONDS", 0.01)
    box, post = Mailbox(a=message("a")), Post()
    pipeline = works.pipeline([fetch(box, every=3600.0)], [distribute(post)], history=0.2)
    with standing(works, pipeline):
        eventually(lambda: post.sent)
        eventually(lambda: not works.rows("SELECT * FROM mail"))
        assert not works.rows("SELECT * FROM story")


def test_what_a_reactor_wrote_is_not_kept_in_memory_for_good(
    works: Works, monkeypatch: pytest.MonkeyPatch
) -> None:
    from mailflow.engine import flow

    monkeypatch.setattr(station, "TIDY_SECONDS", 0.01)
    monkeypatch.setattr(flow, "FORGET_SECONDS", 0.0)
    box = Mailbox()

    def fail() -> None:
        raise UnavailableError("down")

    def decide(trouble: Any, context: Any) -> Any:
        context.memory.set(f"at {context.now}", "x")
        return Retry(0.01)

    box.on_listing = fail
    pipeline = works.pipeline([fetch(box)], [distribute(Post())], react=[react(decide)])
    with standing(works, pipeline) as at_work:
        eventually(lambda: box.sessions >= 3)
        line = at_work.line
        assert line is not None
        eventually(lambda: len(line.flow.shared) < box.sessions - 1)


class TestUpkeep:
    def post(self, kept: list[int], error: Exception | None = None) -> DistributeStep:
        """A destination with something to do at times."""

        def upkeep(self: object) -> None:
            kept.append(1)
            if error is not None:
                raise error

        step = distribute(Post())
        return step._replace(component=type("Post", (step.component,), {"upkeep": upkeep}))

    def test_destinations_do_at_the_start_and_now_and_then_what_is_theirs(
        self, works: Works, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(station, "TIDY_SECONDS", 0.01)
        kept: list[int] = []
        pipeline = works.pipeline([fetch(Mailbox(), every=3600.0)], [self.post(kept)])
        with standing(works, pipeline):
            eventually(lambda: len(kept) >= 2)

    def test_one_run_does_it_once(self, works: Works) -> None:
        kept: list[int] = []
        assert works.run(works.pipeline([fetch(Mailbox())], [self.post(kept)])) == 0
        assert kept == [1]

    def test_what_fails_there_stops_nothing(
        self, works: Works, capfd: pytest.CaptureFixture[str]
    ) -> None:
        box, kept = Mailbox(a=message("a")), list[int]()
        step = self.post(kept, ValueError("a bug"))
        assert works.run(works.pipeline([fetch(box)], [step])) == 0
        assert step.component.post.subjects == ["a"]
        assert "no upkeep: post: ValueError: a bug" in capfd.readouterr().err


def test_what_a_destination_keeps_open_is_closed_when_nothing_comes(
    works: Works, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(station, "IDLE_SECONDS", 0.05)
    box, post = Mailbox(a=message("a")), Post(repeatable=True, per_recipient=False)
    with standing(works, works.pipeline([fetch(box, every=3600.0)], [distribute(post)])):
        eventually(lambda: post.closed == [None])
        assert post.subjects == ["a"]


class TestBreaks:
    @pytest.fixture(autouse=True)
    def _quick(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(station, "AGAIN", (0.05,))

    def test_d8_a_journal_that_fails_for_a_while_is_begun_again(
        self, works: Works, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
    ) -> None:
        real, faults = upkeep.free_the_dead, iter([True, True])

        def fail(journal: Database) -> None:
            if next(faults, False):
                raise JournalError("the disk is gone")
            real(journal)

        monkeypatch.setattr(station.upkeep, "free_the_dead", fail)
        box, post = Mailbox(a=message("a")), Post()
        with standing(works, works.pipeline([fetch(box)], [distribute(post)])) as at_work:
            eventually(lambda: post.subjects == ["a"])
            assert (at_work.state, at_work.error) == ("running", "")
        assert capfd.readouterr().err.count("pipeline failed") == 2

    def test_a_failure_that_the_journal_cannot_take_begins_it_again(
        self, works: Works, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
    ) -> None:
        """Else the source would wait as long as failures make it, though the journal is back."""
        real, faults, downs = arrivals.source_failed, iter([True]), iter([True])

        def fail(*arguments: Any) -> None:
            if next(faults, False):
                raise JournalError("the disk is gone")
            real(*arguments)

        def down() -> None:
            if next(downs, False):
                raise UnavailableError("down")

        monkeypatch.setattr(arrivals, "source_failed", fail)
        box, post = Mailbox(a=message("a")), Post()
        box.on_listing = down
        with standing(works, works.pipeline([fetch(box)], [distribute(post)])):
            eventually(lambda: post.subjects == ["a"])
        assert capfd.readouterr().err.count("pipeline failed") == 1

    def test_a_journal_that_fails_at_work_loses_and_doubles_nothing(
        self, works: Works, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        real, commits = Database.commit, iter(range(10**9))

        def fail(self: Database, work: Any) -> Any:
            if next(commits) in (6, 9):
                raise JournalError("the disk is gone")
            return real(self, work)

        monkeypatch.setattr(Database, "commit", fail)
        box, post = Mailbox(a=message("a"), b=message("b")), Post(repeatable=True)
        reactors = [react(lambda trouble, context: Retry(0.02))]
        steps = [fetch(box, every=0.05)]
        with standing(works, works.pipeline(steps, [distribute(post)], react=reactors)):
            eventually(lambda: len(post.sent) >= 2)
            box.add(c=message("c"))
            eventually(lambda: len(post.sent) >= 3)
        assert sorted(post.subjects) == ["a", "b", "c"]

    def test_a_pipeline_that_broke_keeps_no_other_from_its_work(self, works: Works) -> None:
        box, post = Mailbox(a=message("a")), Post()
        broken = works.pipeline(
            [fetch(Mailbox())], [distribute(Post())], name="broken", journal="/proc/no/journal.db"
        )
        whole = works.pipeline([fetch(box)], [distribute(post)])
        with standing(works, broken) as other, standing(works, whole):
            eventually(lambda: post.subjects == ["a"])
            eventually(lambda: other.state == "broken" and "/proc/no" in other.error)

    def test_it_is_stopped_while_it_waits_to_be_begun_again(
        self, works: Works, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(station, "AGAIN", (3600.0,))
        broken = works.pipeline(
            [fetch(Mailbox())], [distribute(Post())], journal="/proc/no/journal.db"
        )
        with standing(works, broken) as at_work:
            eventually(lambda: at_work.state == "broken")
        assert at_work.state == "stopped"


class TestStop:
    def test_a_reactor_that_says_stop_ends_its_pipeline_and_no_other(self, works: Works) -> None:
        box, other, post = Mailbox(), Mailbox("other", a=message("a")), Post()

        def fail() -> None:
            raise UnavailableError("down")

        box.on_listing = fail
        reactors = [react(lambda trouble, context: Stop("enough"))]
        stopped = works.pipeline([fetch(box)], [distribute(Post())], react=reactors)
        goes_on = works.pipeline(
            [fetch(other)], [distribute(post)], name="blue", journal=works.path + "2"
        )
        with standing(works, stopped) as one, standing(works, goes_on) as two:
            eventually(lambda: not one.alive)
            assert one.state == "stopped"
            assert "reactor" in one.error
            eventually(lambda: post.subjects == ["a"])
            assert two.state == "running"
            with pytest.raises(UnavailableError, match="pipeline red is stopped"):
                one.poke("box", dry=False)

    def test_what_is_being_delivered_is_ended_in_order(self, works: Works) -> None:
        box, post = Mailbox(a=message("a"), b=message("b")), Post()
        begun, gate = threading.Event(), threading.Event()

        def act(mail: Any, ticket: Any) -> Any:
            begun.set()
            gate.wait(20)
            return [Report(to, SENT) for to in ticket.recipients]

        post.act = act
        pipeline = works.pipeline([fetch(box)], [distribute(post)])
        with standing(works, pipeline) as at_work:
            assert begun.wait(20)
            at_work.stop()
            gate.set()
        states = [state for _, _, state in works.states()]
        assert states.count("sent") == 1
        assert states.count("due") == 1
