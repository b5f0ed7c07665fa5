"""`mailflow webmail check SITE URL`: whether a definition fits a live webmail, step by step.

Rule of the file: a line for each step as it is tried; the exit status is that of the first one
that does not hold.
"""

from __future__ import annotations

from typing import Any

import click

from mailflow.tables import json_option, say, show_json
from mailflow_webmail.commands.account import account_options, said, session_at
from mailflow_webmail.commands.checking import Check, Outcome
from mailflow_webmail.definition.site import find, guesses

WORDS = {True: "holds", False: "DOES NOT HOLD", None: "not tried"}


@click.command(name="check")
@account_options
@click.option(
    "--folder", default="INBOX", show_default=True, metavar="NAME",
    help="The folder that is listed; one with several pages shows most.",
)  # fmt: skip
@click.option(
    "--change", multiple=True, metavar="ID",
    help="A message of that folder that may be changed: it is marked as read, moved to the trash,"
    " deleted. A second one lets both of the last be tried. By default nothing is changed.",
)  # fmt: skip
@json_option
def check(folder: str, change: tuple[str, ...], as_json: bool, **account: Any) -> int:
    """Try every step of SITE at the webmail at URL, and say which holds.

    SITE is one that `mailflow webmail sites` lists, or a file that ends in .toml, a draft of
    `record` too. It logs in, lists the folders and one of them with all its pages, loads one
    message, looks at the form for mail, and logs out. No mail is sent; messages are changed only
    where --change names them. A page that is not as the definition says is saved without what is
    private. Ends with 0 where all that was tried holds, else as the first that did not: 76 for
    such a page, 77 for a login that was refused, 75 where the webmail is down.
    """
    path = find(account["site"])
    outcomes: list[Outcome] = []
    with session_at(said(**account), path, draft=True) as session:
        for each in Check(session, folder, change).outcomes():
            outcomes.append(each)
            if not as_json:
                _tell(each)
    if as_json:
        show_json([_facts(each) for each in outcomes])
    else:
        for name in guesses(path):
            say(f"a guess that you have to confirm: {name}")
    failed = [each.error for each in outcomes if each.error is not None]
    return failed[0].exit_code if failed else 0


def _tell(outcome: Outcome) -> None:
    say(f"{outcome.step:8}  {WORDS[outcome.holds]:13}  {outcome.text}")


def _facts(outcome: Outcome) -> dict[str, object]:
    fields = {} if outcome.error is None else outcome.error.fields
    return {
        "step": outcome.step, "holds": outcome.holds, "text": outcome.text,
        "key": fields.get("key"), "saved": fields.get("saved") or None,
    }  # fmt: skip
