"""One message on stdin, and an exit status that is the truth.

Rule of the file: 0 only when the mail is durable, 77 for a Reject, 75 for all else,
since a broken file here must not make the MTA bounce mail.
"""

from __future__ import annotations

import signal
import time

from mailflow.engine import upkeep
from mailflow.engine.context import new_id
from mailflow.engine.flow import Flow
from mailflow.engine.journal import (
    Arrival,
    Database,
    Job,
    Lane,
    arrivals,
    bodies,
    owners,
    plans,
)
from mailflow.engine.outgoing import Outgoing
from mailflow.engine.stopping import stop_on
from mailflow.engine.work import Arrived, Work
from mailflow.errors import ConfigError, MailflowError, RefusedError, UnavailableError
from mailflow.halt import Halt
from mailflow.log import get_logger
from mailflow.mail import Mail
from mailflow.query import Query
from mailflow.typed import TYPE_CHECKING
from mailflow.verdicts import Fate

if TYPE_CHECKING:
    from collections.abc import Sequence

    from mailflow.engine.config import FetchStep, Pipeline
    from mailflow.engine.journal.database import Transaction
    from mailflow.engine.registry import Registry
    from mailflow.kinds import Fetched


CHECKPOINT_PAGES = 250
"""Each hook reads the write-ahead log that the last one has left: it is kept short."""


def hook(pipeline: Pipeline, registry: Registry, recipients: Sequence[str] = ()) -> None:
    """Take the message; back when it is durable, and `linger` has passed or all is
    delivered. `recipients` are forward-paths from the command line.

    Raises RefusedError for a Reject, another MailflowError where the mail was not taken.
    """
    step = next((s for s in pipeline.fetch if getattr(s.component, "pushed", False)), None)
    if step is None:
        raise ConfigError(f'{pipeline.path}: no [[fetch]] takes mail from stdin; add use = "stdin"')
    if recipients:
        step = _addressed(step, recipients)
    halt = Halt()
    stop_on(halt, signal.SIGTERM, signal.SIGINT, signal.SIGALRM)
    journal = Database(pipeline.journal, checkpoint=CHECKPOINT_PAGES)
    try:
        if journal.fresh:
            from mailflow.engine import places

            places.remember(pipeline.journal)
        _Hook(Flow(pipeline, journal, registry, halt, get_logger()), step).run()
    finally:
        journal.abandon()


def _addressed(step: FetchStep, recipients: Sequence[str]) -> FetchStep:
    """The step with its `recipients` from the command line."""
    options = type(step.options)
    try:
        told = options.declared()["recipients"].convert(list(recipients), "")
    except ValueError as error:
        raise ConfigError(f"address on the command line: {error}") from None
    return step._replace(options=options({**vars(step.options), "recipients": told}))


class _Hook:
    """The one message's way. Answers for its mail (work.Origin)."""

    def __init__(self, flow: Flow, step: FetchStep) -> None:
        self.flow = flow
        self.step = step
        self.journal = flow.journal
        self.work = Work(flow, self._send, opened=self.journal.owner.id)
        self._jobs: list[Job] = []
        self._error: MailflowError | None = None
        self._taken = False

    def answer(self, key: str, fate: Fate, error: MailflowError | None = None) -> None:
        self._taken = fate is Fate.DONE
        self._error = error

    def run(self) -> None:
        with self.flow.make(self.step) as fetcher:
            lane = Lane(self.flow.pipeline.name, self.step.name, fetcher.source)
            keys = [item.key for item in fetcher.listing(self.step.where)]
            for got in fetcher.retrieve(keys):
                self._take(lane, got)

    def _take(self, lane: Lane, got: Fetched) -> None:
        before = self._cut(lane, got.key)
        if before is None or before.state == "intent":
            mail = self._arrive(lane, got, before)
        else:
            mail = before.mail
            self._go_on(before)
        if self.work.refused:
            self._refuse(mail)
        try:
            self._deliver()
        except MailflowError as error:  # the mail is durable: the exit status says so
            self.flow.log.error("deliveries stop", mail=mail, error=error.text)
        self._close(mail)

    def _cut(self, lane: Lane, key: str) -> arrivals.Opened | None:
        """An equal message whose hook process died without an exit status: the MTA tries
        again, and it is the same mail. One whose process lives is another mail."""
        for before in self.journal.read(lambda tx: arrivals.opened(tx, lane, key)):
            dead = not owners.is_alive(self.journal.owners, before.process)
            taken = self._take_over(before) if dead else None
            if taken is not None:
                return taken
        return None

    def _take_over(self, before: arrivals.Opened) -> arrivals.Opened | None:
        """The mail as it is now that its process is known to be dead; None where another
        process was faster."""

        def work(tx: Transaction) -> arrivals.Opened | None:
            plans.free(tx, before.process)
            return arrivals.reopen(tx, before, self.journal.owner.id)

        return self.journal.commit(work)

    def _arrive(self, lane: Lane, got: Fetched, before: arrivals.Opened | None) -> str:
        mail = Mail(before.mail if before else new_id(), got.envelope, got.content)
        if self.step.where != Query.always:
            from mailflow.query import MailFacts

            if not self.step.where.matches(MailFacts(mail, source=self.step.name)):
                raise RefusedError("not wanted here: `where` does not hold for this mail")
        arrival = Arrival(
            mail, lane, got.key, None, time.time(),
            resumed=before is not None, crashes=before.crashes if before else 0,
        )  # fmt: skip
        self.work.take([Arrived(arrival, self)])
        if not self._taken:
            raise self._error or UnavailableError("the mail was not taken")
        return mail.id

    def _go_on(self, before: arrivals.Opened) -> None:
        """The mail is in the journal: do what is due of it, unless somebody else does."""
        if before.crashes >= plans.CRASHES:
            upkeep.hold_crashed(self.flow, before.mail)
            return
        owner = self.journal.owner.id
        jobs, waiting = self.journal.commit(
            lambda tx: plans.claim_one(tx, owner, before.mail, time.time())
        )
        self.flow.take(before.mail, len(jobs) + len(waiting))
        self.work.resume(waiting)
        self._send(jobs)

    def _refuse(self, mail: str) -> None:
        """A Reject that no reactor took over is the MTA's to bounce: nothing is kept."""
        from mailflow.engine.journal import queue

        def work(tx: Transaction) -> list[str]:
            now = time.time()
            queue.drop(tx, mail, now)
            files = plans.end(tx, mail, now)
            arrivals.close(tx, mail)
            return files

        bodies.remove(self.journal, self.journal.commit(work))
        raise RefusedError(self.work.refused[0].reason)

    def _send(self, jobs: Sequence[Job]) -> None:
        self._jobs += jobs

    def _deliver(self) -> None:
        """Deliver for `linger` seconds; the rest stays due for the next run."""
        if self._jobs:
            signal.setitimer(signal.ITIMER_REAL, max(self.flow.pipeline.linger, 0.001))
        while self._jobs and not self.flow.halt.is_set():
            jobs, self._jobs = self._jobs, []
            for step in self.flow.pipeline.distribute:
                mine = [job for job in jobs if job.step == step.name]
                if mine:
                    Outgoing(self.flow, step).drain(mine)
        self.work.leave()

    def _close(self, mail: str) -> None:
        """Right before the exit status: from here on an equal message is another mail.

        Not flushed: killed in a flush, after the commit and before the exit, this process
        would have the MTA bring a copy. If a power cut undoes it, the MTA has its 0.
        """
        owner = self.journal.owner.id

        def work(tx: Transaction) -> None:
            plans.let_go(tx, owner)
            arrivals.close(tx, mail)

        self.journal.part(work)
