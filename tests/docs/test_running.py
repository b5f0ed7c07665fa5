"""The page about cron, systemd and launchd: its files are what those programs read."""

from __future__ import annotations

import configparser
import os
import plistlib
import re
import subprocess
import sys
from pathlib import Path

import pytest

from mailflow.testing.documents import blocks

PAGE = Path(__file__).parents[2] / "docs" / "running.rst"
BLOCKS = blocks(PAGE)
UNITS = {Path(block.file).name: block.text for block in BLOCKS if block.file}
COMMAND = Path(sys.executable).parent / "mailflow"


@pytest.fixture
def installed(home: Path) -> Path:
    """A home as the page takes it for granted: the program, and a pipeline that runs."""
    (home / "mailflow/bin").mkdir(parents=True)
    (home / "mailflow/bin/mailflow").symlink_to(COMMAND)
    (home / ".config/mailflow").mkdir(parents=True)
    (home / ".config/mailflow/red.toml").write_text(
        '[[fetch]]\nuse = "maildir"\npath = "~/in"\n'
        '[[distribute]]\nuse = "maildir"\npath = "~/out"\n'
    )
    for folder in ("new", "cur", "tmp"):
        (home / "in" / folder).mkdir(parents=True)
    (home / "in/new/1").write_text("Subject: one\n\nhello\n")
    (home / "backup").mkdir()
    return home


def shell(home: Path, command: str) -> subprocess.CompletedProcess[str]:
    """As cron runs it: by sh, in the home, with nearly no environment."""
    return subprocess.run(
        ["/bin/sh", "-c", command],
        cwd=home, env={"HOME": str(home), "PATH": "/usr/bin:/bin",
                       "XDG_STATE_HOME": str(home / "state")},
        capture_output=True, text=True, check=False,
    )  # fmt: skip


def crontab() -> list[str]:
    """The commands, a percent sign as cron hands it on."""
    lines = [line for block in BLOCKS for line in block.text.splitlines()]
    found = (re.fullmatch(r"(?:\S+ ){4}\S+  (.+)", line) for line in lines)
    return [each[1].replace("\\%", "%") for each in found if each]


def test_the_lines_for_cron_do_what_they_say(installed: Path) -> None:
    run, backup = crontab()
    for command in (run, run, backup, backup):
        done = shell(installed, command)
        assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
    assert len(list((installed / "out/new").iterdir())) == 1
    assert len(list((installed / "backup").iterdir())) == 1


def test_systemd_starts_the_same(installed: Path) -> None:
    unit = configparser.ConfigParser(interpolation=None)
    unit.optionxform = str  # type: ignore[assignment, method-assign]
    unit.read_string(UNITS["mailflow@.service"])
    command = unit["Service"]["ExecStart"].replace("%h", str(installed)).replace("%i", "red")
    assert shell(installed, command).returncode == 0
    assert unit["Service"]["SuccessExitStatus"] == "75"
    assert int(unit["Service"]["TimeoutStopSec"]) > 60


@pytest.mark.interop("systemd")
def test_systemd_finds_nothing_wrong_with_the_units(installed: Path) -> None:
    directory = installed / "units"
    directory.mkdir()
    for name, text in UNITS.items():
        home = str(installed)
        (directory / name.replace("@", "@red")).write_text(text.replace("%h", home))
    done = subprocess.run(
        ["systemd-analyze", "--user", "verify", *map(str, sorted(directory.iterdir()))],
        env={**os.environ, "XDG_RUNTIME_DIR": str(installed)},
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert (done.returncode, done.stderr) == (0, "")


def test_launchd_can_read_its_file(installed: Path) -> None:
    (block,) = (block for block in BLOCKS if block.language == "xml")
    job = plistlib.loads(block.text.encode())
    program, *arguments = job["ProgramArguments"]
    assert program.endswith("/mailflow/bin/mailflow")
    assert shell(installed, f"mailflow/bin/mailflow {' '.join(arguments)}").returncode == 0
    assert job["StartInterval"] == 300
