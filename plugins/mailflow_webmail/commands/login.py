"""`mailflow webmail login SITE URL`: an account tried, and what to write for it.

Rule of the file: nothing is changed there, and no password that was typed is printed.
"""

from __future__ import annotations

from typing import Any

import click

from mailflow.errors import MailflowError
from mailflow.tables import json_option, show, show_json
from mailflow_webmail.account.session import Session
from mailflow_webmail.commands.account import Said, account_options, said, session_at
from mailflow_webmail.definition.site import find
from mailflow_webmail.definition.written import key, text

SECRETS = {
    "password": {"file": "~/.config/mailflow/page.secret"},
    "proxy_password": {"file": "~/.config/mailflow/proxy.secret"},
}
"""Where a password that was typed may be kept."""


@click.command(name="login", short_help="Try an account, and print what a pipeline says of it.")
@account_options
@json_option
def login(as_json: bool, **account: Any) -> int:
    """Log in to the webmail at URL, and print what a pipeline says of that account.

    SITE is one that `mailflow webmail sites` lists, or a file that ends in .toml. What is missing
    is asked for: the login name, the password. Shows the folders, and how many messages each has;
    nothing is changed. The cookies of a browser (--cookies) do where the webmail asks for a human.
    """
    path = find(account["site"])  # before anybody is asked for a password
    table = said(**account)
    with session_at(table, path) as session:
        session.log_in()
        folders = [_counted(session, row) for row in session.folders()]
    fetch = written(table)
    if not any("INBOX" in (each["id"], each["name"]) for each in folders):
        fetch["folders"] = [folders[0]["name"]]
    if as_json:
        show_json({"folders": folders, "fetch": fetch})
    else:
        show(("FOLDER", "MESSAGES", "ID"), [
            (each["name"], each["messages"] if each["error"] is None else each["error"], each["id"])
            for each in folders
        ])  # fmt: skip
        click.echo()
        for line in toml(fetch):  # it holds no secret: masked, it would be another account
            click.echo(line)
    return 0


def _counted(session: Session, row: Any) -> dict[str, object]:
    """A folder and its messages; one that cannot be listed says why."""
    facts: dict[str, object] = {"id": row["id"], "name": row.get("name") or row["id"]}
    try:
        return {**facts, "messages": len(session.listing(row["id"])), "error": None}
    except MailflowError as error:
        return {**facts, "messages": None, "error": error.text}


def written(table: Said) -> dict[str, object]:
    """What a file says of it: where a password is, never what it is."""
    typed = {name: SECRETS[name] for name in SECRETS if isinstance(table.get(name), str)}
    return {"use": "webmail", **table, **typed}


def toml(table: Said) -> list[str]:
    """The lines of a source in a pipeline."""
    return ["[[fetch]]", *(f"{key(name)} = {text(value)}" for name, value in table.items())]
