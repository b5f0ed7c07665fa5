"""Pipelines from Python: what `mailflow run` and `serve` do, for a program or a plugin's command.

Rule of the file: it is the one public door to the engine, and adds nothing to it.
"""

from __future__ import annotations

import os
import re
from collections.abc import Mapping

from mailflow.record import NamedTuple
from mailflow.typed import TYPE_CHECKING

if TYPE_CHECKING:
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
    from mailflow.engine.described import Described as Given

    loaded, registry = Given(pipelines).load()
    with ExitStack() as stack:
        meter = None
        if progress:
            from mailflow.progress import Progress

            meter = stack.enter_context(Progress()).meter
        return supervisor.run(loaded, registry, force=now, meter=meter, halt=halt)


def serve(
    *pipelines: Described,
    offline: bool = False,
    user: str | None = None,
    pid_file: str | None = None,
    halt: Halt | None = None,
) -> int:
    """Keep pipelines and services at work, as `mailflow serve` does, until a signal (in the
    main thread) or `halt` ends it in order.

    Each is given as for `run`; files are read anew at SIGHUP and by `mailflow reload`.
    `offline`: nothing is fetched but what is asked for. `user` is whom the process becomes
    once it listens, `pid_file` holds its number as long as it runs. Gives 0. Raises
    ConfigError with all that is wrong, UnavailableError where an address cannot be had.
    """
    from mailflow.engine.process import serve as keep

    return keep(pipelines, offline=offline, user=user, pid_file=pid_file, halt=halt)


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
    from mailflow.engine.described import Described as Given

    (loaded,) = Given([pipeline]).load()[0]
    return tuple(
        Step(table, step.name, step.use, step.options)
        for table in ("fetch", "process", "distribute", "react")
        for step in getattr(loaded, table)
    )


def table_of(url: str, table: str) -> Mapping[str, object]:
    """What a file would say under [[fetch]], [[distribute]] or [maildrop.NAME] of the component
    that a URL names. Raises ConfigError with what is wrong with the URL, PluginError."""
    from mailflow.engine.registry import Registry
    from mailflow.engine.urls import read

    return read(url, table, Registry()).table


def journal_between(source: str, destination: str) -> str:
    """The path of the journal of a one-off pipeline, by what it is between: the same two
    words give the same journal, wherever they are said. Neither may hold a secret."""
    from zlib import crc32

    from mailflow.directories import state_directory

    words = re.sub(r"[^0-9A-Za-z.@]+", "-", f"{source} {destination}").strip("-")[:80]
    mark = crc32(f"{source}\0{destination}".encode("utf-8", "surrogateescape"))
    return os.path.join(state_directory(), f"{words}-{mark:08x}.db")
