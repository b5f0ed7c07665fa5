"""mailflow run FILE...: until the sources are empty and nothing is due."""

from __future__ import annotations

import click


@click.command(name="run")
@click.argument("files", nargs=-1, required=True, metavar="FILE...")
@click.option(
    "--now", is_flag=True, help="Try at once every source and delivery that waits after a failure."
)
@click.option(
    "--dry-run", is_flag=True, help="Ask the sources, say what would be done, and do nothing."
)
@click.option("--json", "as_json", is_flag=True, help="With --dry-run: print JSON, for programs.")
def command(files: tuple[str, ...], now: bool, dry_run: bool, as_json: bool) -> int:
    """Fetch, process and deliver until the sources are empty and nothing is due.

    FILEs are pipelines in TOML. Ends with 0, or with the sysexits(3) status of what
    nobody resolved: 75 where trying again will do.
    """
    from mailflow.engine.config import load
    from mailflow.engine.registry import Registry
    from mailflow.engine.supervisor import run
    from mailflow.progress import Progress

    registry = Registry()
    pipelines = load(files, registry)
    if dry_run:
        from mailflow.cli.dry import show_run

        return show_run(pipelines, registry, as_json=as_json)
    with Progress() as progress:
        return run(pipelines, registry, force=now, meter=progress.meter)
