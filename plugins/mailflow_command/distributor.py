"""Hand each mail to a program, and take its exit status for an answer.

Rule of the file: the ticket is committed right before the program is started. From then
on only its exit status can tell what became of the mail; a program that gives none, since
it was cut or a signal ended it, leaves that mail in doubt.
"""

from __future__ import annotations

from collections.abc import Iterator

from mailflow.errors import BadMailError, UnavailableError, from_os
from mailflow.program import NotStartedError, ProgramOptions, Statuses, failure, run
from mailflow.typed import TYPE_CHECKING, ClassVar, Self
from mailflow.verdicts import FAILED, LATER, SENT, Outcome, Report

if TYPE_CHECKING:
    from mailflow.kinds import Runtime, Ticket
    from mailflow.mail import Mail
    from mailflow.options import Options
    from mailflow.program import Ended

GRACE = 10.0
"""Seconds that a program has to finish when the engine stops: its answer is worth them."""

PRINTED = 1 << 20
"""A destination that prints more octets than this has gone wrong."""


class CommandOptions(ProgramOptions):
    """The program, and what its exit status means."""

    status = Statuses(
        "What an exit status means where it is not what sysexits(3) says: sent, later, or failed"
        " for good.",
        "sent", "later", "failed", default={"0": "sent"},
    )  # fmt: skip


class CommandDistributor:
    """Hands each mail to a program, once for all its recipients."""

    options: ClassVar[type[Options]] = CommandOptions
    repeatable = False
    per_recipient = False
    sends = False

    def __init__(self, options: CommandOptions, runtime: Runtime) -> None:
        self._options = options
        self._runtime = runtime

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        """Nothing: each program has ended."""

    def distribute(self, mail: Mail, ticket: Ticket) -> Iterator[Report]:
        """One report. Raises UnavailableError where the program gave no answer."""
        for recipient in ticket.recipients:
            yield self._hand_over(mail, recipient, ticket)

    def _hand_over(self, mail: Mail, recipient: str, ticket: Ticket) -> Report:
        self._runtime.halt.check()
        options = self._options
        try:
            words = options.words(mail)
            variables = options.variables(mail)
        except BadMailError as error:
            return Report(recipient, FAILED, "5.6.0", error.text)
        variables["MAILFLOW_KEY"] = ticket.key
        ticket.commit((recipient,))
        try:
            ended = run(
                words, options.octets(mail), timeout=options.timeout, halt=self._runtime.halt,
                scratch=self._runtime.scratch, environment=variables,
                directory=self._runtime.base, most=PRINTED, grace=GRACE,
            )  # fmt: skip
        except NotStartedError as error:
            return Report(recipient, LATER, "4.3.0", error.text)
        except OSError as error:
            raise from_os(error, f"read mail {mail.id} for {words[0]}") from None
        if ended.status < 0:
            raise UnavailableError(str(ended))
        return self._report(recipient, ended)

    def _report(self, recipient: str, ended: Ended) -> Report:
        error = failure(ended)
        code = str(error.fields["code"]) if error is not None else "2.0.0"
        default = "later" if error is None or error.temporary else "failed"
        outcome = Outcome(self._options.status.get(str(ended.status), default))
        if outcome is SENT:
            return Report(recipient, SENT, "", ended.said)
        wanted = "4" if outcome is LATER else "5"
        return Report(recipient, outcome, wanted + code[1:], str(ended))


class EachCommandDistributor(CommandDistributor):
    """Hands each mail to a program once for each recipient, named by {recipient}."""

    per_recipient = True

    def _hand_over(self, mail: Mail, recipient: str, ticket: Ticket) -> Report:
        envelope = mail.envelope._replace(recipients=(recipient,))
        return super()._hand_over(mail._replace(envelope=envelope), recipient, ticket)
