"""docs/security.rst: every line is shown by tests that exist, and one command runs them all."""

from __future__ import annotations

import re
import subprocess
import sys
from collections import Counter
from pathlib import Path

import pytest

import mailflow

from ..test_acceptance import functions
from ..threats import FILES, Threat, named, threats

ROOT = Path(__file__).parents[2]
THREATS = threats()


@pytest.mark.parametrize("threat", THREATS, ids=lambda each: each.tried[:60])
def test_the_tests_that_a_line_names_exist(threat: Threat) -> None:
    assert threat.tests
    for test in threat.tests:
        file, _, function = test.partition("::")
        assert function in functions(file), f"{threat.file}: there is no {test}"


def test_a_line_says_what_is_tried_and_what_stops_it_and_stands_there_once() -> None:
    assert all(each.tried.strip() and each.stopped.strip() for each in THREATS)
    assert Counter(each.tried for each in THREATS).most_common(1)[0][1] == 1


def test_every_table_is_shown() -> None:
    text = (ROOT / "docs/security.rst").read_text(encoding="utf-8")
    assert sorted(re.findall(r":file: (\S+)", text)) == [path.name for path in FILES]


def test_one_command_runs_the_tests_of_all_lines() -> None:
    printed = subprocess.run(
        [sys.executable, "tests/threats.py"], cwd=ROOT, check=True, capture_output=True, text=True
    ).stdout
    assert printed.split() == named()
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    _, _, recipe = makefile.partition("\nthreats: $(VENV)/.dev\n")
    assert "$(PYTEST) $$($(BIN)/python tests/threats.py)" in recipe.partition("\n\n")[0]
    assert "    make threats\n" in (ROOT / "docs/security.rst").read_text(encoding="utf-8")


def test_the_policy_names_the_version_that_is_supported() -> None:
    major, minor, _ = mailflow.__version__.split(".")
    assert f"| {major}.{minor}.x | yes |" in (ROOT / "SECURITY.md").read_text(encoding="utf-8")
