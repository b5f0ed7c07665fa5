"""No component of ours is without its suite."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from mailflow.engine.registry import BUILT_IN, KINDS, Registry

HERE = Path(__file__).parent

ELSEWHERE = {
    "StdinFetcher": "tests/mailflow_stdin: one message, pushed, that no second session sees",
    "Probe": "tests/mailflow_pop3/server/test_monitoring.py: a message that nobody has put there",
    "Manager": "tests/mailflow_pop3/server/test_monitoring.py: a door, without mail",
}


@pytest.mark.parametrize("name", BUILT_IN)
def test_every_component_of_the_plugin_has_its_suite(name: str) -> None:
    suites = "\n".join(path.read_text() for path in HERE.glob("test_*.py"))
    named = set(re.findall(r"^    component = (\w+)$", suites, re.MULTILINE))
    entries = [entry for entry in Registry().all() if entry.use.partition(".")[0] == name]
    classes = {entry.component.__name__ for entry in entries if entry.component}
    assert {entry.kind for entry in entries} <= set(KINDS.values())
    assert classes - named - ELSEWHERE.keys() == set()
