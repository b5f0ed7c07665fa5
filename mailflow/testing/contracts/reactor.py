"""The suite of a reactor: for any trouble there is, a reaction that makes sense, or None.

    class TestRest(ReactorContract):
        component = RestReactor
        table = {"after": "1m"}

Rule of the file: a reactor is asked about every stage, every error of ours, and mail of
any kind; none of it may make the reactor itself a trouble.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from typing import ClassVar

import pytest

from mailflow import errors
from mailflow.errors import MailflowError, RefusedError, UnavailableError
from mailflow.kinds import Reactor, Trouble
from mailflow.mail import Envelope, Mail, Octets
from mailflow.testing.contracts.component import ComponentContract, Stage, nothing_left
from mailflow.testing.corpus import AWKWARD
from mailflow.testing.engine import Desk
from mailflow.verdicts import FAILED, LATER, Bounce, Discard, Hold, Reject, Report, Retry, Stop

ERRORS: tuple[type[MailflowError], ...] = tuple(
    each
    for each in vars(errors).values()
    if isinstance(each, type) and issubclass(each, MailflowError)
)

DAY = 86400.0


class ReactorContract(ComponentContract):
    """Give `component`, and a fixture `table` where it has options."""

    component: ClassVar[type[Reactor]]
    kind = "reactor"

    every: ClassVar[int] = 1
    """It is asked about each so many-th trouble: more than 1 where each one is a process."""

    @pytest.fixture
    def table(self) -> Mapping[str, object]:
        return {}

    @pytest.fixture
    def troubles(self) -> list[Trouble]:
        return list(every_trouble())[:: self.every]

    def test_a_reaction_makes_sense(self, stage: Stage, troubles: list[Trouble]) -> None:
        """At fetch only Retry or Stop: there is no mail yet that could be held."""
        for trouble in troubles:
            reaction = desk_of(stage).react(stage.make(), trouble)
            if trouble.stage == "fetch":
                assert reaction is None or isinstance(reaction, Retry | Stop), trouble
            assert reaction is None or isinstance(reaction, Retry | Hold | Bounce | Discard | Stop)
            if isinstance(reaction, Retry):
                assert 0 <= reaction.after < math.inf, trouble

    def test_asked_again_it_says_the_same(self, stage: Stage, troubles: list[Trouble]) -> None:
        """By another object, too: the process may have died before it was written down."""
        reactor = stage.make()
        for trouble in troubles:
            first = desk_of(stage).react(reactor, trouble)
            assert first == desk_of(stage).react(stage.make(), trouble), trouble

    def test_nobody_is_told_who_must_not_be(self, stage: Stage, troubles: list[Trouble]) -> None:
        """The null sender gets no notice, and what a notice is about cannot write its header."""
        for trouble in troubles:
            desk = desk_of(stage)
            desk.react(stage.make(), trouble)
            for mail, _ in desk.sent:
                assert "" not in mail.envelope.recipients, trouble
                assert mail.envelope.recipients, trouble
                assert "owned" not in mail.header().names(), trouble

    def test_it_leaves_nothing_open(self, stage: Stage, troubles: list[Trouble]) -> None:
        reactor = stage.make()
        desk_of(stage).react(reactor, troubles[0])
        with nothing_left():
            for trouble in troubles:
                desk_of(stage).react(reactor, trouble)


def every_trouble() -> Iterator[Trouble]:
    """Of each stage with each error, at the first attempt and late, with and without a mail."""
    envelope = Envelope("ann@example.org", ("bob@example.org", "cleo@example.org"))
    mail = Mail("0suite", envelope, Octets(AWKWARD[0].stored))
    for kind in ERRORS:
        error = kind("something went wrong\x1b[2J \u202e")
        for attempt, age in ((1, 0.0), (7, DAY), (1000, 30 * DAY)):
            yield Trouble("fetch", "inbox", error, attempt=attempt, age=age)
            yield Trouble("process", "step", error, mail, attempt=attempt, age=age)
            for outcome in (LATER, FAILED):
                reports = [Report("bob@example.org", outcome, "x.y.z", "no\r\nowned: yes", "host")]
                yield Trouble(
                    "distribute",
                    "smtp",
                    error,
                    mail,
                    ("bob@example.org",),
                    attempt,
                    age,
                    reports=tuple(reports),
                )
    yield Trouble("alarm", "inbox", UnavailableError("it has not worked for 2 days"), age=2 * DAY)
    yield Trouble("unrouted", "", UnavailableError("no step takes this mail"), mail)
    for verdict in (Hold("look at it"), Reject("not wanted"), Discard("spam")):
        yield Trouble("verdict", "step", RefusedError("verdict"), mail, verdict=verdict)
    for sample in AWKWARD:
        for sender in ("ann@example.org", "", None):
            odd = mail.replace(
                content=Octets(sample.stored), envelope=Envelope(sender, ("b@c.example",))
            )
            error = RefusedError("550 no such user", code="5.1.1")
            reports = [Report("b@c.example", FAILED, "5.1.1", "550 no such user", "mx.c.example")]
            yield Trouble(
                "distribute", "smtp", error, odd, ("b@c.example",), reports=tuple(reports)
            )


def desk_of(stage: Stage) -> Desk:
    """An engine of paper, with nothing remembered."""
    return Desk(stage.runtime.name, stage.runtime.pipeline, stage.runtime.base)
