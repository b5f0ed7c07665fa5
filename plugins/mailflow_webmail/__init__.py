"""Webmail: a page as a mailbox, described by data.

A message comes this way: `fetcher`, `maildrop` and `mailbox` ask an account (`account.session`),
which does the steps (`account.steps`) that a definition says (`definition.language`) with requests
to one place (`web.browser`), and finds in the answers (`web.page`) the rows of a proven list
(`account.listing`) and the source of a message (`account.original`). `distributor` sends the other
way (`sending.sender`); `testbed` is a webmail to try all that with.
"""

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
    from mailflow_webmail.commands.check import check
    from mailflow_webmail.commands.login import login
    from mailflow_webmail.commands.record import record
    from mailflow_webmail.commands.sites import sites

    group.help = "See which webmails are known, try one, and describe another."
    for command in (sites, check, login, record):
        group.add_command(command)
