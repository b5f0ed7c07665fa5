"""Tables for people and JSON for programs, from the same rows.

Rule of the file: a column is as wide as it must be, the last as wide as the terminal
allows, and control characters never reach it.
"""

from __future__ import annotations

import shutil
import sys
import time
from collections.abc import Iterable, Sequence

import click

from mailflow.log import clean

json_option = click.option("--json", "as_json", is_flag=True, help="Print JSON, for programs.")
dry_run_option = click.option(
    "--dry-run", "dry", is_flag=True, help="Say what would be done, and change nothing."
)
file_option = click.option(
    "-f", "--file", "files", multiple=True, metavar="FILE",
    help="Look into the journal of this pipeline file only; may be repeated.",
)  # fmt: skip


def say(line: str, *, err: bool = False) -> None:
    """Print one line, whatever a mail or a server has put into it."""
    click.echo(clean(line), err=err)


def show(columns: Sequence[str], rows: Iterable[Sequence[object]]) -> None:
    """Print a table with a heading."""
    lines = [list(columns), *([clean(text(cell)) for cell in row] for row in rows)]
    widths = [max(len(line[number]) for line in lines) for number in range(len(columns) - 1)]
    room = shutil.get_terminal_size((100, 24)).columns if sys.stdout.isatty() else 10_000
    for line in lines:
        cells = [cell.ljust(width) for cell, width in zip(line, widths, strict=False)]
        click.echo("  ".join([*cells, line[-1]])[:room].rstrip())


def show_json(rows: object) -> None:
    """Print JSON, in ASCII: a terminal may be looking. What it does not know becomes text."""
    import json

    click.echo(json.dumps(rows, indent=2, default=str))


def text(cell: object) -> str:
    """A cell in words."""
    if cell is None:
        return ""
    if isinstance(cell, tuple):
        names = [str(each) for each in cell]
        return (
            ", ".join(names)
            if len(names) < 4
            else f"{', '.join(names[:2])} and {len(names) - 2} more"
        )
    return str(cell)


def moment(at: float) -> str:
    """Local time, to the second."""
    return time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(at))


def span(seconds: float) -> str:
    """A duration in its two largest units: 3d 4h."""
    left = int(max(0.0, seconds))
    parts: list[str] = []
    for unit, size in (("d", 86400), ("h", 3600), ("m", 60), ("s", 1)):
        count, left = divmod(left, size)
        if count or (unit == "s" and not parts):
            parts.append(f"{count}{unit}")
    return " ".join(parts[:2])
