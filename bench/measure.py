"""Commands, their measured runs, and what is said of many runs.

Rule of the file: contenders take turns, and each turn begins with another one, so
that a disk or a neighbour that slows down slows all of them.
"""

from __future__ import annotations

import marshal
import os
import statistics
import subprocess
import sys
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Self, TypeVar

T = TypeVar("T")


@dataclass(frozen=True)
class Command:
    """A program as the launcher starts it. `user` is (uid, gid), None for our own."""

    argv: Sequence[str]
    directory: Path
    environment: dict[str, str] = field(default_factory=dict)
    stdin: Path | None = None
    user: tuple[int, int] | None = None

    @property
    def output(self) -> Path:
        """Where its standard output and error go."""
        return self.directory / "output"

    def request(self) -> tuple[object, ...]:
        basic = {"PATH": os.defpath, "HOME": str(self.directory), "LC_ALL": "C.UTF-8"}
        stdin = str(self.stdin) if self.stdin else None
        environment = basic | self.environment
        where = str(self.directory)
        return list(self.argv), environment, where, stdin, str(self.output), self.user


@dataclass(frozen=True)
class Sample:
    """One run: wall time (seconds), exit status, peak memory (octets), CPU (seconds)."""

    seconds: float
    status: int
    peak: int
    cpu: float
    fault: str = ""


class Launcher:
    """The small process that starts what is measured."""

    def __enter__(self) -> Self:
        self._process = subprocess.Popen(
            [sys.executable, "-I", "-S", str(Path(__file__).with_name("launcher.py"))],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
        )
        return self

    def __exit__(self, *_: object) -> None:
        assert self._process.stdin
        self._process.stdin.close()
        self._process.wait()

    def run_all(self, commands: Sequence[Command]) -> tuple[float, list[Sample]]:
        """Start all at once; seconds until the last has ended, and each one's sample."""
        assert self._process.stdin
        assert self._process.stdout
        marshal.dump([command.request() for command in commands], self._process.stdin)
        self._process.stdin.flush()
        answer: Any = marshal.load(self._process.stdout)
        seconds, samples = answer
        return seconds, [Sample(s, status, peak << 10, cpu) for s, status, peak, cpu in samples]

    def run(self, command: Command) -> Sample:
        return self.run_all([command])[1][0]


@dataclass
class Series:
    """All samples of one contender in one row."""

    name: str
    samples: list[Sample] = field(default_factory=list)

    @property
    def fault(self) -> str:
        """Why the figures are void; "" if they stand."""
        return next((sample.fault for sample in self.samples if sample.fault), "")

    @property
    def seconds(self) -> float:
        return statistics.median(sample.seconds for sample in self.samples)

    @property
    def cpu(self) -> float:
        return statistics.median(sample.cpu for sample in self.samples)

    @property
    def peak(self) -> int:
        return max(sample.peak for sample in self.samples)


def take_turns(contenders: Sequence[T], turns: Callable[[T], int]) -> Iterator[tuple[int, T]]:
    """(repetition, contender), interleaved; `turns` says how often each one runs."""
    for repetition in range(max(turns(contender) for contender in contenders)):
        shift = repetition % len(contenders)
        for contender in (*contenders[shift:], *contenders[:shift]):
            if repetition < turns(contender):
                yield repetition, contender


def paired(ours: Iterable[Sample], theirs: Iterable[Sample]) -> list[float]:
    """The ratio within each repetition, where both ran."""
    return [a.seconds / b.seconds for a, b in zip(ours, theirs, strict=False)]
