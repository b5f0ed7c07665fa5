"""mailflow config show FILE: every value that is in force, and where it comes from."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from mailflow.tables import json_option, show, show_json

if TYPE_CHECKING:
    from mailflow.engine.config import Setting


@click.group(name="config")
def command() -> None:
    """See what the files come to."""


@command.command(name="show", short_help="Every value that is in force in a pipeline.")
@click.argument("file", metavar="FILE")
@click.option("--origin", is_flag=True, help="Say of each value the file and line it is from.")
@click.option("--all", "everything", is_flag=True, help="Options that nobody set, too.")
@json_option
def show_(file: str, origin: bool, everything: bool, as_json: bool) -> None:
    """Every value that is in force in a pipeline: what its file says, what the account of a
    step adds, and what defaults.toml says for all pipelines.

    Passwords that stand in a file are not shown.
    """
    from mailflow.engine.config import settings
    from mailflow.engine.registry import Registry

    found = [each for each in settings(file, Registry()) if everything or each.given is not None]
    if as_json:
        show_json([
            {"table": each.kind, "step": each.step, "key": each.key, "value": _plain(each),
             "origin": _origin(each)}
            for each in found
        ])  # fmt: skip
        return
    rows = [(_step(each), each.key, _written(each), _origin(each)) for each in found]
    columns = ("STEP", "KEY", "VALUE", "FROM")
    show(columns, rows) if origin else show(columns[:3], [row[:3] for row in rows])


def _step(setting: Setting) -> str:
    return f"{setting.kind}.{setting.step}" if setting.step else setting.kind


def _plain(setting: Setting) -> object:
    """The value as a file says it."""
    from mailflow.engine import declared

    if setting.given is None:
        return None if setting.option.required else declared.written(setting.option, setting.value)
    return setting.option.shown(setting.value)


def _written(setting: Setting) -> str:
    from mailflow.engine import declared

    value = _plain(setting)
    return "" if value is None else declared.toml(value)


def _origin(setting: Setting) -> str:
    """file:line, and the table there where it is not the step's own."""
    given = setting.given
    if given is None:
        return "default"
    place = f"{given.source.file}:{given.source.line((*given.table, setting.key))}"
    if isinstance(given.table[-1], int) or given.table == ("pipeline",):
        return place
    return f"{place} [{'.'.join(str(part) for part in given.table)}]"
