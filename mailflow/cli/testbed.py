"""mailflow testbed: servers that plugins bring to try things with.

Rule of the file: it knows no plugin; each says what it has by the hook `mailflow_testbeds`.
"""

from __future__ import annotations

import click


class Testbeds(click.Group):
    """A group whose commands are those of the plugins that are installed."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return sorted(self._found())

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        return self._found().get(cmd_name)

    def _found(self) -> dict[str, click.Command]:
        if not self.commands:
            from mailflow.engine.registry import Registry

            for _, testbeds in Registry().hooks("mailflow_testbeds"):
                testbeds(self)
        return dict(self.commands)


@click.group(name="testbed", cls=Testbeds)
def command() -> None:
    """Run a server to try things with: real mail in files, made-up troubles."""
