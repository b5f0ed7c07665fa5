"""The page of the pipeline file names every key there is, and no other."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from mailflow.engine import pipeline

PAGE = Path(__file__).parents[2] / "docs" / "pipeline.rst"
SECTION = re.compile(r"\n(?P<title>[^\n]+)\n-+\n")
TERM = re.compile(r"^``(\w+)``$", re.MULTILINE)
KEYS = {
    "In every step": pipeline.StepOptions,
    "``[[fetch]]``": pipeline.FetchOptions,
    "``[[process]]``": pipeline.ProcessOptions,
    "``[[distribute]]``": pipeline.DistributeOptions,
    "``[[react]]``": pipeline.ReactOptions,
    "``[pipeline]``": pipeline.PipelineOptions,
}


def sections() -> dict[str, str]:
    _, *parts = SECTION.split(PAGE.read_text())
    return dict(zip(parts[::2], parts[1::2], strict=True))


@pytest.mark.parametrize("title", KEYS)
def test_the_section_explains_each_key_of_its_table(title: str) -> None:
    keys = set(KEYS[title].declared())
    if title.startswith("``[["):
        keys -= set(pipeline.StepOptions.declared())
    assert set(TERM.findall(sections()[title])) == keys
