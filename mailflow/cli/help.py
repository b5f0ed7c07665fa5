"""mailflow help [COMMAND...]: what `mailflow COMMAND --help` says."""

from __future__ import annotations

import click


@click.command(name="help")
@click.argument("words", nargs=-1, metavar="[COMMAND...]")
@click.pass_context
def command(context: click.Context, words: tuple[str, ...]) -> None:
    """Explain a command, such as `mailflow help queue list`; without any, all of them."""
    from mailflow.cli.root import root

    found: click.Command = root
    inside = context.find_root()
    for word in words:
        if not isinstance(found, click.Group):
            context.fail(f"{inside.command_path!r} has no commands")
        inner = found.get_command(inside, word)
        if inner is None:
            context.fail(f"{inside.command_path!r} has no command {word!r}")
        inside = click.Context(inner, parent=inside, info_name=word, **inner.context_settings)
        found = inner
    click.echo(found.get_help(inside))
