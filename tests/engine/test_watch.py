"""A source under `serve`: its schedule, its pokes, its pushes, its rests, its alarm."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from typing import Any

import pytest

from mailflow.engine import lease, station, watch
from mailflow.engine.config import FetchStep
from mailflow.engine.station import Station
from mailflow.engine.watch import Watch, asks_by_itself, jittered
from mailflow.errors import LoginError, UnavailableError
from mailflow.halt import Halt
from mailflow.kinds import Context, Trouble
from mailflow.verdicts import Retry

from .parts import Mailbox, Post, Works, distribute, fetch, message, react
from .standing import (
    PushedBox,
    PushedFetcher,
    StayingBox,
    StayingFetcher,
    eventually,
    standing,
)

SOON = Retry(0.02)

YEARS = 10 * 365 * 86400.0


@pytest.fixture(autouse=True)
def _quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing holds a source back but what the test is about."""
    monkeypatch.setattr(watch, "LEAST", 0.01)


def pushed(box: PushedBox, **words: Any) -> FetchStep:
    component = type("Fetcher", (PushedFetcher,), {"box": box})
    return fetch(box, **words)._replace(component=component)


def staying(box: StayingBox, **words: Any) -> FetchStep:
    component = type("Fetcher", (StayingFetcher,), {"box": box})
    return fetch(box, **words)._replace(component=component)


def source(station: Station, name: str = "box") -> Watch:
    found: Watch = eventually(lambda: station.watches.get(name), "the source")
    return found


def failing(box: Mailbox, error: Exception | None = None) -> None:
    """Every listing fails from now on."""

    def fail() -> None:
        raise error or UnavailableError("the server is down")

    box.on_listing = fail


def works_again(box: Mailbox) -> None:
    box.on_listing = lambda: None


class TestSchedule:
    def test_a_source_is_asked_again_and_again(self, works: Works) -> None:
        box, post = Mailbox(a=message("a")), Post()
        with standing(works, works.pipeline([fetch(box, every=0.02)], [distribute(post)])):
            eventually(lambda: post.subjects == ["a"])
            box.add(b=message("b"))
            eventually(lambda: post.subjects == ["a", "b"])

    def test_between_two_sessions_it_waits_for_its_hour(self, works: Works) -> None:
        box = Mailbox(a=message("a"))
        pipeline = works.pipeline([fetch(box, every=3600.0)], [distribute(Post())])
        with standing(works, pipeline) as at_work:
            one = source(at_work)
            eventually(lambda: one.doing.state == "waiting")
            assert box.sessions == 1
            assert one.doing.next_at is not None
            assert abs(one.doing.next_at - one.known.worked_at - 3600) < 370  # type: ignore[operator]

    def test_pwm_28_what_is_asked_by_itself_is_fetched_before_anybody_wants_it(
        self, works: Works
    ) -> None:
        box, post = Mailbox(), Post()
        with standing(works, works.pipeline([fetch(box, every=0.02)], [distribute(post)])):
            eventually(lambda: box.sessions)
            box.add(a=message("a"))
            eventually(lambda: post.subjects == ["a"])

    def test_every_is_spread_so_that_many_do_not_ask_at_once(self) -> None:
        drawn = [jittered(100.0) for _ in range(200)]
        assert all(90 <= each <= 110 for each in drawn)
        assert min(drawn) < 95
        assert max(drawn) > 105

    def test_a_mailbox_where_another_run_is_at_work_is_looked_at_again(
        self, works: Works, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(watch, "IN_USE", 0.02)
        box, post = Mailbox(a=message("a")), Post()
        halt = Halt()
        step = fetch(box, every=3600.0)
        lock = os_lock(step, works, halt)
        with standing(works, works.pipeline([step], [distribute(post)])) as at_work:
            eventually(lambda: source(at_work).doing.state == "waiting")
            assert not box.sessions
            lock.release()
            eventually(lambda: post.subjects == ["a"])
        halt.close()

    def test_after_the_sleep_of_the_machine_it_is_asked_at_once(
        self, works: Works, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(watch, "NAP", 0.01)
        box = Mailbox()
        pipeline = works.pipeline([fetch(box, every=3600.0)], [distribute(Post())])
        with standing(works, pipeline) as at_work:
            eventually(lambda: source(at_work).doing.state == "waiting")
            real = watch.clock
            monkeypatch.setattr(watch, "clock", lambda: real() + 2 * 3600)
            eventually(lambda: box.sessions == 2)

    def test_p3s_16_a_source_that_hangs_keeps_no_other_from_its_work(self, works: Works) -> None:
        slow, quick, post = Mailbox("slow", a=message("a")), Mailbox("quick"), Post()
        gate = threading.Event()
        slow.on_listing = lambda: bool(gate.wait(20)) and None
        steps = [fetch(slow, "slow"), fetch(quick, "quick", every=0.02)]
        with standing(works, works.pipeline(steps, [distribute(post)])):
            quick.add(b=message("b"))
            eventually(lambda: post.subjects == ["b"])
            gate.set()
            eventually(lambda: sorted(post.subjects) == ["a", "b"])


def os_lock(step: FetchStep, works: Works, halt: Halt) -> Any:
    """The lease of a source as another process has it: not among the locks of this one."""
    mine = lease.Lease(step.use, step.component.box.name, works.path, halt)
    mine.take()
    lease.Lease._here.pop(mine._path)
    return mine


class TestAuto:
    @pytest.mark.parametrize(
        ("auto", "local", "asked"),
        [
            ("yes", False, True), ("yes", True, True), ("no", False, False), ("no", True, False),
            ("local", False, False), ("local", True, True),
            ("global", False, True), ("global", True, False),
        ],
    )  # fmt: skip
    def test_pwm_21_auto_says_whether_it_is_asked_by_itself_and_pwm_13_local_decides(
        self, works: Works, auto: str, local: bool, asked: bool
    ) -> None:
        step = fetch(Mailbox(), auto=auto)
        pipeline = works.pipeline([step], [distribute(Post())], local=local)
        assert asks_by_itself(pipeline, step) is asked

    def test_pwm_12_offline_fetches_nothing_but_what_is_poked(self, works: Works) -> None:
        box, post = Mailbox(a=message("a")), Post()
        pipeline = works.pipeline([fetch(box, every=0.01)], [distribute(post)], offline=True)
        with standing(works, pipeline) as at_work:
            one = source(at_work)
            eventually(lambda: at_work.state == "running" and one.doing.state == "off")
            assert not box.sessions
            one.poke()
            eventually(lambda: post.subjects == ["a"])
            eventually(lambda: one.doing.state == "off")
            assert box.sessions == 1


class TestPoke:
    def test_a_poke_does_not_wait_for_its_hour(self, works: Works) -> None:
        box, post = Mailbox(), Post()
        pipeline = works.pipeline([fetch(box, every=3600.0)], [distribute(post)])
        with standing(works, pipeline) as at_work:
            one = source(at_work)
            eventually(lambda: one.doing.state == "waiting")
            box.add(a=message("a"))
            one.poke()
            eventually(lambda: post.subjects == ["a"])

    def test_a_poke_during_a_session_is_a_session_more(self, works: Works) -> None:
        box, found, at = Mailbox(), threading.Event(), list[Watch]()

        def quit_() -> None:
            if found.wait(20) and box.sessions == 1:
                at[0].poke()

        box.on_quit = quit_
        pipeline = works.pipeline([fetch(box, every=3600.0)], [distribute(Post())])
        with standing(works, pipeline) as at_work:
            one = source(at_work)
            at.append(one)
            found.set()
            eventually(lambda: box.sessions == 2 and one.doing.state == "waiting")

    def test_a_source_that_rests_is_asked_when_it_is_poked(self, works: Works) -> None:
        box, post = Mailbox(a=message("a")), Post()
        failing(box, LoginError("wrong password"))
        with standing(works, works.pipeline([fetch(box)], [distribute(post)])) as at_work:
            one = source(at_work)
            eventually(lambda: one.known.failures == 1 and one.doing.state == "waiting")
            works_again(box)
            one.poke()
            eventually(lambda: post.subjects == ["a"])
            assert one.known.failures == 0 or eventually(lambda: one.known.failures == 0)


class TestPush:
    def test_mail_is_fetched_as_soon_as_the_source_tells_of_it(self, works: Works) -> None:
        box, post = PushedBox(a=message("a")), Post()
        pipeline = works.pipeline([pushed(box, every=3600.0)], [distribute(post)])
        with standing(works, pipeline) as at_work:
            eventually(lambda: source(at_work).doing.state == "listening")
            box.add(b=message("b"))
            eventually(lambda: post.subjects == ["a", "b"])

    def test_who_waits_for_mail_keeps_nobody_else_from_the_mailbox(self, works: Works) -> None:
        box, post = PushedBox(a=message("a")), Post()
        steps = [pushed(box, every=3600.0), pushed(box, name="again", every=3600.0)]
        with standing(works, works.pipeline(steps, [distribute(post)])) as at_work:
            for name in ("box", "again"):
                one = source(at_work, name)
                eventually(lambda one=one: one.doing.state == "listening")
            box.add(b=message("b"))
            eventually(lambda: sorted(post.subjects) == ["a", "a", "b", "b"])

    def test_it_is_asked_at_its_hour_even_if_it_says_nothing(self, works: Works) -> None:
        box = PushedBox()
        pipeline = works.pipeline([pushed(box, every=0.05)], [distribute(Post())])
        with standing(works, pipeline):
            eventually(lambda: box.waits > 2)

    def test_a_poke_ends_the_wait(self, works: Works) -> None:
        box, post = PushedBox(), Post()
        pipeline = works.pipeline([pushed(box, every=3600.0)], [distribute(post)])
        with standing(works, pipeline) as at_work:
            one = source(at_work)
            eventually(lambda: one.doing.state == "listening")
            sessions = box.sessions
            one.poke()
            eventually(lambda: box.sessions > sessions and one.doing.state == "listening")
            assert one.known.failures == 0

    def test_a_source_that_cannot_be_waited_for_has_failed(self, works: Works) -> None:
        box = PushedBox()

        def cut() -> None:
            raise UnavailableError("connection lost")

        box.on_wait = cut
        reactors = [react(lambda trouble, context: Retry(3600.0))]
        pipeline = works.pipeline([pushed(box)], [distribute(Post())], react=reactors)
        with standing(works, pipeline) as at_work:
            one = source(at_work)
            eventually(lambda: one.known.error == "connection lost")

    def test_it_is_stopped_while_it_waits(self, works: Works) -> None:
        box = PushedBox()
        pipeline = works.pipeline([pushed(box, every=3600.0)], [distribute(Post())])
        with standing(works, pipeline) as at_work:
            eventually(lambda: source(at_work).doing.state == "listening")
        assert at_work.state == "stopped"


class TestRests:
    def test_failures_are_waited_out_as_the_reactors_say(self, works: Works) -> None:
        box, post = Mailbox(a=message("a")), Post()
        failing(box)
        reactors = [react(lambda trouble, context: SOON)]
        pipeline = works.pipeline([fetch(box, every=3600.0)], [distribute(post)], react=reactors)
        with standing(works, pipeline) as at_work:
            one = source(at_work)
            eventually(lambda: one.known.failures >= watch.BREAKS)
            works_again(box)
            eventually(lambda: post.subjects == ["a"])

    def test_a_rest_that_a_clock_has_written_that_was_ahead_is_none(self, works: Works) -> None:
        box = Mailbox()
        failing(box)
        reactors = [react(lambda trouble, context: SOON)]
        pipeline = works.pipeline([fetch(box, every=3600.0)], [distribute(Post())], react=reactors)
        then = time.time() + YEARS
        with standing(works, pipeline):
            for _ in range(5):
                sessions = box.sessions
                eventually(lambda before=sessions: box.sessions > before)
                works.change(f"UPDATE source SET failed_at = {then}, next_try = {then}")
            sessions = box.sessions
            eventually(lambda: box.sessions > sessions + 1)

    def test_without_reactors_it_rests_for_a_minute_first(self, works: Works) -> None:
        box = Mailbox()
        failing(box)
        pipeline = works.pipeline([fetch(box, every=0.01)], [distribute(Post())])
        with standing(works, pipeline) as at_work:
            one = source(at_work)
            eventually(lambda: one.doing.state == "waiting" and one.known.failures)
            assert one.doing.next_at - one.known.failed_at >= 60.0  # type: ignore[operator]
            assert box.sessions == 1

    def test_f12_the_breaker_says_that_it_opens_and_that_it_has_healed(
        self, works: Works, capfd: pytest.CaptureFixture[str]
    ) -> None:
        box = Mailbox()
        failing(box)
        reactors = [react(lambda trouble, context: SOON)]
        pipeline = works.pipeline([fetch(box, every=3600.0)], [distribute(Post())], react=reactors)
        with standing(works, pipeline) as at_work:
            one = source(at_work)
            eventually(lambda: one.known.failures >= watch.BREAKS + 3)
            eventually(lambda: one.doing.state in ("resting", "fetching"))
            works_again(box)
            eventually(lambda: one.known.failures == 0)
        said = capfd.readouterr().err
        assert said.count("fetch failed") == watch.BREAKS
        assert said.count("left alone between tries") == 1
        assert "`mailflow poke" in said
        assert said.count("works again") == 1

    def test_what_a_human_must_mend_is_not_tried_without_end(self, works: Works) -> None:
        from mailflow.errors import ConfigError

        box = Mailbox()
        failing(box, ConfigError("no such file"))
        pipeline = works.pipeline([fetch(box, every=0.01)], [distribute(Post())])
        with standing(works, pipeline) as at_work:
            one = source(at_work)
            eventually(lambda: one.doing.state == "waiting" and one.known.failures)
            assert one.doing.next_at - one.known.failed_at >= 60.0  # type: ignore[operator]


class TestAlarm:
    def told(self) -> tuple[list[Trouble], Callable[[Trouble, Context], Any]]:
        heard: list[Trouble] = []

        def hear(trouble: Trouble, context: Context) -> Any:
            if trouble.stage == "alarm":
                heard.append(trouble)
                return None
            return SOON

        return heard, hear

    def test_a_source_that_fails_for_too_long_is_told_once_until_it_works_again(
        self, works: Works, capfd: pytest.CaptureFixture[str]
    ) -> None:
        box = Mailbox()
        heard, hear = self.told()
        failing(box)
        steps = [fetch(box, every=3600.0, alarm_after=0.0)]
        pipeline = works.pipeline(steps, [distribute(Post())], react=[react(hear)])
        with standing(works, pipeline) as at_work:
            one = source(at_work)
            eventually(lambda: heard)
            (trouble,) = heard
            assert trouble.step == "box"
            assert "box has not worked for" in trouble.error.text
            assert trouble.error.text.endswith("the server is down")
            failures = one.known.failures
            eventually(lambda: one.known.failures > failures + 3)
            assert len(heard) == 1
            works_again(box)
            eventually(lambda: one.alarm is None)
        assert tuple(
            name for name in works.registry.names if name in ("source.alarm", "source.mended")
        ) == ("source.alarm", "source.mended")
        said = capfd.readouterr().err
        assert said.count("[error] alarm: box has not worked") == 1
        assert "alarm ended" in said

    def test_a_restart_does_not_tell_it_twice(self, works: Works) -> None:
        box = Mailbox()
        heard, hear = self.told()
        failing(box)
        steps = [fetch(box, every=3600.0, alarm_after=0.0)]
        pipeline = works.pipeline(steps, [distribute(Post())], react=[react(hear)])
        with standing(works, pipeline) as at_work:
            eventually(lambda: heard and source(at_work).alarm)
        with standing(works, pipeline) as at_work:
            one = source(at_work)
            eventually(lambda: one.alarm)
            failures = one.known.failures
            eventually(lambda: one.known.failures > failures + 2)
        assert len(heard) == 1

    def test_an_alarm_of_a_clock_that_was_ahead_ends_when_the_source_works(
        self, works: Works
    ) -> None:
        box = Mailbox()
        _, hear = self.told()
        failing(box)
        steps = [fetch(box, every=0.02, alarm_after=0.0)]
        pipeline = works.pipeline(steps, [distribute(Post())], react=[react(hear)])
        with standing(works, pipeline) as at_work:
            one = source(at_work)
            eventually(lambda: one.alarm)
            one._alarm._since = time.time() + YEARS
            works_again(box)
            eventually(lambda: one.alarm is None)

    @pytest.mark.parametrize("ahead", [86400.0, YEARS])
    def test_a_machine_that_has_slept_or_whose_clock_was_set_is_no_alarm(
        self, works: Works, ahead: float
    ) -> None:
        box = Mailbox()
        heard, hear = self.told()
        steps = [fetch(box, every=3600.0, alarm_after=60.0)]
        pipeline = works.pipeline(steps, [distribute(Post())], react=[react(hear)])
        with standing(works, pipeline) as at_work:
            one = source(at_work)
            eventually(lambda: one.doing.state == "waiting")
            one._known = one._known._replace(worked_at=time.time() - ahead)
            one.since -= ahead
            one._ahead -= ahead
            one.look()
            assert not heard

    def test_a_source_that_worked_under_a_clock_that_was_ahead_is_told_when_it_fails(
        self, works: Works
    ) -> None:
        heard, hear = self.told()
        box = Mailbox()
        steps = [fetch(box, every=0.02, alarm_after=0.1)]
        pipeline = works.pipeline(steps, [distribute(Post())], react=[react(hear)])
        works.run(pipeline)
        works.change(f"UPDATE source SET worked_at = {time.time() + YEARS}")
        failing(box)
        with standing(works, pipeline):
            eventually(lambda: heard)

    def test_a_source_that_cannot_even_be_made_is_told(self, works: Works) -> None:
        heard, hear = self.told()
        step = fetch(Mailbox(), every=3600.0, alarm_after=0.0)

        def fail(self: object, options: object, runtime: object) -> None:
            raise LoginError("no such account")

        step = step._replace(component=type("F", (step.component,), {"__init__": fail}))
        pipeline = works.pipeline([step], [distribute(Post())], react=[react(hear)])
        with standing(works, pipeline):
            eventually(lambda: heard)
        assert "no such account" in heard[0].error.text

    def test_what_failed_before_the_start_is_no_alarm_before_it_was_tried(
        self, works: Works
    ) -> None:
        box, gate = Mailbox(), threading.Event()
        heard, hear = self.told()
        failing(box)
        steps = [fetch(box, every=3600.0, alarm_after=60.0)]
        pipeline = works.pipeline(steps, [distribute(Post())], react=[react(hear)])
        works.run(pipeline)
        works.change("UPDATE source SET worked_at = 1, next_try = 0")
        box.on_listing = lambda: bool(gate.wait(20)) and None
        with standing(works, pipeline) as at_work:
            one = source(at_work)
            eventually(lambda: one.doing.state == "fetching" and one.known.failures)
            one.look()
            gate.set()
            eventually(lambda: one.doing.state == "waiting")
        assert not heard

    def test_a_source_that_is_silent_for_too_long_is_told_though_nothing_failed(
        self, works: Works
    ) -> None:
        box = Mailbox()
        heard, hear = self.told()
        gate = threading.Event()
        box.on_listing = lambda: bool(box.sessions > 1 and gate.wait(20)) and None
        steps = [fetch(box, every=0.05, alarm_after=0.05)]
        pipeline = works.pipeline(steps, [distribute(Post())], react=[react(hear)])
        with standing(works, pipeline):
            eventually(lambda: heard)
            assert "no session has come to its end" in heard[0].error.text
            gate.set()

    def test_a_source_that_works_is_no_alarm_however_seldom_it_is_asked(self, works: Works) -> None:
        box = Mailbox()
        heard, hear = self.told()
        steps = [fetch(box, every=3600.0, alarm_after=0.0)]
        pipeline = works.pipeline(steps, [distribute(Post())], react=[react(hear)])
        with standing(works, pipeline) as at_work:
            one = source(at_work)
            eventually(lambda: one.doing.state == "waiting")
            one.look()
            assert not heard


class TestStayingLoggedIn:
    def test_one_login_serves_many_sessions_and_ends_with_them(self, works: Works) -> None:
        box, post = StayingBox(a=message("a")), Post()
        with standing(works, works.pipeline([staying(box, every=0.02)], [distribute(post)])):
            eventually(lambda: box.sessions > 2)
            box.add(b=message("b"))
            eventually(lambda: post.subjects == ["a", "b"])
        assert (box.logins, box.inside) == (1, 0)

    def test_between_its_sessions_it_waits_for_its_hour_and_a_poke_uses_its_login(
        self, works: Works
    ) -> None:
        box = StayingBox(a=message("a"))
        pipeline = works.pipeline([staying(box, every=3600.0)], [distribute(Post())])
        with standing(works, pipeline) as at_work:
            one = source(at_work)
            eventually(lambda: one.doing.state == "waiting")
            one.poke()
            eventually(lambda: box.sessions == 2 and one.doing.state == "waiting")
        assert (box.logins, box.inside) == (1, 0)

    def test_after_a_failure_it_logs_in_anew(self, works: Works) -> None:
        box = StayingBox(a=message("a"))
        pipeline = works.pipeline(
            [staying(box, every=0.02)],
            [distribute(Post())],
            react=[react(lambda *words: SOON)],
        )
        with standing(works, pipeline):
            eventually(lambda: box.sessions)
            failing(box)
            eventually(lambda: box.logins > 2)
            works_again(box)
            settled = eventually(lambda: box.inside and box.logins)
            eventually(lambda: box.sessions > settled + 2)
        assert box.inside == 0

    def test_a_single_run_knows_no_second_session(self, works: Works) -> None:
        box = StayingBox(a=message("a"))
        works.run(works.pipeline([staying(box)], [distribute(Post())]))
        assert (box.logins, box.inside) == (1, 0)


def test_sessions_leave_no_descriptor_and_no_thread_behind(
    works: Works, monkeypatch: pytest.MonkeyPatch
) -> None:
    import os

    def held() -> tuple[int, int]:
        return len(os.listdir("/proc/self/fd")), threading.active_count()

    monkeypatch.setattr(station, "MEND_SECONDS", 0.01)
    monkeypatch.setattr(station, "TIDY_SECONDS", 0.01)
    polled, told = Mailbox("polled"), PushedBox("told")
    steps = [fetch(polled, "polled", every=0.001), pushed(told, name="told", every=0.01)]
    with standing(works, works.pipeline(steps, [distribute(Post())])):
        eventually(lambda: polled.sessions > 20 and told.waits > 5)
        before = held()
        eventually(lambda: polled.sessions > 150 and told.waits > 40)
        files, threads = held()
        assert files <= before[0] + 2
        assert threads <= before[1] + 1
