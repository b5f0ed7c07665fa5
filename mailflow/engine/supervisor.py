"""A run: the sources are emptied, what is due is delivered, and it ends.

Rule of the file: one source, pipeline or distributor that fails never stops the
others; only a signal, a reactor's Stop or the journal ends a run early.
"""

from __future__ import annotations

import signal
import threading
import time
from collections import deque
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress

from mailflow.engine import places, upkeep
from mailflow.engine.flow import Flow, Meter, as_error
from mailflow.engine.intake import Intake, interested
from mailflow.engine.journal import Database, Job, plans
from mailflow.engine.outgoing import GROUP, Outgoing
from mailflow.engine.stopping import stop_on
from mailflow.engine.work import Arrived, Work
from mailflow.errors import MailflowError
from mailflow.halt import Halt
from mailflow.log import get_logger, tells_person
from mailflow.typed import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from mailflow.engine.config import FetchStep, Pipeline
    from mailflow.engine.registry import Registry

INBOX_OCTETS = 8 << 20
"""So much mail waits for the journal before a source is read no further."""

MAIL_OCTETS = 1 << 10
"""What a mail takes in memory besides its octets."""

ENOUGH = 1000
"""Jobs in hand from which on no more are taken from the journal."""

LOOK_AGAIN = 1.0
"""Seconds between two looks at what is due, while something is at work and silent."""

LOOK_SOON = 0.2
"""Seconds after a look that found nothing, while something is at work."""


def run(
    pipelines: Sequence[Pipeline],
    registry: Registry,
    *,
    halt: Halt | None = None,
    force: bool = False,
    meter: Meter | None = None,
) -> int:
    """Run pipelines until their sources are empty and nothing is due. Gives the exit
    status (sysexits(3)): 0, or that of what nobody resolved. `force` tries at once what
    rests or waits after a failure; `meter` counts what arrives."""
    log = get_logger()
    statuses: list[int] = []
    with ExitStack() as stack:
        if halt is None:
            halt = Halt()
            stack.callback(halt.close)
        lines = []
        journals: dict[str, Database] = {}
        for pipeline in pipelines:
            try:
                journal = _journal(pipeline, journals, stack)
                flow = Flow(pipeline, journal, registry, halt, log, meter)
            except MailflowError as error:
                log.error("pipeline not started", pipeline=pipeline.name, error=error.text)
                statuses.append(error.exit_code)
                continue
            lines.append(Line(flow, force=force))
        with _signals(halt):
            _run_all(lines)
        for line in lines:
            statuses += line.flow.statuses
            line.tell_what_waits()
    return exit_status(statuses)


def exit_status(statuses: Sequence[int]) -> int:
    """The first that trying again will not mend, else 75, else 0."""
    return next((code for code in statuses if code != 75), statuses[0] if statuses else 0)


def _journal(pipeline: Pipeline, journals: dict[str, Database], stack: ExitStack) -> Database:
    """Pipelines that name one journal share it."""
    if pipeline.journal not in journals:
        journal = Database(pipeline.journal)
        stack.callback(leave, journal)
        journals[pipeline.journal] = journal
        places.remember(pipeline.journal)
        upkeep.free_the_dead(journal)
        upkeep.tidy(journal, pipeline.history)
    return journals[pipeline.journal]


def leave(journal: Database) -> None:
    """Give back what this process has in its hands, and close."""
    try:
        journal.commit(lambda tx: plans.let_go(tx, journal.owner.id))
    except MailflowError as error:
        get_logger().error("the journal fails", error=error.text)
    finally:
        journal.close()


@contextmanager
def _signals(halt: Halt) -> Iterator[None]:
    """SIGTERM and SIGINT end the run (see stopping); only the main thread may say so."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = stop_on(halt, signal.SIGTERM, signal.SIGINT)
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _run_all(lines: Sequence[Line]) -> None:
    """Each in a thread of its own, as far as there may be so many; the rest one by one."""
    here, threads = list(lines[:1]), []
    for line in lines[1:]:
        thread = threading.Thread(target=line.run, name=line.flow.pipeline.name)
        try:
            thread.start()
        except RuntimeError:
            here.append(line)
        else:
            threads.append(thread)
    for line in here:
        line.run()
    for thread in threads:
        thread.join()


class Inbox:
    """Arrivals on their way to the journal, bounded by octets: a full one is the brake.

    A mail larger than the bound passes alone. `take` gives all that is there, so a
    group closes at once when nothing more is on its way.
    """

    def __init__(self) -> None:
        self._arrived: deque[Arrived] = deque()
        self._octets = 0
        self._change = threading.Condition()
        self.woken = False

    def put(self, arrived: Arrived) -> None:
        octets = _weight(arrived)
        with self._change:
            while self._octets and self._octets + octets > INBOX_OCTETS:
                self._change.wait()
            self._arrived.append(arrived)
            self._octets += octets
            self._change.notify_all()

    def take(self, seconds: float) -> list[Arrived]:
        """Up to a group of arrivals; [] after so many seconds, or when woken."""
        with self._change:
            if not self._arrived and not self.woken:
                self._change.wait(seconds)
            self.woken = False
            count = min(len(self._arrived), GROUP)
            group = [self._arrived.popleft() for _ in range(count)]
            self._octets -= sum(map(_weight, group))
            self._change.notify_all()
            return group

    def wake(self) -> None:
        with self._change:
            self.woken = True
            self._change.notify_all()


def _weight(arrived: Arrived) -> int:
    return arrived.arrival.mail.content.size + MAIL_OCTETS


class Visits(Protocol):
    """One or more sessions with the source of a step."""

    step: FetchStep

    def run(self, *, force: bool) -> None: ...


class Line:
    """One pipeline being run: its sources each in a thread, its work in this one."""

    def __init__(self, flow: Flow, *, force: bool) -> None:
        self.flow = flow
        self.inbox = Inbox()
        self.outgoing = {
            step.name: Outgoing(flow, step, self.inbox.wake) for step in flow.pipeline.distribute
        }
        self.work = Work(flow, self._send)
        self._force = force
        self._looked = 0.0  # when nothing was found to be due
        self._alone = False  # a mail that was in a crash is in work, and nothing beside it
        self._sources: list[threading.Thread] = []
        self._open: set[str] = set()

    def run(self) -> None:
        """Until the sources are empty and nothing is due now."""
        self.flow.event("run.started")
        try:
            if self._force:
                self._wait_no_longer()
            self._put_right()
            upkeep.of_destinations(self.flow)
            self._open_sources()
            self._claim()
            while self._turn():
                pass
        except Exception as error:  # other pipelines go on
            failure = as_error(error, f"pipeline {self.flow.pipeline.name}")
            self.flow.log.error("run ended", error=failure.text, exc_info=error)
            self.flow.give_up(failure)
            self._halted()
            self._refuse_rest(failure)
        finally:
            for thread in self._sources:
                thread.join()
            for outgoing in self.outgoing.values():
                outgoing.close()
            self.work.leave()
        self.flow.event("run.ended")

    def _put_right(self) -> None:
        upkeep.resolve_doubts(self.flow)
        upkeep.hold_orphans(self.flow)

    def tell_what_waits(self) -> None:
        """To a person who has run it and sees nothing happen: what is due, but later."""
        if not tells_person() or self.flow.halt.is_set() or self.flow.broken is not None:
            return
        from mailflow.engine.journal import standing

        with suppress(MailflowError):  # a journal that fails has said so
            for each in self.flow.journal.read(standing.steps):
                if each.pipeline == self.flow.pipeline.name and each.due and each.next_try:
                    first = time.strftime("%H:%M:%S", time.localtime(each.next_try))
                    text = f"{each.due} to be tried again, from {first} on, or at once by `--now`"
                    self.flow.log.notice("mail waits", step=each.step, text=text)

    def _wait_no_longer(self) -> None:
        from mailflow.engine.journal import queue

        name, now = self.flow.pipeline.name, time.time()
        self.flow.journal.commit(lambda tx: queue.retry_all(tx, name, now))

    def _open_sources(self) -> None:
        for step in interested(self.flow.pipeline.fetch):
            visits = self._visits(step)
            thread = threading.Thread(target=self._source, args=(visits,), name=step.name)
            self._open.add(step.name)
            try:
                thread.start()
            except RuntimeError:  # there are too many
                self._open.discard(step.name)
                raise
            self._sources.append(thread)

    def _visits(self, step: FetchStep) -> Visits:
        """What is done with one source: here, one session."""
        return Intake(self.flow, step, self.inbox.put)

    def _source(self, visits: Visits) -> None:
        try:
            visits.run(force=self._force)
        finally:
            self._open.discard(visits.step.name)
            self.inbox.wake()

    def _turn(self) -> bool:
        """One group of arrivals, or one look at what is due; whether there is more."""
        fetching = self._stays()
        waiting = sum(outgoing.pending for outgoing in self.outgoing.values())
        idle = not waiting
        wait = fetching or not (idle or self.flow.halt.is_set())
        group = self.inbox.take(LOOK_AGAIN if wait else 0.0)
        if group:
            self.work.take(group)
            return True
        if self.flow.halt.is_set():
            return fetching
        if waiting > ENOUGH or (self._alone and not idle):
            return True
        at_work = fetching or not idle
        if at_work and time.monotonic() < self._looked + LOOK_SOON:
            return True
        if self._claim():
            return True
        self._looked = time.monotonic()
        return at_work

    def _halted(self) -> None:
        """The flow is halted: whoever waits within a source must hear it."""

    def _stays(self) -> bool:
        """Whether mail may still come."""
        return bool(self._open)

    def _claim(self) -> bool:
        """Take what is due; whether there was anything."""
        journal, pipeline = self.flow.journal, self.flow.pipeline.name
        now = time.time()
        if not journal.read(lambda tx: plans.is_due(tx, pipeline, now)):
            return False
        claimed = journal.commit(lambda tx: plans.claim(tx, journal.owner.id, pipeline, now))
        for mail in claimed.crashed:
            upkeep.hold_crashed(self.flow, mail)
        for mail in [job.mail for job in claimed.jobs] + [one.mail for one in claimed.waiting]:
            self.flow.take(mail, 1)
        self._alone = claimed.alone
        self.work.resume(claimed.waiting)
        self._send(claimed.jobs)
        return bool(claimed.jobs or claimed.waiting or claimed.crashed)

    def _send(self, jobs: Sequence[Job]) -> None:
        for name, outgoing in self.outgoing.items():
            mine = [job for job in jobs if job.step == name]
            if mine:
                outgoing.add(mine)

    def _refuse_rest(self, failure: MailflowError) -> None:
        """Whoever waits for the journal's word must not wait for good."""
        from mailflow.verdicts import Fate

        while self._open:
            for each in self.inbox.take(LOOK_AGAIN):
                each.origin.answer(each.arrival.key, Fate.LATER, failure)
