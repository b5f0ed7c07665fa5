"""mailflow schema: what a pipeline file may say, for TOML editors."""

from __future__ import annotations

import click

from mailflow.tables import show_json


@click.command(name="schema")
@click.option("--defaults", is_flag=True, help="That of defaults.toml instead.")
def command(defaults: bool) -> None:
    """Print the JSON Schema of a pipeline file, for editors that complete and check TOML.

    It knows the components that are installed here. Save it, and let the first line of a
    file name it, as in `#:schema mailflow.schema.json`, for taplo and Even Better TOML.
    """
    from mailflow.engine.registry import Registry
    from mailflow.engine.schema import defaults_schema, pipeline_schema

    show_json((defaults_schema if defaults else pipeline_schema)(Registry().all()))
