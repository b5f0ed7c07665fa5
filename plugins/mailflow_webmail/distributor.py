"""Sends mail by the compose form of a webmail, for those who have no SMTP at all.

Rule of the file: a mail that the form cannot say whole is refused before anything is asked;
the ticket is committed right before the one request that sends.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, ClassVar, Self
from urllib.parse import urlsplit

from mailflow.addresses import same
from mailflow.errors import BadMailError, RefusedError
from mailflow.log import clean
from mailflow.options import Choice, Integer, ListOf, Size, Text
from mailflow.verdicts import FAILED, LATER, SENT, Outcome, Report
from mailflow_webmail.sending.letter import KINDS, letter
from mailflow_webmail.settings import WebmailOptions

if TYPE_CHECKING:
    from mailflow.kinds import Runtime, Ticket
    from mailflow.mail import Mail
    from mailflow.options import Options
    from mailflow_webmail.account.session import Session
    from mailflow_webmail.sending.letter import Letter


class WebmailSendOptions(WebmailOptions):
    """Which webmail sends, and what of a mail may be lost there."""

    examples = {**WebmailOptions.examples, "drops": ["List-*", "Precedence"]}

    loses = ListOf(
        'What may be lost of a mail, which is refused otherwise: "html", what stands beside its'
        ' plain text; "inline", that a part is shown among the text; "name", the name that its'
        ' From gives; "sender", its envelope sender; "addressees", those in To and Cc who are no'
        ' recipients, since the form sends to all whom it names; "line-ends", bare LF in files, at'
        " webmails that change them.",
        Choice("", *KINDS), default=(),
    )  # fmt: skip
    drops = ListOf(
        'Header fields that may be lost, such as "List-Id"; "List-*" is all that begin so.',
        Text("", least=1), default=(),
    )  # fmt: skip
    recipients_max = Integer(
        "The most recipients of one form; more blind ones are sent in several.",
        default=50, least=1,
    )  # fmt: skip
    max_size = Size("A mail with more octets is refused.", default=25 << 20)
    parallel = 1


class WebmailDistributor:
    """Sends mail by the compose form of a webmail."""

    options: ClassVar[type[Options]] = WebmailSendOptions
    repeatable = False
    per_recipient = True
    sends = True

    def __init__(self, options: WebmailSendOptions, runtime: Runtime) -> None:
        self._options = options
        self._runtime = runtime
        self._host = urlsplit(options.url).hostname or ""

    def __enter__(self) -> Self:
        from mailflow_webmail.account.session import opened
        from mailflow_webmail.sending.sender import Sender, carried

        self._session: Session = opened(self._options, self._runtime.halt, self._runtime.scratch)
        self._carried = carried(self._session.site)
        self._sender = Sender(self._session, self._runtime.scratch, self._runtime.halt)
        return self

    def __exit__(self, *_: object) -> None:
        self._session.close()

    def distribute(self, mail: Mail, ticket: Ticket) -> Iterator[Report]:
        """One form for all recipients, or for so many as it takes; each has its outcome."""
        due = ticket.recipients
        try:
            made = self._letter(mail, due)
            if ticket.resumed:
                done = self._sender.sent_to(made)
                text = "found among what the webmail has sent"
                yield from self._reports([r for r in due if same(r) in done], SENT, "", text)
                due = tuple(r for r in due if same(r) not in done)
                if not due:
                    return
                made = self._letter(mail, due)
            groups = self._groups(made, due)
        except BadMailError as error:
            yield from self._reports(due, FAILED, "5.6.0", error.text)
            return
        for group, recipients in groups:
            yield from self._send(group, recipients, ticket)

    def offers(self) -> Iterator[str]:
        """What the webmail says it can; it is logged in to, and sent nothing."""
        choices = clean(", ".join(self._sender.choices())) or "what the mail says"
        yield f"{self._session.site.name} at {self._host} sends as {choices}"
        yield f"its form says {', '.join(sorted(self._carried))}"
        files = "are taken" if self._session.site.has("attach") else "are not taken"
        yield f"files {files}"

    def _send(self, made: Letter, recipients: Sequence[str], ticket: Ticket) -> Iterator[Report]:
        from mailflow_webmail.sending.sender import NotSentError

        try:
            self._sender.post(made, lambda: ticket.commit(recipients))
        except (BadMailError, RefusedError) as error:
            yield from self._reports(recipients, FAILED, "5.6.0", error.text)
            return
        except NotSentError as error:
            outcome, code = (LATER, "4.0.0") if error.temporary else (FAILED, "5.0.0")
            yield from self._reports(recipients, outcome, code, error.text)
            return
        yield from self._reports(recipients, SENT, "", "the webmail says that it was sent")

    def _groups(
        self, made: Letter, recipients: tuple[str, ...]
    ) -> list[tuple[Letter, tuple[str, ...]]]:
        """Letters with no more recipients than a form takes. Raises BadMailError."""
        most = self._options.recipients_max
        if len(recipients) <= most:
            return [(made, recipients)]
        if made.to or made.cc:
            raise BadMailError(
                f"it has {len(recipients)} recipients, and To or Cc names some: a form takes"
                f" `recipients_max`, {most}, and would name these to some only"
            )
        parts = [made.blind[at : at + most] for at in range(0, len(made.blind), most)]
        return [(made._replace(blind=part), part) for part in parts]

    def _letter(self, mail: Mail, recipients: Sequence[str]) -> Letter:
        """Raises BadMailError."""
        most = self._options.max_size
        if mail.content.size > most:
            raise BadMailError(f"it has {mail.content.size} octets; `max_size` is {most}")
        return letter(
            mail, recipients, carried=self._carried,
            loses=self._options.loses, drops=self._options.drops,
        )  # fmt: skip

    def _reports(
        self, recipients: Sequence[str], outcome: Outcome, code: str, text: str
    ) -> Iterator[Report]:
        for recipient in recipients:
            yield Report(recipient, outcome, code, text, self._host)
