"""Killed at any step, the program loses nothing and doubles only what it knew in doubt."""

from __future__ import annotations

import random
from collections.abc import Callable

import pytest

from mailflow.testing.crash import MORE, kill_points

from .conftest import KILLS, SEED, Open, record
from .ways import WAYS, HookSmtp, Strike, Way, messages

pytestmark = [pytest.mark.crash, pytest.mark.interop("dovecot-pop3d")]

SHARDS = 4 if KILLS >= 100 else 1
"""Parts of a long test, so that they can run side by side."""

PARTS = 1 if KILLS >= 100 else 6
"""Of so many steps one is tried, from one on that the seed draws; `make crash` tries all."""


def first_to_sink(way: Way) -> int:
    """The place of the step that sends the first octets to the sink."""
    sends = [(n, s.target) for n, s in enumerate(way.first_steps) if s.call.startswith("send")]
    source = sends[0][1] if way.name.startswith("common") else ""
    return next(number for number, target in sends if target != source)


def points_of(way: Way) -> list[int]:
    """Every step of a session, by its place in it; `make crash` leaves out none.

    Otherwise it is one of PARTS, and some writes are left out (crash.kill_points); with
    `hold` what comes before the first octet to the sink, since nothing can be in doubt yet;
    and from an MTA the second message, which is as the first.
    """
    wanted = set(kill_points(way.first_steps, thorough=KILLS >= 100))
    if KILLS >= 100:
        return sorted(wanted)
    if len(way.outcomes) >= len(messages()):
        first, second = (len(outcome.steps) for outcome in way.outcomes[:2])
        wanted -= set(range(first + MORE, first + second - MORE))
    if way.name.endswith("hold"):
        wanted -= set(range(first_to_sink(way) - 1))
    return sorted(wanted)[SEED % PARTS :: PARTS]


def struck(way: Way, strike: Strike) -> list[str]:
    way.session(strike)
    return [f"{way.name}, killed in {strike.where}: {text}" for text in way.complaints()]


@pytest.mark.timeout(1200)
@pytest.mark.parametrize("shard", range(SHARDS))
@pytest.mark.parametrize("name", WAYS)
def test_d04_nothing_is_lost_or_doubled_by_a_kill_before_any_step(
    open_way: Open, control: Callable[[str], Way], name: str, shard: int
) -> None:
    points = points_of(control(name))[shard::SHARDS]
    complaints = []
    hits = 0
    for number in points:
        strike = Strike(number)
        complaints += struck(open_way(name), strike)
        hits += bool(strike.where)
    assert complaints == []
    assert hits >= (len(points) - -(-MORE // PARTS)) * 0.8


@pytest.mark.timeout(1200)
@pytest.mark.parametrize("name", WAYS)
def test_d04_nothing_is_lost_or_doubled_by_a_kill_at_any_time(
    open_way: Open, control: Callable[[str], Way], name: str
) -> None:
    rng = random.Random(f"{SEED} {name}")
    runs = control(name).runs
    complaints = []
    for _ in range(-(-KILLS // len(WAYS))):
        run = rng.randrange(len(runs)) if name.startswith("hook") else 0
        strike = Strike(run=run, seconds=rng.uniform(0, runs[run] * 1.1))
        found = struck(open_way(name), strike)
        record(name, strike, found)
        complaints += found
    assert complaints == [], f"MAILFLOW_SEED={SEED}"


@pytest.mark.timeout(300)
def test_d12_the_window_in_which_a_copy_may_be_sent_is_there_and_hold_closes_it(
    open_way: Open, control: Callable[[str], Way]
) -> None:
    """A harness that never sees a copy would prove nothing about copies."""
    first = control("hook-smtp").outcomes[0].steps
    sends = [number for number, step in enumerate(first) if step.call.startswith("send")]
    copies = {}
    for name in ("hook-smtp", "hook-smtp-hold"):
        taken = []
        for number in sends:
            way = open_way(name)
            assert struck(way, Strike(number + 1)) == []
            assert isinstance(way, HookSmtp)
            taken.append(len(way.sink.messages))
        copies[name] = max(taken) - len(messages())
    assert copies == {"hook-smtp": 1, "hook-smtp-hold": 0}
