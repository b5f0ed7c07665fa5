"""The points of the POP3 server: none is without a test, and each test names a true one."""

from __future__ import annotations

import re
from pathlib import Path

import tomli

HERE = Path(__file__).parent
POINTS = tomli.loads((HERE / "points.toml").read_text(encoding="utf-8"))
NAMED = re.compile(r"^ *def test_(\d{3})_\w+\(", re.M)


def numbers_tested() -> set[str]:
    texts = (path.read_text(encoding="utf-8") for path in HERE.glob("test_*.py"))
    return {number for text in texts for number in NAMED.findall(text)}


def test_the_points_are_numbered_from_001_to_120_and_each_says_what_it_asks_for():
    assert sorted(POINTS) == [f"{number:03d}" for number in range(1, 121)]
    assert all(point["text"] and point["kind"] in ("R", "S", "Q") for point in POINTS.values())


def test_no_point_is_without_a_test_that_bears_its_number():
    assert sorted(set(POINTS) - numbers_tested()) == []


def test_no_test_bears_the_number_of_no_point():
    assert sorted(numbers_tested() - set(POINTS)) == []
