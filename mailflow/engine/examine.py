"""One mail through the [[process]] steps: what goes on, what waits, and why.

Rule of the file: nothing is written and nothing is sent; the result says it all.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from mailflow.engine import reaction
from mailflow.engine.context import Ledger, Overlay, StepContext
from mailflow.engine.flow import as_error
from mailflow.engine.journal import Copy
from mailflow.errors import BadMailError, MailflowError, PluginError, RefusedError
from mailflow.kinds import Trouble
from mailflow.mail import Mail
from mailflow.verdicts import Bounce, Discard, Hold, Reject, Retry, Stop

if TYPE_CHECKING:
    from mailflow.engine.flow import Flow
    from mailflow.kinds import Processor
    from mailflow.query import MailFacts


ROUTE = "*"
"""In the place of a step's name: all steps are behind it, only the way out is open."""


class Subject(NamedTuple):
    """What is examined: a mail, from which step on, and what is known of its past.

    `number` is the lowest free copy number; `attempt` counts failures at that step;
    `source` is the name of the [[fetch]] that it came by.
    """

    mail: Mail
    arrived: float
    start: str = ""
    number: int = 0
    attempt: int = 0
    approved: bool = False
    notice: bool = False
    source: str = ""


class Examined(NamedTuple):
    """The copies that came of a mail, what it leaves behind, and a refusal that no
    reactor took over (for whoever handed the mail in)."""

    copies: list[Copy]
    ledger: Ledger
    refused: Reject | None
    stop: bool

    @property
    def simple(self) -> bool:
        """Every copy goes to a distributor, and nothing else is to be written."""
        return (
            not self.ledger.lasting
            and not self.stop
            and self.refused is None
            and bool(self.copies)
            and all(copy.state == "planned" and copy.deliveries for copy in self.copies)
        )


def examine(flow: Flow, subject: Subject, now: float, overlay: Overlay | None = None) -> Examined:
    """Run the steps whose `when` holds, each on every copy so far."""
    return _Examination(flow, subject, now, overlay).run()


class _Examination:
    def __init__(self, flow: Flow, subject: Subject, now: float, overlay: Overlay | None) -> None:
        self.flow = flow
        self.subject = subject
        self.ledger = Ledger(flow, subject.mail.id, now=now, overlay=overlay, muted=subject.notice)
        self.copies: list[Copy] = []
        self.refused: Reject | None = None
        self.stop = False

    def run(self) -> Examined:
        current = [self.subject.mail]
        waiting = self.subject.start not in ("", ROUTE)
        for step, processor in self.flow.processors:
            if self.subject.start == ROUTE or (waiting and step.name != self.subject.start):
                continue
            approved = waiting and self.subject.approved
            attempt = self.subject.attempt if waiting else 0
            waiting = False
            current = [
                after
                for mail in current
                for after in self._step(step, processor, mail, approved, attempt)
            ]
        if waiting:
            self.flow.log.warning(
                "the step that held a mail is gone; it goes to the distributors",
                step=self.subject.start, mail=self.subject.mail.id,
            )  # fmt: skip
        for mail in current:
            self._route(mail)
        return Examined(self.copies, self.ledger, self.refused, self.stop)

    def _step(
        self, step: object, processor: Processor, mail: Mail, approved: bool, attempt: int
    ) -> list[Mail]:
        name: str = step.name  # type: ignore[attr-defined]
        when = step.when  # type: ignore[attr-defined]
        try:
            if when is not None and not when.matches(self._facts(mail)):
                return [mail]
            context = StepContext(self.ledger, name, approved=approved)
            verdicts = list(processor.process(mail, context))
            if not verdicts:
                raise PluginError(f"{step.use} yields nothing; a verdict is due")  # type: ignore[attr-defined]
        except Exception as error:  # noqa: BLE001  # a plugin may raise anything
            self._trouble(as_error(error, f"step {name}"), "process", name, mail, attempt)
            return []
        onward = []
        for verdict in verdicts:
            if isinstance(verdict, Mail):
                onward.append(verdict._replace(id=mail.id))
            else:
                self._verdict(verdict, name, mail)
        return onward

    def _facts(self, mail: Mail) -> MailFacts:
        from mailflow.query import MailFacts

        return MailFacts(mail, now=self.ledger.now, source=self.subject.source)

    def _verdict(self, verdict: Discard | Reject | Hold, step: str, mail: Mail) -> None:
        word = type(verdict).__name__.lower()
        self.ledger.tell(step, word, verdict.reason)
        self.flow.log.info(word, step=step, mail=mail.id, reason=verdict.reason)
        self.flow.event(
            "mail.verdict", step=step, mail=mail.id, verdict=word, reason=verdict.reason
        )
        if isinstance(verdict, Discard):
            return
        kind = RefusedError if isinstance(verdict, Reject) else BadMailError
        trouble = Trouble(
            stage="verdict", step=step, error=kind(verdict.reason), mail=mail,
            recipients=mail.envelope.recipients, attempt=1, age=self._age(), verdict=verdict,
        )  # fmt: skip
        answer = reaction.ask(self.flow, trouble, self.ledger, self.subject.source)
        if answer is None:
            if isinstance(verdict, Reject):
                self.refused = verdict
            answer = Hold(verdict.reason)
        self._apply(answer, step, mail, 1, verdict.reason)

    def _trouble(
        self, error: MailflowError, stage: str, step: str, mail: Mail, attempt: int
    ) -> None:
        trouble = Trouble(
            stage=stage, step=step, error=error, mail=mail, recipients=mail.envelope.recipients,
            attempt=attempt + 1, age=self._age(),
        )  # fmt: skip
        self.flow.log.warning("trouble", stage=stage, step=step, mail=mail.id, error=error.text)
        answer = reaction.decide(self.flow, trouble, self.ledger, self.subject.source)
        if isinstance(answer, Hold | Retry | Stop):
            self.flow.failed(error)
        self.ledger.tell(step, "trouble", error.text)
        self._apply(answer, step, mail, attempt + 1, error.text)

    def _apply(self, answer: object, step: str, mail: Mail, attempt: int, reason: str) -> None:
        if isinstance(answer, Bounce | Discard):
            self.ledger.tell(
                step, "bounced" if isinstance(answer, Bounce) else "dropped", answer.reason
            )
            return
        state, due = "held", 0.0
        if isinstance(answer, Retry):
            state, due = "waiting", self.ledger.now + answer.after
        elif isinstance(answer, Stop):
            state, due, self.stop = "waiting", self.ledger.now, True
        elif isinstance(answer, Hold):
            reason = answer.reason or reason
            self.flow.event("mail.held", step=step, mail=mail.id, reason=reason)
        self._add(mail, state=state, step=step, reason=reason, due=due, attempt=attempt)

    def _route(self, mail: Mail) -> None:
        deliveries: list[tuple[str, str]] = []
        chosen = False
        for step in self.flow.pipeline.distribute:
            try:
                if step.when is not None and not step.when.matches(self._facts(mail)):
                    continue
            except Exception as error:  # noqa: BLE001  # a query over hostile mail
                self._trouble(as_error(error, f"when of {step.name}"), "process", ROUTE, mail, 0)
                return
            chosen = True
            to = mail.envelope.recipients if step.component.per_recipient else ("",)
            deliveries += [(step.name, each) for each in to]
        if not chosen:
            lost = BadMailError("no [[distribute]] step takes this mail: no `when` holds")
            self._trouble(lost, "unrouted", ROUTE, mail, self.subject.attempt)
            return
        if not deliveries:
            self.ledger.tell("", "nobody", "there is nobody to send it to")
        self._add(mail, deliveries=tuple(deliveries))

    def _add(
        self, mail: Mail, *, state: str = "planned", deliveries: tuple[tuple[str, str], ...] = (),
        step: str = "", reason: str = "", due: float = 0.0, attempt: int = 0,
    ) -> None:  # fmt: skip
        number = self.subject.number + len(self.copies)
        self.copies.append(Copy(number, mail, state, deliveries, step, reason, due, attempt))

    def _age(self) -> float:
        return max(0.0, self.ledger.now - self.subject.arrived)
