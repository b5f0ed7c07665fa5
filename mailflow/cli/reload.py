"""mailflow reload: let the installation that runs read its files anew."""

from __future__ import annotations

import click

from mailflow.tables import dry_run_option, say


@click.command(name="reload")
@dry_run_option
def command(dry: bool) -> None:
    """Let the running `mailflow serve` read its files anew.

    What is as before goes on, and no client's session is ended. Where a file is wrong, all
    stays as it is, and this ends with 78 and says why.
    """
    from mailflow.cli.installations import ask

    answers = ask({"do": "reload", "dry": dry})
    for lines in answers.given:
        for line in lines:
            say(line)
        if not lines:
            say("nothing has changed")
    if answers.refusals:
        raise answers.refusals[0]
