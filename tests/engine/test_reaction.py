"""What a trouble leads to: the file's reactors in order, then the default."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest

from mailflow.engine import reaction
from mailflow.errors import (
    BadMailError,
    ConfigError,
    LoginError,
    MailflowError,
    PluginError,
    RefusedError,
    UnavailableError,
)
from mailflow.kinds import Context, Ticket, Trouble
from mailflow.mail import Mail
from mailflow.verdicts import LATER, Bounce, Hold, Report, Retry

from .parts import Mailbox, Post, Works, distribute, fetch, message, process, react

DAY = 86400.0


def failing(works: Works, *reactors: Any, error: Exception | None = None) -> int:
    """A run whose one mail a step fails on."""

    def fail(mail: Mail, context: Context) -> Iterator[Mail]:
        raise error or UnavailableError("not now")
        yield

    box = Mailbox(a=message("a"))
    return works.run(
        works.pipeline([fetch(box)], [distribute(Post())], [process(fail)], list(reactors))
    )


def saying(answer: object, asked: list[str], name: str) -> Any:
    def decide(trouble: Trouble, context: Context) -> object:
        asked.append(name)
        return answer

    return react(decide, name)


def test_the_first_that_answers_decides(works: Works) -> None:
    asked: list[str] = []
    failing(
        works,
        saying(None, asked, "notify"),
        saying(Hold("by the second"), asked, "hold"),
        saying(Bounce("never"), asked, "bounce"),
    )
    assert asked == ["notify", "hold"]
    assert [entry.reason for entry in works.waits()] == ["by the second"]


def test_one_whose_when_does_not_hold_is_not_asked(works: Works) -> None:
    asked: list[str] = []

    def decide(trouble: Trouble, context: Context) -> Hold:
        asked.append(trouble.step)
        return Hold("x")

    for when in ('stage is "fetch"', "attempt > 1", "not error.temporary", 'step is "other"'):
        failing(works, react(decide, when=when))
        assert asked == []
        works.change("DELETE FROM mail")
        works.change("DELETE FROM seen")
    failing(works, react(decide, when='stage is "process" and error.temporary'))
    assert asked == ["step"]


@pytest.mark.parametrize(
    "fault",
    [lambda: 1 / 0, lambda: (_ for _ in ()).throw(UnavailableError("x")), lambda: "retry"],
    ids=["exception", "our error", "no reaction"],
)
def test_pml06_what_goes_wrong_inside_a_reactor_never_breaks_the_run(
    works: Works, fault: Callable[[], object], capfd: pytest.CaptureFixture[str]
) -> None:
    asked: list[str] = []

    def decide(trouble: Trouble, context: Context) -> object:
        found = fault()
        return next(iter(found)) if hasattr(found, "throw") else found

    failing(works, react(decide, "broken"), saying(Hold("by the next"), asked, "next"))
    assert asked == ["next"]
    assert "a reactor failed" in capfd.readouterr().err
    assert [entry.reason for entry in works.waits()] == ["by the next"]


@pytest.mark.parametrize(
    "odd",
    [Retry(float("nan")), Retry(-1.0), Retry("1h"), Bounce(None), Hold(5)],  # type: ignore[arg-type]
)
@pytest.mark.parametrize("stage", ["process", "distribute", "fetch"])
def test_a_reaction_that_cannot_be_written_down_is_none(
    works: Works, odd: object, stage: str, capfd: pytest.CaptureFixture[str]
) -> None:
    box, post = Mailbox(a=message("a")), Post()

    def fail(*_: object) -> Any:
        raise UnavailableError("not now")

    steps = []
    if stage == "fetch":
        box.on_listing = fail
    elif stage == "process":
        steps = [process(fail)]
    post.act = fail
    pipeline = works.pipeline([fetch(box)], [distribute(post)], steps, [saying(odd, [], "odd")])
    assert works.run(pipeline) == 75
    assert "is no reaction" in capfd.readouterr().err
    expected = {"process": ["waiting"], "distribute": ["due"], "fetch": []}
    assert [entry.state for entry in works.waits()] == expected[stage]


def test_what_a_reactor_did_before_it_failed_is_undone(works: Works) -> None:
    def decide(trouble: Trouble, context: Context) -> None:
        context.memory.set("k", "v")
        raise ZeroDivisionError

    failing(works, react(decide))
    assert works.rows("SELECT count(*) FROM memory") == [(0,)]


def trouble(error: MailflowError, *, age: float = 0.0, stage: str = "distribute") -> Trouble:
    return Trouble(stage, "step", error, age=age)


@pytest.mark.parametrize(
    ("error", "age", "expected"),
    [
        (UnavailableError("x"), 0.0, Retry),
        (UnavailableError("x"), 5 * DAY - 1, Retry),
        (UnavailableError("x"), 5 * DAY, Hold),
        (LoginError("x"), 0.0, Retry),
        (ConfigError("a secret that cannot be had"), 0.0, Retry),
        (RefusedError("x"), 0.0, Hold),
        (PluginError("x"), 0.0, Hold),
        (BadMailError("x"), 0.0, Hold),
    ],
)
def test_the_default_retries_what_may_pass_for_five_days_and_holds_the_rest(
    error: MailflowError, age: float, expected: type
) -> None:
    assert isinstance(reaction.default(trouble(error, age=age)), expected)


def test_a_source_is_always_tried_again(works: Works) -> None:
    for error in (UnavailableError("x"), LoginError("x"), PluginError("x")):
        assert isinstance(reaction.default(trouble(error, age=99 * DAY, stage="fetch")), Retry)


def test_the_trouble_says_all_there_is_to_say(works: Works) -> None:
    seen: list[Trouble] = []
    post = Post()
    box = Mailbox(a=message("a"))
    box.envelope = box.envelope._replace(recipients=("bob@example.org", "cleo@example.org"))

    def act(mail: Mail, ticket: Ticket) -> Iterator[Report]:
        for to in ticket.recipients:
            yield Report(to, LATER, "4.2.0", "busy", "mx.example.org")

    def decide(trouble: Trouble, context: Context) -> Retry:
        assert context.name == "react"
        assert context.pipeline == "red"
        seen.append(trouble)
        return Retry(0.0 if trouble.attempt < 3 else 3600.0)

    post.act = act
    works.run(works.pipeline([fetch(box)], [distribute(post)], react=[react(decide)]))
    first = seen[0]
    assert (first.stage, first.step, first.recipients) == (
        "distribute", "post", ("bob@example.org", "cleo@example.org"),
    )  # fmt: skip
    assert first.mail is not None
    assert first.mail.header().get("Subject") == "a"
    assert first.error.text == "mx.example.org: busy"
    assert first.error.fields["code"] == "4.2.0"
    assert [each.recipient for each in first.reports] == list(first.recipients)
    assert [each.attempt for each in seen] == [1, 2, 3]
    assert 0 <= first.age < 60


def test_a_trouble_that_a_reactor_has_resolved_is_no_failure_of_the_run(works: Works) -> None:
    assert failing(works, saying(Bounce("told"), [], "bounce"), error=RefusedError("no")) == 0


def test_one_that_waits_or_is_held_is(works: Works) -> None:
    assert failing(works, saying(Hold("x"), [], "hold"), error=RefusedError("no")) == 69


def test_the_age_of_a_source_counts_from_when_it_last_worked(works: Works) -> None:
    seen: list[float] = []
    box = Mailbox(a=message("a"))

    def decide(trouble: Trouble, context: Context) -> None:
        seen.append(trouble.age)

    pipeline = works.pipeline([fetch(box)], [distribute(Post())], react=[react(decide)])
    works.run(pipeline)
    works.change("UPDATE source SET worked_at = worked_at - 7200")

    def fail() -> None:
        raise UnavailableError("down")

    box.on_listing = fail
    works.run(pipeline)
    assert seen[0] == pytest.approx(7200, abs=30)
