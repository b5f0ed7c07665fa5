"""What can follow on a command line, for the shells that ask.

Rule of the file: the word that `--help` shows for an argument decides what completes it
(FILE, ID, NAME), so that a command of a plugin is completed too. A completion that fails
is none: nobody wants an error in the middle of a line.
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Iterator
from contextlib import closing
from glob import glob

import click
from click.shell_completion import CompletionItem

from mailflow.cli.root import VARIABLE

RECENT = 100
"""Of mails that are done, so many ids."""

_METAVAR = re.compile(r"[A-Z]+")
_UNSAFE = re.compile(r"[^\w.,:/@%+=-]")

Found = Iterator[tuple[str, str]]
"""What may stand there, and a word about it."""


def attach(command: click.Command) -> None:
    """Let the arguments and options of a command, and of those below it, be completed."""
    for parameter in command.params:
        word = _METAVAR.search(parameter.metavar or "")
        finder = FINDERS.get(word[0]) if word else None
        if finder is not None:
            parameter._custom_shell_complete = _completer(finder)
    for inner in getattr(command, "commands", {}).values():
        attach(inner)


def _completer(
    finder: Callable[[click.Context], Found],
) -> Callable[[click.Context, click.Parameter, str], list[CompletionItem]]:
    def complete(
        context: click.Context, _: click.Parameter, incomplete: str
    ) -> list[CompletionItem]:
        try:
            found = list(_matching(finder(context), incomplete))
        except Exception:  # noqa: BLE001  # a completion that fails is none
            return []
        if not found and finder is _pipelines:
            return [CompletionItem(incomplete, type="file")]
        return found

    return complete


def _matching(found: Found, incomplete: str) -> Iterator[CompletionItem]:
    bash = os.environ[VARIABLE].startswith("bash")  # the others quote for themselves
    for value, about in found:
        if value.startswith(incomplete):
            text = _UNSAFE.sub(r"\\\g<0>", value) if bash else value
            yield CompletionItem(text, help=" ".join(about.split()) or None)


def _pipelines(_: click.Context) -> Found:
    """Files here that end in .toml, and pipelines that need no directory to be found."""
    from mailflow.engine.source import directories

    yield from ((path, "") for path in sorted(glob("*.toml")))
    for directory in directories()[1:]:
        for path in sorted(glob(os.path.join(directory, "*.toml"))):
            yield os.path.basename(path).removesuffix(".toml"), path


def _mails(context: click.Context) -> Found:
    """Mails that wait, newest first; then, for `trace`, those that are done."""
    from mailflow.cli.journals import paths
    from mailflow.engine.journal import checkup, queue

    ended = context.info_name == "trace"
    for path in paths(context.params.get("files") or ()):
        with closing(checkup.reader(path)) as tx:
            for entry in reversed(queue.entries(tx)):
                yield entry.mail, f"{entry.state} {entry.step} {entry.reason}"
            if ended:
                yield from tx.execute(
                    "SELECT id, state FROM mail WHERE state = 'done' ORDER BY id DESC LIMIT ?",
                    (RECENT,),
                ).fetchall()


def _components(_: click.Context) -> Found:
    from mailflow.engine.declared import summary
    from mailflow.engine.registry import Registry

    entries = Registry().all()
    yield from ((name, "") for name in sorted({entry.use.partition(".")[0] for entry in entries}))
    for entry in entries:
        if "." in entry.use:
            yield entry.use, summary(entry)


FINDERS: dict[str, Callable[[click.Context], Found]] = {
    "FILE": _pipelines,
    "ID": _mails,
    "NAME": _components,
}
"""What completes an argument, by its word in the help."""
