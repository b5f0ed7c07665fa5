"""Pipelines from TOML: every fault of a file at once, or steps that are ready to be made.

Rule of the file: what a file says is checked before anything is started, and lines
are looked for only when something is wrong.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, cast

from mailflow.engine.pipeline import (
    ENGINE,
    TABLES,
    DistributeStep,
    FetchStep,
    Pipeline,
    PipelineOptions,
    ProcessStep,
    ReactStep,
    Step,
)
from mailflow.engine.registry import Registry
from mailflow.engine.source import ConfigFaults, FileFault, Source, find
from mailflow.errors import ConfigError, PluginError
from mailflow.options import Fault, Option, Options, SecretValue, Via, convert, nearest
from mailflow.query import Query


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
            pipelines.append(_Reader(source, registry, thorough).pipeline())
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
    return _Reader(source, registry or Registry(), thorough).pipeline()


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


class _Reader:
    """Reads one file, and gathers what is wrong with it."""

    def __init__(self, source: Source, registry: Registry, thorough: bool) -> None:
        self._source = source
        self._registry = registry
        self._thorough = thorough
        self._faults: list[Fault] = []
        self._warnings: list[Fault] = []
        self._accounts: dict[str, Mapping[str, object]] = {}
        self._account_keys: dict[str, set[str]] = {}
        self._names: dict[str, list[str]] = {}
        self._ways: list[tuple[tuple[str, int], str, str | None]] = []

    def pipeline(self) -> Pipeline:
        data = self._source.data
        for key in data:
            if key not in TABLES:
                hint = nearest(key, TABLES) or f"; there are {', '.join(TABLES)}"
                self._fault((key,), f"unknown table{hint}")
        options = self._pipeline_options()
        self._read_accounts()
        self._names = {kind: self._read_names(kind) for kind in ENGINE}
        steps = {table: self._steps(table) for table in ENGINE}
        self._check_accounts()
        self._check_ways(steps["distribute"])
        for table in ("fetch", "distribute"):
            if data.get(table, []) == []:
                self._fault((), f"there is no [[{table}]]; a pipeline needs one or more")
        journal = self._journal(options)
        if self._faults:
            raise ConfigFaults(self._source.located(list(dict.fromkeys(self._faults))))
        return Pipeline(
            path=self._source.path,
            name=options.name or self._source.stem,
            base=self._source.base,
            journal=journal,
            history=options.history,
            linger=options.linger,
            **{table: tuple(made) for table, made in steps.items()},
            warnings=tuple(self._source.located(list(dict.fromkeys(self._warnings)))),
        )

    def _fault(self, path: tuple[str | int, ...], text: str, detail: str = "") -> None:
        self._faults.append(Fault(path, text, detail))

    def _table(self, path: tuple[str | int, ...], value: object) -> dict[str, object] | None:
        if isinstance(value, dict):
            return value
        self._fault(path, "expected a table")
        return None

    def _pipeline_options(self) -> PipelineOptions:
        table = self._table(("pipeline",), self._source.data.get("pipeline", {})) or {}
        declared = PipelineOptions.declared()
        values = self._converted(("pipeline",), table, declared)
        self._unknown(("pipeline",), table, declared)
        options = PipelineOptions(values)
        for number, plugin in enumerate(options.plugins):
            try:
                self._registry.load(plugin)
            except PluginError as error:
                self._fault(("pipeline", "plugins", number), str(error))
        return options

    def _journal(self, options: PipelineOptions) -> str:
        """By default in the state directory, by the file's name and where it really is."""
        if options.journal:
            return options.journal
        from zlib import crc32

        mark = crc32(os.path.realpath(self._source.path).encode("utf-8", "surrogateescape"))
        try:
            return os.path.join(state_directory(), f"{self._source.stem}-{mark:08x}.db")
        except ValueError as error:
            self._fault(("pipeline", "journal"), str(error))
            return ""

    def _read_accounts(self) -> None:
        accounts = self._table(("account",), self._source.data.get("account", {})) or {}
        for name, value in accounts.items():
            table = self._table(("account", name), value)
            if table is not None:
                self._accounts[name] = table

    def _check_accounts(self) -> None:
        """A key of an account that no step which uses it takes is a fault."""
        for name, table in self._accounts.items():
            if name not in self._account_keys:
                self._warnings.append(Fault(("account", name), "no step uses this account"))
                continue
            known = self._account_keys[name]
            for key in table:
                if key not in known:
                    self._fault(("account", name, key), f"unknown key{nearest(key, known)}")

    def _read_names(self, kind: str) -> list[str]:
        """What the steps of one kind are called; the second of one name is a fault."""
        names: dict[str, int] = {}
        array = self._source.data.get(kind, [])
        for number, table in enumerate(array if isinstance(array, list) else []):
            name = table.get("name", table.get("use")) if isinstance(table, dict) else None
            if not isinstance(name, str):
                continue
            first = names.setdefault(name, number)
            if first != number:
                key = "name" if "name" in table else "use"
                text = f"{kind}[{first + 1}] has the name `{name}` too; give this one a `name`"
                self._fault((kind, number, key), text)
        return list(names)

    def _steps(self, kind: str) -> list[Any]:
        """The steps of one kind that are without fault."""
        array = self._source.data.get(kind, [])
        if not isinstance(array, list):
            self._fault((kind,), f"expected an array of tables; write [[{kind}]]")
            return []
        steps: list[Any] = []
        for number, value in enumerate(array):
            table = self._table((kind, number), value)
            step = None if table is None else self._step((kind, number), table)
            if step is not None:
                steps.append(step)
        return steps

    def _step(self, path: tuple[str, int], table: Mapping[str, object]) -> Step | None:
        kind = path[0]
        options_class, step_class = ENGINE[kind]
        engine = options_class.declared()
        before = len(self._faults)
        mine = self._converted(path, table, engine)
        component = self._component(path, mine.get("use"))
        if component is None:
            self._join_account(path, table, {})
            return None
        declared = component.options.declared()
        self._unknown(path, table, {**engine, **declared})
        joined = self._join_account(path, table, declared)
        theirs = self._converted(path, joined, declared, own=table)
        self._check_queries(path, component, {**mine, **theirs})
        self._check_secrets(path, theirs, table)
        ways = [name for name, option in declared.items() if isinstance(option, Via)]
        self._ways += [(path, name, cast("str | None", theirs.get(name))) for name in ways]
        if len(self._faults) > before:
            return None
        options = component.options(theirs)
        for key, text in self._cross_faults(options, path):
            self._fault((*self._place(path, table, key), key), text)
        own = options_class(mine)
        words = {key: getattr(own, key) for key in engine if key in step_class._fields}
        words["name"] = own.name or own.use
        step: Step = step_class(**words, component=component, options=options)
        return step

    def _cross_faults(self, options: Options, path: tuple[str, int]) -> Iterator[tuple[str, str]]:
        try:
            yield from options.faults()
            if self._thorough:
                yield from options.look()
        except Exception as error:  # noqa: BLE001  # a plugin's code, which must break nobody
            self._fault(path, f"its plugin failed: {type(error).__name__}: {error}")

    def _component(self, path: tuple[str, int], use: object) -> type[Any] | None:
        if not isinstance(use, str):
            return None
        try:
            component = self._registry.component(path[0], use)
        except (PluginError, ConfigError) as error:
            self._fault((*path, "use"), str(error))
            return None
        taken = ENGINE[path[0]][0].declared().keys() & component.options.declared().keys()
        if taken:
            words = ", ".join(f"`{word}`" for word in sorted(taken))
            self._fault((*path, "use"), f"plugin fault: `{use}` takes {words}, the engine's own")
            return None
        return component

    def _converted(
        self,
        path: tuple[str | int, ...],
        table: Mapping[str, object],
        declared: Mapping[str, Option[Any]],
        own: Mapping[str, object] | None = None,
    ) -> dict[str, object]:
        """The values that can be had of a table; what is wrong is noted, where it stands.

        What is not in `own` came from the account.
        """
        values: dict[str, object] = {}
        for name, option in declared.items():
            try:
                found, faults = convert({name: option}, table, self._source.base)
            except Exception as error:  # noqa: BLE001  # a plugin's own option
                text = f"its plugin failed: {type(error).__name__}: {error}"
                found, faults = {}, [Fault((name,), text)]
            values.update(found)
            at = self._place(path, own or table, name) if name in table else path
            self._faults += [f._replace(path=(*at, *f.path)) for f in faults]
        return values

    def _place(
        self, path: tuple[str | int, ...], own: Mapping[str, object], key: str
    ) -> tuple[str | int, ...]:
        """The table that an option stands in: what is not in `own` is its account's."""
        lent = key not in own and key in self._accounts.get(str(own.get("account")), {})
        return ("account", str(own["account"])) if lent else path

    def _unknown(
        self,
        path: tuple[str | int, ...],
        table: Mapping[str, object],
        declared: Mapping[str, Option[Any]],
    ) -> None:
        for key in table:
            if key not in declared:
                self._fault((*path, key), f"unknown key{nearest(key, declared)}")

    def _join_account(
        self,
        path: tuple[str, int],
        table: Mapping[str, object],
        declared: Mapping[str, Option[Any]],
    ) -> Mapping[str, object]:
        """The step's table with what its account adds to it."""
        name = table.get("account")
        if not isinstance(name, str):
            return table
        account = self._accounts.get(name)
        if account is None:
            hint = nearest(name, self._accounts) or f"; there is no [account.{name}]"
            self._fault((*path, "account"), f"unknown account{hint}")
            return table
        self._account_keys.setdefault(name, set()).update(declared or account)
        added = {key: value for key, value in account.items() if key in declared}
        return {**added, **table}

    def _check_queries(
        self, path: tuple[str, int], component: type[Any], values: Mapping[str, object]
    ) -> None:
        """A field that nothing can know at this step is a fault."""
        for key, value in values.items():
            if isinstance(value, Query) and value is not Query.always:
                from mailflow.engine.fields import unknowable

                for text in unknowable(value, path[0], component, self._names):
                    self._fault((*path, key), text)

    def _check_ways(self, steps: Sequence[DistributeStep]) -> None:
        """What sends notices needs a step to send them by. Where a [[distribute]] step is
        at fault, it may be the one."""
        names = self._names["distribute"]
        sends = len(steps) < len(names) or any(step.component.sends for step in steps)
        for path, key, via in self._ways:
            if via is None and not sends:
                text = "it sends mail, and no [[distribute]] step does: add one, such as smtp"
                self._fault((*path, "use"), text)
            elif via is not None and via not in names:
                hint = nearest(via, names) or f"; there are {', '.join(names)}"
                self._fault((*path, key), f"no [[distribute]] has the name `{via}`{hint}")

    def _check_secrets(
        self, path: tuple[str, int], values: Mapping[str, object], own: Mapping[str, object]
    ) -> None:
        for key, value in values.items():
            if not isinstance(value, SecretValue):
                continue
            place = (*self._place(path, own, key), key)
            if value.literal:
                self._literal(place)
            elif self._thorough:
                try:
                    value.check()
                except ConfigError as error:
                    self._fault(place, str(error))

    def _literal(self, path: tuple[str | int, ...]) -> None:
        """A secret in the file itself: a fault where others can read it."""
        open_to = readable_by_others(self._source.path) if self._source.is_file else ""
        if open_to:
            from shlex import quote

            file = quote(self._source.path)
            self._fault(path, f"the secret is in this file, which {open_to}; run: chmod 600 {file}")
        else:
            text = 'the secret is in this file; better { file = "...", env = ... or command = ... }'
            self._warnings.append(Fault(path, text))


def state_directory() -> str:
    """Where journals are by default. Raises ValueError where no home is known."""
    given = os.environ.get("XDG_STATE_HOME", "")
    if os.path.isabs(given):
        return os.path.join(given, "mailflow")
    if os.geteuid() == 0:
        return "/var/lib/mailflow"
    home = os.path.expanduser("~")
    if not os.path.isabs(home):
        raise ValueError("no home directory is known; say where the journal shall be")
    return os.path.join(home, ".local", "state", "mailflow")


def readable_by_others(path: str) -> str:
    """Who else can read a file, "" if nobody: its mode counts as far as its directories."""
    try:
        status = os.stat(path)
        if status.st_uid not in (os.geteuid(), 0):
            return f"belongs to another user (uid {status.st_uid})"
        if not status.st_mode & 0o077:
            return ""
        directory = os.path.dirname(os.path.realpath(path))
        while os.stat(directory).st_mode & 0o011:
            parent = os.path.dirname(directory)
            if parent == directory:
                return "others can read"
            directory = parent
    except OSError:
        pass
    return ""


__all__ = [
    "ConfigFaults", "DistributeStep", "FetchStep", "FileFault", "Pipeline", "ProcessStep",
    "ReactStep", "Step", "load", "load_dict", "state_directory",
]  # fmt: skip
