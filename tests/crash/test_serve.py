"""Killed or cut off at any step from the source to QUIT, what is served is what was promised."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from mailflow.testing import power
from mailflow.testing.crash import Strike, killed_at_random, killed_before_each_step, undisturbed
from mailflow.testing.dovecot import Dovecot

from .conftest import CUTS, KILLS, SEED, demand, record
from .served import (
    Everything,
    Expired,
    Gathered,
    Served,
    ServedLive,
    ServedMaildir,
    Visit,
    messages,
)

pytestmark = [pytest.mark.crash, pytest.mark.usefixtures("watched"), pytest.mark.timeout(900)]

PARTS = 1 if KILLS >= 100 else 12
"""`make crash` tries every step; else a run tries one step in so many, others each time."""

SHARE = (SEED % PARTS, PARTS)


@pytest.fixture(params=["ext4", "xfs"])
def disk(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[power.Disk]:
    demand(power.obstacle(request.param))
    with power.Disk(tmp_path / "disk", request.param) as disk:
        yield disk


def on(disk: power.Disk, kind: type[Served]) -> Callable[[Path], Served]:
    """Sessions whose spools lie on a disk, each in a directory of its own."""
    numbers = itertools.count()
    return lambda home: kind(home, disk.path / f"spool{next(numbers)}")


@pytest.mark.parametrize("kind", [Served, ServedMaildir])
def test_g10_killed_before_any_step_of_a_session_nothing_goes_without_a_quit(
    kind: type[Served], tmp_path: Path
) -> None:
    found = killed_before_each_step(kind, tmp_path, thorough=KILLS >= 100, share=SHARE)
    assert found == [], f"MAILFLOW_SEED={SEED}"


@pytest.mark.interop("dovecot-imapd", "dovecot-pop3d")
@pytest.mark.parametrize("kind", ["imap", "pop3"])
def test_g10_killed_before_any_step_of_a_live_session_nothing_goes_without_a_quit(
    kind: str, tmp_path: Path, dovecot: Dovecot
) -> None:
    def live(home: Path) -> Served:
        return ServedLive(home, dovecot, kind)

    found = killed_before_each_step(live, tmp_path, thorough=KILLS >= 100, share=SHARE)
    assert found == [], f"MAILFLOW_SEED={SEED}"


def test_d04_killed_before_any_step_on_its_way_each_mail_is_in_the_drop_once(
    tmp_path: Path,
) -> None:
    found = killed_before_each_step(Gathered, tmp_path, thorough=KILLS >= 100, share=SHARE)
    assert found == [], f"MAILFLOW_SEED={SEED}"


def test_d04_killed_before_any_step_of_expiry_what_is_to_stay_stays(tmp_path: Path) -> None:
    found = killed_before_each_step(Expired, tmp_path, thorough=KILLS >= 100, share=SHARE)
    assert found == [], f"MAILFLOW_SEED={SEED}"


def test_d04_killed_at_any_time_while_it_fetches_and_serves_nothing_is_lost(
    tmp_path: Path,
) -> None:
    found = killed_at_random(
        Everything, tmp_path, times=-(-KILLS // 5), seed=SEED,
        told=lambda strike, found: record("serve", strike, found),
    )  # fmt: skip
    assert found == [], f"MAILFLOW_SEED={SEED}"


@pytest.mark.interop("xfsprogs", "e2fsprogs")
def test_d05_cut_off_at_any_time_while_it_fetches_and_serves_nothing_is_lost(
    tmp_path: Path, disk: power.Disk
) -> None:
    found = killed_at_random(
        on(disk, Everything), tmp_path, times=-(-CUTS // 10), seed=SEED, disk=disk,
        told=lambda strike, found: record("serve", strike, found, "cut", disk.kind),
    )  # fmt: skip
    assert found == [], f"MAILFLOW_SEED={SEED}"


@pytest.mark.interop("xfsprogs", "e2fsprogs")
@pytest.mark.parametrize("kind", [Served, Gathered, Expired])
def test_d05_cut_off_before_any_step_what_was_promised_is_there(
    kind: type[Served], tmp_path: Path, disk: power.Disk
) -> None:
    parts = 1 if CUTS >= 100 else 2 * PARTS
    share = (SEED % parts, parts)
    found = killed_before_each_step(on(disk, kind), tmp_path, share=share, disk=disk)
    assert found == [], f"MAILFLOW_SEED={SEED}"


@pytest.mark.interop("xfsprogs", "e2fsprogs")
def test_d05_what_was_deleted_stays_so_when_the_power_goes_right_after_the_answer_to_quit(
    tmp_path: Path, disk: power.Disk
) -> None:
    undisturbed(Served, tmp_path / "undisturbed")
    session = Served(tmp_path / "cut", disk.path / "spool", hook=disk.off)
    session.visits = session.served(None, session.calls)
    disk.on()
    (session.last,) = session.served(None, session.looks)
    assert [visit.quit is not None for visit in session.visits] == [True, True]
    assert (session.visits[1].quit or "").startswith("+OK")
    assert session.complaints() == []


@pytest.mark.interop("xfsprogs", "e2fsprogs")
def test_d05_what_was_spooled_is_there_when_the_power_goes_right_after_the_exit(
    tmp_path: Path, disk: power.Disk
) -> None:
    session = Gathered(tmp_path / "cut", disk.path / "spool")
    strike = Strike(run=0, blow=disk.off, mend=disk.on)
    session.session(strike)
    assert strike.where == "after the exit of run 0 with status 0"
    assert session.complaints() == []


class Judged(Served):
    """Visits that are made up, to be judged."""

    def prepare(self) -> None:
        """Nothing is run."""


ALL = {f"u{number}": octets for number, octets in enumerate(messages())}
LEFT = {uidl: octets for uidl, octets in ALL.items() if uidl == "u2"}
ASKED = frozenset({"u0", "u1"})


@pytest.mark.parametrize(
    ("visit", "last", "complaint"),
    [
        (Visit(ALL, ASKED, "+OK"), LEFT, ""),
        (Visit(ALL, ASKED, ""), LEFT, ""),
        (Visit(ALL, ASKED, ""), ALL, ""),
        (Visit(ALL, ASKED, None), ALL, ""),
        (Visit(ALL, ASKED, None), LEFT, "gone without a QUIT"),
        (Visit(ALL, ASKED, "+OK"), ALL, "back after"),
        (Visit(ALL, ASKED, ""), {"u1": ALL["u1"], **LEFT}, "of 2 deletions 1 were made"),
        (Visit(ALL, ASKED, "+OK"), {}, "never asked for"),
        (Visit(ALL, ASKED, "+OK"), {"u7": ALL["u2"]}, "has another one now"),
        (Visit(ALL, ASKED, "+OK"), {**LEFT, "u1": ALL["u2"]}, "that of another message"),
        (Visit(ALL, ASKED, "+OK"), {**LEFT, "u8": ALL["u2"]}, "there twice"),
        (Visit(ALL, ASKED, "+OK"), {**LEFT, "u8": b"half"}, "not as it was"),
    ],
)
def test_what_is_wrong_is_complained_of(
    tmp_path: Path, visit: Visit, last: dict[str, bytes], complaint: str
) -> None:
    session = Judged(tmp_path / "home")
    session.visits, session.last = [visit], Visit(last)
    found = session.complaints()
    assert any(complaint in text for text in found) if complaint else found == [], found
