"""The suite of a processor: it always decides, may run twice, and keeps nothing to itself.

    class TestOnce(ProcessorContract):
        component = OnceProcessor
        table = {"for": "1d"}

Rule of the file: a processor is asked about all the awkward mail there is; an answer is
compared octet by octet.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar

import pytest

from mailflow.errors import MailflowError
from mailflow.kinds import Processor
from mailflow.mail import Envelope, Mail, Octets, read
from mailflow.testing.contracts.component import ComponentContract, Stage, nothing_left, one_line
from mailflow.testing.corpus import AWKWARD, Large, stored
from mailflow.testing.engine import Desk
from mailflow.verdicts import Discard, Hold, Reject

_TWIN = b"From: ann@example.org\r\nMessage-ID: <twin@example.org>\r\n\r\nhello\r\n"
_ADDRESS = re.compile(r"[^\x00-\x20\x7f<>]+")


class ProcessorContract(ComponentContract):
    """Give `component`; a fixture `table` where it has options, `mails` for what it is for."""

    component: ClassVar[type[Processor]]
    kind = "processor"

    every: ClassVar[int] = 1
    """It is asked about each so many-th mail: more than 1 where each one is a process."""

    @pytest.fixture
    def table(self) -> Mapping[str, object]:
        return {}

    @pytest.fixture
    def mails(self) -> Sequence[Mail]:
        """More mail to ask it about, besides the awkward: what it is meant for."""
        return ()

    @pytest.fixture
    def asked(self, mails: Sequence[Mail]) -> list[Mail]:
        envelope = Envelope("ann@example.org", ("bob@example.org",))
        unknown, null = Envelope(), Envelope("", ("bob@example.org",))
        awkward = [
            Mail(f"{number:04}-{sample}", envelope, Octets(sample.stored), {"note": "kept"})
            for number, sample in enumerate(AWKWARD)
        ]
        more = [mail._replace(id=f"9{n:04}") for n, mail in enumerate(mails)]
        odd = [awkward[0]._replace(id="8-null", envelope=null)]
        odd.append(awkward[0]._replace(id="8-unknown", envelope=unknown))
        odd.append(awkward[0]._replace(id="8-large", content=Large(2 << 20)))
        odd += [Mail(f"8-twin-{n}", envelope, Octets(_TWIN)) for n in range(2)]
        return [*awkward, *odd][:: self.every] + more

    def test_every_mail_gets_a_verdict(self, stage: Stage, asked: list[Mail]) -> None:
        """A mail of its own, or a reason; nothing would be a loss without a word. Only
        what the step cannot handle may be an error, and one of ours."""
        desk = desk_of(stage)
        for mail in asked:
            verdicts = answer(desk, stage.make(), mail)
            assert verdicts, f"{mail.id}: nothing"
            for verdict in verdicts:
                if isinstance(verdict, MailflowError):
                    assert one_line(verdict.text), mail.id
                elif isinstance(verdict, Discard | Reject | Hold):
                    assert one_line(verdict.reason), mail.id
                else:
                    assert isinstance(verdict, Mail), mail.id

    def test_what_goes_on_can_go_on(self, stage: Stage, asked: list[Mail]) -> None:
        """Lines end in CRLF, notes are text, recipients are addresses and none is twice."""
        desk = desk_of(stage)
        for mail in asked:
            for verdict in answer(desk, stage.make(), mail):
                if not isinstance(verdict, Mail):
                    continue
                octets = read(verdict.content)
                assert stored(octets) == octets, mail.id
                assert len(octets) == verdict.content.size, mail.id
                assert all(isinstance(t, str) for pair in verdict.notes.items() for t in pair)
                recipients = verdict.envelope.recipients
                assert len(set(recipients)) == len(recipients), mail.id
                assert all(_ADDRESS.fullmatch(each) for each in recipients), mail.id

    def test_the_mail_that_it_is_given_stays_as_it_is(
        self, stage: Stage, asked: list[Mail]
    ) -> None:
        desk = desk_of(stage)
        for mail in asked:
            before = (read(mail.content), dict(mail.notes), mail.envelope)
            answer(desk, stage.make(), mail)
            assert (read(mail.content), dict(mail.notes), mail.envelope) == before

    def test_asked_twice_it_answers_the_same(self, stage: Stage, asked: list[Mail]) -> None:
        """After a crash it is asked again, and may have remembered the mail already."""
        desk = desk_of(stage)
        for mail in asked:
            first, second = (shown(answer(desk, stage.make(), mail)) for _ in range(2))
            assert first == second, mail.id

    def test_it_remembers_by_the_context_alone(self, stage: Stage, asked: list[Mail]) -> None:
        """Another process has another object: what one keeps to itself, a crash forgets."""
        kept, fresh = desk_of(stage), desk_of(stage)
        processor = stage.make()
        for mail in asked:
            one = shown(answer(kept, processor, mail))
            assert one == shown(answer(fresh, stage.make(), mail)), mail.id

    def test_a_pure_one_leaves_no_trace(self, stage: Stage, asked: list[Mail]) -> None:
        if not self.component.pure:
            pytest.skip("it is not pure")
        desk = desk_of(stage)
        for mail in asked:
            answer(desk, stage.make(), mail)
        assert (desk.rows, desk.sent) == ({}, [])

    def test_it_leaves_nothing_open(self, stage: Stage, asked: list[Mail]) -> None:
        desk, processor = desk_of(stage), stage.make()
        answer(desk, processor, asked[0])
        with nothing_left():
            for mail in asked:
                answer(desk, processor, mail)

    def test_it_writes_no_file(self, stage: Stage, asked: list[Mail]) -> None:
        """Lasting effects are memory and notices: the journal has them once."""
        if not self.component.pure:
            pytest.skip("it is not pure")
        before = files(stage.home)
        desk = desk_of(stage)
        for mail in asked:
            answer(desk, stage.make(), mail)
        assert files(stage.home) == before


def desk_of(stage: Stage) -> Desk:
    """An engine of paper with a memory of its own."""
    return Desk(stage.runtime.name, stage.runtime.pipeline, stage.runtime.base)


def answer(desk: Desk, processor: Processor, mail: Mail) -> list[Any]:
    """The verdicts on a mail; a MailflowError is one, anything else is raised."""
    try:
        return list(desk.process(processor, mail))
    except MailflowError as error:
        return [error]


def shown(verdicts: Sequence[Any]) -> list[object]:
    """Verdicts that can be compared: a mail as its envelope, octets and notes."""
    return [
        (each.envelope, read(each.content), dict(each.notes)) if isinstance(each, Mail)
        else str(each) for each in verdicts
    ]  # fmt: skip


def files(home: Path) -> dict[str, int]:
    return {str(path): path.stat().st_mtime_ns for path in home.rglob("*") if path.is_file()}
