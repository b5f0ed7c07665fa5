"""Every command as the papers tell it: manual pages and the reference are made of this.

Rule of the file: what is told is what `--help` shows.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

import click

from mailflow.record import NamedTuple

STATUSES = {
    0: "done; what could not be sent yet is in the journal and will be",
    1: "only from status: mail is held, or a source keeps failing",
    64: "the command line is wrong",
    65: "a message cannot be handled",
    69: "the other side said no, for good",
    70: "a fault in mailflow itself",
    74: "the journal cannot be read or written, or stdout takes no more",
    75: "try again later: a server is down, a mailbox is locked, a disk is full",
    76: "the other side broke its protocol",
    77: "the other side refused the login, or its certificate does not match",
    78: "the file is wrong, or a plugin is missing",
}
"""What an exit status means, as in sysexits(3)."""


class Command(NamedTuple):
    """One command. `words` come after "mailflow"; `usage` after those; `options` are
    (how it is written, what it means)."""

    words: tuple[str, ...]
    summary: str
    paragraphs: tuple[str, ...]
    usage: str
    options: tuple[tuple[str, str], ...]
    group: bool

    @property
    def name(self) -> str:
        return " ".join(("mailflow", *self.words))


def every(root: click.Group) -> Iterator[Command]:
    """The program itself, then each command of it, in the order of its help."""
    settings: Any = root.context_settings
    yield from _below(root, click.Context(root, info_name="mailflow", **settings), ())


def _below(
    command: click.Command, context: click.Context, words: tuple[str, ...]
) -> Iterator[Command]:
    yield _told(command, context, words)
    if isinstance(command, click.Group):
        for name in command.list_commands(context):
            inner = command.get_command(context, name)
            if inner is not None and not inner.hidden:
                settings: Any = inner.context_settings
                inside = click.Context(inner, info_name=name, parent=context, **settings)
                yield from _below(inner, inside, (*words, name))


def _told(command: click.Command, context: click.Context, words: tuple[str, ...]) -> Command:
    paragraphs = [
        " ".join(part.split()) for part in (command.help or "").replace("\b", "").split("\n\n")
    ]
    own = (each for each in command.get_params(context) if not words or "--help" not in each.opts)
    records = (each.get_help_record(context) for each in own)
    return Command(
        words,
        re.split(r"(?<=[.])\s", paragraphs[0])[0],
        tuple(paragraphs),
        " ".join(piece for piece in command.collect_usage_pieces(context) if piece),
        tuple((names, text) for names, text in filter(None, records) if names and text),
        isinstance(command, click.Group),
    )
