"""From arrival to plan: commits A and B, in groups, and the deliver-first way.

Rule of the file: a source is told that a mail is done only after the commit that
makes it ours, or after every destination has it.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Sequence

from mailflow.engine import upkeep
from mailflow.engine.delivery import sound, ticket_key
from mailflow.engine.examine import Examined, Subject, examine
from mailflow.engine.flow import PLUGIN_FAULTS, as_error, end, finish
from mailflow.engine.journal import (
    Arrival,
    ConflictError,
    Copy,
    Job,
    Waiting,
    arrivals,
    bodies,
    plans,
)
from mailflow.errors import BadMailError, MailflowError
from mailflow.kinds import Ticket
from mailflow.record import NamedTuple
from mailflow.typed import TYPE_CHECKING, Any, Protocol
from mailflow.verdicts import SENT, Fate

if TYPE_CHECKING:
    from mailflow.engine.config import DistributeStep
    from mailflow.engine.context import Overlay
    from mailflow.engine.flow import Flow
    from mailflow.engine.journal.database import Transaction
    from mailflow.mail import Content
    from mailflow.verdicts import Reject


class Origin(Protocol):
    """Whoever brought a mail, and waits for the word that it is ours."""

    def answer(self, key: str, fate: Fate, error: MailflowError | None = None) -> None: ...


class Arrived(NamedTuple):
    arrival: Arrival
    origin: Origin


class Pending(NamedTuple):
    """An accepted mail that is to be planned, or a copy of one that waited.

    `examined` is what came of it where that is known already; `resumed`, that an earlier
    attempt may have delivered some of it.
    """

    subject: Subject
    original: tuple[int, Content]
    parked: int | None = None
    examined: Examined | None = None
    resumed: bool = True


class Work:
    """The processing of one pipeline, used by one thread at a time.

    `send` takes the jobs of planned mails. `opened` is the owner's id where a hook
    answers for the mails with its exit status.
    """

    def __init__(
        self, flow: Flow, send: Callable[[Sequence[Job]], None], opened: str | None = None
    ) -> None:
        self.flow = flow
        self.send = send
        self.opened = opened
        self.refused: list[Reject] = []
        self._distributors: dict[str, Any] = {}
        self._unanswered: dict[str, Arrived] = {}

    def take(self, group: Sequence[Arrived]) -> None:
        """Make a group of arrivals ours, answer their origins, and plan them.

        Whatever happens, every origin has its answer: it waits for it.
        """
        self._unanswered = {each.arrival.mail.id: each for each in group}
        try:
            self._take_all(group)
        except BaseException as error:
            self._refuse(list(self._unanswered.values()), as_error(error, "the run ended"))
            raise

    def _take_all(self, group: Sequence[Arrived]) -> None:
        suspects = [each for each in group if each.arrival.crashes]
        for alone in suspects:
            if alone.arrival.crashes >= plans.CRASHES:
                self._accept([(alone, None)], crashed=True)
            else:
                self._take([alone])
        self._take([each for each in group if not each.arrival.crashes])

    def _take(self, group: list[Arrived]) -> None:
        """Those that need no decision are delivered at once, the others journalled first."""
        if not group:
            return
        if self.flow.deliver_first:
            self._deliver_first(group)
        else:
            self._accept([(each, None) for each in group])

    def resume(self, waiting: Iterable[Waiting]) -> None:
        """Plan what was accepted before, or waited; `flow.take` was told of each."""
        for each in waiting:
            try:
                loaded = plans.load(self.flow.journal, each.mail, each.copy)
            except MailflowError as error:
                self._hold(each.mail, error)
                continue
            base = getattr(loaded.mail.content, "base", loaded.mail.content)
            number = 0 if each.copy is None else self._next_copy(each.mail)
            subject = Subject(
                loaded.mail, loaded.arrived, each.step, number, each.attempt, each.approved,
                loaded.notice, loaded.step,
            )  # fmt: skip
            self._plan([Pending(subject, (loaded.body, base), each.copy)])

    def leave(self) -> None:
        """End the sessions of the distributors that were used here."""
        for name in list(self._distributors):
            self._abandon(name, None)

    def _abandon(self, name: str, error: BaseException | None) -> None:
        distributor = self._distributors.pop(name, None)
        if distributor is not None:
            end(self.flow, name, distributor, error)

    def _next_copy(self, mail: str) -> int:
        return self.flow.journal.read(lambda tx: plans.next_copy(tx, mail))

    def _accept(
        self,
        group: Iterable[tuple[Arrived, Examined | None]],
        *,
        handed_over: bool = False,
        crashed: bool = False,
    ) -> None:
        """Commit A, the common way. `handed_over`: some of them may be delivered in part.
        `crashed`: held at once, it was in too many crashes."""
        stored: list[tuple[Arrived, Examined | None, bodies.Body]] = []
        for each, result in group:
            try:
                name = f"{each.arrival.mail.id}.0"
                body = bodies.store(self.flow.journal, each.arrival.mail.content, name)
                stored.append((each, result, body))
            except MailflowError as error:
                self._refuse([each], error)
        if not stored:
            return
        pairs = [(each.arrival, body) for each, _, body in stored]
        owner = self.flow.journal.owner.id
        try:
            self.flow.journal.commit(lambda tx: arrivals.accept(tx, owner, pairs, self.opened))
        except MailflowError as error:
            self._refuse([each for each, _, _ in stored], error)
            return
        for each, _, _ in stored:
            self._answer(each, Fate.DONE)
            if not crashed:
                self.flow.take(each.arrival.mail.id, 1)
            self.flow.event("mail.accepted", mail=each.arrival.mail.id)
        if crashed:
            for each, _, _ in stored:
                upkeep.hold_crashed(self.flow, each.arrival.mail.id)
            return
        self._plan(
            [
                Pending(
                    _subject(each.arrival),
                    (0, each.arrival.mail.content),
                    examined=result,
                    resumed=handed_over or each.arrival.resumed,
                )
                for each, result, _ in stored
            ]
        )

    def _answer(self, each: Arrived, fate: Fate, error: MailflowError | None = None) -> None:
        self._unanswered.pop(each.arrival.mail.id, None)
        if fate is Fate.DONE:
            self.flow.log.info(
                "taken", step=each.arrival.lane.step, mail=each.arrival.mail.id,
                octets=each.arrival.mail.content.size,
            )  # fmt: skip
        each.origin.answer(each.arrival.key, fate, error)

    def _refuse(self, group: Iterable[Arrived], error: MailflowError) -> None:
        """They cannot be made ours now: the source keeps them."""
        for each in group:
            self._answer(each, Fate.LATER, error)

    def _hold(self, mail: str, error: MailflowError) -> None:
        upkeep.hold_mail(self.flow, mail, error)
        self.flow.give_back(mail)

    def _plan(self, pending: Sequence[Pending]) -> None:
        """Commit B for a group; one by one where one is at fault, or another process
        interferes."""
        overlay: Overlay = {}
        now = time.time()
        examined = []
        for each in pending:
            result = each.examined or examine(self.flow, each.subject, now, overlay)
            result.ledger.publish(overlay)
            examined.append(result)
        try:
            self._commit_plans(pending, examined, now)
        except (ConflictError, BadMailError) as error:
            for result in examined:
                result.ledger.undo()
            if len(pending) == 1 and isinstance(error, BadMailError):
                self._hold(pending[0].subject.mail.id, error)
                return
            for each in pending:
                self._plan([each._replace(examined=None)])

    def _commit_plans(
        self, pending: Sequence[Pending], examined: Sequence[Examined], now: float
    ) -> None:
        journal = self.flow.journal
        prepared = [
            [(copy, self._own_body(copy, one.original[1])) for copy in result.copies]
            for one, result in zip(pending, examined, strict=True)
        ]

        def work(tx: Transaction) -> list[str]:
            files: list[str] = []
            for one, result, copies in zip(pending, examined, prepared, strict=True):
                mail = one.subject.mail.id
                if one.parked is not None:
                    plans.unpark(tx, mail, one.parked)
                plans.plan(
                    tx, self.flow.pipeline.name, mail, one.original, copies,
                    result.ledger.effects(), now,
                )  # fmt: skip
                if mail in ended:
                    files += plans.release(tx, mail, now)[1]
            return files

        jobs = [_jobs(result, one.resumed) for one, result in zip(pending, examined, strict=True)]
        ended = {
            one.subject.mail.id
            for one, mine in zip(pending, jobs, strict=True)
            if not mine and self.flow.in_work(one.subject.mail.id) == 1
        }
        bodies.remove(journal, journal.commit(work))
        if self.opened is not None:
            self.refused += [result.refused for result in examined if result.refused]
        else:
            self._tell_held(examined)
        for result, mine in zip(examined, jobs, strict=True):
            result.ledger.announce()
            self.flow.event("mail.planned", mail=result.ledger.mail, copies=len(result.copies))
            self._hand_on(result.ledger.mail, mine, ended)
        if any(result.stop for result in examined):
            self.flow.halt.set()

    def _tell_held(self, examined: Sequence[Examined]) -> None:
        """Say what waits for a human now, to whoever reads the output of a run."""
        for result in examined:
            for step, reason in result.untold:
                self.flow.log.warning("held", step=step, mail=result.ledger.mail, reason=reason)

    def _hand_on(self, mail: str, jobs: list[Job], ended: set[str]) -> None:
        """From the planning of a mail to its deliveries."""
        if jobs:
            self.flow.take(mail, len(jobs))
            self.send(jobs)
        if self.flow.give_back(mail) and mail not in ended:
            journal = self.flow.journal
            _, files = journal.commit(lambda tx: plans.release(tx, mail, time.time()))
            bodies.remove(journal, files)

    def _own_body(self, copy: Copy, original: Content) -> bodies.Body | None:
        """A body of its own for content that shares none with the original."""
        content = copy.mail.content
        if bodies.parts(content, original) is not None:
            return None
        name = f"{copy.mail.id}.{copy.number}.{time.time_ns():x}"
        return bodies.store(self.flow.journal, content, name)

    def _deliver_first(self, group: list[Arrived]) -> None:
        """Deliver at once what needs no decision; all else goes the common way, under the
        id that its intent names."""
        owner = self.flow.journal.owner.id
        intended = [each.arrival for each in group]
        try:
            self.flow.journal.commit(lambda tx: arrivals.intend(tx, owner, intended, self.opened))
        except MailflowError as error:
            self._refuse(group, error)
            return
        now = time.time()
        results = [(each, examine(self.flow, _subject(each.arrival), now)) for each in group]
        simple = [(each, result) for each, result in results if result.simple]
        failed, rows = self._hand_over(simple)
        kept = [pair for pair in simple if pair[0].arrival.mail.id in failed]
        self._fulfil([each for each, _ in simple if each.arrival.mail.id not in failed], rows)
        self._accept(kept, handed_over=True)
        self._accept(pair for pair in results if not pair[1].simple)

    def _hand_over(
        self, simple: list[tuple[Arrived, Examined]]
    ) -> tuple[set[str], list[tuple[str, int, str, str]]]:
        """(mails that not every distributor has taken, rows of what was taken)."""
        failed: set[str] = set()
        rows: list[tuple[str, int, str, str]] = []
        for step in self.flow.pipeline.distribute:
            jobs: dict[str, tuple[Copy, Ticket]] = {}
            for each, result in simple:
                for copy in result.copies:
                    if any(name == step.name for name, _ in copy.deliveries):
                        key = ticket_key(copy.mail.id, copy.number, step.name)
                        ticket = Ticket(key, ("",), resumed=each.arrival.resumed)
                        jobs[key] = (copy, ticket)
            missing = set(jobs)
            try:
                for key, text in self._distribute(step, jobs):
                    missing.discard(key)
                    copy = jobs[key][0]
                    rows.append((copy.mail.id, copy.number, step.name, text))
            except PLUGIN_FAULTS as error:  # they go the common way
                text = as_error(error, step.use).text
                self.flow.log.warning("delivery failed", step=step.name, error=text)
                self._abandon(step.name, error)
            failed |= {jobs[key][0].mail.id for key in missing}
        return failed, rows

    def _distribute(
        self, step: DistributeStep, jobs: dict[str, tuple[Copy, Ticket]]
    ) -> Iterable[tuple[str, str]]:
        """(ticket key, text) of each delivery that is done."""
        if not jobs:
            return
        distributor = self._distributor(step)
        pairs = [(copy.mail, ticket) for copy, ticket in jobs.values()]
        if hasattr(distributor, "distribute_many"):
            for ticket, said in distributor.distribute_many(pairs):
                report = sound(said, step)
                if report.outcome is SENT:
                    yield ticket.key, report.text
            return
        for mail, ticket in pairs:
            reports = [sound(said, step) for said in distributor.distribute(mail, ticket)]
            if reports and all(report.outcome is SENT for report in reports):
                yield ticket.key, reports[0].text

    def _distributor(self, step: DistributeStep) -> Any:
        if step.name not in self._distributors:
            self._distributors[step.name] = self.flow.make(step).__enter__()
        return self._distributors[step.name]

    def _fulfil(self, done: list[Arrived], rows: list[tuple[str, int, str, str]]) -> None:
        """The one commit after a delivery: rows sent, keys seen; then the sources hear."""
        if not done:
            return
        ids = {each.arrival.mail.id for each in done}
        mine = [row for row in rows if row[0] in ids]
        now = time.time()
        try:
            self.flow.journal.commit(
                lambda tx: arrivals.fulfil(
                    tx, [each.arrival for each in done], mine, now, opened=self.opened is not None
                )
            )
        except MailflowError as error:
            self._refuse(done, error)
            return
        for each in done:
            self._answer(each, Fate.DONE)
            bodies.discard(self.flow.journal, each.arrival.mail.content)
        for name, distributor in self._distributors.items():
            keys = [ticket_key(mail, copy, step) for mail, copy, step, _ in mine if step == name]
            finish(self.flow, name, distributor, keys)
        for each in done:
            self.flow.event("mail.done", mail=each.arrival.mail.id)


def _subject(arrival: Arrival) -> Subject:
    return Subject(arrival.mail, arrival.at, source=arrival.lane.step)


def _jobs(result: Examined, resumed: bool) -> list[Job]:
    jobs: dict[tuple[int, str], list[str]] = {}
    for copy in result.copies:
        for step, recipient in copy.deliveries:
            jobs.setdefault((copy.number, step), []).append(recipient)
    return [
        Job(result.ledger.mail, number, step, tuple(dict.fromkeys(to)), 1, resumed)
        for (number, step), to in jobs.items()
    ]
