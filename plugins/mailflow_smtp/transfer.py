"""Many mails over one connection, each envelope in flight with the content before it.

    MAIL RCPT RCPT DATA | content . MAIL RCPT DATA | content . MAIL RCPT DATA | content .

Rule of the file: `ticket.commit` stands right before the final dot, or the last chunk, the
one irrevocable act (RFC 5321, 4.1.1.4); whatever goes wrong before it is no doubt.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Generator, Iterable, Iterator

from mailflow.errors import (
    CrowdedError,
    LoginError,
    MailflowError,
    PeerError,
    RefusedError,
    UnavailableError,
)
from mailflow.typed import TYPE_CHECKING
from mailflow.verdicts import FAILED, LATER, SENT, Report
from mailflow_smtp.letter import Letter
from mailflow_smtp.settings import RECIPIENTS
from mailflow_smtp.wire import Reply, Transaction, path

if TYPE_CHECKING:
    from collections.abc import Collection, Sequence

    from mailflow.kinds import Runtime, Ticket
    from mailflow.mail import Mail
    from mailflow_smtp.session import Session
    from mailflow_smtp.settings import Settings

AT_ONCE = 64 << 10
"""A mail of so many octets goes with its envelope, before anybody was asked whether he wants
it, where the server takes that (RFC 3030)."""

LONG = 256 << 10
"""Octets that take some time: what was reported before them is written down first."""

_CROWDED = (421, 454)
_UNKNOWN = (500, 502, 504)
OUT_OF_ORDER = 503

Said = tuple["Ticket", Report]
Asking = Generator[Said, None, "Turn | None"]


class Turn:
    """Recipients of one mail that may share a transaction, and what became of asking."""

    __slots__ = (
        "behind", "committed", "error", "letter", "recipients", "session", "ticket", "transaction"
    )  # fmt: skip

    letter: Letter
    transaction: Transaction

    def __init__(self, ticket: Ticket, recipients: Sequence[str]) -> None:
        self.ticket = ticket
        self.recipients = list(recipients)
        self.session: Session | None = None
        self.error: Exception | None = None
        self.behind = False
        self.committed = False


class Turns:
    """The turns of all jobs, in order. Draws the next job as late as can be."""

    def __init__(self, jobs: Iterable[tuple[Mail, Ticket]], settings: Settings) -> None:
        self._jobs = iter(jobs)
        self._settings = settings
        self._waiting: deque[Turn] = deque()
        self.unspeakable: list[Said] = []

    def next(self) -> Turn | None:
        while not self._waiting:
            job = next(self._jobs, None)
            if job is None:
                return None
            self._take(*job)
        return self._waiting.popleft()

    def put_back(self, turn: Turn, recipients: Sequence[str]) -> None:
        """These of a turn are asked for next, in another transaction."""
        if recipients:
            again = Turn(turn.ticket, recipients)
            again.letter = turn.letter
            self._waiting.appendleft(again)

    def untake(self, turn: Turn) -> None:
        """This one is next again: the session that was asked about it is gone."""
        turn.session, turn.behind = None, False
        self._waiting.appendleft(turn)

    def withdraw(self, ticket: Ticket) -> list[str]:
        """Take back whom nobody was asked about yet."""
        found: list[str] = []
        while self._waiting and self._waiting[0].ticket is ticket:
            found += self._waiting.popleft().recipients
        return found

    def _take(self, mail: Mail, ticket: Ticket) -> None:
        due: list[str] = []
        for recipient in dict.fromkeys(ticket.recipients):
            if problem := _address_problem(recipient):
                self.unspeakable.append((ticket, Report(recipient, FAILED, "5.1.3", problem)))
            else:
                due.append(recipient)
        try:
            letter = Letter(mail, self._settings)
        except MailflowError as error:
            turn = Turn(ticket, due)
            turn.error = error
            self._waiting.append(turn)
            return
        # Apart, so that what only some need (RFC 6531) hinders none of the others.
        for group in ([r for r in due if r.isascii()], [r for r in due if not r.isascii()]):
            if group:
                turn = Turn(ticket, group)
                turn.letter = letter
                self._waiting.append(turn)


class Transfer:
    """One call of the distributor. `connect` gives the session that is open, or a new one;
    `drop` leaves it without a word."""

    def __init__(
        self,
        turns: Turns,
        settings: Settings,
        runtime: Runtime,
        connect: Callable[[], Session],
        drop: Callable[[], None],
    ) -> None:
        self._turns = turns
        self._settings = settings
        self._runtime = runtime
        self._connect = connect
        self._drop = drop

    def run(self) -> Iterator[Said]:
        """All turns; raises what ends the session. Each report as soon as it is known."""
        turn = self._next()
        yield from self._unspeakable()
        try:
            while turn is not None:
                if turn.error is not None:
                    raise turn.error
                turn = (yield from self._do(turn)) or self._next()
                yield from self._unspeakable()
        except BaseException:  # GeneratorExit too: a dialogue left half-way cannot go on
            self._drop()
            raise

    def _next(self) -> Turn | None:
        return self._turns.next()

    def _unspeakable(self) -> Iterator[Said]:
        said, self._turns.unspeakable = self._turns.unspeakable, []
        yield from said

    def _do(self, turn: Turn) -> Asking:
        """One transaction. Returns the turn that was asked for behind it, if any."""
        upcoming: Turn | None = None
        session = turn.session
        if session is None:
            self._await_place(turn)
            session = self._connect()
            refused = self._prepare(turn, session)
            if refused is not None:
                yield from refused
                return None
            if self._goes_at_once(turn, session):
                upcoming = self._send_at_once(turn, session)
            else:
                session.ask(turn.transaction)
        fresh = not session.used
        try:
            if turn.committed:
                session.hear_at_once(turn.transaction, self._settings.message_timeout)
            else:
                session.hear(turn.transaction)
        except (UnavailableError, PeerError) as error:
            yield from self._cut_in_envelope(turn, session, fresh, error)
            return None
        if turn.behind and turn.transaction.denied and turn.transaction.denied.code == OUT_OF_ORDER:
            self._drop()  # it has not ended the transaction before, which it refused
            self._turns.put_back(turn, turn.recipients)
            return None
        yield from self._refusals(turn, session, fresh)
        if turn.committed:
            upcoming = yield from self._finish(turn, session, upcoming)
        elif turn.transaction.accepted:
            upcoming = yield from self._hand_over(turn, session)
        elif turn.transaction.opened:
            self._cancel(turn, session)
        return upcoming

    # Before the content

    def _await_place(self, turn: Turn) -> None:
        """Wait until the rate lets this transaction begin."""
        pace = self._settings.standing.pace
        if pace is None:
            return
        pace.begin(self._runtime.sent_before)
        seconds = pace.book()
        if seconds > 0:
            turn.ticket.commit(())  # nothing that was reported waits with us
            self._runtime.log.debug("waiting for the rate", seconds=round(seconds, 1))
            self._runtime.halt.wait(seconds)
            self._runtime.halt.check()

    def _prepare(self, turn: Turn, session: Session) -> list[Said] | None:
        """Make the transaction; the reports instead where the server is not able."""
        letter = turn.letter
        most = min(
            self._settings.recipients_max or session.extensions.recipients_max or RECIPIENTS,
            session.recipients_max or len(turn.recipients),
        )
        if letter.alone(session):
            most = 1
        rest = turn.recipients[most:]
        try:
            transaction = letter.transaction(
                session, turn.recipients[:most], data=not session.chunking
            )
        except RefusedError as error:
            code = str(error.fields["code"])
            return [(turn.ticket, Report(to, FAILED, code, error.text)) for to in turn.recipients]
        del turn.recipients[most:]
        self._turns.put_back(turn, rest)
        turn.session, turn.transaction = session, transaction
        return None

    def _goes_at_once(self, turn: Turn, session: Session) -> bool:
        """Whether the content goes with the envelope: one round trip for all.

        Not on a connection that has rested: a server that just leaves would put it in doubt.
        Only where it is all that is due of a mail, so that whoever is committed is answered.
        """
        return (
            session.chunking
            and session.pipelining
            and not session.used
            and len(turn.recipients) == len(turn.ticket.recipients)
            and turn.letter.mail.content.size <= AT_ONCE
        )

    def _send_at_once(self, turn: Turn, session: Session) -> Turn | None:
        """Envelope and content in one flight, and the next envelope behind it."""
        body = b"".join(turn.letter.pieces(self._note_mended, dots=False))
        upcoming = self._draw(session)
        turn.ticket.commit(tuple(turn.recipients))
        turn.committed = True
        session.ask(turn.transaction)
        session.chunk(body, last=True)
        self._ask_behind(upcoming, session)
        return upcoming

    def _draw(self, session: Session) -> Turn | None:
        """The next turn, ready to be asked for behind the content that is about to be sent,
        or as it is where it must wait. What is wrong with it is said in its own time."""
        turn = self._next()
        if turn is None or turn.error is not None or not session.pipelining:
            return turn
        pace = self._settings.standing.pace
        if pace is not None and not pace.take():
            return turn
        try:
            refused = self._prepare(turn, session)
        except (MailflowError, OSError) as error:
            turn.error = error
            return turn
        if refused is not None:
            self._turns.unspeakable += refused
            return None
        return turn

    def _ask_behind(self, turn: Turn | None, session: Session) -> None:
        if turn is not None and turn.session is session:
            session.ask(turn.transaction, behind=True)
            turn.behind = True

    def _cut_in_envelope(
        self, turn: Turn, session: Session, fresh: bool, error: UnavailableError | PeerError
    ) -> Iterator[Said]:
        """The session ended before all was answered. What was answered stays answered."""
        self._drop()
        transaction = turn.transaction
        yield from self._refusals(turn, session, fresh)
        if turn.committed:
            if "code" not in error.fields or transaction.accepted:
                raise self._in_doubt(error) from None
            yield from self._unseen(turn, transaction.unanswered, error)  # it was a 421
        elif transaction.denied:
            return
        if fresh or isinstance(error, PeerError):
            if not transaction.answered and error.fields.get("code") and fresh:
                raise CrowdedError(error.text, **error.fields)
            raise error
        # Servers close connections at will: that is no failure.
        self._turns.put_back(turn, transaction.unanswered)

    def _refusals(self, turn: Turn, session: Session, fresh: bool) -> Iterator[Said]:
        """What the envelope's replies decide. Raises LoginError where one is wanted first."""
        transaction = turn.transaction
        denied = transaction.denied
        replies = [denied] if denied else [reply for _, reply in transaction.refused]
        if not transaction.accepted and any(reply.code == 530 for reply in replies):
            error = LoginError(
                f"{session.peer} wants a login or TLS first: {replies[-1]}; set `user`,"
                " `password` and `tls`",
                code=replies[-1].status,
            )
            if turn.committed:
                yield from self._unseen(turn, transaction.recipients, error)
            raise error
        if denied and denied.code in _CROWDED and fresh and not turn.committed:
            raise CrowdedError(f"{session.peer} refuses service: {denied}", code=denied.status)
        if transaction.surplus:
            session.recipients_max = transaction.room
            self._turns.put_back(turn, transaction.surplus)
        if denied:  # and so everybody who is still to be asked about
            waiting = list(transaction.recipients)
            if denied.temporary or not turn.letter.alone(session):  # else it is about this path
                waiting += self._turns.withdraw(turn.ticket)
            yield from self._reports(turn, waiting, denied)
        for recipient, reply in transaction.refused:
            yield from self._reports(turn, (recipient,), reply)

    def _unseen(
        self, turn: Turn, recipients: Iterable[str], error: MailflowError
    ) -> Iterator[Said]:
        """The content went with an envelope behind which the server takes none."""
        code, remote = str(error.fields["code"]), self._settings.server
        for to in recipients:
            yield turn.ticket, Report(to, LATER, code, error.text, remote)

    def _cancel(self, turn: Turn, session: Session) -> None:
        """End the data that a server asked for though nobody is to get it (RFC 2920, 3.1)."""
        if turn.transaction.taken:  # it would give nothing to somebody
            self._drop()
            return
        try:
            session.end()
            session.final(self._settings.message_timeout)
        except (UnavailableError, PeerError) as error:
            self._runtime.log.debug("connection dropped", host=session.peer, reason=str(error))
            self._drop()

    # The content

    def _hand_over(self, turn: Turn, session: Session) -> Asking:
        """The content, the commit, its end, and what the server makes of it. Returns the turn
        that was asked for behind it."""
        letter, transaction = turn.letter, turn.transaction
        if letter.mail.content.size > LONG:
            turn.ticket.commit(())
        pieces = letter.pieces(self._note_mended, dots=transaction.data)
        last, due = b"", 0
        if transaction.data:
            early = session.content(pieces)
        else:
            early, last, due = session.first_chunks(pieces)
        if early and not transaction.data and early.code in _UNKNOWN:
            self._do_without_chunking(turn, session, early, transaction.accepted)
            return None
        if early:
            self._drop()
            yield from self._reports(turn, transaction.accepted, early)
            return None
        upcoming = self._draw(session)
        turn.ticket.commit(tuple(transaction.accepted))
        if transaction.data:
            session.end()
        else:
            session.chunk(last, last=True)
        self._ask_behind(upcoming, session)
        return (yield from self._finish(turn, session, upcoming, due))

    def _finish(self, turn: Turn, session: Session, upcoming: Turn | None, due: int = 0) -> Asking:
        """What the server makes of the content. Returns `upcoming`, where it can go on."""
        unknown: list[tuple[str, Reply]] = []
        yield from self._finals(turn, session, due, unknown)
        if not unknown:
            return upcoming
        if upcoming is not None:
            self._turns.untake(upcoming)
        self._do_without_chunking(turn, session, unknown[0][1], [to for to, _ in unknown])
        return None

    def _finals(
        self, turn: Turn, session: Session, due: int, unknown: list[tuple[str, Reply]]
    ) -> Iterator[Said]:
        """The answers to the end of the content: one, or one for each recipient (RFC 2033).
        `due` answers to chunks come first; the first no among them is the reason. Those whose
        answer is that BDAT is unknown are added to `unknown`, and not reported."""
        accepted = turn.transaction.accepted
        timeout = self._settings.message_timeout
        well = True
        told: Reply | None = None
        try:
            for _ in range(due):
                reply = session.final(timeout)
                told = told or (None if reply.positive else reply)
            groups = [[each] for each in accepted] if session.lmtp else [accepted]
            for group in groups or [[]]:
                reply = session.final(timeout)
                if reply.positive and (told or not group):
                    raise PeerError(f"{session.peer} took a mail that it had refused: {reply}")
                if group and not turn.transaction.data and reply.code in _UNKNOWN:
                    unknown += [(to, reply) for to in group]
                    continue
                well = well and reply.positive
                yield from self._reports(turn, group, told or reply)
        except (UnavailableError, PeerError) as error:
            raise self._in_doubt(error) from None
        session.ended(well=well)

    def _do_without_chunking(
        self, turn: Turn, session: Session, reply: Reply, recipients: Sequence[str]
    ) -> None:
        """It offers what it does not know: from now on it gets DATA, this mail first. What
        else it takes for commands is not waited for."""
        self._settings.standing.chunking = False
        self._runtime.log.info("no chunking", host=session.peer, reason=str(reply))
        self._drop()
        self._turns.put_back(turn, recipients)

    def _in_doubt(self, error: UnavailableError | PeerError) -> MailflowError:
        text = f"{error.text} (the answer to a whole mail is missing)"
        return type(error)(text, **error.fields)

    def _reports(self, turn: Turn, recipients: Collection[str], reply: Reply) -> Iterator[Said]:
        """What one reply means for each of `recipients`."""
        outcome = LATER
        if reply.positive or reply.permanent:
            outcome = SENT if reply.positive else FAILED
        remote = self._settings.server
        for to in recipients:
            yield turn.ticket, Report(to, outcome, reply.status, str(reply), remote)

    def _note_mended(self, mail: Mail, count: int) -> None:
        self._runtime.log.info("bare line ends became CRLF", mail=mail.id, count=count)


def _address_problem(recipient: str) -> str:
    """Why a recipient cannot be asked for, "" if it can."""
    try:
        path(recipient)
    except ValueError as error:
        return str(error)
    return "" if recipient else "not an address: it is empty"
