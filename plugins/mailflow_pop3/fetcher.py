"""The streaming POP3 fetcher: all messages are asked for at once, and taken as they come.

Rule of the file: a message is yielded when its last octet and the terminator have
arrived, never before, and DELE is said only when the journal has it.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from itertools import chain

from mailflow.errors import (
    BadMailError,
    ConfigError,
    GoneError,
    LoginError,
    MailflowError,
    UnavailableError,
)
from mailflow.kinds import Fetched, Item, Missed
from mailflow.lines import to_crlf
from mailflow.mail import HEADER_LIMIT, Envelope, Octets, head
from mailflow.net import is_loopback, tls_context
from mailflow.options import Options
from mailflow.sasl import Credentials
from mailflow.typed import TYPE_CHECKING, ClassVar, Self
from mailflow.verdicts import Fate
from mailflow_pop3.arrival import DRAIN, Arrival, Sender
from mailflow_pop3.guess import Guess, may_delete
from mailflow_pop3.identity import Catalogue, catalogue
from mailflow_pop3.login import log_in
from mailflow_pop3.session import Session, refusal
from mailflow_pop3.settings import SCHEMES, Pop3Options
from mailflow_pop3.wire import Command, Piece, Reply

if TYPE_CHECKING:
    from types import TracebackType

    from mailflow.kinds import Runtime
    from mailflow.options import SecretValue
    from mailflow.query import Query

NO_ENVELOPE = Envelope()


class Pop3Fetcher:
    """Fetches the messages of a POP3 mailbox, all asked for at once."""

    options: ClassVar[type[Options]] = Pop3Options
    schemes = SCHEMES

    def __init__(self, options: Pop3Options, runtime: Runtime) -> None:
        self.source = f"{options.user}@{options.host}"
        self.mark = ""
        self._options = options
        self._runtime = runtime
        self._log = runtime.log
        self._session: Session
        self._way = ""
        self._guess = Guess()
        self._ahead: dict[int, Command] = {}
        self._new = 0
        self._unwanted = 0
        self._catalogue: Catalogue | None = None
        self._asked: set[int] = set()
        self._retrieving = False
        self._deleted: set[int] = set()
        self._said: set[str] = set()

    def __enter__(self) -> Self:
        """Connect, and learn what the server offers."""
        options = self._options
        self._who(self._secret.reveal())
        protection = options.protection
        if protection == "none" and not (is_loopback(options.host) or options.command):
            self._log.warning("the password goes in clear", host=options.host)
        self._session = Session.open(
            lambda: options.dial(self._runtime.halt),
            context=None if protection == "none" else tls_context(options.ca_file),
            name=options.tls_name or options.host,
            implicit=protection == "implicit",
            early=options.pipelining == "auto",
        )
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Without an error: QUIT, so that what was settled is deleted. Never raises."""
        try:
            if kind is None and self._leave():
                self._remember()
        except MailflowError as failure:
            if self._deleted:
                self._log.warning("the end of the session is not confirmed", error=str(failure))
        finally:
            self._session.wire.close()

    def listing(self, where: Query, mark: str = "") -> Iterator[Item]:
        """Every message but those over `max_size`. `where` narrows nothing here; of `mark`
        and `where` is made what is asked for ahead."""
        if self._may_guess(where, mark):
            self._guess = Guess.of(mark, time.time())
        found = self._know()
        most, left = self._options.max_size, 0
        for key, number in found.numbers.items():
            size = found.sizes.get(number)
            if most is not None and size is not None and size > most:
                left += 1
                continue
            yield Item(key, size)
        if left:
            self._log.warning("messages over max_size stay on the server", messages=left)

    def offers(self) -> Iterator[str]:
        """What the server says of itself and of this mailbox, which stays as it is."""
        from mailflow_pop3.offers import facts

        uidl, listing = self._log_in()
        yield from facts(self._session, self._way, uidl, listing)

    def heads(self, keys: Sequence[str]) -> Iterator[Fetched]:
        """The header sections; of what is gone, nothing."""
        known = self._know().numbers
        self._check_alone()
        by_number = {known[key]: key for key in keys if key in known}
        for number, header in self._headers(list(by_number)):
            section = head(Octets(to_crlf(header)))
            yield Fetched(by_number[number], Octets(section), NO_ENVELOPE)

    def retrieve(self, keys: Sequence[str]) -> Iterator[Fetched | Missed]:
        """All of them in one flight: what was asked for ahead, then the rest in this order."""
        numbers = self._know().numbers
        self._check_alone()
        listed = self._foreseen
        wanted: dict[Command, str] = {}
        left = 0
        for key in keys:
            if number := numbers.get(key):
                left += 1
                self._new += number > self._guess.below
                if command := self._ahead.pop(number, None):
                    wanted[command] = key
        foreseen = set(wanted.values())
        self._unwanted = len(listed & self._ahead.keys())

        def asked() -> Iterator[Command]:
            for key in keys:
                if key in numbers and key not in foreseen:
                    command = Command("RETR", numbers[key])
                    wanted[command] = key
                    self._asked.add(command.number)
                    yield command

        self._session.feed(asked())
        arrival = Arrival(self._runtime.scratch, self._options.max_size)
        self._retrieving = True
        try:
            for key in keys:
                if key not in numbers:
                    yield Missed(key, GoneError(f"{key} was not listed"))
            while left:
                event = self._session.next()
                if event.command not in wanted:
                    self._hear(event)
                elif isinstance(event, Piece):
                    self._runtime.progress(len(event.data))
                    arrival.add(event.data)
                elif isinstance(event, Reply):
                    left -= 1
                    yield self._arrived(event, wanted.pop(event.command), arrival)
        finally:
            self._retrieving = False
            self._session.feed(iter(()))
            arrival.drop()

    def settle(self, key: str, fate: Fate) -> None:
        """DELE joins the stream; it counts once QUIT is answered."""
        if fate is not Fate.DONE or self._options.on_done != "delete":
            return
        number = self._know().numbers.get(key)
        if number is not None and number not in self._deleted:
            self._deleted.add(number)
            self._session.queue(Command("DELE", number))

    def _check_alone(self) -> None:
        """What arrives belongs to the one who asked for it."""
        if self._retrieving:
            raise ValueError("heads() and retrieve() wait for the end of an earlier retrieve()")

    @property
    def _secret(self) -> SecretValue:
        secret = self._options.secret
        if self._options.user is None or secret is None:
            raise ConfigError(f"no `user` or no `password` for {self._options.host}")
        return secret

    def _who(self, text: str) -> Credentials:
        credentials = Credentials(self._options.user or "", text)
        if any(c in each for each in credentials for c in "\r\n\0"):
            raise LoginError(f"the user or password for {self._options.host} holds a line end")
        return credentials

    def _know(self) -> Catalogue:
        """What is in the maildrop, made out of the answers to UIDL and LIST."""
        if self._catalogue is None:
            uidl, listing = self._log_in()
            self._check(uidl)
            if not listing.ok and not uidl.ok:
                raise self._refused(listing)
            self._catalogue = found = catalogue(uidl.body, listing.body, self._headers)
            self._asked.update(self._foreseen)
            for fault, times in found.faults.items():
                self._log.warning("odd listing", host=self._session.peer, reason=fault, times=times)
        return self._catalogue

    @property
    def _foreseen(self) -> set[int]:
        """The numbers that were asked for ahead, and are those of messages."""
        ahead, found = self._ahead, self._know()
        if not ahead:
            return set()
        return {n for n in chain(found.numbers.values(), found.sizes) if n in ahead}

    def _may_guess(self, where: Query, mark: str) -> bool:
        """Not where octets would be loaded that the user wants to be spared."""
        options = self._options
        if not mark or not options.speculate or options.max_size is not None:
            return False
        return "size" not in where.fields and where.reach != "header"

    def _log_in(self) -> list[Reply]:
        """The answers to UIDL and LIST. What is likely to be new is on its way then."""
        session, options, guess = self._session, self._options, self._guess
        follow = (Command("UIDL"), Command("LIST"))
        ahead = {guess.way: guess.commands()}
        entry = self._secret.use(
            lambda text: log_in(
                session, self._who(text), options.ways, options.pipelining, follow, ahead
            )
        )
        self._way = entry.way
        self._ahead = {command.number: command for command in entry.ahead if command.number}
        self._log.debug("logged in", host=session.peer, streaming=session.streaming)
        return entry.answers

    def _remember(self) -> None:
        """The mark: how this visit has left the maildrop, and what it teaches."""
        if self._catalogue is None:
            return
        found = self._catalogue
        last = max(chain(found.numbers.values(), found.sizes), default=0)
        left = last - len(self._deleted)
        guess = self._guess.next(left, self._new, self._unwanted, self._way)
        if may_delete(self._session.capabilities):
            guess = guess._replace(likely=0)
        self.mark = guess.mark(time.time())

    def _check(self, uidl: Reply) -> None:
        """A server that knows UIDL may fail for the moment: other keys would be the wrong ones."""
        if not uidl.ok and (uidl.code or "UIDL" in self._session.capabilities):
            raise self._refused(uidl)

    def _refused(self, reply: Reply) -> MailflowError:
        text = f"{self._session.peer} refuses {reply.command!r}: {reply.text}"
        return refusal(text, reply.code, UnavailableError)

    def _headers(self, numbers: list[int]) -> Iterator[tuple[int, bytes]]:
        """(number, header section with its blank line) by TOP, by RETR where there is no TOP;
        of one that is too long, more than `head` looks at."""
        refused: list[int] = []
        for keyword, extra, asked in (("TOP", (0,), numbers), ("RETR", (), refused)):
            waiting = {Command(keyword, number, *extra) for number in asked}
            self._session.queue(*sorted(waiting, key=lambda command: command.number))
            parts: list[bytes] = []
            while waiting:
                event = self._session.next()
                if event.command not in waiting:
                    self._hear(event)
                elif isinstance(event, Piece):
                    if sum(map(len, parts)) <= HEADER_LIMIT:
                        parts.append(event.data)
                else:
                    waiting.discard(event.command)
                    if not isinstance(event, Reply) or event.body is None:
                        refused.append(event.command.number)
                        continue
                    header, blank, _ = b"".join([*parts, event.body]).partition(b"\r\n\r\n")
                    parts.clear()
                    yield event.command.number, header + blank

    def _arrived(self, reply: Reply, key: str, arrival: Arrival) -> Fetched | Missed:
        """What became of one RETR."""
        number = reply.command.number
        self._asked.discard(number)
        peer = self._session.peer
        if reply.body is None:
            arrival.drop()
            text = f"{peer} gives no message {number}: {reply.text}"
            return Missed(key, refusal(text, reply.code, GoneError))
        self._runtime.progress(len(reply.body))
        size = len(reply.body) + arrival.octets
        self._compare(key, number, size)
        most = self._options.max_size
        if most is not None and size > most:
            arrival.drop()
            return Missed(key, BadMailError(f"message {number} at {peer} is over max_size"))
        content = arrival.finish(reply.body)
        self._log.info("received", number=number, sender=Sender(content), octets=size, key=key)
        return Fetched(key, content, NO_ENVELOPE)

    def _compare(self, key: str, number: int, had: int) -> None:
        """LIST is never believed. A CRLF that the last line lacked is sent and not counted."""
        said = self._know().sizes.get(number, had)
        if had not in (said, said + 2):
            self._once("octet count is wrong", key=key, said=said, had=had)

    def _once(self, event: str, **facts: object) -> None:
        """A warning that one session says once."""
        if event not in self._said:
            self._said.add(event)
            self._log.warning(event, **facts)

    def _hear(self, event: object) -> None:
        """An answer that nobody waits for: to DELE, or to what was given up."""
        if isinstance(event, Reply):
            if event.command.keyword == "DELE" and not event.ok:
                self._once("the server does not delete", said=event.text)
            elif event.command.keyword == "RETR":
                number = event.command.number
                self._asked.discard(number)
                if self._ahead.get(number) is event.command:
                    del self._ahead[number]

    def _leave(self) -> bool:
        """QUIT behind the last DELEs, and hear all answers, if there is anything to delete.

        Gives whether what was settled is deleted.
        """
        session = self._session
        session.withdraw("RETR")
        if not self._deleted:
            session.part()
            return True
        sizes = self._catalogue.sizes if self._catalogue else {}
        if sum(sizes.get(number, DRAIN) for number in self._asked) > DRAIN and session.due:
            self._log.warning("left before the end; what is done is deleted the next time")
            return False
        quit_ = Command("QUIT")
        session.queue(quit_)
        while True:
            event = session.next()
            if event.command is not quit_:
                self._hear(event)
            elif isinstance(event, Reply) and not event.ok:
                raise self._refused(event)
            else:
                return True
