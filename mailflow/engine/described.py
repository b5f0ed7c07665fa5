"""The pipelines that were given on a command line or by a program, read as often as needed.

Rule of the file: they are the same for each process of an installation.
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence

from mailflow.engine.config import FileFault, load, load_dict
from mailflow.engine.registry import Registry
from mailflow.toml_file import ConfigFaults, heard
from mailflow.typed import TYPE_CHECKING

if TYPE_CHECKING:
    from mailflow.engine.pipeline import Pipeline

Given = str | os.PathLike[str] | Mapping[str, object]


class Described:
    """`given` are files' paths, pipelines' names, and mappings of what a file would say."""

    def __init__(self, given: Sequence[Given], *, offline: bool = False) -> None:
        self._given = tuple(given)
        self._offline = offline
        self.texts: Mapping[str, str] = {}
        """What every file said at the last `load_together` that went well."""

    def load(self) -> tuple[tuple[Pipeline, ...], Registry]:
        """Raises ConfigFaults with all that is wrong."""
        registry = Registry()
        loaded = []
        for number, each in enumerate(self._given):
            if isinstance(each, Mapping):
                name = name_of(each) or f"python-{number + 1}"
                loaded.append(load_dict(each, registry, name=name))
        loaded += load(
            [os.fspath(each) for each in self._given if not isinstance(each, Mapping)], registry
        )
        if self._offline:
            loaded = [pipeline._replace(offline=True) for pipeline in loaded]
        return tuple(loaded), registry

    def load_together(self) -> tuple[tuple[Pipeline, ...], Registry]:
        """As `load`, for one installation: a login name is one maildrop's."""
        with heard() as texts:
            pipelines, registry = self.load()
        faults = []
        whose: dict[str, str] = {}
        for pipeline in pipelines:
            for step in pipeline.maildrop:
                other = whose.setdefault(step.name, pipeline.path)
                if other != pipeline.path:
                    text = f"{other} has this login name too; one of them must go"
                    faults.append(FileFault(pipeline.path, 0, f"maildrop.{step.name}", text))
        if faults:
            raise ConfigFaults(faults)
        self.texts = texts
        return pipelines, registry

    def words(self) -> list[object]:
        """For JSON: from these, another process makes the same."""
        return [dict(e) if isinstance(e, Mapping) else os.fspath(e) for e in self._given]

    @property
    def names(self) -> list[str]:
        """What to call them, for people."""
        return [
            name_of(each) or "a pipeline" if isinstance(each, Mapping) else os.fspath(each)
            for each in self._given
        ]


def name_of(described: Mapping[str, object]) -> str:
    """The name that [pipeline] gives; "" where it gives none."""
    table = described.get("pipeline")
    name = table.get("name") if isinstance(table, Mapping) else None
    return name if isinstance(name, str) else ""
