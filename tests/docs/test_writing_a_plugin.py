"""The page about plugins can be followed: its files are a plugin, its commands run."""

from __future__ import annotations

import re
import subprocess
import sys
import sysconfig
from pathlib import Path

import pytest

import mailflow.testing
from mailflow.engine.registry import Registry
from mailflow.hooks import Hooks
from mailflow.testing import kill
from mailflow.testing.documents import Shell, blocks

ROOT = Path(__file__).parents[2]
PAGE = ROOT / "docs" / "writing-a-plugin.rst"
TEXT = PAGE.read_text()
PLUGIN = ROOT / "tests" / "third_party" / "mailflow-pigeon"

SHOWN = dict(re.findall(r"^\.\. literalinclude:: (\S+)\n   :caption: (\S+)$", TEXT, re.MULTILINE))
"""Each file that the page shows, and what it is called in the reader's home."""


@pytest.fixture
def shell(home: Path) -> Shell:
    """A shell with ~/mailflow as the page takes it to be: mailflow and its kit, and pip."""
    environment = home / "mailflow"
    make = [sys.executable, "-m", "venv", "--without-pip", str(environment)]
    subprocess.run(make, check=True)
    packages = Path(sysconfig.get_path("purelib", "venv", {"base": str(environment)}))
    here = [sysconfig.get_path("purelib"), str(ROOT), str(ROOT / "plugins")]
    (packages / "borrowed.pth").write_text("\n".join(here) + "\n")
    for name, module in (("pip", "pip"), ("mailflow", "mailflow")):
        program = environment / "bin" / name
        program.write_text(f'#!/bin/sh\nexec {environment}/bin/python -m {module} "$@"\n')
        program.chmod(0o755)
    offline = {"PIP_NO_BUILD_ISOLATION": "0", "PIP_NO_INDEX": "1", "PIP_NO_DEPS": "1"}
    return Shell(home, {"PATH": f"{environment}/bin:/usr/bin:/bin", **offline})


def test_it_shows_every_file_of_the_plugin() -> None:
    named = {(PAGE.parent / path).resolve() for path in SHOWN}
    files = {path for path in PLUGIN.rglob("*") if path.suffix in (".py", ".toml")}
    assert named == files
    for path, name in SHOWN.items():
        assert path.endswith(name.removeprefix("~/"))


@pytest.mark.timeout(300)
@pytest.mark.skipif(bool(kill.obstacle()), reason=kill.obstacle())
def test_it_can_be_followed(shell: Shell, home: Path) -> None:
    for path, name in SHOWN.items():
        file = Path(name.replace("~", str(home), 1))
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text((PAGE.parent / path).read_text())
    for block in blocks(PAGE):
        if block.language == "console":
            complaints = shell.check(block)
            assert not complaints, "\n".join(complaints)
        elif block.file:
            Path(block.file.replace("~", str(home), 1)).write_text(block.text)


@pytest.mark.parametrize("name", mailflow.testing.__all__)
def test_it_names_all_that_is_in_the_kit(name: str) -> None:
    assert f"``{name}``" in TEXT


def test_it_names_every_hook_and_every_event() -> None:
    hooks = [name for name in vars(Hooks) if name.startswith("mailflow_")]
    events = re.findall(r"[a-z]+\.[a-z]+(?=[,.])", Hooks.mailflow_event.__doc__ or "")
    assert len(hooks) == 5
    assert len(events) >= 13
    for word in (*hooks, *events):
        assert f"``{word}" in TEXT


def test_the_example_takes_no_name_of_ours() -> None:
    assert "pigeon" not in Registry().names()
