"""Which component a name means: our own from a table, others by their entry point.

Rule of the file: a plugin is imported when a pipeline first names it, and what is
wrong with it is one PluginError that names it and harms nobody else.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, suppress
from types import ModuleType

from mailflow.errors import ConfigError, PluginError
from mailflow.log import Logger, clean, get_logger
from mailflow.options import Options
from mailflow.record import NamedTuple
from mailflow.typed import TYPE_CHECKING, Any
from mailflow.values import nearest

if TYPE_CHECKING:
    from importlib.metadata import EntryPoint

BUILT_IN = {
    "command": "mailflow_command",
    "filter": "mailflow_filter",
    "imap": "mailflow_imap",
    "list": "mailflow_list",
    "maildir": "mailflow_maildir",
    "mbox": "mailflow_mbox",
    "pop3": "mailflow_pop3",
    "react": "mailflow_react",
    "smtp": "mailflow_smtp",
    "spool": "mailflow_spool",
    "stdin": "mailflow_stdin",
    "webmail": "mailflow_webmail",
}
"""Our own plugins, as in pyproject.toml: nobody can take their names, and no
distribution is scanned for them."""

SCHEMES = {
    "imap": "imap",
    "imaps": "imap",
    "lmtp": "smtp",
    "maildir": "maildir",
    "mbox": "mbox",
    "pop3": "pop3",
    "pop3s": "pop3",
    "smtp": "smtp",
    "smtps": "smtp",
    "spool": "spool",
    "submission": "smtp",
}
"""Which of our own plugins has components that a URL of a scheme names."""

GROUP = "mailflow"

KINDS = {"fetch": "fetcher", "process": "processor", "distribute": "distributor",
         "react": "reactor", "maildrop": "maildrop", "serve": "service",
         "account": "mailbox"}  # fmt: skip
"""The table of a pipeline, and the kind of component it takes; an account is no step, but
what `mailflow mail` opens."""

CONTRACT: dict[str, tuple[tuple[str, ...], tuple[str, ...]]] = {
    "fetcher": (("listing", "heads", "retrieve", "settle", "__enter__", "__exit__"), ()),
    "processor": (("process",), ("pure",)),
    "distributor": (
        ("distribute", "__enter__", "__exit__"),
        ("repeatable", "per_recipient", "sends"),
    ),
    "reactor": (("react",), ()),
    "maildrop": (("login",), ()),
    "service": (("listen", "serve"), ()),
    "mailbox": (
        ("folders", "count", "select", "update", "delete", "insert", "__enter__", "__exit__"),
        (),
    ),
}
"""What a class of each kind has: (methods, attributes that are True or False)."""


class Entry(NamedTuple):
    """One line of `mailflow plugins`: a component, or why a plugin gives none."""

    use: str
    kind: str
    component: type[Any] | None
    distribution: str
    fault: str = ""


class Plugin(NamedTuple):
    """A plugin that was loaded: its components by (kind, name), those that it named as
    "module:Class" as such until they are asked for."""

    name: str
    module: ModuleType
    distribution: str
    components: dict[tuple[str, str], type[Any] | str]

    def component(self, kind: str, name: str) -> type[Any] | None:
        """The class, imported now where it was only named. Raises PluginError."""
        there = self.components.get((kind, name))
        if isinstance(there, str):
            there = _named(_use(self.name, name), kind, there, self.distribution)
            self.components[kind, name] = there
        return there

    def hook(self, name: str) -> Callable[..., Any] | None:
        """What it does at a hook; None where nothing of that name is marked with hookimpl."""
        found: Callable[..., Any] | None = getattr(self.module, name, None)
        return found if hasattr(found, "mailflow_impl") else None


class Registry:
    """The plugins of one process. Used by one thread until the pipelines are loaded."""

    def __init__(self) -> None:
        self._plugins: dict[str, Plugin | PluginError] = {}
        self._found: dict[str, list[EntryPoint]] | None = None
        self._listeners: list[tuple[str, Callable[..., object]]] | None = None
        self._log: Logger = get_logger()

    def component(self, table: str, use: str) -> type[Any]:
        """The class that `use` names under [[table]].

        Raises PluginError, or ConfigError where something must be installed first.
        """
        kind = KINDS[table]
        name = use.partition(".")[0]
        try:
            plugin = self._plugin(name)
        except PluginError:
            if name not in self.names() and (meant := self._meant(use, kind)):
                raise PluginError(f"there is no plugin `{use}`{meant}") from None
            raise
        component = plugin.component(kind, use.partition(".")[2])
        if component is None:
            raise PluginError(self._missing(plugin, table, use))
        check_requirements(use, component, plugin.distribution)
        return component

    def load(self, name: str) -> None:
        """Load a plugin that is there for its listeners. Raises PluginError."""
        self._plugin(name)

    def module(self, name: str) -> ModuleType:
        """The module of a plugin, loaded. Raises PluginError."""
        return self._plugin(name).module

    def hook(self, plugin: str, name: str) -> Callable[..., Any] | None:
        """What a plugin does at a hook; None where it does nothing. Raises PluginError."""
        return self._plugin(plugin).hook(name)

    def hooks(self, name: str) -> Iterator[tuple[str, Callable[..., Any]]]:
        """(plugin, what it does at a hook), of every one that is installed; what is wrong with
        one is told elsewhere."""
        for plugin in self.names():
            found = None
            with suppress(PluginError):
                found = self.hook(plugin, name)
            if found is not None:
                yield plugin, found

    def named_by(self, scheme: str, table: str) -> tuple[str, type[Any]] | None:
        """`use` and class of the component under [[table]] that a URL of this scheme names;
        None where there is none. Raises PluginError, or ConfigError as `component` does."""
        ours = SCHEMES.get(scheme)
        for name in (ours,) if ours else [name for name in self.names() if name not in BUILT_IN]:
            plugin = self._plugin(name)
            for kind, component in plugin.components:
                if kind != KINDS[table]:
                    continue
                if scheme in getattr(plugin.component(kind, component), "schemes", ()):
                    use = _use(name, component)
                    return use, self.component(table, use)
        return None

    def schemes(self, table: str) -> list[str]:
        """The schemes of the URLs that name a component under [[table]]."""
        found: set[str] = set()
        for entry in self.all():
            if entry.component is not None and entry.kind == KINDS[table]:
                found.update(getattr(entry.component, "schemes", ()))
        return sorted(found)

    def names(self) -> list[str]:
        """What every plugin that is installed here is called; none is loaded."""
        return sorted({*BUILT_IN, *self._entry_points()})

    def _missing(self, plugin: Plugin, table: str, use: str) -> str:
        kind, name = KINDS[table], use.partition(".")[2]
        others = [k for k, component in plugin.components if component == name]
        if others and (meant := self._meant(use, kind)):
            return f"`{use}` is a {others[0]}, not a {kind}{meant}"
        if others:
            tables = [other for other in KINDS if KINDS[other] in others]
            return f"`{use}` is a {others[0]}, not a {kind}; it stands under [[{tables[0]}]]"
        here = [_use(plugin.name, c) for k, c in plugin.components if k == kind]
        if not here:
            return f"plugin `{plugin.name}` has no {kind}"
        hint = nearest(use, here) or f"; there is {', '.join(f'`{each}`' for each in here)}"
        return f"there is no {kind} `{use}`{hint}"

    def _meant(self, word: str, kind: str) -> str:
        """What to write instead of the name of a component alone, such as `retry`."""
        found = [e.use for e in self.all() if e.kind == kind and e.use.partition(".")[2] == word]
        return f"; did you mean {' or '.join(f'`{use}`' for use in found)}?" if found else ""

    def _plugin(self, name: str) -> Plugin:
        if name not in self._plugins:
            try:
                self._plugins[name] = self._load(name)
            except PluginError as error:
                self._plugins[name] = error
            self._listeners = None
        plugin = self._plugins[name]
        if isinstance(plugin, PluginError):
            raise plugin
        return plugin

    def _load(self, name: str) -> Plugin:
        """Import the plugin of that name and let it register. Raises PluginError."""
        if name in BUILT_IN:
            return _registered(name, lambda: _import(BUILT_IN[name]), "mailflow")
        points = self._entry_points().get(name, [])
        if not points:
            hint = nearest(name, (*BUILT_IN, *self._entry_points()))
            raise PluginError(f"there is no plugin `{name}`{hint or '; is it installed here?'}")
        if len(points) > 1:
            owners = " and ".join(_distribution(point) for point in points)
            raise PluginError(f"plugin `{name}` comes from {owners}; uninstall one of them")
        return _registered(name, points[0].load, _distribution(points[0]))

    def _entry_points(self) -> dict[str, list[EntryPoint]]:
        """Others' plugins by name, from one scan of what is installed."""
        if self._found is None:
            from importlib.metadata import entry_points

            self._found = {}
            for point in entry_points(group=GROUP):
                if point.name not in BUILT_IN:
                    self._found.setdefault(point.name, []).append(point)
        return self._found

    def all(self) -> list[Entry]:
        """Every component that is installed here, and every plugin that is broken."""
        entries: list[Entry] = []
        for name in self.names():
            try:
                plugin = self._plugin(name)
            except PluginError as error:
                entries.append(Entry(name, "", None, "", str(error)))
                continue
            entries += [_entry(plugin, kind, name) for kind, name in sorted(plugin.components)]
        return entries

    def event(self, name: str, /, **facts: object) -> None:
        """Tell every loaded plugin that listens; what one raises is logged, no more."""
        if self._listeners is None:
            self._listeners = _listeners(self._plugins.values())
        for plugin, call in self._listeners:
            try:
                call(event=name, facts=dict(facts))
            except (Exception, SystemExit) as error:  # noqa: BLE001  # a listener breaks no run
                self._log.error("a listener failed", plugin=plugin, told=name, error=error)


def _entry(plugin: Plugin, kind: str, name: str) -> Entry:
    use = _use(plugin.name, name)
    try:
        component = plugin.component(kind, name)
    except PluginError as error:
        return Entry(use, kind, None, plugin.distribution, str(error))
    lacks = "" if component is None else _lacks(use, component, plugin)
    return Entry(use, kind, component, plugin.distribution, lacks)


def _named(use: str, kind: str, where: str, distribution: str) -> type[Any]:
    """The class that "module:Class" names, checked. Raises PluginError."""
    module, _, name = where.partition(":")
    try:
        with _stdout_apart(distribution):
            component: type[Any] = getattr(_import(module), name)
    except (Exception, SystemExit) as error:
        reason = clean(f"{type(error).__name__}: {error}")
        raise PluginError(f"{kind} `{use}` ({where}) cannot be loaded: {reason}") from error
    check_contract(use, kind, component)
    return component


def _registered(name: str, load: Callable[[], ModuleType], distribution: str) -> Plugin:
    """What the plugin registers, checked. Raises PluginError for whatever it does."""
    try:
        with _stdout_apart(distribution):
            module = load()
            register = _Register(name)
            if not hasattr(module, "mailflow_register"):
                raise PluginError(f"plugin `{name}` has no mailflow_register")
            module.mailflow_register(register)
    except PluginError:
        raise
    except (Exception, SystemExit) as error:
        reason = clean(f"{type(error).__name__}: {error}")
        raise PluginError(f"plugin `{name}` ({distribution}) cannot be loaded: {reason}") from error
    return Plugin(name, module, distribution, register.components)


class _Register:
    """hooks.Register: takes components, and checks them against their kind."""

    def __init__(self, plugin: str) -> None:
        self._plugin = plugin
        self.components: dict[tuple[str, str], type[Any] | str] = {}

    def fetcher(self, component: type[Any] | str, name: str = "") -> None:
        self._take("fetcher", component, name)

    def processor(self, component: type[Any] | str, name: str = "") -> None:
        self._take("processor", component, name)

    def distributor(self, component: type[Any] | str, name: str = "") -> None:
        self._take("distributor", component, name)

    def reactor(self, component: type[Any] | str, name: str = "") -> None:
        self._take("reactor", component, name)

    def maildrop(self, component: type[Any] | str, name: str = "") -> None:
        self._take("maildrop", component, name)

    def service(self, component: type[Any] | str, name: str = "") -> None:
        self._take("service", component, name)

    def mailbox(self, component: type[Any] | str, name: str = "") -> None:
        self._take("mailbox", component, name)

    def _take(self, kind: str, component: type[Any] | str, name: str) -> None:
        use = _use(self._plugin, name)
        if (kind, name) in self.components:
            raise PluginError(f"plugin `{self._plugin}` registers {kind} `{use}` twice")
        if not isinstance(component, str):
            check_contract(use, kind, component)
        self.components[kind, name] = component


def check_contract(use: str, kind: str, component: type[Any]) -> None:
    """Raise PluginError where a class is not what its kind must be."""
    options = getattr(component, "options", None)
    if not isinstance(options, type) or not issubclass(options, Options):
        raise PluginError(f"{kind} `{use}` has no `options`, a class made from Options")
    methods, words = CONTRACT[kind]
    missing = [name for name in methods if not callable(getattr(component, name, None))]
    if missing:
        raise PluginError(f"{kind} `{use}` has no {', '.join(f'{name}()' for name in missing)}")
    unsaid = [name for name in words if not isinstance(getattr(component, name, None), bool)]
    if unsaid:
        raise PluginError(f"{kind} `{use}` does not say {', '.join(unsaid)} = True or False")


def check_requirements(use: str, component: type[Any], distribution: str) -> None:
    """Raise ConfigError with the command to run where an extra is not installed.

    A component names the modules in `requires`, and the extra that brings them in `extra`.
    """
    modules: Iterable[str] = getattr(component, "requires", ())
    missing = [module for module in modules if not _is_there(module)]
    if missing:
        extra = getattr(component, "extra", "")
        what = f"{distribution}[{extra}]" if extra else " ".join(missing)
        raise ConfigError(f"`{use}` needs {', '.join(missing)}: pip install '{what}'")


def _is_there(module: str) -> bool:
    from importlib.util import find_spec

    try:
        return module in sys.modules or find_spec(module) is not None
    except (ImportError, ValueError):
        return False


def _lacks(use: str, component: type[Any], plugin: Plugin) -> str:
    try:
        check_requirements(use, component, plugin.distribution)
    except ConfigError as error:
        return str(error)
    return ""


def _listeners(
    plugins: Iterable[Plugin | PluginError],
) -> list[tuple[str, Callable[..., object]]]:
    """One caller for each plugin with a mailflow_event; pluggy is loaded if there is one."""
    loaded = [plugin for plugin in plugins if isinstance(plugin, Plugin)]
    listening = [plugin for plugin in loaded if plugin.hook("mailflow_event") is not None]
    if not listening:
        return []
    import pluggy

    from mailflow.hooks import Hooks

    callers: list[tuple[str, Callable[..., object]]] = []
    for plugin in listening:  # a manager each, so that one that raises stops no other
        manager = pluggy.PluginManager(GROUP)
        manager.add_hookspecs(Hooks)
        manager.register(plugin.module, plugin.name)
        callers.append((plugin.name, manager.hook.mailflow_event))
    return callers


def _import(module: str) -> ModuleType:
    """As importlib.import_module, which need not be loaded for a plain name."""
    __import__(module)
    return sys.modules[module]


@contextmanager
def _stdout_apart(distribution: str) -> Iterator[None]:
    """What others' plugins print while they load is no output of ours."""
    if distribution == "mailflow":
        yield
        return
    from contextlib import redirect_stdout

    with redirect_stdout(sys.stderr):
        yield


def _distribution(point: EntryPoint) -> str:
    return point.dist.name if point.dist is not None else point.value


def _use(plugin: str, component: str) -> str:
    return f"{plugin}.{component}" if component else plugin
