"""The reactors retry, hold, discard, stop and log."""

from __future__ import annotations

from typing import Any

import pytest

from mailflow.errors import (
    ConfigError,
    LoginError,
    MailflowError,
    RefusedError,
    UnavailableError,
)
from mailflow.kinds import Trouble
from mailflow.testing.engine import Desk, mail
from mailflow.verdicts import Discard, Hold, Retry, Stop
from mailflow_react.discard import DiscardReactor
from mailflow_react.hold import HoldReactor
from mailflow_react.log import LogReactor
from mailflow_react.retry import RetryReactor
from mailflow_react.stop import StopReactor

PASSING = UnavailableError("smtp.example.org: 450 try later")
FINAL = RefusedError("smtp.example.org: 550 no such user")
DAY = 86400.0


def made(component: Any, table: dict[str, object], desk: Desk | None = None) -> Any:
    return component(component.options.read(table), (desk or Desk()).runtime)


def retried(
    table: dict[str, object], *, attempt: int = 1, age: float = 0.0,
    error: MailflowError = PASSING, stage: str = "distribute",
) -> Any:  # fmt: skip
    one = None if stage == "fetch" else mail("From: a@x.org\n\n")
    trouble = Trouble(stage, "smtp", error, one, attempt=attempt, age=age)
    return Desk().react(made(RetryReactor, table), trouble)


def test_each_retry_waits_as_the_file_says_and_the_last_wait_repeats() -> None:
    table: dict[str, object] = {"after": ["1m", "5m", "30m"], "for": "5d"}
    waits = [retried(table, attempt=attempt) for attempt in (0, 1, 2, 3, 4, 99)]
    assert waits == [Retry(after) for after in (60, 60, 300, 1800, 1800, 1800)]


def test_a_single_wait_needs_no_array() -> None:
    assert retried({"after": "90s"}, attempt=7) == Retry(90)


def test_retrying_ends_when_its_time_is_over_and_not_before() -> None:
    table: dict[str, object] = {"after": "2h", "for": "1d"}
    assert retried(table, age=DAY - 1) == Retry(1)
    assert retried(table, age=DAY) is None
    assert retried({"for": "forever"}, age=1000 * DAY) == Retry(60)


def test_what_was_refused_for_good_is_not_tried_again_unless_asked() -> None:
    assert retried({}, error=FINAL) is None
    assert retried({"permanent": True}, error=FINAL) == Retry(60)


def test_a_refused_login_is_tried_again_for_it_is_not_the_mails_fault() -> None:
    error = LoginError("smtp.example.org: 535 no")
    assert retried({}, error=error) == Retry(60)
    assert retried({}, error=error, stage="fetch") == Retry(60)


def test_a_source_is_tried_again_whatever_the_error() -> None:
    assert retried({}, error=ConfigError("x"), stage="fetch") == Retry(60)


@pytest.mark.parametrize("stage", ["verdict", "unrouted"])
def test_a_verdict_is_not_tried_again(stage: str) -> None:
    assert retried({"permanent": True}, stage=stage) is None


@pytest.mark.parametrize(
    ("table", "said"),
    [({"after": []}, "after: expected at least one"), ({"for": "soon"}, "for: expected a duration"),
     ({"for_": "5d"}, "for_: unknown option")],
)  # fmt: skip
def test_a_fault_is_said_by_the_word_of_the_file(table: dict[str, object], said: str) -> None:
    with pytest.raises(ConfigError) as caught:
        made(RetryReactor, table)
    assert said in caught.value.text


def test_hold_keeps_a_mail_with_the_reason() -> None:
    trouble = Trouble("distribute", "smtp", FINAL, mail("From: a@x.org\n\n"))
    assert Desk().react(made(HoldReactor, {}), trouble) == Hold(FINAL.text)
    assert Desk().react(made(HoldReactor, {"reason": "look"}), trouble) == Hold("look")


def test_discard_gives_a_mail_up_with_the_reason() -> None:
    trouble = Trouble("distribute", "smtp", FINAL, mail("From: a@x.org\n\n"))
    assert Desk().react(made(DiscardReactor, {}), trouble) == Discard(FINAL.text)
    assert Desk().react(made(DiscardReactor, {"reason": "old"}), trouble) == Discard("old")


@pytest.mark.parametrize("component", [HoldReactor, DiscardReactor])
def test_a_source_has_no_mail_and_is_left_to_others(component: Any) -> None:
    assert Desk().react(made(component, {}), Trouble("fetch", "pop3", PASSING)) is None


@pytest.mark.parametrize("stage", ["fetch", "process", "verdict", "unrouted", "distribute"])
def test_stop_ends_the_run_at_any_stage_and_says_why(stage: str) -> None:
    desk = Desk()
    one = None if stage == "fetch" else mail("From: a@x.org\n\n")
    assert desk.react(made(StopReactor, {}), Trouble(stage, "step", PASSING, one)) == Stop(
        PASSING.text
    )
    assert desk.react(made(StopReactor, {"reason": "see"}), Trouble(stage, "step", FINAL)) == Stop(
        "see"
    )
    assert [line.facts["why"] for line in desk.log.lines] == [PASSING.text, "see"]
    assert desk.log.said("warning") == ["the run is stopped"] * 2


def test_pml_26_log_says_one_warning_and_decides_nothing() -> None:
    desk = Desk()
    one = mail("From: a@x.org\n\n")
    trouble = Trouble("distribute", "smtp", FINAL, one, ("b@x.org",), attempt=3)
    assert desk.react(made(LogReactor, {}), trouble) is None
    (line,) = desk.log.lines
    assert (line.level, line.event) == ("warning", "trouble")
    assert line.facts == {
        "stage": "distribute", "step": "smtp", "mail": one.id, "recipients": ("b@x.org",),
        "attempt": 3, "kind": "RefusedError", "error": FINAL,
    }  # fmt: skip


def test_log_names_a_few_of_many_recipients_and_no_mail_where_there_is_none() -> None:
    desk = Desk()
    many = tuple(f"m{number}@x.org" for number in range(100))
    desk.react(made(LogReactor, {}), Trouble("distribute", "smtp", FINAL, mail(""), many))
    desk.react(made(LogReactor, {}), Trouble("fetch", "pop3", PASSING))
    first, second = desk.log.lines
    assert first.facts["recipients"] == many[:5]
    assert "mail" not in second.facts
