"""What is put right at every start: dead owners' mail, deliveries in doubt, old stories.

Rule of the file: nothing that a living process has in its hands is touched.
"""

from __future__ import annotations

import time

from mailflow.engine.context import Ledger
from mailflow.engine.delivery import doubt_rows
from mailflow.engine.flow import PLUGIN_FAULTS, as_error
from mailflow.engine.journal import Row, arrivals, owners, plans
from mailflow.errors import BadMailError, ConfigError
from mailflow.typed import TYPE_CHECKING

if TYPE_CHECKING:
    from mailflow.engine.flow import Flow
    from mailflow.engine.journal import Database, Job
    from mailflow.engine.journal.database import Transaction
    from mailflow.errors import MailflowError


def free_the_dead(journal: Database) -> None:
    """Mails of processes that are gone are free again."""
    from mailflow.engine.journal import mending

    gone = [
        owner
        for owner in journal.read(mending.owners)
        if owner != journal.owner.id and not owners.is_alive(journal.owners, owner)
    ]
    for owner in gone:
        journal.commit(lambda tx, owner=owner: plans.free(tx, owner))  # type: ignore[misc]


def tidy(journal: Database, history: float) -> None:
    """Forget stories older than `history` seconds, and files that no body names; mend
    what a wrong clock has written."""
    from mailflow.engine.journal import mending

    now = time.time()

    def work(tx: Transaction) -> None:
        mending.mend_times(tx, now)
        stale = arrivals.stale_intents(tx, now - history)
        arrivals.abandon_intents(tx, stale, "whoever handed it in did not try again", now)
        mending.forget(tx, now - history, now)

    journal.commit(work)
    owners.sweep(journal.owners, lambda: journal.read(mending.files))


def resolve_doubts(flow: Flow) -> None:
    """Deliveries that a crash has cut after commit C: resent once, or held."""
    from mailflow.engine.journal import mending

    now = time.time()
    for job in flow.journal.read(lambda tx: mending.doubts(tx, flow.pipeline.name)):
        step = flow.distributor(job.step)
        policy = step.if_in_doubt if step is not None else "hold"
        ledger = Ledger(flow, job.mail, now=now)
        rows = doubt_rows(flow, policy, job, list(job.recipients), "the program was cut", ledger)
        _amend(flow, rows, "doubt", ledger)


def hold_orphans(flow: Flow) -> None:
    """Deliveries by a step that is gone from the file are held."""
    from mailflow.engine.journal import mending

    steps = {step.name: step for step in flow.pipeline.distribute}
    for job in flow.journal.read(lambda tx: mending.orphans(tx, flow.pipeline.name, steps)):
        ledger = Ledger(flow, job.mail, now=time.time())
        why = f"distribute step {job.step!r} is gone from {flow.pipeline.path}"
        ledger.tell(job.step, "held", why)
        flow.failed(ConfigError(why))
        flow.log.warning("held", mail=job.mail, step=job.step, reason=why)
        _amend(flow, _held(job, why), "due", ledger)


def of_destinations(flow: Flow) -> None:
    """Let the distributors do what they do at times (kinds.Distributor); what fails is for
    the next time."""
    for step in flow.pipeline.distribute:
        if not hasattr(step.component, "upkeep"):
            continue
        try:
            with flow.make(step) as distributor:
                distributor.upkeep()
        except PLUGIN_FAULTS as error:
            flow.log.warning("no upkeep", step=step.name, error=as_error(error, step.use).text)


def hold_crashed(flow: Flow, mail: str) -> None:
    """A mail that was in work in three crashes is held: it would cause the fourth."""
    why = f"in work in {plans.CRASHES} crashes; release it once the cause is mended"
    flow.failed(BadMailError(why))
    _hold(flow, mail, why)


def hold_mail(flow: Flow, mail: str, error: MailflowError) -> None:
    """A mail that cannot be handled is held, all of it that is not final."""
    flow.failed(error)
    _hold(flow, mail, error.text)


def _hold(flow: Flow, mail: str, why: str) -> None:
    ledger = Ledger(flow, mail, now=time.time())
    ledger.tell("", "held", why)
    ledger.happened("mail.held", reason=why)
    flow.log.error("held", mail=mail, reason=why)

    def work(tx: Transaction) -> None:
        plans.hold(tx, mail, why)
        plans.settle_effects(tx, flow.pipeline.name, mail, ledger.effects(), ledger.now)

    flow.journal.commit(work)
    ledger.announce()


def hold_lost(flow: Flow, job: Job, error: MailflowError) -> None:
    """The octets of a mail cannot be read: its deliveries are held, the rest goes on."""
    flow.log.error("held", mail=job.mail, step=job.step, reason=error.text)
    flow.failed(error)
    ledger = Ledger(flow, job.mail, now=time.time())
    ledger.tell(job.step, "held", error.text)

    def work(tx: Transaction) -> None:
        plans.report(tx, _held(job, error.text), ledger.now)
        plans.settle_effects(tx, flow.pipeline.name, job.mail, ledger.effects(), ledger.now)
        if flow.give_back(job.mail):
            plans.release(tx, job.mail, ledger.now)

    flow.journal.commit(work)


def _held(job: Job, why: str) -> list[Row]:
    return [
        Row(job.mail, job.copy, job.step, to, "held", 0.0, job.attempt, job.doubt, "", why, "")
        for to in job.recipients
    ]


def _amend(flow: Flow, rows: list[Row], was: str, ledger: Ledger) -> None:
    """Another process may have seen to them in the meantime."""
    from mailflow.engine.journal import mending

    def work(tx: Transaction) -> None:
        if mending.amend(tx, rows, ledger.now, was):
            plans.settle_effects(tx, flow.pipeline.name, ledger.mail, ledger.effects(), ledger.now)

    flow.journal.commit(work)
