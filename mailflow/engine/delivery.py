"""One job in a distributor's hands: its ticket, its reports, and commits C and D.

Rule of the file: what a distributor reports is written as it is; what it leaves
unsaid is LATER if nothing was committed, and in doubt if something was.
"""

from __future__ import annotations

import time
from collections.abc import Collection, Sequence

from mailflow.engine import reaction
from mailflow.engine.context import Ledger
from mailflow.engine.journal import Row, bodies, plans
from mailflow.errors import MailflowError, PluginError, RefusedError, UnavailableError
from mailflow.kinds import Ticket, Trouble
from mailflow.typed import TYPE_CHECKING
from mailflow.verdicts import FAILED, LATER, SENT, Bounce, Discard, Hold, Outcome, Report, Stop

if TYPE_CHECKING:
    from mailflow.engine.config import DistributeStep
    from mailflow.engine.flow import Flow
    from mailflow.engine.journal import Job
    from mailflow.engine.journal.database import Transaction
    from mailflow.engine.journal.plans import Loaded


_EVENTS = {"sent": "delivery.sent", "due": "delivery.later", "held": "mail.held"}


def ticket_key(mail: str, copy: int, step: str) -> str:
    """The name of one delivery for good: [0-9a-v.], the same at every attempt."""
    from zlib import crc32

    return f"{mail}.{copy}.{crc32(step.encode()):08x}"


def sound(report: Report, step: DistributeStep) -> Report:
    """A report that can be written down. Raises PluginError."""
    if not (isinstance(report, Report) and isinstance(report.outcome, Outcome)):
        raise PluginError(f"{step.use} reports {report!r}, which is no report")
    words = (str(word or "") for word in report[2:])
    return Report(report.recipient, report.outcome, *words)


class Delivery:
    """A job, the mail it is about, and what is known of its recipients so far."""

    def __init__(self, flow: Flow, step: DistributeStep, job: Job, loaded: Loaded) -> None:
        self.flow = flow
        self.step = step
        self.job = job
        self.mail = loaded.mail
        self.arrived = loaded.arrived
        self.notice = loaded.notice
        self._source = loaded.step
        self.reports: dict[str, Report] = {}
        self.asked = frozenset(job.recipients)
        self._unrecorded: list[Report] = []
        self._committed: set[str] = set()
        self._given_back = False
        self.ticket = Ticket(
            key=ticket_key(job.mail, job.copy, step.name),
            recipients=job.recipients,
            attempt=job.attempt,
            resumed=job.resumed,
            commit=self.commit,
        )

    @property
    def quiet(self) -> bool:
        """Nothing was reported, and nothing committed."""
        return not self.reports and not self._committed

    @property
    def complete(self) -> bool:
        """Every recipient was reported."""
        return len(self.reports) == len(self.asked)

    @property
    def all_sent(self) -> bool:
        return self.complete and all(r.outcome is SENT for r in self.reports.values())

    def commit(self, recipients: Collection[str]) -> None:
        """Commit C, right before an irrevocable act; with it, what was sent before it, which
        is all that a commit for nobody writes."""
        rows = self._sent_rows()
        if not (rows or recipients):
            return

        def work(tx: Transaction) -> None:
            plans.report(tx, rows, time.time())
            plans.send(tx, self.job, recipients)

        self.flow.journal.commit(work)
        self._unrecorded.clear()
        self._committed |= set(recipients)

    def report(self, report: Report) -> None:
        """Take what the distributor says of a recipient."""
        report = sound(report, self.step)
        if report.recipient not in self.asked:
            raise PluginError(
                f"{self.step.use} reports {report.recipient!r}, who was not asked for"
            )
        self.reports[report.recipient] = report
        if report.outcome is SENT:
            self._unrecorded.append(report)

    def again(self) -> None:
        """Its group was cut; handed over once more, it may be known there already."""
        self.ticket = self.ticket._replace(resumed=True)

    def close(self, error: MailflowError | None) -> None:
        """Commit D: every recipient has a state. `error` ended the distributor's work;
        where that was a stop, who has none yet stays due, as if not tried."""
        now = time.time()
        ledger = Ledger(self.flow, self.mail.id, now=now, muted=self.notice)
        silent = [to for to in self.job.recipients if to not in self.reports]
        doubtful = [to for to in silent if to in self._committed]
        unsaid = [to for to in silent if to not in self._committed]
        if self.flow.halt.is_set() and error is not None and error.temporary:
            unsaid = []
        if unsaid:
            error = error or PluginError(f"{self.step.use} gave no report")
            for to in unsaid:
                self.reports[to] = Report(to, LATER, "", error.text)
        rows = self._sent_rows()
        rows += self._react(LATER, error if unsaid else None, ledger)
        rows += self._react(FAILED, None, ledger)
        rows += self._doubt(doubtful, error, ledger)
        done, files = self.flow.journal.commit(lambda tx: self._write(tx, rows, ledger, now))
        bodies.remove(self.flow.journal, files)
        self._announce(rows, done)

    def _write(
        self, tx: Transaction, rows: list[Row], ledger: Ledger | None, now: float
    ) -> tuple[bool, list[str]]:
        """The rows and what reactors left; (whether the mail is done, files to remove)."""
        plans.report(tx, rows, now)
        if ledger is not None:
            plans.settle_effects(tx, self.flow.pipeline.name, self.mail.id, ledger.effects(), now)
        # Asked in here: whoever is last must see what the others have written.
        last = self.flow.give_back(self.mail.id)
        self._given_back = True
        return plans.release(tx, self.mail.id, now) if last else (False, [])

    def keep(self) -> None:
        """The journal has failed: this is still in our hands, to be written once more."""
        if self._given_back:
            self.flow.take(self.mail.id, 1)
            self._given_back = False

    def _sent_rows(self) -> list[Row]:
        """Those that were sent and are not written yet."""
        return [self._row(report, "sent", 0.0) for report in self._unrecorded]

    def _row(self, report: Report, state: str, due: float, doubt: int | None = None) -> Row:
        return Row(
            self.job.mail, self.job.copy, self.job.step, report.recipient, state, due,
            self.job.attempt, self.job.doubt if doubt is None else doubt,
            report.code, " ".join(report.text.split()), report.remote,
        )  # fmt: skip

    def _react(self, outcome: object, error: MailflowError | None, ledger: Ledger) -> list[Row]:
        """Ask the reactors about all recipients with this outcome at once."""
        reports = tuple(r for r in self.reports.values() if r.outcome is outcome)
        if not reports:
            return []
        if error is None:
            kind = RefusedError if outcome is FAILED else UnavailableError
            error = kind(f"{reports[0].remote or self.step.name}: {reports[0].text}",
                         code=reports[0].code)  # fmt: skip
        trouble = Trouble(
            stage="distribute", step=self.step.name, error=error, mail=self.mail,
            recipients=tuple(r.recipient for r in reports), attempt=self.job.attempt,
            age=max(0.0, ledger.now - self.arrived), reports=reports,
        )  # fmt: skip
        answer = reaction.decide(self.flow, trouble, ledger, self._source)
        who = ", ".join(r.recipient for r in reports if r.recipient)
        if isinstance(answer, Bounce | Discard):
            state = "failed" if isinstance(answer, Bounce) else "dropped"
            ledger.tell(self.step.name, state, f"{who} {answer.reason or error.text}".strip())
            return [self._row(r, state, 0.0) for r in reports]
        self.flow.failed(error)
        if isinstance(answer, Hold):
            ledger.tell(self.step.name, "held", f"{who} {answer.reason or error.text}".strip())
            return [self._row(r, "held", 0.0) for r in reports]
        if isinstance(answer, Stop):
            self.flow.halt.set()
        after = reaction.wait(answer, self.job.attempt)
        ledger.tell(self.step.name, "later", f"{who} {error.text}".strip())
        return [self._row(r, "due", ledger.now + after) for r in reports]

    def _doubt(
        self, recipients: list[str], error: MailflowError | None, ledger: Ledger
    ) -> list[Row]:
        """The final reply was lost: perhaps they have it, perhaps not."""
        if not recipients:
            return []
        text = error.text if error else "no report after the commit"
        self.flow.failed(error or UnavailableError(text))
        return doubt_rows(self.flow, self.step.if_in_doubt, self.job, recipients, text, ledger)

    def _announce(self, rows: list[Row], done: bool) -> None:
        log = self.flow.log.bind(step=self.step.name, mail=self.mail.id)
        for (state, text), alike in _alike(rows).items():
            who = ", ".join(alike[:3]) + (f" and {len(alike) - 3} more" if len(alike) > 3 else "")
            to = {"to": who} if who else {}  # a step that has no recipients, such as a Maildir
            if state == "sent":
                log.info("sent", **to, text=text)
            else:
                log.warning("not sent", **to, state=state, text=text)
        for row in rows:
            event = _EVENTS.get(row.state, "delivery.failed")
            self.flow.event(event, step=row.step, mail=row.mail, recipient=row.recipient)
        if done:
            self.flow.event("mail.done", mail=self.mail.id)


def close_sent(flow: Flow, deliveries: Sequence[Delivery]) -> None:
    """Commit D of deliveries that everybody got, in one transaction."""
    now = time.time()
    rows = [delivery._sent_rows() for delivery in deliveries]

    def work(tx: Transaction) -> list[tuple[bool, list[str]]]:
        return [
            delivery._write(tx, mine, None, now)
            for delivery, mine in zip(deliveries, rows, strict=True)
        ]

    try:
        results = flow.journal.commit(work)
    except MailflowError:
        for delivery in deliveries:
            delivery.keep()
        raise
    for delivery, mine, (done, files) in zip(deliveries, rows, results, strict=True):
        bodies.remove(flow.journal, files)
        delivery._announce(mine, done)


def _alike(rows: list[Row]) -> dict[tuple[str, str], list[str]]:
    """(state, text) -> recipients: one fault of a server is one line, whoever it hits."""
    alike: dict[tuple[str, str], list[str]] = {}
    for row in rows:
        alike.setdefault((row.state, row.text), []).append(row.recipient)
    return alike


def doubt_rows(
    flow: Flow, policy: str, job: Job, recipients: list[str], text: str, ledger: Ledger
) -> list[Row]:
    """What becomes of deliveries in doubt: resent once, or held for a human to decide."""
    hold = policy == "hold" or job.doubt > 0
    why = f"perhaps taken already: {text}"
    who = ", ".join(to for to in recipients if to)
    ledger.tell(job.step, "in doubt", f"{who} {'held' if hold else 'sent again'}, {why}".strip())
    flow.log.warning(
        "in doubt", step=job.step, mail=job.mail, recipients=len(recipients),
        then="held" if hold else "sent again", why=text,
    )  # fmt: skip
    state, due = (
        ("held", 0.0) if hold else ("due", ledger.now + reaction.backoff(1) * (not job.resumed))
    )
    return [
        Row(job.mail, job.copy, job.step, to, state, due, job.attempt, job.doubt + 1, "", why, "")
        for to in recipients
    ]
