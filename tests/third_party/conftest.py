"""A third party's plugin, built as a wheel and installed beside mailflow.

Rule of the file: the environment is a fresh one in which only the two wheels are
installed; what they and their tests need comes from the environment of these tests, so
that no network is asked. What lies in mailflow-pigeon/ is run there, and only there.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import sysconfig
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PIGEON = Path(__file__).parent / "mailflow-pigeon"

PASSED_ON = ("MAILFLOW_KILLS", "MAILFLOW_SEED")
NURSERY = Path(__file__).parent / "nursery.py"

collect_ignore = ["mailflow-pigeon"]


class Environment:
    """A virtual environment; `home` is the only home that its programs see."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.home = path.parent / "home"
        self.home.mkdir()
        run([sys.executable, "-m", "venv", "--without-pip", str(path)])
        packages = sysconfig.get_path("purelib", "venv", {"base": str(path)})
        borrowed = Path(packages, "borrowed.pth")
        borrowed.write_text(f"{sysconfig.get_path('purelib')}\n")

    def install(self, *wheels: Path) -> None:
        pip = [sys.executable, "-m", "pip", "--python", str(self.path), "--quiet"]
        run([*pip, "install", "--no-deps", "--no-index", *map(str, wheels)])

    @property
    def environment(self) -> dict[str, str]:
        return {
            "PATH": f"{self.path}/bin:{os.environ['PATH']}",
            "HOME": str(self.home),
            "XDG_STATE_HOME": str(self.home / "state"),
            "PYTHONDONTWRITEBYTECODE": "1",
            **{name: os.environ[name] for name in PASSED_ON if name in os.environ},
        }

    def __call__(self, program: str, *arguments: object, status: int = 0) -> str:
        """Run a program of the environment, far from the plugin's source: else Python would
        take that. Gives what it says on both outputs."""
        command = [f"{self.path}/bin/{program}", *map(str, arguments)]
        done = subprocess.run(
            command, cwd=self.home, env=self.environment, check=False, text=True,
            stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
        )  # fmt: skip
        assert done.returncode == status, done.stdout
        return done.stdout


def run(command: Sequence[str], cwd: Path | None = None) -> None:
    done = subprocess.run(command, cwd=cwd, check=False, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr


def wheel(project: Path, target: Path) -> Path:
    """Build a project as a third party would release it."""
    run([sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", str(target)], project)
    (built,) = target.glob("*.whl")
    return built


@pytest.fixture(scope="session")
def pigeon(tmp_path_factory: pytest.TempPathFactory) -> Environment:
    """mailflow and mailflow-pigeon, each from its wheel."""
    target = tmp_path_factory.mktemp("pigeon")
    made = Environment(target / "venv")
    made.install(wheel(ROOT, target / "ours"), wheel(PIGEON, target / "theirs"))
    return made


class Nursery:
    """One process of the environment that runs the plugin's tests, as often as it is asked."""

    def __init__(self, where: Environment) -> None:
        self.process = subprocess.Popen(
            [f"{where.path}/bin/python", str(NURSERY)], cwd=where.home, env=where.environment,
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
        )  # fmt: skip

    def __call__(self, site: Path, *arguments: str) -> str:
        """What pytest says of the plugin at `site`."""
        assert self.process.stdin
        assert self.process.stdout
        print(json.dumps([str(site), *arguments]), file=self.process.stdin, flush=True)
        status, said = json.loads(self.process.stdout.readline())
        assert status in (0, 1), said
        return str(said)

    def close(self) -> None:
        self.process.communicate(timeout=60)


@pytest.fixture(scope="session")
def nursery(pigeon: Environment) -> Iterator[Nursery]:
    made = Nursery(pigeon)
    yield made
    made.close()
