"""tests/acceptance.toml: all that is due is shown by tests, and those tests exist."""

from __future__ import annotations

import ast
import re
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import tomli

HERE = Path(__file__).parent
SERIES = {
    "PML": 30, "PWM": 37, "P3S": 30, "DAL": 34, "CSP": 22,
    "F": 29, "D": 21, "L": 11, "G": 10, "C": 8, "W": 7,
}  # fmt: skip
"""How many entries there are of each series, numbered from 1."""

ENTRIES: dict[str, dict[str, Any]] = tomli.loads(
    (HERE / "acceptance.toml").read_text(encoding="utf-8")
)
DUE = [name for name, entry in ENTRIES.items() if entry.get("due")]


@cache
def functions(file: str) -> frozenset[str]:
    """The tests of a file, those of a class as Class::test."""
    path = HERE.parent / file
    if not path.is_file():
        return frozenset()
    return frozenset(_functions(ast.parse(path.read_text(encoding="utf-8")).body, ""))


def _functions(body: list[ast.stmt], prefix: str) -> list[str]:
    found: list[str] = []
    for node in body:
        if isinstance(node, ast.ClassDef):
            found += _functions(node.body, f"{prefix}{node.name}::")
        elif isinstance(node, ast.FunctionDef) and node.name.startswith("test_"):
            found.append(prefix + node.name)
    return found


def test_no_entry_is_missing_and_none_is_made_up() -> None:
    wanted = {
        f"{series}-{number:02d}" if len(series) == 3 else f"{series}{number}"
        for series, count in SERIES.items()
        for number in range(1, count + 1)
    }
    assert set(ENTRIES) == wanted


def test_every_entry_says_what_it_asks_for_and_nothing_else() -> None:
    for name, entry in ENTRIES.items():
        assert entry["text"].strip(), name
        assert set(entry) <= {"text", "due", "tests"}, name


@pytest.mark.parametrize("name", DUE)
def test_what_is_due_is_shown_by_a_test(name: str) -> None:
    assert ENTRIES[name].get("tests"), f"{name}: {ENTRIES[name]['text']}"


@pytest.mark.parametrize("name", [name for name in ENTRIES if ENTRIES[name].get("tests")])
def test_the_tests_that_are_named_exist(name: str) -> None:
    for test in ENTRIES[name]["tests"]:
        file, _, function = test.partition("::")
        assert function in functions(file), f"{name}: there is no {test}"


@pytest.mark.parametrize("name", [name for name in DUE if "-" not in name])
def test_a_fault_is_shown_by_a_test_that_bears_its_number(name: str) -> None:
    number = re.compile(rf"_{name[0].lower()}0?{name[1:]}_")
    tests: list[str] = ENTRIES[name].get("tests", [])
    assert any(number.search(test.rpartition("::")[2]) for test in tests), name
