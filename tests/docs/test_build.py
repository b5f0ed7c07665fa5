"""The documentation is built without a warning, and its reference is complete."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

from mailflow.cli.commands import STATUSES, every
from mailflow.cli.root import root
from mailflow.engine.pipeline import ENGINE, PipelineOptions
from mailflow.engine.registry import KINDS, Registry
from mailflow_webmail.definition.language import Site
from mailflow_webmail.definition.wording import Section, Table

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The documentation as plain text, as Sphinx builds it without a warning."""
    pytest.importorskip("furo")
    target = tmp_path_factory.mktemp("docs")
    build = [sys.executable, "-m", "sphinx", "-q", "-W", "--keep-going", "-d", target / "trees"]
    for builder in ("html", "text"):
        done = subprocess.run(
            [*build, "-b", builder, ROOT / "docs", target / builder],
            check=False, capture_output=True, text=True,
        )  # fmt: skip
        assert (done.returncode, done.stderr) == (0, "")
    return target / "text"


def test_sphinx_has_nothing_to_warn_of(built: Path) -> None:
    assert (built / "index.txt").exists()


@pytest.mark.parametrize("table", KINDS)
def test_the_reference_has_every_component_with_every_option(built: Path, table: str) -> None:
    page = (built / f"reference/{table}.txt").read_text()
    for entry in Registry().all():
        if entry.distribution == "mailflow" and entry.kind == KINDS[table]:
            assert entry.component is not None
            section = page.partition(f'\n"{entry.use}"\n===')[2].partition("\n===")[0]
            for name in entry.component.options.declared():
                assert f'\n"{name}" : ' in section, (entry.use, name)
            assert f'use = "{entry.use}"' in section


def test_the_reference_has_every_key_of_the_engine(built: Path) -> None:
    page = (built / "pipeline.txt").read_text()
    for options in (PipelineOptions, *(options for options, _ in ENGINE.values())):
        for name in options.declared():
            assert f'\n"{name}" : ' in page


def test_the_reference_has_every_key_of_a_site_definition(built: Path) -> None:
    page = (built / "webmail-sites.txt").read_text()
    todo: list[type[Section]] = [Site]
    while todo:
        for name, option in todo.pop().declared().items():
            assert f'\n"{name}" : ' in page, name
            option = getattr(option, "element", option)
            if isinstance(option, Table):
                todo.append(option.options)


def test_the_reference_has_every_command_and_its_options(built: Path) -> None:
    page = (built / "reference/commands.txt").read_text()
    for command in every(root):
        section = page.partition(f'\n"{command.name}"\n===')[2].partition("\n===")[0]
        assert section
        for names, _ in command.options:
            assert f'"{names}"\n' in section


def test_the_tables_of_exit_statuses_are_the_program_s() -> None:
    for page in ("README.rst", "docs/commands.rst"):
        rows = re.findall(r"^(\d+)  +(\S.*)$", (ROOT / page).read_text(), re.MULTILINE)
        assert rows
        for status, text in rows:
            assert STATUSES[int(status)] == text


@pytest.mark.parametrize("name", ["README.rst", "CHANGELOG.rst"])
def test_what_stands_beside_the_code_is_plain_restructuredtext(name: str) -> None:
    """So that PyPI and a code forge can show it, which know nothing of sphinx."""
    docutils = pytest.importorskip("docutils.core")
    settings = {"report_level": 2, "halt_level": 2, "syntax_highlight": "none"}
    text = (ROOT / name).read_text()
    assert docutils.publish_string(text, writer="html", settings_overrides=settings)


@pytest.mark.parametrize("page", ["README.rst", "docs/commands.rst"])
def test_the_page_of_commands_leaves_none_out(page: str) -> None:
    text = (ROOT / page).read_text()
    for command in every(root):
        if not command.group:
            *group, word = command.words
            assert re.search(rf"``(mailflow )?{''.join(f'{name} ' for name in group)}[\w|]*{word}",
                             text), command.name  # fmt: skip


def test_the_readme_names_every_component() -> None:
    text = (ROOT / "README.rst").read_text()
    for entry in Registry().all():
        if entry.distribution == "mailflow":
            plugin, _, component = entry.use.partition(".")
            assert f"``{entry.use}``" in text or f"``{component}``" in text, entry.use
            assert f"``{plugin}" in text
