"""One pipeline's file, read: every fault of it at once, or steps that are ready to be made.

Rule of the file: a value is checked and told about where it stands, be that the step, its
account, or a file with defaults that pipelines have in common.
"""

from __future__ import annotations

import os
from collections.abc import Collection, Iterator, Mapping, Sequence

from mailflow.directories import state_directory
from mailflow.engine import layers
from mailflow.engine.layers import Given, Place, Said
from mailflow.engine.pipeline import (
    ENGINE,
    NAMED,
    TABLES,
    DistributeStep,
    FetchStep,
    MaildropStep,
    Pipeline,
    PipelineOptions,
    ServeStep,
    Step,
)
from mailflow.engine.registry import Registry
from mailflow.errors import ConfigError, MailflowError, PluginError
from mailflow.options import (
    Fault,
    ListOf,
    Option,
    Options,
    Template,
    Text,
    Via,
    convert,
    nearest,
)
from mailflow.query import Query
from mailflow.record import NamedTuple
from mailflow.toml_file import ConfigFaults, FileFault, Source
from mailflow.typed import Any, cast
from mailflow.values import instead


class Setting(NamedTuple):
    """One value that is in force: of a step, or of the pipeline (`step` is "").

    `value` is as the file says it, or the default; `given` says where it stands, None
    where it is the default.
    """

    kind: str
    step: str
    key: str
    value: object
    option: Option[Any]
    given: Given | None


class Reader:
    """Reads one file with what it has in common with others, and gathers what is wrong.

    `settings`, where it is a list, takes every value that is in force.
    """

    def __init__(self, source: Source, registry: Registry, thorough: bool) -> None:
        self._source = source
        self._registry = registry
        self._thorough = thorough
        self._layers = layers.find(source.path) if source.is_file else []
        self._faults: list[tuple[Source, Fault]] = []
        self._warnings: list[tuple[Source, Fault]] = []
        self.settings: list[Setting] | None = None
        self._accounts: dict[str, Mapping[str, object]] = {}
        self._account_keys: dict[str, set[str]] = {}
        self._names: dict[str, list[str]] = {}
        self._ways: list[tuple[tuple[str, str | int], str, str | None]] = []

    def pipeline(self) -> Pipeline:
        data = self._source.data
        for key in data:
            if key not in TABLES:
                hint = instead(key, TABLES)
                self._fault((key,), f"unknown table{hint}")
        for layer in self._layers:
            self._faults += [(layer, fault) for fault in layers.faults(layer)]
        options = self._pipeline_options()
        self._read_accounts()
        self._names = {kind: self._read_names(kind) for kind in ENGINE}
        steps = {table: self._steps(table) for table in ENGINE}
        self._check_accounts()
        if self._thorough:
            self._check_layers()
        self._check_ways(steps["distribute"])
        self._check_maildrops(steps["maildrop"])
        if not self._faults:
            self._check_circles(steps["fetch"], steps["distribute"])
            self._check_addresses(steps["serve"])
        carries = any(data.get(table) for table in ("fetch", "process", "distribute"))
        for table in ("fetch", "distribute") if carries or not data.get("serve") else ():
            if data.get(table, []) == []:
                self._fault((), f"there is no [[{table}]]; a pipeline needs one or more")
        journal = self._journal(options)
        if self._faults:
            raise ConfigFaults(self._located(self._faults))
        return Pipeline(
            path=self._source.path,
            name=options.name or self._source.stem,
            base=self._source.base,
            journal=journal,
            history=options.history,
            linger=options.linger,
            offline=options.offline,
            local=options.local,
            **{table: tuple(made) for table, made in steps.items()},
            warnings=tuple(self._located(self._warnings)),
        )

    def _located(self, faults: Sequence[tuple[Source, Fault]]) -> list[FileFault]:
        """Each once, with its line: those of the pipeline's file first."""
        found = []
        for source in (self._source, *self._layers):
            mine = dict.fromkeys(fault for where, fault in faults if where is source)
            found += source.located(list(mine))
        return found

    def _fault(self, path: Place, text: str, source: Source | None = None) -> None:
        self._faults.append((source or self._source, Fault(path, text)))

    def _warn(self, path: Place, text: str, source: Source | None = None) -> None:
        self._warnings.append((source or self._source, Fault(path, text)))

    def _table(self, path: tuple[str | int, ...], value: object) -> dict[str, object] | None:
        if isinstance(value, dict):
            return value
        self._fault(path, "expected a table")
        return None

    def _pipeline_options(self) -> PipelineOptions:
        table = self._table(("pipeline",), self._source.data.get("pipeline", {})) or {}
        declared = PipelineOptions.declared()
        given = _merged((self._source, ("pipeline",), table))
        for said in layers.of_pipeline(self._layers):
            layer, where, common = said
            known = {name: declared[name] for name in declared if name != "name"}
            self._unknown(where, common, known, layer)
            _merge(given, said, known)
        values = self._converted(("pipeline",), given, declared)
        self._note("pipeline", "", given, declared)
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
            if self._thorough and os.path.isdir(options.journal):
                self._fault(("pipeline", "journal"), "expected a file; it is a directory")
            return options.journal
        from zlib import crc32

        mark = crc32(os.path.realpath(self._source.path).encode("utf-8", "surrogateescape"))
        try:
            return os.path.join(state_directory(), f"{self._source.stem}-{mark:08x}.db")
        except ConfigError:
            text = "no home directory is known; say where the journal shall be"
            self._fault(("pipeline", "journal"), text)
            return ""

    def _read_accounts(self) -> None:
        accounts = self._table(("account",), self._source.data.get("account", {})) or {}
        for name, value in accounts.items():
            table = self._table(("account", name), value)
            if table is not None:
                self._accounts[name] = table

    def _check_accounts(self) -> None:
        """A key of an account that no step which uses it takes is a fault, nor the mailbox
        that it is to `mailflow mail`."""
        for name, table in self._accounts.items():
            if "use" in table:
                self._check_mailbox(name)
            if name not in self._account_keys:
                self._warn(("account", name), "no step uses this account")
                continue
            self._unknown(("account", name), table, self._account_keys[name])
        for name, known in self._account_keys.items():
            for layer, where, table in layers.of_account(self._layers, name):
                for key in [key for key in table if key not in known]:
                    text = f"no step of {self._source.file} takes this key{nearest(key, known)}"
                    self._warn((*where, key), text, layer)

    def _check_mailbox(self, name: str) -> None:
        """An account that says what it is can be opened by hand, too, and must be whole."""
        from mailflow.engine.account import as_mailbox

        found = as_mailbox(
            list(layers.of_account([self._source, *self._layers], name)), self._registry
        )
        self._faults += found.faults
        known = self._accounts[name]  # its plugin is not there: nobody knows what it takes
        if found.component is not None:
            known = {"use": None, **found.component.options.declared()}
        self._account_keys.setdefault(name, set()).update(known)

    def _check_layers(self) -> None:
        """Defaults for a component that is not here help nobody."""
        for layer in self._layers:
            for kind, use, where in layers.components(layer):
                try:
                    self._registry.component(kind, use)
                except (PluginError, ConfigError) as error:
                    self._warn(where, str(error), layer)

    def _read_names(self, kind: str) -> list[str]:
        """What the steps of one kind are called; the second of one name is a fault."""
        if kind in NAMED:
            return list(self._table((kind,), self._source.data.get(kind, {})) or {})
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
        tables = self._source.data.get(kind, {} if kind in NAMED else [])
        if kind in NAMED:
            keyed: list[tuple[str | int, object]] = (
                list(tables.items()) if isinstance(tables, dict) else []
            )
        elif isinstance(tables, list):
            keyed = list(enumerate(tables))
        else:
            self._fault((kind,), f"expected an array of tables; write [[{kind}]]")
            return []
        steps: list[Any] = []
        for key, value in keyed:
            table = self._table((kind, key), value)
            step = None if table is None else self._step((kind, key), table)
            if step is not None:
                steps.append(step)
        return steps

    def _step(self, path: tuple[str, str | int], table: Mapping[str, object]) -> Step | None:
        kind = path[0]
        options_class, step_class = ENGINE[kind]
        engine = options_class.declared()
        before = len(self._faults)
        given = _merged((self._source, path, table))
        use = table.get("use")
        component = self._component(path, use)
        declared = {} if component is None else component.options.declared()
        self._join_account(path, table, given, declared)
        if component is not None:
            self._join_defaults(kind, str(use), given, {**engine, **declared})
        mine = self._converted(path, given, engine)
        if component is None:
            return None
        self._unknown(path, table, {**engine, **declared})
        theirs = self._converted(path, given, declared)
        name = str(path[1] if kind in NAMED else mine.get("name") or use)
        self._note(kind, name, given, {**engine, **declared})
        self._check_queries(path, component, {**mine, **theirs}, given)
        self._check_secrets({**mine, **theirs}, given)
        ways = [name for name, option in declared.items() if isinstance(option, Via)]
        self._ways += [(path, name, cast("str | None", theirs.get(name))) for name in ways]
        if len(self._faults) > before:
            return None
        options = component.options(theirs)
        for key, text in self._cross_faults(options, path):
            source, where = _stands(given, key, self._source, path)
            self._fault((*where, key), text, source)
        own = options_class(mine)
        words = {key: getattr(own, key) for key in engine if key in step_class._fields}
        words["name"] = name
        step: Step = step_class(**words, component=component, options=options)
        return step

    def _cross_faults(
        self, options: Options, path: tuple[str, str | int]
    ) -> Iterator[tuple[str, str]]:
        try:
            yield from options.faults()
            if self._thorough:
                yield from options.look()
        except Exception as error:  # noqa: BLE001  # a plugin's code, which must break nobody
            self._fault(path, f"its plugin failed: {type(error).__name__}: {error}")

    def _component(self, path: tuple[str, str | int], use: object) -> type[Any] | None:
        if not (isinstance(use, str) and use):
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
        self, path: Place, given: Mapping[str, Given], declared: Mapping[str, Option[Any]]
    ) -> dict[str, object]:
        """The values that can be had; what is wrong is noted, where it stands."""
        values: dict[str, object] = {}
        for name, option in declared.items():
            source, where = _stands(given, name, self._source, path)
            table = {name: given[name].value} if name in given else {}
            try:
                found, faults = convert({name: option}, table, source.base)
            except Exception as error:  # noqa: BLE001  # a plugin's own option
                text = f"its plugin failed: {type(error).__name__}: {error}"
                found, faults = {}, [Fault((name,), text)]
            values.update(found)
            self._faults += [
                (source, fault._replace(path=(*where, *fault.path))) for fault in faults
            ]
        return values

    def _note(
        self,
        kind: str,
        step: str,
        given: Mapping[str, Given],
        declared: Mapping[str, Option[Any]],
    ) -> None:
        """Keep what is in force, for whoever asks."""
        if self.settings is None:
            return
        for name, option in declared.items():
            there = given.get(name)
            value = option.default if there is None else there.value
            self.settings.append(Setting(kind, step, name, value, option, there))

    def _unknown(
        self,
        path: Place,
        table: Mapping[str, object],
        known: Collection[str],
        source: Source | None = None,
    ) -> None:
        for key in table:
            if key not in known:
                self._fault((*path, key), f"unknown key{nearest(key, known)}", source)

    def _join_account(
        self,
        path: tuple[str, str | int],
        table: Mapping[str, object],
        given: dict[str, Given],
        declared: Mapping[str, Option[Any]],
    ) -> None:
        """Add what the step's account says: here, and in what pipelines have in common."""
        name = table.get("account")
        if not isinstance(name, str):
            return
        tables: list[Said] = []
        if name in self._accounts:
            tables.append((self._source, ("account", name), self._accounts[name]))
        tables += layers.of_account(self._layers, name)
        if not tables:
            known = [*self._accounts, *layers.accounts(self._layers)]
            hint = nearest(name, known) or f"; there is no [account.{name}]"
            self._fault((*path, "account"), f"unknown account{hint}")
            return
        keys = self._account_keys.setdefault(name, set())
        for said in tables:
            keys.update(declared or said[2])
            _merge(given, said, declared)

    def _join_defaults(
        self,
        kind: str,
        use: str,
        given: dict[str, Given],
        declared: Mapping[str, Option[Any]],
    ) -> None:
        """Add what is so for every step that uses this component."""
        known = {key: declared[key] for key in declared if key not in ("use", "name", "account")}
        for layer, where, table in layers.of_component(self._layers, kind, use):
            own = {
                key: value
                for key, value in table.items()
                if key in known or not isinstance(value, Mapping) or "." in use
            }
            self._unknown(where, own, known, layer)
            _merge(given, (layer, where, own), known)

    def _check_queries(
        self,
        path: tuple[str, str | int],
        component: type[Any],
        values: Mapping[str, object],
        given: Mapping[str, Given],
    ) -> None:
        """A field that nothing can know at this step is a fault."""
        for key, value in values.items():
            if isinstance(value, Query) and value is not Query.always:
                from mailflow.engine.fields import unknowable

                for text in unknowable(value, path[0], component, self._names):
                    source, where = _stands(given, key, self._source, path)
                    self._fault((*where, key), text, source)

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
                hint = instead(via, names)
                self._fault((*path, key), f"no [[distribute]] has the name `{via}`{hint}")

    def _check_maildrops(self, steps: Sequence[MaildropStep]) -> None:
        """Who may log in where, each by itself and beside the others."""
        if steps:
            from mailflow.accounts.audit import audit

            for name, key, text, grave in audit(steps, thorough=self._thorough):
                tell = self._fault if grave else self._warn
                tell(("maildrop", name, key) if key else ("maildrop", name), text)

    def _check_circles(
        self, sources: Sequence[FetchStep], targets: Sequence[DistributeStep]
    ) -> None:
        """What is delivered into the place that it is fetched from comes again for ever, but
        where a `where` may tell the two apart."""
        for source in sources:
            place = _whole_place(source) if source.where is Query.always else None
            for number, target in enumerate(targets):
                if place is not None and place == _whole_place(target):
                    text = f"{source.name} fetches from here: what is delivered would come again"
                    self._fault(("distribute", number, target.component.url_path), text)

    def _check_addresses(self, services: Sequence[ServeStep]) -> None:
        """What one service listens on, no other can."""
        if services:
            from mailflow.listening import clashes

            given = [(step.name, getattr(step.options, "listen", ())) for step in services]
            for number, text in clashes(given):
                self._fault(("serve", number, "listen"), text)

    def _check_secrets(self, values: Mapping[str, object], given: Mapping[str, Given]) -> None:
        for source, path, secret in layers.secrets(values, given):
            if secret.literal:
                self._literal(source, path)
            elif self._thorough:
                try:
                    secret.check()
                except MailflowError as error:
                    self._fault(path, str(error), source)

    def _literal(self, source: Source, path: Place) -> None:
        """A secret in the file itself: a fault where others can read it."""
        if text := layers.exposed(source):
            self._fault(path, text, source)
        else:
            text = 'the secret is in this file; better { file = "...", env = ... or command = ... }'
            self._warn(path, text, source)


def _merged(said: Said) -> dict[str, Given]:
    source, where, table = said
    return {key: Given(value, source, where) for key, value in table.items()}


def _merge(given: dict[str, Given], said: Said, known: Collection[str]) -> None:
    """Add what is known there and not given yet: who comes first is more specific."""
    for key, there in _merged(said).items():
        if key in known:
            given.setdefault(key, there)


def _whole_place(step: FetchStep | DistributeStep) -> tuple[frozenset[str], str] | None:
    """(schemes, path) of a step that fetches from or delivers into a place on the disk as
    such; None for a part of it, such as a folder."""
    way = getattr(step.component, "url_path", None)
    if way is None:
        return None
    for name, option in step.component.options.declared().items():
        narrows = isinstance(option, Template | Text | ListOf)
        if narrows and getattr(step.options, name) != option.default:
            return None
    return frozenset(step.component.schemes), os.path.realpath(getattr(step.options, way))


def _stands(
    given: Mapping[str, Given], key: str, source: Source, path: Place
) -> tuple[Source, Place]:
    """The file and the table that a key stands in; that of the step where it stands nowhere."""
    there = given.get(key)
    return (source, path) if there is None else (there.source, there.table)
