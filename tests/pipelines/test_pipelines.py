"""Every file in pipelines/ is checked as it stands, and run against example.org."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from _pytest.mark import ParameterSet

from mailflow.testing.example_org import ExampleOrg
from mailflow.testing.trial import Trial

PIPELINES = sorted((Path(__file__).parents[2] / "pipelines").glob("*.toml"))


@pytest.fixture
def org(tmp_path: Path) -> Iterator[ExampleOrg]:
    with ExampleOrg(tmp_path / "org") as servers:
        yield servers


def needing_servers(path: Path) -> ParameterSet:
    """One whose mail lies on an IMAP server needs a real one."""
    imap = [pytest.mark.interop("dovecot-imapd")] if "imap." in path.read_text() else []
    return pytest.param(path, marks=imap, id=path.stem)


@pytest.mark.parametrize("path", [needing_servers(path) for path in PIPELINES])
def test_the_pipeline_does_what_it_says(path: Path, org: ExampleOrg, home: Path) -> None:
    problems = Trial(org, home, path.read_text(), path.name).problems()
    assert not problems, "\n".join(problems)


@pytest.mark.parametrize("path", PIPELINES, ids=lambda path: path.stem)
def test_the_file_begins_by_saying_what_it_is_for(path: Path) -> None:
    first, second, *_ = path.read_text().split("\n")
    assert first.startswith("# ")
    assert second.startswith("#")
