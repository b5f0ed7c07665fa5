"""Breaks the code on purpose, one place at a time, and sees that the named test falls.

    python tests/mutate.py [ID...]

Rule of the file: everything happens in a copy; mutations.toml says what is broken where.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import tomli

ROOT = Path(__file__).parent.parent
COPIED = ("mailflow", "plugins", "tests", "pipelines", "docs", "README.rst", "CHANGELOG.rst",
          "pyproject.toml", "Makefile", "bench")  # fmt: skip


def main(wanted: list[str]) -> int:
    """Exit status 1 where a test passes although what it shows is broken."""
    mutations = tomli.loads((ROOT / "tests/mutations.toml").read_text())["mutation"]
    survived = 0
    with tempfile.TemporaryDirectory() as directory:
        copy = copied(Path(directory))
        for mutation in mutations:
            if wanted and mutation["id"] not in wanted:
                continue
            word = verdict(copy, mutation)
            survived += word != "caught"
            print(f"{mutation['id']:8} {word:9} {mutation['test']}", flush=True)
    return 1 if survived else 0


def copied(directory: Path) -> Path:
    """A copy of the tree, in a new directory of that one."""
    copy = directory / "mailflow"
    copy.mkdir()
    for name in COPIED:
        source = ROOT / name
        if source.is_dir():
            skip = shutil.ignore_patterns("__pycache__", "_build")
            shutil.copytree(source, copy / name, ignore=skip)
        else:
            shutil.copy(source, copy / name)
    return copy


def verdict(copy: Path, mutation: dict[str, Any]) -> str:
    """What became of one mutation: caught, or why it was not."""
    file = copy / mutation["file"]
    whole = file.read_text(encoding="utf-8")
    if whole.count(mutation["code"]) != 1:
        return "not there"
    if run(copy, mutation["test"]):
        return "fails anyway"
    file.write_text(whole.replace(mutation["code"], mutation["broken"]), encoding="utf-8")
    try:
        return "caught" if run(copy, mutation["test"]) else "survived"
    finally:
        file.write_text(whole, encoding="utf-8")


def run(copy: Path, test: str) -> int:
    """The exit status of one test on the copy."""
    path = os.pathsep.join((str(copy), str(copy / "plugins")))
    return subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-x", "-p", "no:cacheprovider", test],
        cwd=copy,
        env={
            **os.environ,
            "PYTHONPATH": path,
            "PYTHONDONTWRITEBYTECODE": "1",
            "MAILFLOW_KILLS": "100",  # every step: one that the seed leaves out shows nothing
        },
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        check=False,
    ).returncode


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
