"""mailflow plugins: what components there are, and each option with its meaning."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from mailflow.tables import json_option, say, show, show_json

if TYPE_CHECKING:
    from mailflow.engine.registry import Entry
    from mailflow.options import Option


@click.command(name="plugins")
@click.argument("name", required=False, metavar="[NAME[.COMPONENT]]")
@json_option
def command(name: str | None, as_json: bool) -> None:
    """Say what components there are; with a NAME, each option, default and meaning."""
    from mailflow.engine.declared import summary
    from mailflow.engine.registry import KINDS, Registry
    from mailflow.errors import PluginError
    from mailflow.options import nearest

    table_of = {kind: table for table, kind in KINDS.items()} | {"": ""}
    entries = Registry().all()
    if name:
        chosen = [e for e in entries if e.use == name or e.use.partition(".")[0] == name]
        if not chosen:
            raise PluginError(
                f"there is no plugin or component `{name}`{nearest(name, [e.use for e in entries])}"
            )
        entries = chosen
        if not as_json and (faults := [entry.fault for entry in entries if not entry.kind]):
            raise PluginError(faults[0])
    if as_json:
        show_json([_as_json(entry) for entry in entries])
    elif name:
        for number, entry in enumerate(entries):
            if number:
                say("")
            _describe(entry, table_of[entry.kind])
    else:
        show(
            ("USE", "KIND", "FROM", "WHAT"),
            ((e.use, e.kind, e.distribution, e.fault or summary(e)) for e in entries),
        )


def _options(entry: Entry) -> dict[str, Option[object]]:
    return entry.component.options.declared() if entry.component else {}


def _describe(entry: Entry, table: str) -> None:
    """A component: each option, and a step to copy."""
    from mailflow.engine import declared

    say(f"{entry.use}, a {entry.kind}: {entry.fault or declared.summary(entry)}")
    if entry.component is None:
        return
    for option in declared.told(entry.component.options):
        say(f"  {option.name}: {option.expected}; {option.need}")
        say(f"      {option.doc}")
    say("")
    for line in declared.example(table, entry.use, entry.component.options).splitlines():
        say(f"    {line}")


def _as_json(entry: Entry) -> dict[str, object]:
    from mailflow.engine import declared

    return {
        "use": entry.use, "kind": entry.kind, "distribution": entry.distribution,
        "fault": entry.fault, "summary": declared.summary(entry),
        "options": {
            name: {
                **option.schema(), "required": option.required,
                "default": None if option.required else declared.written(option, option.default),
            }
            for name, option in _options(entry).items()
        },
    }  # fmt: skip
