"""The figures of docs/reliability.rst are those of the lines that are kept."""

from __future__ import annotations

import pytest

from bench import proof
from tests.faults import Fault, named


def test_the_tables_are_those_of_the_lines() -> None:
    page = proof.PAGE.read_text()
    assert proof.renewed(page) == page


def test_a_blow_that_hit_nothing_is_not_counted() -> None:
    line = {"use": "hook", "blow": "kill", "disk": "", "where": "step 1", "found": []}
    missed = {**line, "where": ""}
    assert proof.blows([line, missed, line])[-1] == ["all", "2", "0", "0", "0", "0", "0"]


def test_harm_is_counted_wherever_it_was_found() -> None:
    line = {"use": "hook", "blow": "cut", "disk": "xfs", "where": "step 1", "found": ["lost"]}
    assert proof.blows([line])[-1] == ["all", "0", "0", "0", "1", "0", "1"]


@pytest.mark.parametrize("change", [{"seconds": 1700}, {"status": 77}])
def test_a_campaign_that_was_cut_short_or_found_something_is_not_shown(
    change: dict[str, int],
) -> None:
    line = {
        "target": "imap", "seconds": 1800, "runs": 1, "edges": 2, "peak_mib": 3, "corpus": 4,
        "status": 0,
    }  # fmt: skip
    assert len(proof.campaigns([line])) == 2
    assert len(proof.campaigns([{**line, **change}])) == 1


def test_a_fault_is_shown_with_its_outcome_and_the_number_of_its_tests() -> None:
    faults = [Fault("F1", "cut", "*again*, `_`", ("a::b",)), Fault("W1", "CSRF", "token", ())]
    shown = proof.catalogue(faults).splitlines()[-4:]
    assert shown == ["   * - F1", "     - cut", r"     - \*again\*, ``_``", "     - 1"]


def test_the_tests_of_some_faults_are_those_that_are_named_for_them() -> None:
    assert named(["F2", "D5"]) == sorted({*named(["F2"]), *named(["D5"])})
    assert all("_f02_" in test for test in named(["F2"]))
