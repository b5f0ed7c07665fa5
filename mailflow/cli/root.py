"""The command `mailflow` and its list of commands."""

from __future__ import annotations

import os
import sys
from contextlib import suppress
from importlib import import_module
from typing import TYPE_CHECKING

import click

from mailflow import __version__
from mailflow.cli import ending
from mailflow.errors import MailflowError

if TYPE_CHECKING:
    from click.shell_completion import CompletionItem

COMMANDS = {
    "run": "Fetch, process and deliver until nothing is due (for cron).",
    "hook": "Take one message on stdin (for an MTA or procmail).",
    "serve": "Keep running: fetch, deliver, and serve clients.",
    "copy": "Copy what is new from one place to another.",
    "simulate": "Say what would become of a mail.",
    "check": "Say everything that is wrong with pipeline files.",
    "status": "Say how each source fares, and what waits.",
    "poke": "Let what runs fetch from a source now.",
    "reload": "Let what runs read its files anew.",
    "trace": "Tell one mail's story.",
    "mail": "See and change the mail of one account by hand.",
    "query": "See what an expression of the query language means.",
    "queue": "Look at what is due or held, and decide about it.",
    "journal": "Check a journal, back it up, put a backup back.",
    "maildrop": "Say who may log in to a maildrop, and with what password.",
    "auth": "Log in at those who give access tokens (OAuth2).",
    "tls": "Make a certificate for a server of one's own.",
    "config": "See what the files come to.",
    "plugins": "Say what components there are, and their options.",
    "completion": "Print the script that lets a shell complete command lines.",
    "man": "Write the manual pages.",
    "schema": "Print the JSON Schema of a pipeline file, for editors.",
    "help": "Explain a command.",
    "demo": "Run the main job on servers of its own.",
    "testbed": "Run a server to try things with.",
}
"""Every command with its summary, so that `--help` imports none of them."""

OF_PLUGINS: dict[str, str] = {
    "pop3": "Download from POP3 mailboxes by hand, or serve mail to POP3 clients.",
    "list": "See and change who is on a mailing list.",
    "spool": "Look into the maildrops of the spool, and tidy them.",
    "webmail": "See which webmails are known, try one, and describe another.",
}
"""The commands that our own plugins bring, `mailflow <plugin> ...`; others' are found
when they are called."""


VARIABLE = "_MAILFLOW_COMPLETE"
"""Set by a shell that asks what can follow; then nothing is done."""


class Commands(click.Group):
    """A group whose commands are modules of this package."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return [*COMMANDS, *OF_PLUGINS]

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name not in COMMANDS:
            try:
                return _of_plugin(ctx, cmd_name)
            except (click.UsageError, MailflowError):
                if ctx.resilient_parsing:  # a shell only asks
                    return None
                raise
        if cmd_name == "hook":
            return _hook()
        command: click.Command = import_module(f"mailflow.cli.{cmd_name}").command
        return _completed(command)

    def shell_complete(self, ctx: click.Context, incomplete: str) -> list[CompletionItem]:
        from click.shell_completion import CompletionItem

        every = (COMMANDS | OF_PLUGINS).items()
        found = [CompletionItem(name, help=text) for name, text in every if
                 name.startswith(incomplete)]  # fmt: skip
        return found + click.Command.shell_complete(self, ctx, incomplete)

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        with formatter.section("Commands"):
            formatter.write_dl([*COMMANDS.items(), *OF_PLUGINS.items()])


@click.group(
    cls=Commands,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 96},
)
@click.version_option(__version__, message="mailflow %(version)s")
@click.option("-v", "--verbose", count=True, help="Say more: -v what is done, -vv every step.")
@click.option("--log-json", is_flag=True, help="Log lines as JSON.")
@click.option(
    "--config", metavar="FILE",
    help="Take defaults for all pipelines from this file, and from no defaults.toml.",
)  # fmt: skip
def root(verbose: int, log_json: bool, config: str | None) -> None:
    """Mail from where it arrives to where it should be, and none lost on the way."""
    from mailflow import log

    log.configure(level=("warning", "info", "debug")[min(verbose, 2)], json=log_json)
    if config is not None:
        from mailflow.engine import layers

        layers.use_only(config)


def _of_plugin(ctx: click.Context, name: str) -> click.Command:
    """The commands that a plugin brings, as a group of its name."""
    from mailflow.engine.registry import Registry
    from mailflow.options import nearest

    registry = Registry()
    if name not in OF_PLUGINS and name not in registry.names():
        ctx.fail(f"there is no command {name!r}{nearest(name, [*COMMANDS, *registry.names()])}")
    commands = registry.hook(name, "mailflow_commands")
    if commands is None:
        ctx.fail(f"plugin {name!r} brings no commands; `mailflow plugins {name}` says what it has")
    group = click.Group(name, help=(registry.module(name).__doc__ or "").strip())
    commands(group)
    return _completed(group)


def _completed(command: click.Command) -> click.Command:
    """The command, with what can follow it where a shell asks for that."""
    if VARIABLE in os.environ:
        from mailflow.cli.completing import attach

        attach(command)
    return command


def _hook() -> click.Command:
    """The hook where options of ours stand before it; alone it never comes here."""
    from mailflow.cli.hook import USAGE
    from mailflow.cli.hook import main as hook

    raw = {"ignore_unknown_options": True, "help_option_names": []}
    usage, _, text = USAGE.partition("\n\n")
    takes = usage.partition(" hook ")[2]
    words = click.Argument(["words"], nargs=-1, type=click.UNPROCESSED, metavar=takes)
    return click.Command(
        "hook", raw, callback=lambda words: hook(list(words)), params=[words], help=text,
        options_metavar="",
    )  # fmt: skip


def main() -> None:
    """Run the command line; never returns."""
    ending.open_streams()
    try:
        status = root(prog_name="mailflow", standalone_mode=False)
        sys.stdout.flush()
    except click.ClickException as error:
        with suppress(OSError):
            error.show()
        status = ending.USAGE if isinstance(error, click.UsageError) else error.exit_code
    except click.exceptions.Exit as done:
        status = done.exit_code
    except click.Abort as abort:
        status = ending.aborted(abort)
    except BaseException as error:  # noqa: BLE001  # it is told, or goes on
        status = ending.status_of(error)
    ending.flush_streams()
    sys.exit(status if isinstance(status, int) else 0)
