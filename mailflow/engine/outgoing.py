"""Due deliveries on their way through one distributor, in up to `parallel` threads.

Rule of the file: a distributor that cannot be reached is not tried for every mail
that waits; they share its error until it is tried again.
"""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Callable, Iterable

from mailflow.engine.flow import as_error
from mailflow.engine.hands import GROUP, Hands
from mailflow.errors import LoginError, MailflowError
from mailflow.typed import TYPE_CHECKING

if TYPE_CHECKING:
    from mailflow.engine.config import DistributeStep
    from mailflow.engine.flow import Flow
    from mailflow.engine.journal import Job

__all__ = ["GROUP", "Outgoing"]

SHARE = 100
"""Recipients of one mail that are worth a session of their own, where there may be several."""

DOWN_SECONDS = 30.0
"""How long a distributor that failed twice in a row is left alone."""

CROWDED_SECONDS = 60.0
"""How long no more sessions are opened than the other side was found to bear."""

IDLE_SECONDS = 30.0
"""How long a session is kept for which there is nothing to do."""


class Outgoing:
    """The jobs of one [[distribute]] step. `ended` is called when a thread has nothing
    in hand, or another piece of work is through."""

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
        self._crowded: tuple[float, int] = (0.0, 0)
        self._serving: set[int] = set()
        self._leaving = 0

    def add(self, jobs: Iterable[Job]) -> None:
        """Take jobs; their mails belong to this process."""
        cut = self._cut(jobs)
        with self._change:
            self._jobs.extend(cut)
            self._change.notify_all()
            self._grow()

    def _cut(self, jobs: Iterable[Job]) -> list[Job]:
        """A job for so many people that several sessions may share it is several."""
        component, parallel = self.step.component, self.step.parallel
        if parallel == 1 or component.repeatable or not component.per_recipient:
            return list(jobs)
        found = []
        for job in jobs:
            parts = min(parallel, -(-len(job.recipients) // SHARE)) or 1
            self.flow.take(job.mail, parts - 1)
            size = -(-len(job.recipients) // parts)
            found += [
                job._replace(recipients=job.recipients[start : start + size])
                for start in range(0, len(job.recipients), size)
            ]
        return found

    def _grow(self) -> None:
        """As many threads as there is work for, and as the other side bears."""
        wanted = min(self._most(), self._busy + len(self._jobs))
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

    def _most(self) -> int:
        until, count = self._crowded
        return count if time.monotonic() < until else self.step.parallel

    def drain(self, jobs: Iterable[Job]) -> None:
        """Do these jobs here and now: in this thread, or in several where that is faster."""
        self._jobs.extend(self._cut(jobs))
        if self.step.parallel > 1 and len(self._jobs) > 1:
            self.add(())
            self.close()
            return
        hands = Hands(self)
        try:
            while self._jobs and not self.flow.halt.is_set():
                hands.work()
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
        while threads := list(self._threads):  # one that goes may leave its work to a new one
            threads[0].join()

    def _run(self) -> None:
        hands = Hands(self)
        crowded = False
        try:
            while not crowded and self._wait():
                try:
                    crowded = hands.work()
                finally:
                    with self._change:
                        self._busy -= 1
                        self._leaving -= crowded
                    self.ended()
        except Exception as error:  # noqa: BLE001  # the journal failed: what is due stays due
            failure = as_error(error, f"step {self.step.name}")
            self.flow.log.error("deliveries stop", step=self.step.name, error=failure.text)
            self.flow.give_up(failure)
        finally:
            hands.leave()
            self._go(replaced=crowded)

    def _go(self, *, replaced: bool) -> None:
        """This thread ends. What it put back may have nobody else to do it."""
        with self._change:
            me = threading.current_thread()
            if me in self._threads:
                self._threads.remove(me)
            if replaced and not self.flow.halt.is_set():
                self._grow()

    def _wait(self) -> bool:
        """Until there is work; False when this thread is to end."""
        with self._change:
            while not self._jobs and not self._closed:
                if not self._change.wait(IDLE_SECONDS) and not self._jobs:
                    self._threads.remove(threading.current_thread())
                    return False
            if not self._jobs or self.flow.halt.is_set():
                return False
            self._busy += 1
            return True

    def draw(self, in_hand: int) -> Job | None:
        """The next job, for a thread that has so many to which nothing was answered yet;
        None where there is none, or it is for another thread to do."""
        with self._change:
            if not self._jobs or self.flow.halt.is_set():
                return None
            fair = -(-(len(self._jobs) + in_hand) // self.step.parallel)
            if in_hand and in_hand >= max(fair, 2):
                return None
            return self._jobs.popleft()

    def put_back(self, jobs: Iterable[Job]) -> None:
        """Jobs that nothing was done for are the next ones, in their order."""
        with self._change:
            self._jobs.extendleft(reversed(list(jobs)))
            self._change.notify_all()

    def serves(self, *, well: bool) -> None:
        """Whether this thread has a session that was of use."""
        me = threading.get_ident()
        with self._change:
            if well:
                self._serving.add(me)
            else:
                self._serving.discard(me)

    def shrink(self) -> bool:
        """The other side takes no more sessions: do with those that there are, for a while.
        False where there is none, and nobody else who may still get one."""
        with self._change:
            serving = len(self._serving - {threading.get_ident()})
            others = self._busy - self._leaving - 1
            if not (serving or others > 0):
                return False
            self._leaving += 1
            self._crowded = (time.monotonic() + CROWDED_SECONDS, max(serving, others))
            return True

    def down(self) -> MailflowError | None:
        """Why the distributor is left alone now, if it is."""
        down = self._down  # which another thread may clear
        return down[1] if down and time.monotonic() < down[0] else None

    def succeeded(self) -> None:
        self._failures, self._down = 0, None

    def failed(self, error: MailflowError) -> None:
        self._failures += 1
        if self._failures > 1 or isinstance(error, LoginError):
            self._down = (time.monotonic() + DOWN_SECONDS, error)
