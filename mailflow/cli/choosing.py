"""Which of what waits a command is about: mails by their ids, or all that fit a filter.

Rule of the file: it looks and changes nothing, and a filter never means more than it
says: of one mail only what waits at the step that was asked for.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple, TypeVar

import click

from mailflow.cli.journals import find
from mailflow.engine.journal import plans, queue
from mailflow.errors import MailflowError

if TYPE_CHECKING:
    from mailflow.engine.journal.database import Database
    from mailflow.query import Query

F = TypeVar("F", bound=Callable[..., Any])


class Filter(NamedTuple):
    """What must be true of an entry of the queue; "" and None ask nothing."""

    step: str = ""
    reason: str = ""
    where: Query | None = None

    def fits(self, journal: Database, entry: queue.Entry) -> bool:
        if self.step and entry.step != self.step:
            return False
        if self.reason.casefold() not in entry.reason.casefold():
            return False
        return self.where is None or self._says(journal, entry.mail, self.where)

    def _says(self, journal: Database, mail: str, where: Query) -> bool:
        from mailflow.query import MailFacts

        try:
            loaded = plans.load(journal, mail, None)
        except MailflowError:  # its octets are gone, or it is an intent: it says nothing
            return False
        return where.matches(MailFacts(loaded.mail, now=time.time(), source=loaded.step))


def filters(command: F) -> F:
    """Give a command the options of a Filter; `filtered` makes one of their values."""
    options = (
        click.option(
            "--step", default="", metavar="NAME", help="What waits at the step of this name."
        ),
        click.option(
            "--reason",
            default="",
            metavar="TEXT",
            help="What waits for a reason that holds this text.",
        ),
        click.option("--where", default="", metavar="EXPR", help="Mail that fits this query."),
    )
    for option in reversed(options):
        command = option(command)
    return command


def filtered(step: str, reason: str, where: str) -> Filter:
    """Raises click.BadParameter where `where` is no expression about a mail."""
    if not where:
        return Filter(step, reason)
    from mailflow.cli.expression import expression

    query = expression(where, "--where")
    if query.reach == "trouble":
        text = "it asks what a mail does not say; see --step and --reason"
        raise click.BadParameter(text, param_hint="--where")
    return Filter(step, reason, query)


class Chosen(NamedTuple):
    """A mail that a decision is about; with a `step`, only what is held there."""

    journal: Database
    mail: str
    step: str | None = None
    reason: str = ""


def chosen(
    journals: Sequence[Database], mails: Sequence[str], asked: Filter, *, everything: bool
) -> list[Chosen]:
    """The mails of these ids, or all held ones that a filter fits.

    Raises click.UsageError where neither is given, or both; NoSuchMailError.
    """
    by_filter = everything or asked != Filter()
    if by_filter == bool(mails):
        raise click.UsageError("say which mails: their ids, or --step, --reason, --where or --all")
    if mails:
        return [Chosen(*find(journals, mail)) for mail in mails]
    return list(dict.fromkeys(_held(journals, asked)))


def _held(journals: Sequence[Database], asked: Filter) -> Iterator[Chosen]:
    for journal in journals:
        for entry in journal.read(queue.entries):
            if entry.state == "held" and asked.fits(journal, entry):
                yield Chosen(journal, entry.mail, entry.step, entry.reason)
