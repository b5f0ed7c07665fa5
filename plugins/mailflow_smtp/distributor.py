"""Hands mail to an SMTP server, and says for each recipient what became of it.

Rule of the file: `ticket.commit` stands right before the final dot, the one
irrevocable act (RFC 5321, 4.1.1.4); whatever goes wrong before it is no doubt.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import cached_property
from typing import TYPE_CHECKING, ClassVar, Self

from mailflow.errors import BadMailError, LoginError, PeerError, RefusedError, UnavailableError
from mailflow.mail import chunks
from mailflow.net import is_loopback, tls_context
from mailflow.options import (
    Address,
    Choice,
    Duration,
    Integer,
    ListOf,
    Options,
    ServerOptions,
    Text,
)
from mailflow.sasl import MECHANISMS, Credentials
from mailflow.verdicts import FAILED, LATER, SENT, Report
from mailflow_smtp.session import Session
from mailflow_smtp.wire import Extensions, Reply, Stuffer, Transaction, path

if TYPE_CHECKING:
    import ssl
    from types import TracebackType

    from mailflow.kinds import Runtime, Ticket
    from mailflow.mail import Mail

PORTS = {"implicit": 465, "starttls": 587, "none": 25}

_HELO = re.compile(r"[A-Za-z0-9]([A-Za-z0-9.-]*[A-Za-z0-9])?|\[[0-9A-Za-z.:]+\]")


class SmtpOptions(ServerOptions):
    """The server that takes the mail, and how to talk to it."""

    port = Integer.optional(
        'Its port; by default 465 for tls = "implicit", 587 for "starttls", 25 for "none".',
        least=1, most=65535,
    )  # fmt: skip
    tls = Choice(
        "How the connection is protected: TLS from the first octet, after STARTTLS (the default),"
        " or not at all, which is the default on loopback only.",
        "implicit", "starttls", "none", default="",
    )  # fmt: skip
    timeout = Duration("How long to wait for each answer (RFC 5321, 4.5.3.2).", default=300.0)
    auth = ListOf(
        "The mechanisms to log in with, in this order; the next is tried where one is refused.",
        Choice("A mechanism.", *MECHANISMS), default=tuple(MECHANISMS),
    )  # fmt: skip
    helo = Text.optional(
        "The name to say in EHLO; by default this host's full name, or its address in brackets."
    )
    sender = Address.optional(
        "The reverse-path of all that is sent, whatever the mail's own is; a bounce's empty one"
        " stays."
    )
    recipients_max = Integer(
        "The most recipients in one transaction; fewer where the server says so.",
        default=100, least=1,
    )  # fmt: skip
    message_timeout = Duration(
        "How long to wait for the answer to a whole message: who leaves early sends twice.",
        default=600.0,
    )

    @property
    def protection(self) -> str:
        """`tls`, with its default worked out."""
        return self.tls or ("none" if is_loopback(self.host) else "starttls")

    @property
    def port_number(self) -> int:
        return self.port or PORTS[self.protection]

    def faults(self) -> Iterator[tuple[str, str]]:
        if self.user is not None and self.password is None:
            yield "password", f"expected a password for user {self.user!r}"
        if self.password is not None and self.user is None:
            yield "user", "expected the login name that the password is for"
        if not self.auth:
            yield "auth", f"expected at least one of {', '.join(MECHANISMS)}"
        if self.helo is not None and not _HELO.fullmatch(self.helo):
            yield "helo", 'expected a host name or an address literal such as "[192.0.2.1]"'


class SmtpDistributor:
    """Sends mail to a mail server, over one connection for many mails."""

    options: ClassVar[type[Options]] = SmtpOptions
    schemes: ClassVar[Mapping[str, Mapping[str, object]]] = {
        "smtp": {},
        "smtps": {"tls": "implicit"},
    }
    repeatable = False
    per_recipient = True
    sends = True

    def __init__(self, options: SmtpOptions, runtime: Runtime) -> None:
        self._options = options
        self._runtime = runtime
        self._session: Session | None = None
        self._tls: ssl.SSLContext | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if self._session:
            self._session.quit()
            self._session = None

    def distribute(self, mail: Mail, ticket: Ticket) -> Iterator[Report]:
        """One transaction for up to `recipients_max`; each recipient's outcome is its own."""
        letter = Letter(mail, self._sender(mail))
        due: list[str] = []
        for recipient in dict.fromkeys(ticket.recipients):
            if problem := _address_problem(recipient):
                yield Report(recipient, FAILED, "5.1.3", problem)
            else:
                due.append(recipient)
        # Apart, so that what only some need (RFC 6531) hinders none of the others.
        for waiting in _by_charset(due):
            while waiting:
                done: set[str] = set()
                for report in self._transact(letter, ticket, waiting):
                    done.add(report.recipient)
                    yield report
                waiting = [recipient for recipient in waiting if recipient not in done]

    def _sender(self, mail: Mail) -> str:
        """The reverse-path. Raises BadMailError where none is known, or it cannot be said."""
        sender = mail.envelope.sender
        if sender != "" and self._options.sender is not None:
            sender = self._options.sender.address
        if sender is None:
            raise BadMailError(
                "no envelope sender is known for this mail: set `sender` in the [[distribute]]"
                " step, or let an earlier step set one"
            )
        try:
            path(sender)
        except ValueError as error:
            raise BadMailError(f"the envelope sender cannot be sent: {error}") from None
        return sender

    def _transact(self, letter: Letter, ticket: Ticket, waiting: list[str]) -> Iterator[Report]:
        """One transaction for the first of `waiting`; those not reported wait for another."""
        try:
            session, fresh = self._connected()
            try:
                parameters = letter.parameters(session.extensions, waiting)
            except RefusedError as error:
                code = str(error.fields["code"])
                yield from (Report(each, FAILED, code, error.text) for each in waiting)
                return
            count = min(self._options.recipients_max, session.recipients_max or len(waiting))
            transaction = Transaction(path(letter.sender), waiting[:count], parameters)
            try:
                session.envelope(transaction)
            except UnavailableError:
                self._drop()
                yield from self._refusals(session, transaction, waiting)
                if transaction.denied or not fresh:
                    return  # servers close idle connections at will: that is no failure
                raise
            yield from self._refusals(session, transaction, waiting)
            if transaction.opened:
                yield from self._hand_over(session, letter, ticket, transaction.accepted)
        except BaseException:  # GeneratorExit too: a dialogue left half-way cannot go on
            self._drop()
            raise

    def _connected(self) -> tuple[Session, bool]:
        """The session, and whether it is a fresh one."""
        if self._session and self._session.alive():
            return self._session, False
        self._drop()
        options = self._options
        if options.protection != "none" and self._tls is None:
            self._tls = tls_context(options.ca_file)
        credentials = None
        if options.user is not None and options.password is not None:
            credentials = Credentials(options.user, options.password.reveal())
        self._session = Session.open(options, self._runtime.halt, credentials, self._tls)
        self._runtime.log.debug(
            "connection opened", host=self._session.peer, tls=options.protection
        )
        return self._session, True

    def _drop(self) -> None:
        """Leave without a word."""
        if self._session:
            self._session.close()
            self._session = None

    def _refusals(
        self, session: Session, transaction: Transaction, waiting: Sequence[str]
    ) -> Iterator[Report]:
        """What the envelope's replies decide. Raises LoginError where one is wanted first."""
        replies = [reply for _, reply in transaction.refused]
        if transaction.denied:
            replies = [transaction.denied]
        if not transaction.accepted and any(reply.code == 530 for reply in replies):
            raise LoginError(
                f"{session.peer} wants a login or TLS first: {replies[-1]}; set `user`,"
                " `password` and `tls`"
            )
        if transaction.surplus:
            session.recipients_max = transaction.room
        if transaction.denied:
            yield from self._reports(waiting, transaction.denied)
        for recipient, reply in transaction.refused:
            yield from self._reports((recipient,), reply)

    def _hand_over(
        self, session: Session, letter: Letter, ticket: Ticket, accepted: Sequence[str]
    ) -> Iterator[Report]:
        """The content, the commit, the final dot, and what the server makes of it."""
        if not accepted:
            self._cancel(session)
            return
        early = session.content(letter.pieces(self._note_mended))
        if early:
            self._drop()
            yield from self._reports(accepted, early)
            return
        ticket.commit(tuple(accepted))
        try:
            (reply,) = session.finish(self._options.message_timeout)
        except (UnavailableError, PeerError) as error:
            text = f"{error.text} (the answer to a whole mail is missing)"
            raise type(error)(text, **error.fields) from None
        yield from self._reports(accepted, reply)

    def _reports(self, recipients: Sequence[str], reply: Reply) -> Iterator[Report]:
        """What one reply means for each of `recipients`."""
        outcome = LATER
        if reply.positive or reply.permanent:
            outcome = SENT if reply.positive else FAILED
        for recipient in recipients:
            yield Report(recipient, outcome, reply.status, str(reply), self._options.host)

    def _cancel(self, session: Session) -> None:
        """End the data that a server asked for though nobody is to get it (RFC 2920, 3.1)."""
        try:
            session.finish(self._options.message_timeout)
        except (UnavailableError, PeerError) as error:
            self._runtime.log.debug("connection dropped", host=session.peer, reason=str(error))
            self._drop()

    def _note_mended(self, mail: Mail, count: int) -> None:
        self._runtime.log.info("bare line ends became CRLF", mail=mail.id, count=count)


class Letter:
    """One mail as it is to be sent: what it needs of the server, and its octets."""

    def __init__(self, mail: Mail, sender: str) -> None:
        self.mail = mail
        self.sender = sender

    @cached_property
    def eight_bit(self) -> bool:
        """Whether any octet is outside ASCII."""
        return not all(piece.isascii() for piece in chunks(self.mail.content))

    def parameters(self, offered: Extensions, recipients: Sequence[str]) -> bytes:
        """What MAIL says besides the path. Raises RefusedError where the server is not able.

        Converting would break signatures, and octets cut down to 7 bits are lost, so
        what the server cannot take is refused before it is sent.
        """
        words = []
        size = self.mail.content.size
        if "SIZE" in offered:
            if offered.size is not None and size > offered.size:
                raise RefusedError(
                    f"the mail has {size} octets, the server takes {offered.size}", code="5.3.4"
                )
            words.append(f" SIZE={size}")
        if self.eight_bit:
            if "8BITMIME" not in offered:
                raise RefusedError(
                    "the mail has 8-bit octets, and the server does not offer 8BITMIME",
                    code="5.6.3",
                )
            words.append(" BODY=8BITMIME")
        foreign = [each for each in (self.sender, *recipients) if not each.isascii()]
        if foreign:
            if "SMTPUTF8" not in offered:
                raise RefusedError(
                    f"the address {foreign[0]} is not ASCII, and the server does not offer"
                    " SMTPUTF8",
                    code="5.6.7",
                )
            words.append(" SMTPUTF8")
        return "".join(words).encode("ascii")

    def pieces(self, note: Callable[[Mail, int], None]) -> Iterator[bytes]:
        """The octets in the form of the wire; `note` is told of line ends that were mended."""
        stuffer = Stuffer()
        for piece in chunks(self.mail.content):
            yield stuffer.feed(piece)
        yield stuffer.end()
        if stuffer.mended:
            note(self.mail, stuffer.mended)


def _address_problem(recipient: str) -> str:
    """Why a recipient cannot be asked for, "" if it can."""
    try:
        path(recipient)
    except ValueError as error:
        return str(error)
    return "" if recipient else "not an address: it is empty"


def _by_charset(recipients: Sequence[str]) -> list[list[str]]:
    """Those in ASCII, and the others."""
    return [
        [recipient for recipient in recipients if recipient.isascii()],
        [recipient for recipient in recipients if not recipient.isascii()],
    ]
