"""The generator of load: bench/load.c, compiled for this run, and what it found.

Rule of the file: it runs as a process of its own, and what it says is all that is believed.
"""

from __future__ import annotations

import json
import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path

SOURCE = Path(__file__).with_name("load.c")


@dataclass(frozen=True)
class Load:
    """What a server bore: sessions and octets in so many seconds; seconds of each session."""

    sessions: int
    octets: int
    seconds: float
    p50: float
    p99: float


class LoadError(Exception):
    """The server said what it must not say."""


class Generator:
    """Compiled into `directory`, which takes a second."""

    def __init__(self, directory: Path) -> None:
        self._program = directory / "load"
        if shutil.which("cc") is None:
            raise SystemExit(f"no C compiler for {SOURCE.name}: apt-get install gcc libc6-dev")
        if not self._program.exists():
            command = ["cc", "-O2", "-o", str(self._program), str(SOURCE)]
            subprocess.run(command, check=True)

    def run(
        self, mode: str, port: int, clients: int, messages: int, *, warm: float, seconds: float
    ) -> Load:
        """`mode` is sessions, flight or retrieve. Raises LoadError."""
        words = (mode, port, clients, warm, seconds, messages)
        done = subprocess.run(
            [str(self._program), *map(str, words)],
            capture_output=True,
            text=True,
            errors="replace",
            check=False,
            timeout=60 + 4 * (warm + seconds),
        )
        if done.returncode:
            raise LoadError(done.stderr.strip()[-300:] or f"exit status {done.returncode}")
        found = json.loads(done.stdout)
        return Load(**{name: found[name] for name in Load.__dataclass_fields__})
