"""Installs what is measured: mailflow as a user gets it, and peers from the package index.

Rule of the file: a wheel in a fresh virtual environment, bytecode compiled; never an
editable install, whose start-up is another one.
"""

from __future__ import annotations

import subprocess
import sys
import venv
from pathlib import Path

SOURCE = Path(__file__).resolve().parent.parent
PEERS = ("cs.pop3",)


def mailflow(directory: Path) -> Path:
    """Install this source tree; the console script."""
    _make(directory, str(SOURCE))
    return directory / "bin" / "mailflow"


def peers(directory: Path) -> Path:
    """Install the peers; where that fails they are missing from the rows, with a word."""
    try:
        _make(directory, *PEERS)
    except subprocess.CalledProcessError as error:
        print(f"without {', '.join(PEERS)}: {error.stderr.strip()[-300:]}", file=sys.stderr)
    return directory


def _make(directory: Path, *packages: str) -> None:
    venv.create(directory, with_pip=True, symlinks=True)
    subprocess.run(
        [directory / "bin" / "python", "-m", "pip", "install", "-q", *packages],
        check=True,
        stderr=subprocess.PIPE,
        text=True,
    )
