"""mailflow serve FILE...: fetch, deliver and serve clients until it is stopped."""

from __future__ import annotations

import click


@click.command(name="serve")
@click.argument("files", nargs=-1, required=True, metavar="FILE...")
def command(files: tuple[str, ...]) -> int:
    """Keep running: fetch from the sources, deliver, and serve clients.

    FILEs are pipelines in TOML. SIGTERM and SIGINT end it in order.
    """
    from mailflow.running import serve

    return serve(*files)
