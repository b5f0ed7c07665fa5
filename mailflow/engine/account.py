"""An [account.NAME] as a mailbox: its `use` names the plugin, the rest are its options.

    [account.work]
    use = "imap"
    host = "imap.example.org"
    user = "ann"

Rule of the file: an account may serve steps of pipelines too; what only they take is left
to them, and what nobody takes is a fault.
"""

from __future__ import annotations

import os
from collections.abc import Collection, Sequence

from mailflow.engine import layers
from mailflow.engine.layers import Given, Place, Said
from mailflow.engine.registry import Registry
from mailflow.engine.source import directories
from mailflow.errors import ConfigError, PluginError
from mailflow.options import Fault, convert, nearest
from mailflow.record import NamedTuple
from mailflow.toml_file import ConfigFaults, FileFault, Source
from mailflow.typed import Any
from mailflow.values import instead

TABLE = "account"


Faults = list[tuple[Source, Fault]]


class Read(NamedTuple):
    """An account as a mailbox; what is None where `faults` say why."""

    use: str = ""
    component: type[Any] | None = None
    options: Any = None
    faults: Faults = []  # a tuple's field, which nobody changes


def read_account(
    name: str, registry: Registry, file: str | None = None
) -> tuple[str, type[Any], Any]:
    """(use, component, options) of the account of that name. Raises ConfigError."""
    sources = layers.with_accounts(file)
    for source in sources[1:] if file is not None else sources:
        wrong = list(layers.faults(source))
        if wrong:
            raise ConfigFaults(source.located(wrong))
    said = list(layers.of_account(sources, name))
    if not said:
        raise ConfigError(_missing(name, sources))
    found = as_mailbox(said, registry)
    if found.component is None or found.faults:
        raise ConfigFaults(_located(found.faults))
    return found.use, found.component, found.options


def as_mailbox(said: Sequence[Said], registry: Registry) -> Read:
    """What the tables of one account say, the nearest first."""
    given: dict[str, Given] = {}
    for source, where, table in said:
        for key, value in table.items():
            given.setdefault(key, Given(value, source, where))
    source, where, _ = said[0]
    there = given.get("use")
    if there is None or not isinstance(there.value, str):
        text = f'say what it is, such as use = "imap"; there are {", ".join(_uses(registry))}'
        return Read(faults=[(source, Fault(where, text))])
    try:
        component = registry.component(TABLE, there.value)
    except (PluginError, ConfigError) as error:
        return Read(faults=[(there.source, Fault((*there.table, "use"), str(error)))])
    options, faults = _options(component, given, registry, (source, where))
    return Read(there.value, component, options, faults)


def _missing(name: str, sources: list[Source]) -> str:
    """Why there is no such account, and where one could stand."""
    known = layers.accounts(sources)
    url = f"; as a URL it would be imaps://{name}" if "@" in name else ""
    if not sources:
        where = os.path.join(directories()[1], layers.NAME)
        return f"there is no [account.{name}]: {where} is not there, and no --file was given{url}"
    places = ", ".join(source.file for source in sources)
    return f"there is no [account.{name}] in {places}{url or instead(name, known)}"


def _options(
    component: type[Any], given: dict[str, Given], registry: Registry, place: tuple[Source, Place]
) -> tuple[Any, Faults]:
    """The options, converted where each stands, and all that is wrong."""
    declared = component.options.declared()
    source, where = place
    faults: Faults = []
    values: dict[str, object] = {}
    for name, option in declared.items():
        there = given.get(name)
        at, base = (source, where) if there is None else (there.source, there.table)
        table = {} if there is None else {name: there.value}
        found, wrong = convert({name: option}, table, at.base)
        values.update(found)
        faults += [(at, fault._replace(path=(*base, *fault.path))) for fault in wrong]
    faults += _strangers(given, declared, registry)
    faults += [
        (at, Fault(path, text))
        for at, path, secret in layers.secrets(values, given)
        if secret.literal and (text := layers.exposed(at))
    ]
    if faults:
        return None, faults
    options = component.options(values)
    for key, text in options.faults():
        at, base = (given[key].source, given[key].table) if key in given else (source, where)
        faults.append((at, Fault((*base, key), text)))
    return options, faults


def _located(faults: Faults) -> list[FileFault]:
    found: list[FileFault] = []
    for source in dict.fromkeys(source for source, _ in faults):
        found += source.located([fault for at, fault in faults if at is source])
    return found


def _strangers(given: dict[str, Given], declared: Collection[str], registry: Registry) -> Faults:
    """Keys that no component of any kind takes."""
    unknown = [key for key in given if key not in declared and key != "use"]
    if not unknown:
        return []
    known = {*declared, "use"}
    for entry in registry.all():
        if entry.component is not None:
            known.update(entry.component.options.declared())
    return [
        (given[key].source,
         Fault((*given[key].table, key), f"unknown key{nearest(key, declared)}"))
        for key in unknown if key not in known
    ]  # fmt: skip


def _uses(registry: Registry) -> list[str]:
    return sorted(f'"{entry.use}"' for entry in registry.all() if entry.kind == "mailbox")
