"""The spool: maildrops of our own, filled by pipelines and served to POP3 clients."""

from __future__ import annotations

from mailflow.hooks import hookimpl
from mailflow.typed import TYPE_CHECKING

if TYPE_CHECKING:
    import click

    from mailflow.hooks import Register


@hookimpl
def mailflow_register(register: Register) -> None:
    register.distributor("mailflow_spool.distributor:SpoolDistributor")
    register.maildrop("mailflow_spool.maildrop:SpoolMaildrop")


@hookimpl
def mailflow_commands(group: click.Group) -> None:
    from mailflow_spool.commands import COMMANDS

    group.help = "Look into the maildrops of the spool, and tidy them."
    for command in COMMANDS:
        group.add_command(command)
