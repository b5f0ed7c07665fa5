"""What a contender, a row and an outcome are.

Rule of the file: figures are kept whole, so that a reader may reckon again.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Protocol

from bench.figures import Goals, Measured
from bench.measure import Command, Launcher, Sample, Series


@dataclass(frozen=True)
class Contender:
    """A program set up for one job.

    `role`: ours, gauge (targets are set against it), floor (what no program of that
    kind can beat) or context (shown beside, run less often). `prepare` makes its
    command from a new directory and what the row hands it.
    """

    name: str
    role: str
    prepare: Callable[..., Command]
    version: str = ""


@dataclass(frozen=True)
class Ratio:
    """Our median is to be at most `most` times that of the fastest of `of`."""

    most: float
    of: tuple[str, ...]


@dataclass(frozen=True)
class Bound:
    """Our peak memory is to stay below `octets`."""

    octets: int


@dataclass(frozen=True)
class Within:
    """Our median is to stay below `seconds`."""

    seconds: float


class Runner(Protocol):
    """Whoever takes turns: a contender, or a server."""

    @property
    def role(self) -> str: ...


@dataclass(frozen=True)
class Options:
    """How the whole bench is run. `scale` divides the number of messages, for a trial."""

    launcher: Launcher
    directory: Path
    script: Path
    peers: Path
    repetitions: int = 5
    scale: int = 1
    context: bool = True

    def count(self, messages: int) -> int:
        return max(2, messages // self.scale)

    def turns(self, contender: Runner, most: int | None = None) -> int:
        """How often it runs in a row; whoever is only context runs once."""
        if contender.role == "context":
            return 1
        return min(self.repetitions, most or self.repetitions)


@dataclass
class Outcome:
    """The samples of one row; `notes` are findings beside the table. Where the target is
    Goals, `series` are Measured."""

    series: Sequence[Series] | Sequence[Measured]
    contenders: Sequence[Contender]
    notes: list[str] = field(default_factory=list)


@dataclass(frozen=True)
class Row:
    """`about` is a paragraph of the documentation: what was measured, and how. `why` is what
    stands there where the target is missed: what it is missed by, and where the limit is."""

    name: str
    title: str
    about: str
    run: Callable[[Row, Options], Outcome]
    target: Ratio | Bound | Within | Goals
    why: str = ""


def judged(sample: Sample, command: Command, fault: str) -> Sample:
    """The sample with what was wrong with its run, and what the program said of it.

    What it wrote stays until the whole bench is over: ext4 takes no inode that was
    deleted in the last minutes and looks at each of them for every new file, so that
    tidying up between two runs would double the time of the second.
    """
    if sample.status:
        output = command.output.read_text(errors="replace").strip()[-500:]
        fault = f"exit status {sample.status}: {output}"
    return replace(sample, fault=fault)
