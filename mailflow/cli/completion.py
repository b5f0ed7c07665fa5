"""mailflow completion SHELL: what a shell must know to complete our command lines."""

from __future__ import annotations

import click

SHELLS = ("bash", "fish", "zsh")


@click.command(name="completion")
@click.argument("shell", type=click.Choice(SHELLS))
def command(shell: str) -> None:
    """Print a script that lets SHELL complete commands, files, ids of mails and plugins.

    In ~/.bashrc: eval "$(mailflow completion bash)". In ~/.zshrc, below compinit: eval
    "$(mailflow completion zsh)". For fish: mailflow completion fish >
    ~/.config/fish/completions/mailflow.fish
    """
    from click.shell_completion import get_completion_class

    from mailflow.cli.root import VARIABLE, root

    found = get_completion_class(shell)
    if found is None:
        raise click.UsageError(f"nobody knows how {shell} completes")
    click.echo(found(root, {}, "mailflow", VARIABLE).source())
