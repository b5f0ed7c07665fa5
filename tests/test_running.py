"""Pipelines from Python, apart from running them."""

from __future__ import annotations

from pathlib import Path

import pytest

from mailflow import ConfigError
from mailflow.running import describe

SMALL = """
[[fetch]]
use = "stdin"
[[process]]
use = "filter.tag"
name = "sort"
note = { folder = ".Lists" }
[[distribute]]
use = "maildir"
path = "inbox"
"""


def test_a_pipeline_is_described_by_its_steps_in_order(tmp_path: Path) -> None:
    path = tmp_path / "red.toml"
    path.write_text(SMALL)
    steps = describe(path)
    assert [step[:3] for step in steps] == [
        ("fetch", "stdin", "stdin"),
        ("process", "sort", "filter.tag"),
        ("distribute", "maildir", "maildir"),
    ]
    assert vars(steps[2].options) == {"path": str(tmp_path / "inbox")}


def test_a_mapping_is_described_too() -> None:
    steps = describe(
        {"fetch": [{"use": "stdin"}], "distribute": [{"use": "maildir", "path": "/x"}]}
    )
    assert [step.name for step in steps] == ["stdin", "maildir"]


def test_all_that_is_wrong_is_raised(tmp_path: Path) -> None:
    path = tmp_path / "red.toml"
    path.write_text(SMALL.replace("maildir", "maildri").replace("stdin", "stdn"))
    with pytest.raises(ConfigError) as caught:
        describe(path)
    assert "stdn" in str(caught.value)
    assert "maildri" in str(caught.value)
