"""The suite of a distributor: whatever the destination, the engine can rely on these.

    class TestPigeonDistributor(DistributorContract):
        component = PigeonDistributor

        @pytest.fixture
        def destination(self, tmp_path):
            return Loft(tmp_path / "loft")      # a Destination

Rule of the file: what counts is what is at the destination; a Report is only a word.
"""

from __future__ import annotations

import errno
import io
import os
from abc import ABC, abstractmethod
from collections import Counter
from collections.abc import Callable, Collection, Mapping, Sequence
from contextlib import suppress
from typing import BinaryIO, ClassVar, NamedTuple

import pytest

from mailflow.errors import JournalError, MailflowError, from_os
from mailflow.kinds import Distributor, Ticket
from mailflow.mail import Content, Envelope, Mail, Octets
from mailflow.testing.contracts.component import (
    ComponentContract,
    Stage,
    lasting,
    nothing_left,
    one_line,
)
from mailflow.testing.corpus import AWKWARD, Large
from mailflow.testing.proxy import Fault, Proxy
from mailflow.verdicts import FAILED, LATER, SENT, Report

SOON = 10.0
"""Seconds in which what was told to end, or whose time-out is a second, has ended."""

CUTS = 12
SENDER = "ann@example.org"
PEOPLE = ("bob@example.org", "cleo@example.org", "dan@example.org")


class Taken(NamedTuple):
    """One copy at the destination; `recipients` () where it knows none."""

    octets: bytes
    recipients: tuple[str, ...] = ()


class Destination(ABC):
    """Where mail goes, as a test sees it. `table` says how to deliver there."""

    table: Mapping[str, object]

    @abstractmethod
    def taken(self) -> Sequence[Taken]:
        """Every copy that is there now."""

    def expected(self, octets: bytes) -> bytes:
        """As content looks there. Override it where line ends or dots are changed."""
        return octets

    def holds(self, octets: bytes) -> bool:
        """Whether such content can be there at all; what cannot must be refused."""
        return True


class RefusingDestination(Destination):
    """A destination that answers for each recipient. `asks_first`: it says whom it refuses
    before the act that cannot be taken back, as SMTP does and a program does not."""

    asks_first = True

    @abstractmethod
    def refuse(self, recipient: str, *, for_good: bool) -> None:
        """Refuse a recipient from now on."""


class RemoteDestination(Destination):
    """On a server that is reached through `proxy`; `timeout` in `table` is a second."""

    proxy: Proxy


class DistributorContract(ComponentContract):
    """Give `component`, and a fixture `destination`: a Destination without mail."""

    component: ClassVar[type[Distributor]]
    kind = "distributor"

    @pytest.fixture
    def table(self, destination: Destination) -> Mapping[str, object]:
        return destination.table

    @property
    def recipients(self) -> tuple[str, ...]:
        """What one ticket is for."""
        return PEOPLE if self.component.per_recipient else ("",)

    def ticket(self, key: str = "t-1", *, resumed: bool = False) -> Ticket:
        return Ticket(key, self.recipients, resumed=resumed)

    def copies(self, destination: Destination) -> Counter[tuple[bytes, str]]:
        """(octets, recipient) of what is there: () is one delivery for all."""
        return Counter(
            (taken.octets, to)
            for taken in destination.taken()
            for to in (taken.recipients if self.component.per_recipient else ("",))
        )

    def once(self, destination: Destination, *contents: bytes) -> Counter[tuple[bytes, str]]:
        return Counter((destination.expected(c), to) for c in contents for to in self.recipients)

    # What is delivered

    def test_it_is_there_and_each_recipient_is_reported_once(
        self, stage: Stage, destination: Destination
    ) -> None:
        reports = deliver(stage, letter(), self.ticket())
        assert outcomes(reports) == dict.fromkeys(self.recipients, SENT)
        assert len(reports) == len(self.recipients)
        assert self.copies(destination) == self.once(destination, TEXT)

    def test_what_is_reported_is_there_already(
        self, stage: Stage, destination: Destination
    ) -> None:
        """SENT is said when nothing can be lost any more, not when the session ends."""
        with stage.make() as distributor:
            for report in distributor.distribute(letter(), self.ticket()):
                assert (destination.expected(TEXT), report.recipient) in self.copies(destination)

    def test_the_octets_arrive_as_they_are(self, stage: Stage, destination: Destination) -> None:
        """All of them, whatever they are, or none and a reason."""
        wanted: Counter[tuple[bytes, str]] = Counter()
        with stage.make() as distributor:
            for number, sample in enumerate(AWKWARD):
                ticket = self.ticket(f"t-{number}")
                reports = list(distributor.distribute(letter(sample.stored), ticket))
                if destination.holds(sample.stored):
                    assert outcomes(reports) == dict.fromkeys(self.recipients, SENT), sample
                    wanted += self.once(destination, sample.stored)
                else:
                    assert {report.outcome for report in reports} == {FAILED}, sample
                    assert all(one_line(report.text) for report in reports), sample
        assert self.copies(destination) == wanted

    def test_a_large_mail_arrives_whole(self, stage: Stage, destination: Destination) -> None:
        large = Large(3 << 20)
        mail = letter().replace(content=large)
        assert outcomes(deliver(stage, mail, self.ticket())) == dict.fromkeys(self.recipients, SENT)
        octets = b"".join(large.pieces())
        assert self.copies(destination) == self.once(destination, octets)

    def test_the_null_sender_is_no_fault(self, stage: Stage, destination: Destination) -> None:
        mail = letter().replace(envelope=Envelope("", self.recipients))
        reports = deliver(stage, mail, self.ticket())
        assert outcomes(reports) == dict.fromkeys(self.recipients, SENT)

    def test_equal_mails_are_two_where_their_tickets_are(
        self, stage: Stage, destination: Destination
    ) -> None:
        with stage.make() as distributor:
            for key in ("t-1", "t-2"):
                list(distributor.distribute(letter(), self.ticket(key)))
        assert self.copies(destination) == self.once(destination, TEXT, TEXT)

    def test_several_at_once_are_as_one_by_one(
        self, stage: Stage, destination: Destination
    ) -> None:
        """`distribute_many`, where there is one: the same copies, a report each."""
        if not hasattr(self.component, "distribute_many"):
            pytest.skip("it takes one mail at a time")
        texts = [TEXT + b"%d\r\n" % number for number in range(20)]
        jobs = [(letter(text), self.ticket(f"t-{n}")) for n, text in enumerate(texts)]
        with stage.make() as distributor:
            told = list(distributor.distribute_many(iter(jobs)))
            for _ in range(2 if hasattr(distributor, "finish") else 0):
                distributor.finish([ticket.key for _, ticket in jobs])
        wanted = {(ticket.key, to) for _, ticket in jobs for to in self.recipients}
        assert Counter((t.key, r.recipient) for t, r in told) == Counter(wanted)
        assert {report.outcome for _, report in told} == {SENT}
        assert self.copies(destination) == self.once(destination, *texts)

    # What is handed in twice, or cut

    @pytest.mark.parametrize("resumed", [False, True])
    def test_a_ticket_twice_leaves_one_copy_or_was_committed(
        self, stage: Stage, destination: Destination, resumed: bool
    ) -> None:
        """As after a crash that the journal missed. A repeatable one leaves one copy; of
        another the engine knows that it was about to, and asks the user."""
        log = Commits(destination)
        deliver(stage, letter(), self.ticket()._replace(commit=log))
        if not self.component.repeatable:
            assert Counter(log.recipients) == Counter(self.recipients)
            return
        ticket = self.ticket(resumed=resumed)
        assert outcomes(deliver(stage, letter(), ticket)) == dict.fromkeys(self.recipients, SENT)
        assert self.copies(destination) == self.once(destination, TEXT)

    def test_a_resumed_ticket_that_left_nothing_is_delivered(
        self, stage: Stage, destination: Destination
    ) -> None:
        reports = deliver(stage, letter(), self.ticket(resumed=True))
        assert outcomes(reports) == dict.fromkeys(self.recipients, SENT)
        assert self.copies(destination) == self.once(destination, TEXT)

    def test_it_commits_before_the_irrevocable_act(
        self, stage: Stage, destination: Destination
    ) -> None:
        """When `commit` is called, nothing is there yet of what it names."""
        log = Commits(destination)
        deliver(stage, letter(), self.ticket()._replace(commit=log))
        assert log.seen <= {0}

    def test_where_the_commit_fails_nothing_is_sent(
        self, stage: Stage, destination: Destination
    ) -> None:
        def refuse(recipients: Collection[str]) -> None:
            raise JournalError("disk full")

        with suppress(JournalError):
            deliver(stage, letter(), self.ticket()._replace(commit=refuse))
        if not self.component.repeatable:
            assert destination.taken() == []
        deliver(stage, letter(), self.ticket("t-1"))
        assert self.copies(destination) == self.once(destination, TEXT)

    def test_content_that_cannot_be_read_to_its_end_is_not_delivered(
        self, stage: Stage, destination: Destination
    ) -> None:
        """Half a message is none, not for a moment, and there is another attempt."""
        torn = Torn(destination.taken)
        reports, error = attempt(stage, letter().replace(content=torn), self.ticket())
        assert torn.seen == [], "there before it is whole"
        assert all(report.outcome is LATER for report in reports)
        assert reports or error
        assert destination.taken() == []
        deliver(stage, letter(), self.ticket())
        assert self.copies(destination) == self.once(destination, TEXT)

    # What is left open

    def test_a_session_leaves_nothing_open(self, stage: Stage, destination: Destination) -> None:
        deliver(stage, letter(), self.ticket("t-0"))
        with nothing_left():
            deliver(stage, letter(), self.ticket("t-1"))

    def test_a_session_that_fails_leaves_nothing_open(
        self, stage: Stage, destination: Destination
    ) -> None:
        deliver(stage, letter(), self.ticket("t-0"))
        with nothing_left(), suppress(ZeroDivisionError), stage.make() as distributor:
            for _ in distributor.distribute(letter(), self.ticket("t-1")):
                raise ZeroDivisionError

    def test_readers_of_the_content_are_closed(
        self, stage: Stage, destination: Destination
    ) -> None:
        watched = Watched(TEXT)
        deliver(stage, letter().replace(content=watched), self.ticket())
        assert all(reader.closed for reader in watched.readers)

    def test_a_stopped_engine_ends_it_soon(self, stage: Stage, destination: Destination) -> None:
        stage.halt.set()
        assert lasting(lambda: attempt(stage, letter(), self.ticket())) < SOON


class RefusingDistributorContract(DistributorContract):
    """For a destination that answers for each recipient: a RefusingDestination."""

    @pytest.mark.parametrize("for_good", [False, True])
    def test_a_refusal_reaches_whom_it_concerns_and_no_other(
        self, stage: Stage, destination: RefusingDestination, for_good: bool
    ) -> None:
        destination.refuse(PEOPLE[1], for_good=for_good)
        reports = deliver(stage, letter(), self.ticket())
        told = outcomes(reports)
        assert told == {PEOPLE[0]: SENT, PEOPLE[1]: FAILED if for_good else LATER, PEOPLE[2]: SENT}
        assert len(reports) == len(PEOPLE)
        assert all(one_line(r.text) for r in reports if r.recipient == PEOPLE[1])
        wanted = self.once(destination, TEXT)
        del wanted[destination.expected(TEXT), PEOPLE[1]]
        assert self.copies(destination) == wanted

    @pytest.mark.parametrize("for_good", [False, True])
    @pytest.mark.parametrize("refused", [PEOPLE[1:2], PEOPLE], ids=["one", "all"])
    def test_who_is_refused_is_not_committed(
        self,
        stage: Stage,
        destination: RefusingDestination,
        refused: Sequence[str],
        for_good: bool,
    ) -> None:
        """Else a refusal would be a doubt after a crash, and somebody be asked about it."""
        if not destination.asks_first:
            pytest.skip("who is refused is known by the act alone")
        for each in refused:
            destination.refuse(each, for_good=for_good)
        log = Commits(destination)
        told = outcomes(deliver(stage, letter(), self.ticket()._replace(commit=log)))
        no = FAILED if for_good else LATER
        assert told == {to: no if to in refused else SENT for to in PEOPLE}
        assert Counter(log.recipients) == Counter(set(PEOPLE) - set(refused))


class RemoteDistributorContract(DistributorContract):
    """For a RemoteDestination: what the link and the server may do, too."""

    @pytest.mark.parametrize("kind", ["cut", "reset"])
    @pytest.mark.parametrize("towards", ["client", "server"])
    def test_a_lost_link_loses_and_doubles_nothing_but_what_is_in_doubt(
        self, stage: Stage, destination: RemoteDestination, kind: str, towards: str
    ) -> None:
        proxy = destination.proxy
        deliver(stage, letter(), self.ticket("t-0"))
        total = proxy.to_client if towards == "client" else proxy.to_server
        for number in range(CUTS):
            octets = TEXT + b"%d\r\n" % number
            fault = Fault(kind, after=number * total // CUTS, towards=towards)  # type: ignore[arg-type]
            proxy.faults = [fault]
            log = Commits(destination, destination.expected(octets))
            ticket = self.ticket(f"t-{number + 1}")._replace(commit=log)
            reports, error = attempt(stage, letter(octets), ticket)
            assert error is None or error.temporary, error
            told = outcomes(reports)
            assert FAILED not in told.values()
            there = self.copies(destination)
            for to in self.recipients:
                copies = there[destination.expected(octets), to]
                assert copies <= 1
                assert copies == 1 or told.get(to) is not SENT, "reported, and not there"
                doubt = to in log.recipients or self.component.repeatable
                assert copies == 0 or told.get(to) is SENT or doubt, "there, and not committed"
        proxy.faults = []

    def test_a_server_that_falls_silent_ends_it(
        self, stage: Stage, destination: RemoteDestination
    ) -> None:
        stage.table = {**stage.table, "timeout": "1s"}
        destination.proxy.faults = [Fault("stall", after=20)]
        found: list[tuple[list[Report], MailflowError | None]] = []
        assert lasting(lambda: found.append(attempt(stage, letter(), self.ticket()))) < SOON
        [(reports, error)] = found
        assert all(report.outcome is LATER for report in reports)
        assert reports or (error and error.temporary)
        assert destination.taken() == []

    def test_a_stopped_engine_waits_for_no_server(
        self, stage: Stage, destination: RemoteDestination
    ) -> None:
        destination.proxy.faults = [Fault("stall", after=20)]
        with stage.halting(0.1):
            assert lasting(lambda: attempt(stage, letter(), self.ticket())) < SOON

    def test_an_error_is_one_line_without_secrets(
        self, stage: Stage, destination: RemoteDestination
    ) -> None:
        destination.proxy.faults = [Fault("cut")]
        reports, error = attempt(stage, letter(), self.ticket())
        texts = [report.text for report in reports] + ([error.text] if error else [])
        assert texts
        for text in texts:
            assert one_line(text)
            assert not any(secret in text for secret in self.secrets)


TEXT = b"From: ann@example.org\r\nSubject: hello\r\nMessage-ID: <1@example.org>\r\n\r\nhello\r\n"


class Commits:
    """Keeps the recipients that were committed, and how many copies were there then."""

    def __init__(self, destination: Destination, octets: bytes | None = None) -> None:
        self._destination = destination
        self._octets = destination.expected(TEXT) if octets is None else octets
        self.recipients: list[str] = []
        self.seen: set[int] = set()

    def __call__(self, recipients: Collection[str]) -> None:
        self.recipients += recipients
        copies = [taken for taken in self._destination.taken() if taken.octets == self._octets]
        self.seen.add(sum(bool({*taken.recipients} & {*recipients}) for taken in copies))


class Torn:
    """Content of which only the first half can be read, as on a disk that dies. `seen` is
    what `look` saw in the middle of it."""

    size = 200_000

    def __init__(self, look: Callable[[], Sequence[Taken]]) -> None:
        self.seen: list[Taken] = []
        self.look = look

    def open(self) -> BinaryIO:
        return io.BufferedReader(_TornReader(self))


class _TornReader(io.RawIOBase):
    def __init__(self, torn: Torn) -> None:
        self._torn = torn
        self._left = 100_000

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: bytearray | memoryview) -> int:  # type: ignore[override]
        if not self._left:
            self._torn.seen += self._torn.look()
            raise OSError(errno.EIO, os.strerror(errno.EIO))
        count = min(self._left, len(buffer))
        buffer[:count] = b"x" * count
        self._left -= count
        return count


class Watched:
    """Content that keeps its readers."""

    def __init__(self, octets: bytes) -> None:
        self.size = len(octets)
        self._octets = octets
        self.readers: list[BinaryIO] = []

    def open(self) -> BinaryIO:
        self.readers.append(io.BytesIO(self._octets))
        return self.readers[-1]


def letter(octets: bytes = TEXT) -> Mail:
    """A mail from Ann to everybody."""
    content: Content = Octets(octets)
    return Mail("0suite", Envelope(SENDER, PEOPLE), content)


def deliver(stage: Stage, mail: Mail, ticket: Ticket) -> list[Report]:
    """One session for one mail."""
    with stage.make() as distributor:
        return list(distributor.distribute(mail, ticket))


def attempt(stage: Stage, mail: Mail, ticket: Ticket) -> tuple[list[Report], MailflowError | None]:
    """What was reported, and the error that ended it, if one did.

    OSError is as the engine takes it: the content's own disk, or a temporary fault.
    """
    reports: list[Report] = []
    try:
        with stage.make() as distributor:
            for report in distributor.distribute(mail, ticket):
                reports.append(report)
    except MailflowError as error:
        return reports, error
    except OSError as error:
        return reports, from_os(error, "deliver")
    return reports, None


def outcomes(reports: Sequence[Report]) -> dict[str, object]:
    return {report.recipient: report.outcome for report in reports}
