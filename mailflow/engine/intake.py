"""One session with one source: what is wanted is fetched, what is ours is settled.

Rule of the file: the fetcher is used by this thread alone; a key is settled only
after the journal has answered for it.
"""

from __future__ import annotations

import os
import time
from collections import deque
from collections.abc import Callable, Iterable
from threading import Condition

from mailflow.engine import reaction
from mailflow.engine.context import Ledger
from mailflow.engine.flow import PLUGIN_FAULTS, as_error
from mailflow.engine.journal import Lane, SourceState, arrivals, plans
from mailflow.engine.journal.arrivals import plain
from mailflow.engine.lease import Lease
from mailflow.engine.visit import Visit
from mailflow.engine.work import Arrived
from mailflow.errors import (
    ConfigError,
    InUseError,
    MailflowError,
    PluginError,
    UnavailableError,
)
from mailflow.kinds import Item, Trouble
from mailflow.query import Query
from mailflow.record import NamedTuple
from mailflow.typed import TYPE_CHECKING
from mailflow.verdicts import Fate, Retry, Stop

if TYPE_CHECKING:
    from mailflow.engine.config import FetchStep
    from mailflow.engine.flow import Flow
    from mailflow.engine.journal.database import Transaction
    from mailflow.kinds import Fetcher
    from mailflow.log import Logger

SKEW = 300.0
"""Seconds by which what was written down may be ahead of the clock, and both be right."""


class InterruptedSessionError(Exception):
    """Nobody waits for this session any more; it is no failure."""


class Tally(NamedTuple):
    """What a session did."""

    fetched: int = 0
    octets: int = 0


class Intake:
    """One session of a [[fetch]] step. `put` hands arrivals on, and may block.

    `lane` and `tally` say whose it is and what it did; `in_use`, that another run was at work
    there. `quiet`: a failure is one of many, and told below the level of errors.
    """

    def __init__(self, flow: Flow, step: FetchStep, put: Callable[[Arrived], None]) -> None:
        self.flow = flow
        self.step = step
        self.put = put
        self.tally = Tally()
        self.settled: list[str] = []
        self._answers: deque[tuple[str, Fate]] = deque()
        self._change = Condition()
        self._outstanding = 0
        self._failure: MailflowError | None = None
        self.lane = Lane(flow.pipeline.name, step.name, "")
        self.in_use = False
        self.quiet = False

    def answer(self, key: str, fate: Fate, error: MailflowError | None = None) -> None:
        """The word of the journal about a key (any thread)."""
        with self._change:
            self._outstanding -= 1
            self._answers.append((key, fate))
            self._failure = self._failure or error
            self._change.notify()

    def run(
        self,
        *,
        force: bool = False,
        fetcher: Fetcher | None = None,
        ahead: Callable[[Fetcher], None] | None = None,
    ) -> None:
        """One whole session, its failure told to the reactors and the journal. `fetcher` is
        one that was used before; `ahead` is called with it once it is entered, before it is
        asked for anything, and may raise InterruptedSessionError."""
        lane, state = Lane(self.flow.pipeline.name, self.step.name, ""), SourceState()
        try:
            self.flow.halt.check()
            fetcher = fetcher or self.flow.make(self.step)
            self.lane = lane = lane._replace(source=fetcher.source)
            state = self.flow.journal.read(lambda tx: arrivals.source_state(tx, lane))
            if not force and state.failures and time.time() < self.rests_until(state):
                self._rest(lane, state)
                return
            self._whole(fetcher, lane, state, ahead)
        except InterruptedSessionError:
            return
        except PLUGIN_FAULTS as error:  # one source never stops the others
            if isinstance(error, InUseError) and error.fields.get("ours"):
                self._log(lane).notice("another run is at work on this mailbox")
                self.in_use = True
                return
            self._failed(lane, as_error(error, f"step {self.step.name}"), state)
        else:
            self.flow.event("source.closed", step=self.step.name, source=lane.source)
            self._log(lane).debug(
                "session ended", fetched=self.tally.fetched, octets=self.tally.octets
            )

    def _log(self, lane: Lane) -> Logger:
        return self.flow.log.bind(step=self.step.name, source=lane.source)

    def _whole(
        self,
        fetcher: Fetcher,
        lane: Lane,
        state: SourceState,
        ahead: Callable[[Fetcher], None] | None,
    ) -> None:
        """The session from its lease on; who only waits for mail holds none."""
        lease = Lease(self.step.use, lane.source, self.flow.journal.path, self.flow.halt)
        try:
            if ahead is None:
                lease.take()
            self._session(fetcher, lane, state, lambda: self._begin(fetcher, lease, ahead))
        finally:
            lease.release()

    def _begin(
        self, fetcher: Fetcher, lease: Lease, ahead: Callable[[Fetcher], None] | None
    ) -> None:
        if ahead is not None:
            ahead(fetcher)
            lease.take()
        self.flow.event("source.opened", step=self.step.name, source=fetcher.source)

    def _session(
        self, fetcher: Fetcher, lane: Lane, state: SourceState, begin: Callable[[], None]
    ) -> None:
        with fetcher:
            begin()
            where = self.step.where
            if state.worked_at is None and self.step.start == "new":
                where = Query.always  # what it refuses now is not to come later either
            items = [self._checked(item) for item in fetcher.listing(where, state.mark)]
            visit = Visit(self, fetcher, lane, state, items)
            visit.settle_due()
            for got in fetcher.retrieve(visit.wanted()):
                visit.take(got)
                self._settle(fetcher)
                self._check()
            self._wait_for_answers(fetcher)
            visit.close()
            self._check()
        now = time.time()

        def work(tx: Transaction) -> None:
            arrivals.settle(tx, lane, self.settled)
            arrivals.source_worked(tx, lane, visit.mark, now)

        self.flow.journal.commit(work)

    def _checked(self, item: Item) -> Item:
        """A key that could not be written down would be fetched for good."""
        if not isinstance(item.key, str) or not item.key or plain(item.key) != item.key:
            raise PluginError(f"{self.step.use} lists a message under the key {item.key!a}")
        return item

    def sent(self, octets: int) -> None:
        """One arrival is on its way to the journal."""
        self.flow.meter.messages += 1
        self.tally = Tally(self.tally.fetched + 1, self.tally.octets + octets)
        with self._change:
            self._outstanding += 1

    def _settle(self, fetcher: Fetcher) -> None:
        while self._answers:
            key, fate = self._answers.popleft()
            if fate is Fate.DONE and self.step.keep == 0:
                fetcher.settle(key, fate)
                self.settled.append(key)

    def _wait_for_answers(self, fetcher: Fetcher) -> None:
        while True:
            self._settle(fetcher)
            with self._change:
                if self._answers:
                    continue
                if not self._outstanding:
                    return
                self._change.wait()

    def _check(self) -> None:
        if self._failure is not None:
            raise self._failure
        self.flow.halt.check()

    def rests_until(self, state: SourceState) -> float:
        """The next try; at once where the file, or one that its options name, was mended since
        the failure, or a clock that was ahead has written when that was."""
        changed = max(map(_changed, (self.flow.pipeline.path, *self.step.options.watched())))
        failed = state.failed_at or 0.0
        return 0.0 if changed > failed or failed > time.time() + SKEW else state.next_try

    def _rest(self, lane: Lane, state: SourceState) -> None:
        until = time.strftime("%H:%M:%S", time.localtime(state.next_try))
        often = "1 failure" if state.failures == 1 else f"{state.failures} failures"
        text = (
            f"{lane.source} rests until {until} after {often}, and `--now` asks at once;"
            f" the last failure: {state.error}"
        )
        self.flow.log.notice("source rests", step=self.step.name, text=text)
        self.flow.failed(UnavailableError(text))

    def _failed(self, lane: Lane, error: MailflowError, state: SourceState) -> None:
        if self.flow.halt.is_set() and not self._failure:
            return
        now = time.time()
        ledger = Ledger(self.flow, "", now=now)
        trouble = Trouble(
            stage="fetch", step=self.step.name, error=error, attempt=state.failures + 1,
            age=max(0.0, now - state.worked_at) if state.worked_at else 0.0,
        )  # fmt: skip
        say = self._log(lane).info if self.quiet else self._log(lane).error
        say("fetch failed", error=error.text)
        self.flow.failed(error)
        answer = reaction.decide(self.flow, trouble, ledger)
        after = answer.after if isinstance(answer, Retry) else reaction.backoff(state.failures + 1)
        after = max(after, reaction.asked(error))
        if isinstance(error, ConfigError):
            after = 0.0
        if isinstance(answer, Stop):
            self.flow.halt.set()

        def work(tx: Transaction) -> None:
            arrivals.source_failed(tx, lane, error.text, now + after, now)
            plans.settle_effects(tx, lane.pipeline, "", ledger.effects(), now)

        try:
            self.flow.journal.commit(work)
        except MailflowError as again:
            self._log(lane).error("the failure was not noted", error=again.text)
            self.flow.give_up(again)
        self.flow.event("source.failed", step=self.step.name, source=lane.source, error=error.text)


def interested(steps: Iterable[FetchStep]) -> list[FetchStep]:
    """The steps that are fetched from, not handed mail."""
    return [step for step in steps if not getattr(step.component, "pushed", False)]


def _changed(path: str) -> float:
    """When a file was written to, if it is there."""
    try:
        return os.stat(path).st_mtime
    except OSError:
        return 0.0
