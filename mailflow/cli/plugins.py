"""mailflow plugins: what components there are, and each option with its meaning."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import click

from mailflow.cli.tables import json_option, show, show_json

if TYPE_CHECKING:
    from mailflow.engine.registry import Entry
    from mailflow.options import Option


@click.command(name="plugins")
@click.argument("name", required=False, metavar="[NAME[.COMPONENT]]")
@json_option
def command(name: str | None, as_json: bool) -> None:
    """Say what components there are; with a NAME, each option, default and meaning."""
    from mailflow.engine.registry import Registry
    from mailflow.errors import PluginError
    from mailflow.options import nearest

    entries = Registry().all()
    if name:
        chosen = [e for e in entries if e.use == name or e.use.partition(".")[0] == name]
        if not chosen:
            raise PluginError(
                f"there is no plugin or component `{name}`{nearest(name, [e.use for e in entries])}"
            )
        entries = chosen
    if as_json:
        show_json([_as_json(entry) for entry in entries])
    elif name:
        for entry in entries:
            _describe(entry)
    else:
        show(
            ("USE", "KIND", "FROM", "WHAT"),
            ((e.use, e.kind, e.distribution, e.fault or _summary(e)) for e in entries),
        )


def _summary(entry: Entry) -> str:
    return ((entry.component.__doc__ or "").strip().splitlines() or [""])[0]


def _options(entry: Entry) -> dict[str, Option[object]]:
    return entry.component.options.declared() if entry.component else {}


def _describe(entry: Entry) -> None:
    click.echo(f"{entry.use}, a {entry.kind}: {entry.fault or _summary(entry)}")
    for name, option in _options(entry).items():
        click.echo(f"  {name}: {option.expected}; {_default(option)}")
        click.echo(f"      {option.doc}")


def _default(option: Option[Any]) -> str:
    """As it would stand in the file; what has no value of its own is only optional."""
    if option.required:
        return "required"
    text = _toml(option, option.default)
    return f"default {text}" if text not in ("", '""', "[]", "{}") else "optional"


def _toml(option: Option[Any], value: Any) -> str:
    from mailflow.options import Duration, ListOf, Template

    if value is None:
        return ""
    if isinstance(option, ListOf):
        return f"[{', '.join(_toml(option.element, each) for each in value)}]"
    if isinstance(option, Duration):
        return json.dumps(_duration(value))
    return json.dumps(value.text if isinstance(option, Template) else value, default=str)


def _duration(seconds: float) -> str:
    if seconds == float("inf"):
        return "forever"
    for unit, size in (("d", 86400), ("h", 3600), ("m", 60)):
        if seconds and seconds % size == 0:
            return f"{seconds // size:g}{unit}"
    return f"{seconds:g}s"


def _as_json(entry: Entry) -> dict[str, object]:
    return {
        "use": entry.use, "kind": entry.kind, "distribution": entry.distribution,
        "fault": entry.fault, "summary": _summary(entry) if entry.component else "",
        "options": {
            name: {
                **option.schema(), "required": option.required,
                "default": None if option.required else option.default,
            }
            for name, option in _options(entry).items()
        },
    }  # fmt: skip
