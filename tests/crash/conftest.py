from __future__ import annotations

import itertools
import json
import os
import re
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from mailflow.testing import kill, power
from mailflow.testing.dovecot import Dovecot

from .ways import WAYS, Careless, Strike, Way

Open = Callable[..., Way]

KILLS = int(os.environ.get("MAILFLOW_KILLS", "25"))
CUTS = int(os.environ.get("MAILFLOW_CUTS", "25"))
SEED = int(os.environ["MAILFLOW_SEED"])


RECORD = os.environ.get("MAILFLOW_BLOWS", "")
"""A file that each blow at a random instant is written to, a line of JSON for each."""


def record(use: str, strike: Strike, found: list[str], blow: str = "kill", disk: str = "") -> None:
    """Write down a blow, for a campaign that is to be looked at later."""
    where = re.sub(r"/\S+/", "", strike.where)  # of a path the last part
    note(use=use, blow=blow, disk=disk, where=where, found=found)


def note(**line: object) -> None:
    """One line of what MAILFLOW_BLOWS names."""
    if RECORD:
        with open(RECORD, "a", encoding="utf-8") as file:
            file.write(json.dumps({"seed": SEED, **line}) + "\n")


def demand(reason: str) -> None:
    """What must be possible where `.ci/run` runs, or as root, may be missing elsewhere."""
    if reason and (os.environ.get("CI") == "true" or os.geteuid() == 0):
        pytest.fail(reason)
    if reason:
        pytest.skip(reason)


@pytest.fixture(scope="session")
def watched() -> None:
    """Programs can be stopped at a step here."""
    demand(kill.obstacle())


@pytest.fixture(scope="session")
def dovecot(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Dovecot]:
    with Dovecot(tmp_path_factory.mktemp("dovecot"), imap=True) as dovecot:
        yield dovecot


@pytest.fixture
def open_way(tmp_path: Path, dovecot: Dovecot, watched: None) -> Iterator[Open]:
    """Open a way by name, in fresh places or in those given, learning what it delivers."""
    numbers = itertools.count()
    known = {**WAYS, Careless.name: Careless}
    with ExitStack() as stack:

        def make(name: str, journal: Path | None = None, maildir: Path | None = None) -> Way:
            home = tmp_path / f"home{next(numbers)}"
            way = known[name](home, journal or home, maildir or home, dovecot)
            stack.callback(way.close)
            return way

        yield make


@pytest.fixture
def control(open_way: Open) -> Callable[[str], Way]:
    """An undisturbed session on a way: the control of every blow."""

    def run(name: str) -> Way:
        way = open_way(name)
        way.control()
        assert way.complaints() == []
        assert [(outcome.status, outcome.stderr) for outcome in way.outcomes] == (
            [(0, "")] * len(way.outcomes)
        )
        return way

    return run


class Disks:
    """Two file systems of one kind, cut at once: one for journals, one for Maildirs."""

    def __init__(self, journal: power.Disk, maildir: power.Disk) -> None:
        self.both = (journal, maildir)
        self.kind = journal.kind

    def off(self) -> None:
        for disk in self.both:
            disk.off()

    def on(self) -> None:
        for disk in self.both:
            disk.on()

    def places(self, layout: str, number: int) -> tuple[Path, Path]:
        """Directories for a journal and a Maildir, made long ago, on one disk or on two."""
        journal, maildir = (disk.path / str(number) for disk in self.both)
        if layout == "one":
            maildir = journal
        for place in {journal, maildir}:
            place.mkdir()
            descriptor = os.open(place.parent, os.O_RDONLY)
            os.fsync(descriptor)
            os.close(descriptor)
        return journal, maildir


@pytest.fixture(params=["ext4", "xfs"])
def disks(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Disks]:
    demand(power.obstacle(request.param))
    with (
        power.Disk(tmp_path / "a", request.param) as journal,
        power.Disk(tmp_path / "b", request.param) as maildir,
    ):
        yield Disks(journal, maildir)


__all__ = ["Disks", "Open", "Strike", "record"]
