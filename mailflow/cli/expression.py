"""An expression of the query language on the command line.

Rule of the file: what is wrong with one is said as `mailflow check` says it, with a mark below.
"""

from __future__ import annotations

import click

from mailflow.query import Query, parse


def expression(text: str, hint: str) -> Query:
    """The query that `text` is; `hint` names the option or argument that it was given as.
    Raises click.BadParameter."""
    try:
        return parse(text)
    except ValueError as error:
        raise click.BadParameter(f"{error}{indented(getattr(error, 'caret', ''))}",
                                 param_hint=hint) from None  # fmt: skip


def indented(detail: str) -> str:
    """Lines to show below an error."""
    return "".join(f"\n    {line}" for line in detail.splitlines())
