"""The lines of docs/security.rst as data: `python tests/threats.py` prints the tests they name.

Rule of the file: a line has three cells, and the last names tests and says nothing else.
"""

from __future__ import annotations

import csv
import re
from pathlib import Path
from typing import NamedTuple

DOCS = Path(__file__).parents[1] / "docs"
FILES = sorted(DOCS.glob("security-*.csv"))


class Threat(NamedTuple):
    """One line: who tries it (by file), what, what stops it, and tests as pytest takes them."""

    file: str
    tried: str
    stopped: str
    tests: tuple[str, ...]


def threats() -> list[Threat]:
    """Every line of every table. Raises ValueError where a last cell is not only tests."""
    found = []
    for path in FILES:
        with path.open(encoding="utf-8", newline="") as file:
            for tried, stopped, shown in list(csv.reader(file))[1:]:
                lines = [
                    re.fullmatch(r"\| ``(tests/\S+\.py::\S+)``", each)
                    for each in shown.splitlines()
                ]
                if not all(lines):
                    raise ValueError(f"{path.name}: {tried}: expected tests, a line each")
                tests = tuple(each.group(1) for each in lines if each)
                found.append(Threat(path.name, tried, stopped, tests))
    return found


def named() -> list[str]:
    """Every test that a line names, once."""
    return sorted({test for threat in threats() for test in threat.tests})


if __name__ == "__main__":
    print(*named(), sep="\n")
