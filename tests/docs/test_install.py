"""The README's installation, from the checkout into a fresh environment."""

from __future__ import annotations

import os
import subprocess
import sys
import zipfile
from collections.abc import Iterator
from pathlib import Path

import pytest
import tomli

ROOT = Path(__file__).parents[2]
PLUGINS = {path.name for path in (ROOT / "plugins").iterdir() if path.is_dir()}


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    target = tmp_path_factory.mktemp("wheel")
    build = [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", str(target)]
    subprocess.run(build, cwd=ROOT, check=True, capture_output=True)
    return next(target.glob("*.whl"))


@pytest.fixture(scope="module")
def names(wheel: Path) -> list[str]:
    with zipfile.ZipFile(wheel) as archive:
        return archive.namelist()


def test_the_wheel_holds_every_module_and_nothing_else(names: list[str]) -> None:
    def modules() -> Iterator[str]:
        for top, base in ((ROOT / "mailflow", ROOT), (ROOT / "plugins", ROOT / "plugins")):
            for path in top.rglob("*"):
                if path.is_file() and "__pycache__" not in path.parts:
                    yield path.relative_to(base).as_posix()

    packed = {name for name in names if ".dist-info/" not in name}
    assert packed == set(modules())
    assert {name.partition("/")[0] for name in packed} == {"mailflow", *PLUGINS}


def test_the_wheel_carries_licence_and_type_marks(names: list[str]) -> None:
    assert any(name.endswith(".dist-info/licenses/LICENSE") for name in names)
    assert "mailflow/py.typed" in names


def test_every_plugin_has_one_entry_point() -> None:
    project = tomli.loads((ROOT / "pyproject.toml").read_text())["project"]
    assert set(project["entry-points"]["mailflow"].values()) == PLUGINS


def test_the_readme_s_two_lines_install_a_command_that_runs(tmp_path: Path) -> None:
    lines = (
        "python3 -m venv ~/mailflow",
        "~/mailflow/bin/pip install .",
    )
    readme = (ROOT / "README.rst").read_text()
    for line in lines:
        assert f"$ {line}\n" in readme
    environment = {**os.environ, "HOME": str(tmp_path)}
    environment["PATH"] = f"{Path(sys.executable).parent}:{environment['PATH']}"
    for line in (*lines, "~/mailflow/bin/mailflow --version"):
        done = subprocess.run(
            ["/bin/bash", "-c", line],
            cwd=ROOT,
            env=environment,
            check=False,
            capture_output=True,
            text=True,
        )
        assert done.returncode == 0, done.stderr
    assert done.stdout.strip() == "mailflow 0.1.0"
