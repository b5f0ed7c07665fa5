"""mailflow poke SOURCE...: fetch now, in the installation that runs."""

from __future__ import annotations

import click

from mailflow.tables import dry_run_option, say


@click.command(name="poke")
@click.argument("sources", nargs=-1, required=True, metavar="SOURCE...")
@dry_run_option
def command(sources: tuple[str, ...], dry: bool) -> None:
    """Let the running `mailflow serve` fetch from a source now.

    SOURCE is the name of a [[fetch]] step, PIPELINE/STEP, or the source as `mailflow status`
    shows it. A source that rests after failures, or is only fetched from when asked, is
    fetched from, too. It does not wait for the mail.
    """
    from mailflow.cli.installations import ask

    for source in sources:
        answers = ask({"do": "poke", "source": source, "dry": dry})
        if not answers.given:  # a name need not be known to each of several
            raise answers.refusals[0]
        if dry:
            say(f"would fetch from {source} now")
