"""From arrival to plan: commits A and B, in groups, and the deliver-first way.

Rule of the file: a source is told that a mail is done only after the commit that
makes it ours, or after every destination has it.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterable, Sequence
from contextlib import suppress
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol

from mailflow.engine import upkeep
from mailflow.engine.delivery import ticket_key
from mailflow.engine.examine import Examined, Subject, examine
from mailflow.engine.flow import as_error
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
from mailflow.errors import MailflowError
from mailflow.kinds import Ticket
from mailflow.mail import OctetFile
from mailflow.verdicts import SENT, Fate

if TYPE_CHECKING:
    from mailflow.engine.config import DistributeStep
    from mailflow.engine.context import Overlay
    from mailflow.engine.flow import Flow
    from mailflow.engine.journal.database import Transaction
    from mailflow.mail import Content


class Origin(Protocol):
    """Whoever brought a mail, and waits for the word that it is ours."""

    def answer(self, key: str, fate: Fate, error: MailflowError | None = None) -> None: ...


class Arrived(NamedTuple):
    arrival: Arrival
    origin: Origin


class Pending(NamedTuple):
    """An accepted mail that is to be planned, or a copy of one that waited."""

    subject: Subject
    original: tuple[int, Content]
    parked: int | None = None


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
        self.refused: list[Examined] = []
        self._distributors: dict[str, Any] = {}

    def take(self, group: Sequence[Arrived]) -> None:
        """Make a group of arrivals ours, answer their origins, and plan them."""
        suspects = [each for each in group if each.arrival.crashes]
        for alone in suspects:
            if alone.arrival.crashes >= plans.CRASHES:
                self._accept([alone], crashed=True)
            else:
                self._take([alone])
        self._take([each for each in group if not each.arrival.crashes])

    def _take(self, rest: list[Arrived]) -> None:
        if rest and self.flow.deliver_first:
            rest = self._deliver_first(rest)
        if rest:
            self._accept(rest)

    def resume(self, waiting: Iterable[Waiting]) -> None:
        """Plan what was accepted before, or waited; `flow.take` was told of each."""
        pending = []
        for each in waiting:
            loaded = plans.load(self.flow.journal, each.mail, each.copy)
            base = getattr(loaded.mail.content, "base", loaded.mail.content)
            number = 0 if each.copy is None else self._next_copy(each.mail)
            subject = Subject(
                loaded.mail, loaded.arrived, each.step, number, each.attempt, each.approved,
                loaded.notice, loaded.step,
            )  # fmt: skip
            pending.append(Pending(subject, (loaded.body, base), each.copy))
        for one in pending:
            self._plan([one])

    def leave(self) -> None:
        """End the sessions of the distributors that were used here."""
        distributors, self._distributors = self._distributors, {}
        for name, distributor in distributors.items():
            try:
                distributor.__exit__(None, None, None)
            except Exception as error:  # noqa: BLE001  # all reports are in already
                self.flow.log.warning("a session did not end in order", step=name, error=str(error))

    def _next_copy(self, mail: str) -> int:
        return self.flow.journal.read(lambda tx: plans.next_copy(tx, mail))

    def _accept(
        self, group: list[Arrived], *, intended: bool = False, crashed: bool = False
    ) -> None:
        """Commit A, the common way. `crashed`: held at once, it was in too many crashes."""
        stored: list[tuple[Arrived, bodies.Body]] = []
        for each in group:
            try:
                name = f"{each.arrival.mail.id}.0"
                stored.append(
                    (each, bodies.store(self.flow.journal, each.arrival.mail.content, name))
                )
            except MailflowError as error:
                self._refuse([each], error)
        if not stored:
            return

        def work(tx: Transaction) -> None:
            if intended or crashed:
                for each, body in stored:
                    arrivals.keep_intent(tx, each.arrival, body, opened=self.opened is not None)
                return
            pairs = [(each.arrival, body) for each, body in stored]
            arrivals.accept(tx, self.flow.journal.owner.id, pairs, self.opened)

        try:
            self.flow.journal.commit(work)
        except MailflowError as error:
            self._refuse([each for each, _ in stored], error)
            return
        for each, _ in stored:
            each.origin.answer(each.arrival.key, Fate.DONE)
            self.flow.take(each.arrival.mail.id, 1)
            self.flow.event("mail.accepted", mail=each.arrival.mail.id)
        if crashed:
            for each, _ in stored:
                self.flow.give_back(each.arrival.mail.id)
                upkeep.hold_crashed(self.flow, each.arrival.mail.id)
            return
        self._plan(
            [
                Pending(
                    _subject(each.arrival),
                    (0, each.arrival.mail.content),
                )
                for each, _ in stored
            ],
            resumed=intended,
        )

    def _refuse(self, group: Iterable[Arrived], error: MailflowError) -> None:
        """They cannot be made ours now: the source keeps them."""
        for each in group:
            each.origin.answer(each.arrival.key, Fate.LATER, error)

    def _plan(self, pending: Sequence[Pending], *, resumed: bool = False) -> None:
        """Commit B for a group; one by one where another process interferes."""
        overlay: Overlay = {}
        now = time.time()
        examined = [examine(self.flow, each.subject, now, overlay) for each in pending]
        try:
            self._commit_plans(pending, examined, now, resumed)
        except ConflictError:
            for result in examined:
                result.ledger.undo()
            if len(pending) == 1:
                self._plan(pending, resumed=resumed)
                return
            for each in pending:
                self._plan([each], resumed=resumed)

    def _commit_plans(
        self, pending: Sequence[Pending], examined: Sequence[Examined], now: float, resumed: bool
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

        jobs = [_jobs(result, resumed) for result in examined]
        ended = {
            one.subject.mail.id
            for one, mine in zip(pending, jobs, strict=True)
            if not mine and self.flow.in_work(one.subject.mail.id) == 1
        }
        bodies.remove(journal, journal.commit(work))
        self.refused += [result for result in examined if result.refused]
        for result, mine in zip(examined, jobs, strict=True):
            self.flow.event("mail.planned", mail=result.ledger.mail, copies=len(result.copies))
            self._hand_on(result.ledger.mail, mine, ended)
        if any(result.stop for result in examined):
            self.flow.halt.set()

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

    def _deliver_first(self, group: list[Arrived]) -> list[Arrived]:
        """Deliver at once what needs no decision; gives what goes the common way."""
        now = time.time()
        results = [(each, examine(self.flow, _subject(each.arrival), now)) for each in group]
        simple = [(each, result) for each, result in results if result.simple]
        rest = [each for each, result in results if not result.simple]
        # A mail whose intent was cut keeps its id: the common way replaces the intent.
        if not simple:
            return rest
        intended = [each.arrival for each, _ in simple]
        owner = self.flow.journal.owner.id
        try:
            self.flow.journal.commit(lambda tx: arrivals.intend(tx, owner, intended, self.opened))
        except MailflowError as error:
            self._refuse([each for each, _ in simple], error)
            return rest
        failed, rows = self._hand_over(simple)
        done = [each for each, _ in simple if each.arrival.mail.id not in failed]
        self._fulfil(done, rows)
        kept = [each for each, _ in simple if each.arrival.mail.id in failed]
        if kept:
            self._accept(kept, intended=True)
        return rest

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
            except Exception as error:  # noqa: BLE001  # they go the common way
                self._distributors.pop(step.name, None)
                text = as_error(error, step.use).text
                self.flow.log.warning("delivery failed", step=step.name, error=text)
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
            for ticket, report in distributor.distribute_many(pairs):
                if report.outcome is SENT:
                    yield ticket.key, report.text
            return
        for mail, ticket in pairs:
            reports = list(distributor.distribute(mail, ticket))
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
            each.origin.answer(each.arrival.key, Fate.DONE)
            _discard(each.arrival.mail.content)
        for name, distributor in self._distributors.items():
            finish = getattr(distributor, "finish", None)
            if finish is not None:
                finish(
                    [ticket_key(mail, copy, step) for mail, copy, step, _ in mine if step == name]
                )
        for each in done:
            self.flow.event("mail.done", mail=each.arrival.mail.id)


def _subject(arrival: Arrival) -> Subject:
    return Subject(arrival.mail, arrival.at, source=arrival.lane.step)


def _discard(content: Content) -> None:
    """Octets that every destination has: a file of the fetcher's is not needed any more."""
    if isinstance(content, OctetFile):
        with suppress(OSError):
            os.unlink(content.path)


def _jobs(result: Examined, resumed: bool) -> list[Job]:
    jobs: dict[tuple[int, str], list[str]] = {}
    for copy in result.copies:
        for step, recipient in copy.deliveries:
            jobs.setdefault((copy.number, step), []).append(recipient)
    return [
        Job(result.ledger.mail, number, step, tuple(dict.fromkeys(to)), 1, resumed)
        for (number, step), to in jobs.items()
    ]
