"""POP3 (RFC 1939): the streaming fetcher, and the server."""

from __future__ import annotations

from mailflow import hookimpl
from mailflow.typed import TYPE_CHECKING

if TYPE_CHECKING:
    import click

    from mailflow.hooks import Register


@hookimpl
def mailflow_register(register: Register) -> None:
    register.fetcher("mailflow_pop3.fetcher:Pop3Fetcher")
    register.service("mailflow_pop3.gateway:Pop3Gateway")
    register.maildrop("mailflow_pop3.maildrop:Pop3Drop")
    register.maildrop("mailflow_pop3.probe:Probe", "probe")
    register.maildrop("mailflow_pop3.manager:Manager", "manager")


@hookimpl
def mailflow_commands(group: click.Group) -> None:
    from mailflow_pop3.commands import dl
    from mailflow_pop3.serving import serve

    group.help = "Download from POP3 mailboxes by hand, or serve mail to POP3 clients."
    group.add_command(dl)
    group.add_command(serve)
