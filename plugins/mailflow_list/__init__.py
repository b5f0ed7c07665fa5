"""Mailing lists: posts go to the members, and nothing comes round twice."""

from __future__ import annotations

from mailflow.hooks import hookimpl
from mailflow.typed import TYPE_CHECKING

if TYPE_CHECKING:
    import click

    from mailflow.hooks import Register


@hookimpl
def mailflow_register(register: Register) -> None:
    register.processor("mailflow_list.post:Post", "post")


@hookimpl
def mailflow_commands(group: click.Group) -> None:
    from mailflow_list.commands import COMMANDS

    group.help = "See and change who is on a mailing list of a pipeline file."
    for command in COMMANDS:
        group.add_command(command)
