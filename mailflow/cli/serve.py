"""mailflow serve FILE...: fetch, deliver and serve clients until it is stopped."""

from __future__ import annotations

import click


@click.command(name="serve")
@click.argument("files", nargs=-1, required=True, metavar="FILE...")
@click.option("--offline", is_flag=True, help="Fetch nothing by itself, only what `poke` asks for.")
@click.option("--user", metavar="USER", help="Become this user once the addresses are listened at.")
@click.option(
    "--pid-file", metavar="PATH", help="Keep the number of the process in this file, locked."
)
def command(files: tuple[str, ...], offline: bool, user: str | None, pid_file: str | None) -> int:
    """Keep running: fetch from the sources, deliver, and serve clients.

    FILEs are pipelines in TOML. SIGTERM and SIGINT end it in order, SIGHUP lets it read the
    files anew. `mailflow status` says how it fares.
    """
    from mailflow.running import serve

    return serve(*files, offline=offline, user=user, pid_file=pid_file)
