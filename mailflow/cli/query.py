"""mailflow query: what an expression of the query language means, and who decides it."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from mailflow.tables import json_option, say, show, show_json

if TYPE_CHECKING:
    from collections.abc import Iterator

    from mailflow.query import Narrowing, Query


@click.group(name="query")
def command() -> None:
    """See what an expression of the query language means."""


@command.command()
@click.argument("expression", metavar="EXPR")
@json_option
def explain(expression: str, as_json: bool) -> None:
    """Say what EXPR asks, and how a server is asked for it.

    Shown are its one normal form, each field and where it is known from, and for each sort
    of server what it is asked and what is left to ask here of each message that it finds.
    Nothing is connected to.
    """
    from mailflow.cli.expression import expression as parsed
    from mailflow.query.tree import FIELDS

    query = parsed(expression, "EXPR")
    asked = [] if query.reach == "trouble" else list(_asked(query))  # that is for [[react]]
    fields = [(name, FIELDS[name].type, FIELDS[name].reach) for name in sorted(query.fields)]
    if as_json:
        show_json({
            "query": str(query),
            "reach": query.reach,
            "fields": [{"name": n, "type": t, "reach": r} for n, t, r in fields],
            "asked": [
                {"plugin": plugin, "server": each.server, "command": each.command or None,
                 "rest": None if each.rest is None else str(each.rest)}
                for plugin, each in asked
            ],
        })  # fmt: skip
        return
    say(str(query))
    if fields:
        say("")
        show(("FIELD", "TYPE", "KNOWN FROM"), fields)
    for plugin, each in asked:
        say("")
        say(f"{plugin}, at {each.server}:")
        say(f"  {each.command or 'nothing is asked: no message can be meant'}")
        if each.rest is not None:
            say(f"  then here: {each.rest}")


def _asked(query: Query) -> Iterator[tuple[str, Narrowing]]:
    """(plugin, how its servers are asked)."""
    from mailflow.engine.registry import Registry

    for name, explain in Registry().hooks("mailflow_explain"):
        for each in explain(query=query):
            yield name, each
