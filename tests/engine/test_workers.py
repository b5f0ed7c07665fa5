"""Workers that hang, or say what makes no sense: the parent gets rid of them."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from mailflow.engine import workers
from mailflow.engine.workers import Worker

from .standing import eventually

Begin = Callable[..., Worker]

HANGS = "import time; time.sleep(600)"


class Host:
    """As much of a WorkerHost as one worker asks for; `begun` is what it is told first."""

    pipeline = SimpleNamespace(name="red")
    step = SimpleNamespace(name="pop3")

    def __init__(self, begun: dict[str, Any]) -> None:
        self.begin = lambda: begun
        self.events: list[str] = []

    def descriptors(self) -> list[int]:
        return []

    def files(self) -> dict[str, str]:
        return {}

    def event(self, name: str, **facts: object) -> None:
        self.events.append(str(facts["error"]))


@pytest.fixture
def begin(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Begin]:
    """Start a worker that is this program in Python; sys.argv[4] is its end of the line."""
    monkeypatch.setattr(workers, "TO_END", 0.2)
    python = sys.executable
    begun: list[Worker] = []

    def start(program: str, told: dict[str, Any] | None = None) -> Worker:
        path = tmp_path / "worker"
        path.write_text(f"#!{python} -IS\n{program}\n")
        path.chmod(0o700)
        monkeypatch.setattr(sys, "executable", str(path))
        host: Any = Host(told or {})
        begun.append(Worker(host, 0))
        begun[-1].start()
        return begun[-1]

    yield start
    for each in begun:
        each.stop()
        each.join()


def is_there(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True


def test_one_that_does_not_come_to_its_end_is_killed(begin: Begin) -> None:
    """As one that waits for a disk that does not answer."""
    worker = begin(HANGS)
    pid = eventually(lambda: worker.pid)
    worker.stop()
    worker.join()
    assert not is_there(pid)


def test_one_that_does_not_read_what_it_is_told_keeps_nobody_from_stopping(
    begin: Begin, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(workers, "PATIENCE", 1)
    worker = begin(HANGS, {"files": "x" * (4 << 20)})
    pid = eventually(lambda: worker.pid)
    worker.stop()
    worker.join()
    assert not is_there(pid)


def test_one_that_says_what_makes_no_sense_is_replaced(begin: Begin, tmp_path: Path) -> None:
    pids = tmp_path / "pids"
    pids.touch()
    worker = begin(
        f"import os, sys; open({str(pids)!r}, 'a').write(f'{{os.getpid()}}\\n');"
        f"os.write(int(sys.argv[4]), b'nonsense\\n'); {HANGS}"
    )
    eventually(lambda: len(pids.read_text().split()) > 1, "another one")
    assert "no sense" in worker.error
    worker.stop()
    worker.join()
    assert not any(is_there(int(pid)) for pid in pids.read_text().split())
