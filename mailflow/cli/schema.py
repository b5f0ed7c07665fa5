"""mailflow schema: what a pipeline file may say, for TOML editors."""

from __future__ import annotations

import click

from mailflow.cli.tables import show_json


@click.command(name="schema")
def command() -> None:
    """Print the JSON Schema of a pipeline file, for editors that complete and check TOML.

    It knows the components that are installed here. Save it, and let the first line of a
    file name it, as in `#:schema mailflow.schema.json`, for taplo and Even Better TOML.
    """
    from mailflow.engine.registry import Registry
    from mailflow.engine.schema import pipeline_schema

    show_json(pipeline_schema(Registry().all()))
