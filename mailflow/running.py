"""Pipelines from Python: what `mailflow run` and `serve` do, for a program or a plugin's command.

Rule of the file: it is the one public door to the engine, and adds nothing to it.
"""

from __future__ import annotations

import os
import re
from collections.abc import Mapping, Sequence

from mailflow.record import NamedTuple
from mailflow.typed import TYPE_CHECKING

if TYPE_CHECKING:
    from mailflow.engine.pipeline import Pipeline
    from mailflow.engine.registry import Registry
    from mailflow.halt import Halt
    from mailflow.options import Options

Described = str | os.PathLike[str] | Mapping[str, object]


def run(
    *pipelines: Described, now: bool = False, progress: bool = False, halt: Halt | None = None
) -> int:
    """Run pipelines until their sources are empty and nothing is due.

    Each is a file's path, a pipeline's name, or a mapping of what a file would say (its
    relative paths start here; its journal is by default named after [pipeline] name).
    `now` tries at once what rests or waits after a failure, `progress` draws on a terminal, setting
    `halt` ends the run in order. Gives the exit status as `mailflow run` does: 0, or that
    of what nobody resolved (sysexits(3)). Raises ConfigError with all that is wrong.
    """
    from contextlib import ExitStack

    from mailflow.engine import supervisor

    loaded, registry = _load(pipelines)
    with ExitStack() as stack:
        meter = None
        if progress:
            from mailflow.progress import Progress

            meter = stack.enter_context(Progress()).meter
        return supervisor.run(loaded, registry, force=now, meter=meter, halt=halt)


def serve(*pipelines: Described, halt: Halt | None = None) -> int:
    """Keep pipelines and services at work, as `mailflow serve` does, until a signal (in the
    main thread) or `halt` ends it in order.

    Each is given as for `run`. Gives 0. Raises ConfigError with all that is wrong, and
    UnavailableError where an address cannot be listened at.
    """
    from mailflow.engine.serving import serve as keep

    loaded, registry = _load(pipelines)
    return keep(loaded, registry, lambda: _load(pipelines), halt=halt)


def _load(described: Sequence[Described]) -> tuple[list[Pipeline], Registry]:
    from mailflow.engine.config import load, load_dict
    from mailflow.engine.registry import Registry

    registry = Registry()
    loaded = []
    for number, each in enumerate(described):
        if isinstance(each, Mapping):
            name = _name(each) or f"python-{number + 1}"
            loaded.append(load_dict(each, registry, name=name))
    loaded += load([os.fspath(p) for p in described if not isinstance(p, Mapping)], registry)
    return loaded, registry


class Step(NamedTuple):
    """One step of a pipeline: the table it stands under (fetch, process, distribute,
    react), its name, what it uses, and its options, checked."""

    table: str
    name: str
    use: str
    options: Options


def describe(pipeline: Described) -> tuple[Step, ...]:
    """The steps of a pipeline, in order, for a command that needs their options: given as
    for `run`. Nothing is started. Raises ConfigError with all that is wrong."""
    from mailflow.engine.config import load, load_dict

    if isinstance(pipeline, Mapping):
        loaded = load_dict(pipeline, name=_name(pipeline) or "python")
    else:
        (loaded,) = load([os.fspath(pipeline)])
    return tuple(
        Step(table, step.name, step.use, step.options)
        for table in ("fetch", "process", "distribute", "react")
        for step in getattr(loaded, table)
    )


def _name(described: Mapping[str, object]) -> str:
    table = described.get("pipeline")
    name = table.get("name") if isinstance(table, Mapping) else None
    return name if isinstance(name, str) else ""


def state_directory() -> str:
    """Where journals are by default, and what else lasts. Raises ConfigError where no home
    is known."""
    from mailflow.engine.source import state_directory as found
    from mailflow.errors import ConfigError

    try:
        return found()
    except ValueError as error:
        raise ConfigError(str(error)) from None


def journal_between(source: str, destination: str) -> str:
    """The path of the journal of a one-off pipeline, by what it is between: the same two
    words give the same journal, wherever they are said. Neither may hold a secret."""
    from zlib import crc32

    from mailflow.engine.config import state_directory

    words = re.sub(r"[^0-9A-Za-z.@]+", "-", f"{source} {destination}").strip("-")[:80]
    mark = crc32(f"{source}\0{destination}".encode("utf-8", "surrogateescape"))
    return os.path.join(state_directory(), f"{words}-{mark:08x}.db")
