"""`mailflow pigeon ...`"""

import os
import sys

import click

import mailflow

LOFT = click.Path(exists=True, file_okay=False, resolve_path=True)


@click.command()
@click.argument("loft", type=LOFT)
def count(loft):
    """Say how many pigeons sit in LOFT."""
    click.echo(sum(name.endswith(".eml") for name in os.listdir(loft)))


@click.command()
@click.argument("source", type=LOFT)
@click.argument("destination", type=LOFT)
def fly(source, destination):
    """Let all pigeons of SOURCE fly to DESTINATION."""
    status = mailflow.run({
        "pipeline": {"name": "pigeons", "journal": mailflow.journal_between(source, destination)},
        "fetch": [{"use": "pigeon", "loft": source, "keep": "0d"}],
        "distribute": [{"use": "pigeon", "loft": destination}],
    })  # fmt: skip
    sys.exit(status)
