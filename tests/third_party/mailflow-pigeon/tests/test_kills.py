"""Whenever the program dies, no pigeon is lost, and none flies twice."""

import os

import pytest

from mailflow.testing import Disk, Trip, killed_at_random, killed_before_each_step
from mailflow.testing.power import obstacle

PARTS = 1 if int(os.environ.get("MAILFLOW_KILLS", "25")) >= 100 else 4
"""Of so many steps one is tried, from one on that the seed draws."""

SHARE = (int(os.environ.get("MAILFLOW_SEED", "0")) % PARTS, PARTS)

MESSAGES = [
    b"Subject: %d\r\nMessage-ID: <%d@example.org>\r\n\r\nhello\r\n" % (number, number)
    for number in range(3)
]


class Flight(Trip):
    """From one loft to another."""

    steps = ""

    def prepare(self):
        self.near, self.far = self.home / "near", self.destination()
        self.near.mkdir()
        self.far.mkdir()
        for number, octets in enumerate(MESSAGES):
            (self.near / f"{number}.eml").write_bytes(octets)
        return (
            f'[[fetch]]\nuse = "pigeon"\nloft = "{self.near}"\nkeep = "0d"\n{self.steps}'
            f'[[distribute]]\nuse = "pigeon"\nloft = "{self.far}"\n'
        )

    def destination(self):
        return self.home / "far"

    def expected(self):
        return MESSAGES

    def left(self):
        return [path.read_bytes() for path in self.near.glob("*.eml")]

    def arrived(self):
        return [path.read_bytes() for path in self.far.glob("*.eml")]


class FlightOnce(Flight):
    steps = '[[process]]\nuse = "pigeon.once"\n[[react]]\nuse = "pigeon.rest"\nafter = "1s"\n'


@pytest.mark.parametrize("flight", [Flight, FlightOnce])
def test_killed_before_each_step_it_loses_and_doubles_nothing(flight, tmp_path):
    assert killed_before_each_step(flight, tmp_path, share=SHARE) == []


def test_killed_at_any_time_it_loses_and_doubles_nothing(tmp_path):
    assert killed_at_random(Flight, tmp_path, times=10, seed="pigeon") == []


@pytest.mark.skipif(bool(obstacle()), reason=obstacle())
def test_when_the_power_is_cut_it_loses_and_doubles_nothing(tmp_path):
    """The far loft is on that disk alone: a flush of the journal would save it by accident."""
    with Disk(tmp_path) as disk:

        class FlightToDisk(Flight):
            def destination(self):
                return disk.path / self.home.name

        found = killed_before_each_step(FlightToDisk, tmp_path, share=(0, 5), disk=disk)
    assert found == []
