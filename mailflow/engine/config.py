"""Pipelines from TOML: every fault of a file at once, or steps that are ready to be made.

Rule of the file: what a file says is checked before anything is started, and lines
are looked for only when something is wrong.
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence

from mailflow.engine.pipeline import (
    DistributeStep,
    FetchStep,
    Pipeline,
    ProcessStep,
    ReactStep,
    Step,
)
from mailflow.engine.reading import Reader, Setting
from mailflow.engine.registry import Registry
from mailflow.engine.source import find
from mailflow.toml_file import ConfigFaults, FileFault, Source


def load(
    paths: Sequence[str], registry: Registry | None = None, *, thorough: bool = False
) -> tuple[Pipeline, ...]:
    """The pipelines of these files, or of these names (see `find`).

    Raises ConfigFaults with all that is wrong. `thorough` also looks whether every
    secret can be had, and at the files that options name.
    """
    registry = registry or Registry()
    faults: list[FileFault] = []
    pipelines: list[Pipeline] = []
    for path in paths:
        try:
            source = Source.read(find(path))
            pipelines.append(Reader(source, registry, thorough).pipeline())
        except ConfigFaults as error:
            faults += error.faults
    faults += _doubles(pipelines)
    if faults:
        raise ConfigFaults(faults)
    return tuple(pipelines)


def load_dict(
    data: Mapping[str, object],
    registry: Registry | None = None,
    *,
    name: str = "python",
    base: str | None = None,
    thorough: bool = False,
) -> Pipeline:
    """The pipeline of what a file would say. Raises ConfigFaults."""
    base = os.path.abspath(base or os.curdir)
    source = Source(name, os.path.join(base, f"{name}.toml"), data)
    return Reader(source, registry or Registry(), thorough).pipeline()


def _doubles(pipelines: Sequence[Pipeline]) -> list[FileFault]:
    """Files that are given twice, or whose pipelines have one name."""
    faults = []
    seen: dict[str, Pipeline] = {}
    for pipeline in pipelines:
        other = seen.setdefault(pipeline.name, pipeline)
        if other is pipeline:
            continue
        if os.path.realpath(other.path) == os.path.realpath(pipeline.path):
            text = "this file is given twice"
        else:
            text = (
                f"`{pipeline.name}` is also the name of {other.path};"
                " give one of them another [pipeline] name"
            )
        faults.append(FileFault(pipeline.path, 0, "", text))
    return faults


def settings(path: str, registry: Registry) -> list[Setting]:
    """Every value that is in force for a pipeline, and where it comes from. Raises
    ConfigFaults."""
    reader = Reader(Source.read(find(path)), registry, False)
    found: list[Setting] = []
    reader.settings = found
    reader.pipeline()
    return found


__all__ = [
    "ConfigFaults", "DistributeStep", "FetchStep", "FileFault", "Pipeline", "ProcessStep",
    "ReactStep", "Setting", "Step", "load", "load_dict", "settings",
]  # fmt: skip
