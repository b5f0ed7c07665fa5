"""The faults of tests/acceptance.toml: `python tests/faults.py [F1 D5 ...]` prints their tests.

Rule of the file: a fault is an entry whose name has no dash, and its number is in the name of
a test of it.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import NamedTuple

import tomli

FILE = Path(__file__).with_name("acceptance.toml")


class Fault(NamedTuple):
    """One line of the catalogue; none of its tests where mailflow has no such part."""

    name: str
    cause: str
    outcome: str
    tests: tuple[str, ...]


def faults() -> list[Fault]:
    """All of them, in order."""
    found = []
    for name, entry in tomli.loads(FILE.read_text(encoding="utf-8")).items():
        if "-" not in name:
            cause, _, outcome = entry["text"].partition(" | ")
            found.append(Fault(name, cause, outcome, tuple(entry.get("tests", ()))))
    return found


def named(names: list[str]) -> list[str]:
    """The tests of these faults, of all where none is given. Raises KeyError."""
    known = {fault.name: fault.tests for fault in faults()}
    return sorted({test for name in names or known for test in known[name]})


if __name__ == "__main__":
    try:
        print(*named(sys.argv[1:]), sep="\n")
    except KeyError as error:
        sys.exit(f"there is no fault {error}")
