"""One thread's distributor at work: jobs drawn as it asks for them, each closed as soon as
it is answered.

Rule of the file: what was answered is in the journal before the next job is begun, and a
job to which nothing was done is nobody's failure.
"""

from __future__ import annotations

from collections.abc import Iterator

from mailflow.engine import upkeep
from mailflow.engine.delivery import Delivery, close_sent
from mailflow.engine.flow import PLUGIN_FAULTS, as_error, end, finish
from mailflow.engine.journal import Job, plans
from mailflow.errors import BadMailError, CrowdedError, LoginError, MailflowError, PluginError
from mailflow.typed import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from mailflow.engine.outgoing import Outgoing
    from mailflow.kinds import Ticket
    from mailflow.mail import Mail
    from mailflow.verdicts import Report

GROUP = 100
"""Mails that one call of a distributor is given, at most."""

_OF_ONE_MAIL = (PluginError, BadMailError)
"""Errors that one mail may cause: each of its group is then tried alone."""


class Hands:
    """A distributor, opened when needed and replaced after an error."""

    def __init__(self, outgoing: Outgoing) -> None:
        self.outgoing = outgoing
        self.flow = outgoing.flow
        self.step = outgoing.step
        self._distributor: Any = None
        self._open: list[Delivery] = []
        self._taken: list[Delivery] = []
        self._progress = False

    def work(self) -> bool:
        """Do a group of jobs; each ends in commit D, whatever happens. True where the other
        side takes no more sessions and this thread must go."""
        self._progress = False
        error = self.outgoing.down()
        if error is not None:
            for _ in self._draw():
                self._open.pop().close(error)
            return False
        error = self._hand_over()
        crowded = isinstance(error, CrowdedError) and self.outgoing.shrink()
        if error is not None and not crowded and self._out_of_reach(error):
            self.outgoing.failed(error)
        struck = self._progress or not all(delivery.quiet for delivery in self._open)
        self._settle(error, unharmed=crowded or struck)
        self._close_taken()
        return crowded

    def _out_of_reach(self, error: MailflowError) -> bool:
        """Whether it is the distributor's error and no mail's: nothing was done to any, or
        it wants a login."""
        if isinstance(error, LoginError):
            return True
        quiet = not self._progress and all(delivery.quiet for delivery in self._open)
        return quiet and not isinstance(error, _OF_ONE_MAIL)

    def _settle(self, error: MailflowError | None, *, unharmed: bool) -> None:
        """See to what was drawn and not answered. `unharmed`: the error says nothing about
        those to which nothing was done."""
        unanswered, self._open = self._open, []
        alone = len(unanswered) > 1 and isinstance(error, _OF_ONE_MAIL)
        again: list[Job] = []
        for delivery in unanswered:
            if not delivery.quiet or error is None:
                delivery.close(error)
            elif alone:
                delivery.again()
                self._do_alone(delivery)
            elif unharmed and error.temporary:
                again.append(delivery.job._replace(resumed=True))
            else:
                delivery.close(error)
        if again:
            self.outgoing.put_back(again)

    def _do_alone(self, delivery: Delivery) -> None:
        self._progress = False
        self._open.append(delivery)
        error = self.outgoing.down() or self._hand_over([delivery])
        if error is not None and self._out_of_reach(error):
            self.outgoing.failed(error)
        if delivery in self._open:
            self._open.remove(delivery)
            delivery.close(error)

    def _draw(self) -> Iterator[tuple[Mail, Ticket]]:
        """Jobs with their mails, as they are asked for; one whose octets are gone is held."""
        drawn = 0
        most = GROUP if hasattr(self.step.component, "distribute_many") else 1
        while drawn < most:
            job = self.outgoing.draw(len(self._open) + len(self._taken))
            if job is None:
                return
            try:
                loaded = plans.load(self.flow.journal, job.mail, job.copy)
            except MailflowError as error:
                upkeep.hold_lost(self.flow, job, error)
                continue
            drawn += 1
            delivery = Delivery(self.flow, self.step, job, loaded)
            self._open.append(delivery)
            yield delivery.mail, delivery.ticket

    def leave(self) -> None:
        """End the distributor's session, in order."""
        self._end(None)

    def _end(self, error: BaseException | None) -> None:
        distributor, self._distributor = self._distributor, None
        if distributor is not None:
            self.outgoing.serves(well=False)
            end(self.flow, self.step.name, distributor, error)

    def _hand_over(self, deliveries: list[Delivery] | None = None) -> MailflowError | None:
        """Let the distributor work, on these alone, which are open, or on what it asks for."""
        try:
            if self._distributor is None:
                distributor = self.flow.make(self.step)
                self._distributor = distributor.__enter__()
            if deliveries is None:
                self._distribute(self._draw())
            else:
                self._distribute((each.mail, each.ticket) for each in deliveries)
        except PLUGIN_FAULTS as error:  # a distributor may raise anything
            failure = as_error(error, self.step.use)
            if not (self._open or self._progress):  # opening failed: so did what waits for it
                for _ in self._draw():
                    pass
            self._end(error)
            return failure
        self.outgoing.succeeded()
        return None

    def _distribute(self, jobs: Iterator[tuple[Mail, Ticket]]) -> None:
        if hasattr(self._distributor, "distribute_many"):
            for ticket, report in self._distributor.distribute_many(jobs):
                self._report(ticket, report)
            return
        for mail, ticket in jobs:
            for report in self._distributor.distribute(mail, ticket):
                self._report(ticket, report)

    def _report(self, ticket: Ticket, report: Report) -> None:
        """Take a report; where it is the last one of a delivery, write what became of it.

        Where a delivery can be repeated nothing is lost by doing so at the end of the group.
        """
        delivery = self._delivery(ticket, report)
        delivery.report(report)
        if not self._progress:
            self._progress = True
            self.outgoing.serves(well=True)
        if not delivery.complete:
            return
        self._open.remove(delivery)
        if not delivery.all_sent:
            delivery.close(None)
        else:
            self._taken.append(delivery)
            if not self.step.component.repeatable:
                self._close_taken()

    def _delivery(self, ticket: Ticket, report: Report) -> Delivery:
        """The one that the report is about: parts of one mail have the same key."""
        mine = [each for each in self._open if each.ticket.key == ticket.key]
        if not mine:
            raise PluginError(f"{self.step.use} reports on {ticket.key}, which it was not given")
        to = getattr(report, "recipient", None)
        return next((each for each in mine if to in each.asked), mine[0])

    def _close_taken(self) -> None:
        taken = self._taken
        if taken:
            close_sent(self.flow, taken)
            self._taken = []
            keys = [delivery.ticket.key for delivery in taken]
            finish(self.flow, self.step.name, self._distributor, keys)
