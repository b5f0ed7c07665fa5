"""Due deliveries on their way through one distributor, in up to `parallel` threads.

Rule of the file: a distributor that cannot be reached is not tried for every mail
that waits; they share its error until it is tried again.
"""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Any

from mailflow.engine import upkeep
from mailflow.engine.delivery import Delivery
from mailflow.engine.flow import PLUGIN_FAULTS, as_error, end, finish
from mailflow.engine.journal import Job, plans
from mailflow.errors import (
    BadMailError,
    LoginError,
    MailflowError,
    PluginError,
)

if TYPE_CHECKING:
    from mailflow.engine.config import DistributeStep
    from mailflow.engine.flow import Flow

GROUP = 100
"""Mails that share a flush, at most."""

DOWN_SECONDS = 30.0
"""How long a distributor that failed twice in a row is left alone."""


_OF_ONE_MAIL = (PluginError, BadMailError)
"""Errors that one mail may cause: each of its group is then tried alone."""


class Outgoing:
    """The jobs of one [[distribute]] step. `ended` is called when a job is through."""

    def __init__(
        self, flow: Flow, step: DistributeStep, ended: Callable[[], None] = lambda: None
    ) -> None:
        self.flow = flow
        self.step = step
        self.ended = ended
        self._jobs: deque[Job] = deque()
        self._change = threading.Condition()
        self._busy = 0
        self._closed = False
        self._threads: list[threading.Thread] = []
        self._failures = 0
        self._down: tuple[float, MailflowError] | None = None

    def add(self, jobs: Iterable[Job]) -> None:
        """Take jobs; their mails belong to this process."""
        with self._change:
            self._jobs.extend(jobs)
            self._change.notify_all()
            wanted = min(self.step.parallel, self._busy + len(self._jobs))
            while len(self._threads) < wanted:
                thread = threading.Thread(
                    target=self._run, name=f"{self.flow.pipeline.name}/{self.step.name}"
                )
                try:
                    thread.start()
                except RuntimeError:  # there are too many
                    if self._threads:
                        return
                    raise
                self._threads.append(thread)

    def drain(self, jobs: Iterable[Job]) -> None:
        """Do these jobs here and now, in this thread."""
        self._jobs.extend(jobs)
        hands = _Hands(self)
        try:
            while self._jobs and not self.flow.halt.is_set():
                hands.handle(self._take())
        finally:
            hands.leave()

    @property
    def pending(self) -> int:
        """Jobs that wait, and threads at work."""
        with self._change:
            return len(self._jobs) + self._busy

    def close(self) -> None:
        """No more jobs: wait for those in hand, leave the others due."""
        with self._change:
            self._closed = True
            self._change.notify_all()
        for thread in self._threads:
            thread.join()

    def _run(self) -> None:
        hands = _Hands(self)
        try:
            while jobs := self._next():
                try:
                    hands.handle(jobs)
                finally:
                    with self._change:
                        self._busy -= 1
                    self.ended()
        except Exception as error:  # noqa: BLE001  # the journal failed: what is due stays due
            failure = as_error(error, f"step {self.step.name}")
            self.flow.failed(failure)
            self.flow.log.error("deliveries stop", step=self.step.name, error=failure.text)
            self.flow.halt.set()
        finally:
            hands.leave()

    def _next(self) -> list[Job]:
        with self._change:
            while not self._jobs and not self._closed:
                self._change.wait()
            if not self._jobs or self.flow.halt.is_set():
                return []
            self._busy += 1
            return self._take()

    def _take(self) -> list[Job]:
        several = hasattr(self.step.component, "distribute_many")
        count = min(len(self._jobs), GROUP) if several else 1
        return [self._jobs.popleft() for _ in range(count)]

    def down(self) -> MailflowError | None:
        """Why the distributor is left alone now, if it is."""
        if self._down and time.monotonic() < self._down[0]:
            return self._down[1]
        return None

    def succeeded(self) -> None:
        self._failures, self._down = 0, None

    def failed(self, error: MailflowError) -> None:
        self._failures += 1
        if self._failures > 1 or isinstance(error, LoginError):
            self._down = (time.monotonic() + DOWN_SECONDS, error)


class _Hands:
    """One thread's distributor: opened when needed, replaced after an error."""

    def __init__(self, outgoing: Outgoing) -> None:
        self.outgoing = outgoing
        self.flow = outgoing.flow
        self.step = outgoing.step
        self._distributor: Any = None

    def handle(self, jobs: list[Job]) -> None:
        """Deliver jobs; each ends in commit D, whatever happens."""
        deliveries = [each for job in jobs if (each := self._open(job)) is not None]
        if not deliveries:
            return
        error = self.outgoing.down() or self._hand_over(deliveries)
        alone = len(deliveries) > 1 and isinstance(error, _OF_ONE_MAIL)
        for delivery in deliveries:
            if alone and delivery.quiet:
                delivery.again()
                delivery.close(self.outgoing.down() or self._hand_over([delivery]))
            else:
                delivery.close(error)
        keys = [delivery.ticket.key for delivery in deliveries if delivery.all_sent]
        finish(self.flow, self.step.name, self._distributor, keys)

    def _open(self, job: Job) -> Delivery | None:
        """The job with its mail; one whose octets are gone is held, the others go on."""
        try:
            loaded = plans.load(self.flow.journal, job.mail, job.copy)
        except MailflowError as error:
            upkeep.hold_lost(self.flow, job, error)
            return None
        return Delivery(self.flow, self.step, job, loaded)

    def leave(self) -> None:
        """End the distributor's session, in order."""
        self._end(None)

    def _end(self, error: BaseException | None) -> None:
        distributor, self._distributor = self._distributor, None
        if distributor is not None:
            end(self.flow, self.step.name, distributor, error)

    def _hand_over(self, deliveries: list[Delivery]) -> MailflowError | None:
        try:
            if self._distributor is None:
                distributor = self.flow.make(self.step)
                self._distributor = distributor.__enter__()
            self._distribute(deliveries)
        except PLUGIN_FAULTS as error:  # a distributor may raise anything
            failure = as_error(error, self.step.use)
            self._end(error)
            quiet = all(delivery.quiet for delivery in deliveries)
            if quiet and not isinstance(failure, _OF_ONE_MAIL):
                self.outgoing.failed(failure)
            return failure
        self.outgoing.succeeded()
        return None

    def _distribute(self, deliveries: list[Delivery]) -> None:
        if hasattr(self._distributor, "distribute_many"):
            by_key = {delivery.ticket.key: delivery for delivery in deliveries}
            jobs = [(delivery.mail, delivery.ticket) for delivery in deliveries]
            for ticket, report in self._distributor.distribute_many(jobs):
                by_key[ticket.key].report(report)
            return
        for delivery in deliveries:
            for report in self._distributor.distribute(delivery.mail, delivery.ticket):
                delivery.report(report)
