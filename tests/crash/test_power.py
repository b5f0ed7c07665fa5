"""Cut off at any instant, the disks hold every message once and whole, and so after exit."""

from __future__ import annotations

import random
from collections.abc import Callable

import pytest

from .conftest import CUTS, SEED, Disks, Open, record
from .ways import Strike, Way

pytestmark = [
    pytest.mark.crash,
    pytest.mark.interop("dovecot-pop3d", "xfsprogs", "e2fsprogs"),
    pytest.mark.timeout(1200),
]

NAMES = ("common", "common-hold", "deliver-first", "hook")
LAYOUTS = ("one", "two")
SHARE = -(-CUTS // (2 * len(NAMES) * len(LAYOUTS)))
"""Cuts for each kind of file system, way and layout."""


@pytest.fixture
def open_there(disks: Disks, open_way: Open) -> Callable[[str, str, int], Way]:
    """Open a way with its journal and Maildir on one disk or on two."""
    return lambda name, layout, number: open_way(name, *disks.places(layout, number))


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("name", NAMES)
def test_d05_nothing_is_lost_doubled_or_truncated_by_a_cut_at_any_time(
    open_there: Callable[[str, str, int], Way],
    control: Callable[[str], Way],
    disks: Disks,
    name: str,
    layout: str,
    request: pytest.FixtureRequest,
) -> None:
    rng = random.Random(f"{SEED} {request.node.name}")
    runs = control(name).runs
    complaints = []
    for number in range(SHARE):
        way = open_there(name, layout, number)
        run = rng.randrange(len(runs)) if name == "hook" else 0
        seconds = rng.uniform(0, runs[run] * 1.2)
        strike = Strike(run=run, seconds=seconds, blow=disks.off, mend=disks.on)
        way.session(strike)
        found = way.complaints()
        record(name, strike, found, "cut", f"{disks.kind}, {layout}")
        complaints += [f"cut in {strike.where}: {text}" for text in found]
    assert complaints == [], f"MAILFLOW_SEED={SEED}"


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("name", NAMES)
def test_d05_what_was_done_at_the_exit_is_there_after_a_cut(
    open_there: Callable[[str, str, int], Way], disks: Disks, control: Callable[[str], Way],
    name: str, layout: str,
) -> None:  # fmt: skip
    control(name)
    complaints = []
    for run in range(3 if name == "hook" else 1):
        way = open_there(name, layout, run)
        strike = Strike(run=run, blow=disks.off, mend=disks.on)
        way.session(strike)
        assert strike.where == f"after the exit of run {run} with status 0"
        complaints += [f"cut {strike.where}: {text}" for text in way.complaints()]
    assert complaints == []


@pytest.mark.skipif(CUTS < 100, reason="every step of the hook: MAILFLOW_CUTS=100 or `make crash`")
@pytest.mark.parametrize("layout", LAYOUTS)
def test_d05_nothing_is_lost_doubled_or_truncated_by_a_cut_before_any_step_of_the_hook(
    open_there: Callable[[str, str, int], Way],
    disks: Disks,
    control: Callable[[str], Way],
    layout: str,
) -> None:
    complaints = []
    for number in range(len(control("hook").first_steps)):
        way = open_there("hook", layout, number)
        strike = Strike(number, blow=disks.off, mend=disks.on)
        way.session(strike)
        complaints += [f"cut in {strike.where}: {text}" for text in way.complaints()]
    assert complaints == []
