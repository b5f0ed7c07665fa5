"""Webmail: a page as a mailbox, described by data."""

from __future__ import annotations

from mailflow.hooks import hookimpl
from mailflow.typed import TYPE_CHECKING

if TYPE_CHECKING:
    import click

    from mailflow.hooks import Register


@hookimpl
def mailflow_register(register: Register) -> None:
    register.fetcher("mailflow_webmail.fetcher:WebmailFetcher")
    register.distributor("mailflow_webmail.distributor:WebmailDistributor")
    register.service("mailflow_webmail.testbed.service:TestBedService", "testbed")
    register.maildrop("mailflow_webmail.maildrop:WebmailDrop")
    register.mailbox("mailflow_webmail.mailbox:WebmailMailbox")


@hookimpl
def mailflow_testbeds(group: click.Group) -> None:
    from mailflow_webmail.testbed.command import webmail

    group.add_command(webmail)


@hookimpl
def mailflow_commands(group: click.Group) -> None:
    from mailflow_webmail.commands import COMMANDS

    group.help = "See which webmails are known, try one, and describe another."
    for command in COMMANDS:
        group.add_command(command)
