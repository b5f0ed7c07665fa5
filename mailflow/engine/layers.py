"""What pipelines have in common: files with defaults, merged before anything is looked up.

    # ~/.config/mailflow/defaults.toml
    [fetch.pop3]              every [[fetch]] with use = "pop3"
    timeout = "30s"
    [account.club]            for every step that says account = "club"
    host = "pop.example.org"

They lie beside the pipeline's file, in the user's and in the system's directory. Rule of
the file: the more specific table wins, whichever file it is in (the step, its account,
the defaults of its component); of equal tables, the nearer file.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping, Sequence

from mailflow.engine.pipeline import ENGINE
from mailflow.engine.source import directories, readable_by_others
from mailflow.engine.source import find as find_pipeline
from mailflow.options import Fault, SecretValue
from mailflow.record import NamedTuple
from mailflow.toml_file import ConfigFaults, FileFault, Source
from mailflow.typed import Any
from mailflow.values import instead

NAME = "defaults.toml"

TABLES = ("pipeline", *ENGINE, "account")

Place = tuple[str | int, ...]
"""The way to a table or a key in a file."""

Said = tuple[Source, Place, Mapping[str, Any]]
"""A table that stands in a file, there."""

_only: str | None = None


def use_only(path: str | None) -> None:
    """From now on `path` is the one file with defaults (--config); None: those that are
    found."""
    global _only
    _only = path


def only() -> str | None:
    """What `use_only` was called with."""
    return _only


class Given(NamedTuple):
    """A value that a file says, and the table that it stands in there."""

    value: object
    source: Source
    table: Place


def secrets(
    values: Mapping[str, object], given: Mapping[str, Given]
) -> Iterator[tuple[Source, Place, SecretValue]]:
    """Each secret among converted options, and where it stands."""
    for key, value in values.items():
        source, path = given[key].source, (*given[key].table, key)
        if isinstance(value, SecretValue):
            yield source, path, value
        inner = getattr(value, "client_secret", None)
        if isinstance(inner, SecretValue):
            yield source, (*path, "client_secret"), inner


def exposed(source: Source) -> str:
    """What is wrong with a secret in this file itself; "" where nobody else can read it."""
    open_to = readable_by_others(source.path) if source.is_file else ""
    if not open_to:
        return ""
    from shlex import quote

    return f"the secret is in this file, which {open_to}; run: chmod 600 {quote(source.path)}"


def find(pipeline: str) -> list[Source]:
    """The files with defaults for a pipeline's file, the nearest first. Raises
    ConfigFaults where one cannot be read, or belongs to a stranger."""
    if _only is not None:
        return [Source.read(_only)]
    beside = os.path.dirname(os.path.abspath(pipeline))
    found: dict[str, Source] = {}
    for directory in (beside, *directories()[1:]):
        path = os.path.join(directory, NAME)
        try:
            owner = os.stat(path).st_uid
        except OSError:
            continue
        if owner not in (0, os.geteuid(), _owner(pipeline)):
            text = f"belongs to another user (uid {owner}), who must not decide where mail goes"
            raise ConfigFaults([FileFault(path, 0, "", text)])
        real = os.path.realpath(path)
        if real not in found and real != os.path.realpath(pipeline):
            found[real] = Source.read(path)
    return list(found.values())


def with_accounts(file: str | None) -> list[Source]:
    """The files in which an account may stand, the nearest first: a pipeline that was named, by
    path or name, and the files with defaults, which are the user's where none was. Raises
    ConfigFaults."""
    if file is None:
        return find(os.path.join(directories()[1], "none"))
    source = Source.read(find_pipeline(file))
    return [source, *find(source.path)]


def _owner(path: str) -> int:
    try:
        return os.stat(path).st_uid
    except OSError:
        return os.geteuid()


def faults(layer: Source) -> Iterator[Fault]:
    """What is wrong with the form of a file with defaults."""
    for name, value in layer.data.items():
        if name not in TABLES:
            hint = instead(name, TABLES)
            yield Fault((name,), f"unknown table{hint}")
        elif not isinstance(value, dict):
            what = f"[{name}]" if name == "pipeline" else f"[{name}.NAME]"
            yield Fault((name,), f"expected {what}: what is so where nothing else is said")
        elif name != "pipeline":
            for key, table in value.items():
                if not isinstance(table, dict):
                    yield Fault((name, key), f"expected [{name}.{key}], a table")


def of_account(layers: Sequence[Source], name: object) -> Iterator[Said]:
    """[account.NAME] of every file that has one, the nearest first."""
    return _tables(layers, ("account", str(name)))


def accounts(layers: Sequence[Source]) -> list[str]:
    """The names of all [account.NAME], once each."""
    tables = (layer.data.get("account") for layer in layers)
    return list(dict.fromkeys(name for each in tables if isinstance(each, dict) for name in each))


def of_component(layers: Sequence[Source], kind: str, use: object) -> Iterator[Said]:
    """[fetch.pop3] and such of every file that has one, the nearest first."""
    return _tables(layers, (kind, *str(use).split(".")))


def of_pipeline(layers: Sequence[Source]) -> Iterator[Said]:
    """[pipeline] of every file that has one, the nearest first."""
    return _tables(layers, ("pipeline",))


def components(layer: Source) -> Iterator[tuple[str, str, Place]]:
    """(kind, use, path) of every component that a file has defaults for."""
    for kind in ENGINE:
        yield from _uses(kind, (kind,), layer.data.get(kind, {}))


def _uses(kind: str, path: Place, table: object) -> Iterator[tuple[str, str, Place]]:
    """[filter.command] stands within [filter], whose own options may stand there too."""
    if not isinstance(table, Mapping):
        return
    for name, value in table.items():
        if isinstance(value, Mapping) and len(path) < 3:
            inner = (*path, name)
            if not value or any(not isinstance(each, Mapping) for each in value.values()):
                yield kind, ".".join(str(part) for part in inner[1:]), inner
            if len(inner) == 2:
                yield from _uses(kind, inner, value)


def _tables(layers: Sequence[Source], path: Place) -> Iterator[Said]:
    for layer in layers:
        table: Any = layer.data
        for part in path:
            table = table.get(part) if isinstance(table, Mapping) else None
        if isinstance(table, Mapping):
            yield layer, path, table
