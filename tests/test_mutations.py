"""tests/mutations.toml: each place is still there, and a mutation is caught."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
import tomli

ROOT = Path(__file__).parent.parent
MUTATIONS = tomli.loads((ROOT / "tests/mutations.toml").read_text(encoding="utf-8"))["mutation"]


@pytest.mark.parametrize("mutation", MUTATIONS, ids=[each["id"] for each in MUTATIONS])
def test_the_place_that_is_broken_is_there_once(mutation: dict[str, str]) -> None:
    whole = (ROOT / mutation["file"]).read_text(encoding="utf-8")
    assert whole.count(mutation["code"]) == 1
    assert mutation["broken"] != mutation["code"]


@pytest.mark.parametrize("mutation", MUTATIONS, ids=[each["id"] for each in MUTATIONS])
def test_it_names_a_test_of_what_it_samples(mutation: dict[str, str]) -> None:
    name, test = mutation["id"], mutation["test"]
    if name.isdecimal():
        assert test.startswith("tests/mailflow_pop3/server/")
        assert f"::test_{name}_" in test
        return
    entries = tomli.loads((ROOT / "tests/acceptance.toml").read_text(encoding="utf-8"))
    assert test in entries[name]["tests"]


def test_a_mutation_is_caught() -> None:
    done = subprocess.run(
        [sys.executable, "tests/mutate.py", "PML-06"],
        cwd=ROOT, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stdout.split()[:2] == ["PML-06", "caught"]
