"""One mail through the [[process]] steps: what goes on, what waits, and why.

Rule of the file: nothing is written and nothing is sent; the result says it all.
"""

from __future__ import annotations

from mailflow.engine import reaction
from mailflow.engine.context import Ledger, Overlay, StepContext, is_writable
from mailflow.engine.flow import PLUGIN_FAULTS, as_error
from mailflow.engine.journal import Copy
from mailflow.errors import BadMailError, MailflowError, PluginError, RefusedError
from mailflow.kinds import Trouble
from mailflow.mail import Mail
from mailflow.record import NamedTuple
from mailflow.typed import TYPE_CHECKING, Protocol
from mailflow.verdicts import Bounce, Discard, Hold, Reject, Retry, Stop

if TYPE_CHECKING:
    from mailflow.engine.config import ProcessStep
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
    reactor took over (for whoever handed the mail in). `untold`: (step, reason) of what
    is held now and no reactor has told anybody of."""

    copies: list[Copy]
    ledger: Ledger
    refused: Reject | None
    stop: bool
    untold: list[tuple[str, str]]

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


class Watch(Protocol):
    """Whoever wants to see each step at work, as `mailflow simulate` does."""

    def __call__(self, step: ProcessStep, mail: Mail, outcome: object) -> None:
        """`outcome` is a verdict, the error of a trouble, or None: its `when` does not hold."""


def examine(
    flow: Flow,
    subject: Subject,
    now: float,
    overlay: Overlay | None = None,
    watch: Watch | None = None,
) -> Examined:
    """Run the steps whose `when` holds, each on every copy so far."""
    return _Examination(flow, subject, now, overlay, watch).run()


class _Examination:
    def __init__(
        self,
        flow: Flow,
        subject: Subject,
        now: float,
        overlay: Overlay | None,
        watch: Watch | None,
    ) -> None:
        self.flow = flow
        self.subject = subject
        self.ledger = Ledger(flow, subject.mail.id, now=now, overlay=overlay, muted=subject.notice)
        self.watch = watch
        self.copies: list[Copy] = []
        self.refused: Reject | None = None
        self.stop = False
        self.untold: list[tuple[str, str]] = []

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
        if waiting and not (self.subject.approved and self._goes_somewhere()):
            self._gone()
            current = []
        for mail in current:
            self._route(mail)
        return Examined(self.copies, self.ledger, self.refused, self.stop, self.untold)

    def _goes_somewhere(self) -> bool:
        """Whether no step is needed to say who gets this mail."""
        steps = self.flow.pipeline.distribute
        said = bool(self.subject.mail.envelope.recipients)
        return said or not any(step.component.per_recipient for step in steps)

    def _gone(self) -> None:
        """The step that this mail waits at is not in the file any more."""
        step, mail = self.subject.start, self.subject.mail
        why = f"process step {step!r} is gone from {self.flow.pipeline.path}; " + (
            "released, it goes to the distributors as it is"
            if self._goes_somewhere()
            else "without it the mail has no recipients: put it back, then release it"
        )
        self.flow.log.warning("held", mail=mail.id, step=step, reason=why)
        self.ledger.tell(step, "held", why)
        self._hold(mail, step, why, self.subject.attempt)

    def _step(
        self, step: ProcessStep, processor: Processor, mail: Mail, approved: bool, attempt: int
    ) -> list[Mail]:
        name, when = step.name, step.when
        mark = self.ledger.mark()
        try:
            if when is not None and not when.matches(self._facts(mail)):
                self._show(step, mail, None)
                return [mail]
            context = StepContext(self.ledger, name, approved=approved)
            verdicts = [_checked(each, step) for each in processor.process(mail, context)]
            if not verdicts:
                raise PluginError(f"{step.use} yields nothing; a verdict is due")
        except PLUGIN_FAULTS as error:  # a plugin may raise anything
            self.ledger.undo(mark)
            failure = as_error(error, f"step {name}")
            self._show(step, mail, failure)
            self._trouble(failure, "process", name, mail, attempt)
            del failure  # its traceback holds this frame, and that the mail
            return []
        onward = []
        for verdict in verdicts:
            self._show(step, mail, verdict)
            if isinstance(verdict, Mail):
                onward.append(verdict._replace(id=mail.id))
            else:
                self._verdict(verdict, name, mail)
        return onward

    def _show(self, step: ProcessStep, mail: Mail, outcome: object) -> None:
        if self.watch is not None:
            self.watch(step, mail, outcome)

    def _facts(self, mail: Mail) -> MailFacts:
        from mailflow.query import MailFacts

        return MailFacts(mail, now=self.ledger.now, source=self.subject.source)

    def _verdict(self, verdict: Discard | Reject | Hold, step: str, mail: Mail) -> None:
        word = type(verdict).__name__.lower()
        self.ledger.tell(step, word, verdict.reason)
        self.ledger.happened("mail.verdict", step=step, verdict=word, reason=verdict.reason)
        self.flow.log.info(word, step=step, mail=mail.id, reason=verdict.reason)
        if isinstance(verdict, Discard):
            return
        kind = RefusedError if isinstance(verdict, Reject) else BadMailError
        trouble = Trouble(
            stage="verdict", step=step, error=kind(verdict.reason), mail=mail,
            recipients=mail.envelope.recipients, attempt=1, age=self._age(), verdict=verdict,
        )  # fmt: skip
        before = self.ledger.mark()
        answer = reaction.ask(self.flow, trouble, self.ledger, self.subject.source)
        silent = self.ledger.mark().notices == before.notices  # it may have been counted, no more
        if (answer is None or isinstance(answer, Hold)) and silent:
            self.untold.append((step, verdict.reason))
        if answer is None:
            if isinstance(verdict, Reject):
                self.refused = verdict
            answer = Hold(verdict.reason)
        if isinstance(answer, Stop):
            self.flow.failed(trouble.error)
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
        if isinstance(answer, Retry):
            due = self.ledger.now + reaction.wait(answer, attempt)
        elif isinstance(answer, Stop):
            due, self.stop = self.ledger.now, True
        else:
            given = answer.reason if isinstance(answer, Hold) else ""
            self._hold(mail, step, given or reason, attempt)
            return
        self._add(mail, state="waiting", step=step, reason=reason, due=due, attempt=attempt)

    def _hold(self, mail: Mail, step: str, reason: str, attempt: int) -> None:
        self.ledger.happened("mail.held", step=step, reason=reason)
        self._add(mail, state="held", step=step, reason=reason, attempt=attempt)

    def _route(self, mail: Mail) -> None:
        deliveries: list[tuple[str, str]] = []
        chosen = False
        for step in self.flow.pipeline.distribute:
            try:
                if step.when is not None and not step.when.matches(self._facts(mail)):
                    continue
            except Exception as error:  # noqa: BLE001  # a query over hostile mail
                self._lost(as_error(error, f"when of {step.name}"), "process", mail)
                return
            chosen = True
            odd = next((to for to in mail.envelope.recipients if not is_writable(to)), None)
            if step.component.per_recipient and odd is not None:
                self._lost(BadMailError(f"{odd!a} can be no recipient"), "process", mail)
                return
            to = mail.envelope.recipients if step.component.per_recipient else ("",)
            deliveries += [(step.name, each) for each in to]
        if not chosen:
            lost = BadMailError("no [[distribute]] step takes this mail: no `when` holds")
            self._lost(lost, "unrouted", mail)
            return
        if not deliveries and mail.envelope == self.subject.mail.envelope:
            nobody = "nobody to send it to: it came without recipients, and no step names any"
            self._lost(BadMailError(nobody), "unrouted", mail)
            return
        if not deliveries:
            self.ledger.tell("", "nobody", "there is nobody to send it to")
        self._add(mail, deliveries=tuple(deliveries))

    def _lost(self, error: MailflowError, stage: str, mail: Mail) -> None:
        """A trouble behind all steps, on the way out."""
        again = self.subject.start == ROUTE
        self._trouble(error, stage, ROUTE, mail, self.subject.attempt if again else 0)

    def _add(
        self, mail: Mail, *, state: str = "planned", deliveries: tuple[tuple[str, str], ...] = (),
        step: str = "", reason: str = "", due: float = 0.0, attempt: int = 0,
    ) -> None:  # fmt: skip
        number = self.subject.number + len(self.copies)
        self.copies.append(Copy(number, mail, state, deliveries, step, reason, due, attempt))

    def _age(self) -> float:
        return max(0.0, self.ledger.now - self.subject.arrived)


def _checked(verdict: object, step: ProcessStep) -> Mail | Discard | Reject | Hold:
    """What a processor may yield. Raises PluginError for anything else."""
    if isinstance(verdict, Mail):
        if not all(isinstance(note, str) for pair in verdict.notes.items() for note in pair):
            raise PluginError(f"{step.use} yields a mail with notes that are not text")
        return verdict
    if isinstance(verdict, Discard | Reject | Hold) and isinstance(verdict.reason, str):
        return verdict
    kind = type(verdict).__name__
    raise PluginError(f"{step.use} yields {kind}, which is no mail and no verdict")
