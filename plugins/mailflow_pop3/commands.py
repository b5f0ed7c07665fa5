"""`mailflow pop3 ...`: a mailbox by hand."""

from __future__ import annotations

import os

import click

from mailflow.asking import WAYS, source, typed
from mailflow.errors import ConfigError
from mailflow_pop3 import place


@click.command(name="dl", short_help="Download a mailbox into a Maildir.")
@click.argument("mailbox")
@click.argument("maildir", type=click.Path(file_okay=False))
@click.option("-1", "--one", is_flag=True, help="One message, and no more.")
@click.option("--limit", type=click.IntRange(1), metavar="N", help="N messages at most.")
@click.option("-n", "--keep", is_flag=True, help="Delete nothing at the server.")
@click.option(
    "--create/--no-create", default=True, help="Make the Maildir if there is none (the default)."
)
@click.option(
    "--password", "secret", metavar="SOURCE:WHERE",
    help=f"Where the password is, instead of ~/.netrc: {', '.join(WAYS)}, as in file:PATH.",
)  # fmt: skip
@click.pass_context
def dl(
    ctx: click.Context, mailbox: str, maildir: str, one: bool, limit: int | None, keep: bool,
    create: bool, secret: str | None,
) -> int:  # fmt: skip
    """Download what is new in MAILBOX into MAILDIR, and delete it at the server.

    MAILBOX is an account of ~/.netrc or [{ssl,tcp,stls}:][user@]host[!name][:port]: over
    TLS on port 995 by default, with tcp: in clear on port 110, for a forward through ssh,
    with stls: in clear first. `name` is what the certificate must be for, where that is
    not the host.

    The password stands in ~/.netrc, under `machine user@host:port`, `user@host`,
    `host:port` or `host`, whose login is the user; else the user is the one of MAILBOX,
    else yours. A message is deleted once it is safe here; what an earlier run has is
    never downloaded again. Ends as `mailflow run` does.
    """
    import getpass

    from mailflow import journal_between, run
    from mailflow.halt import Halt
    from mailflow.secrets import netrc_logins

    there = place.read(mailbox, netrc_logins(), getpass.getuser())
    maildir = os.path.abspath(maildir)
    if not (create or os.path.isdir(maildir)):
        raise ConfigError(f"there is no Maildir {maildir}; --no-create forbids to make it")
    fetch: dict[str, object] = {
        "use": "pop3", "name": "mailbox", "start": "all", **there.options(),
        "password": _password(there, secret), "on_done": "keep" if keep else "delete",
    }  # fmt: skip
    if not keep:
        fetch["keep"] = "0d"
    if one or limit:
        fetch["limit"] = 1 if one else limit
    pipeline = {
        "pipeline": {"name": "pop3-dl", "journal": journal_between(str(there), maildir)},
        "fetch": [fetch],
        "distribute": [{"use": "maildir", "name": "maildir", "path": maildir, "create": create}],
    }
    _tell(ctx)
    halt = Halt()
    try:
        status = run(pipeline, now=True, halt=halt)
        return status or (130 if halt.is_set() else 0)
    finally:
        halt.close()


def _password(there: place.Place, told: str | None) -> object:
    """Where the password is, as TOML says it; a human at a terminal is asked."""
    if told is not None:
        return source(told)
    if there.machine:
        return {"netrc": there.machine}
    given = typed(str(there))
    if given is not None:
        return given
    raise ConfigError(
        f"no password is known for {there}: write `machine {there} login {there.user}"
        " password ...` into ~/.netrc, or say --password file:PATH"
    )


def _tell(ctx: click.Context) -> None:
    """A line for each message, unless the user has asked for more."""
    from mailflow import log

    said = ctx.find_root().params
    if not said.get("verbose"):
        log.configure(level="info", json=bool(said.get("log_json")))
