"""mailflow queue: what waits or is held, and what a human decides about it."""

from __future__ import annotations

import time
from contextlib import suppress
from typing import TYPE_CHECKING

import click

from mailflow.addresses import addresses
from mailflow.cli.choosing import Chosen, chosen, filtered, filters
from mailflow.cli.journals import find, opened, way
from mailflow.engine.journal import bodies, plans, queue
from mailflow.errors import InUseError, MailflowError
from mailflow.tables import file_option, json_option, moment, say, show, show_json, span, text
from mailflow.values import counted

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from mailflow.engine.journal.database import Database, Transaction

    Change = Callable[[Transaction, str, float, str | None], int]

all_option = click.option("--all", "everything", is_flag=True, help="All that is held.")
dry_option = click.option(
    "--dry-run", is_flag=True, help="Say what would be done, and change nothing."
)


@click.group(name="queue")
def command() -> None:
    """Look at what is due or held, and decide about it.

    A mail is named by its id, or the beginning of it. What is decided happens at the
    next `mailflow run`.
    """


@command.command(name="list")
@file_option
@click.option("--held", is_flag=True, help="Only what waits for a human.")
@filters
@json_option
def list_(
    files: tuple[str, ...], held: bool, step: str, reason: str, where: str, as_json: bool
) -> None:
    """Every mail that is not done, and what it waits for."""
    asked = filtered(step, reason, where)
    with opened(files) as journals:
        found = [
            (journal, entry)
            for journal in journals
            for entry in journal.read(queue.entries)
            if (not held or entry.state == "held") and asked.fits(journal, entry)
        ]
        if as_json:
            show_json([entry._asdict() for _, entry in found])
        else:
            _show([_addressed(journal, entry) for journal, entry in found])


def _addressed(journal: Database, entry: queue.Entry) -> queue.Entry:
    """Where no envelope is known, as of mail from a mailbox, the header says who wrote
    to whom."""
    if entry.sender is not None or entry.state == "intent":
        return entry
    try:
        header = plans.load(journal, entry.mail, None).mail.header()
    except MailflowError:
        return entry
    authors = addresses(header.get("From") or "").found
    to = entry.recipients or addresses(header.get("To") or "").found
    return entry._replace(sender=authors[0] if authors else None, recipients=to)


def _show(entries: Sequence[queue.Entry]) -> None:
    now = time.time()
    show(
        ("ID", "PIPELINE", "STATE", "STEP", "AGE", "NEXT", "FROM", "TO", "WHY"),
        (
            (
                entry.mail, entry.pipeline, entry.state, entry.step, span(now - entry.arrived),
                _next(entry, now), f"<{entry.sender}>" if entry.sender is not None else "",
                entry.recipients, entry.reason,
            )
            for entry in entries
        ),
    )  # fmt: skip


def _next(entry: queue.Entry, now: float) -> str:
    if entry.busy:
        return "now"
    if entry.state not in ("due", "waiting"):
        return ""
    return "next run" if entry.due <= now else f"in {span(entry.due - now)}"


@command.command(name="show")
@click.argument("mail", metavar="ID")
@file_option
@click.option("--raw", is_flag=True, help="Print the message itself, octet for octet.")
@click.option(
    "--copy", type=int, metavar="N", help="Of several copies, number N; by default as it came."
)
@json_option
def show_(mail: str, files: tuple[str, ...], raw: bool, copy: int | None, as_json: bool) -> None:
    """A mail that waits: why, what can be done about it, and its header or the whole."""
    import sys

    from mailflow.mail import chunks, head

    with opened(files) as journals:
        journal, identity = find(journals, mail)
        loaded = plans.load(journal, identity, copy)
        content = loaded.mail.content
        if raw:
            for piece in chunks(content):
                sys.stdout.buffer.write(piece)
            sys.stdout.buffer.flush()
            return
        waits = [each for each in journal.read(queue.entries) if each.mail == identity]
        envelope = loaded.mail.envelope
        lines = head(content).decode("utf-8", "replace").splitlines()
        if as_json:
            show_json({
                "mail": identity, "arrived": loaded.arrived, "size": content.size,
                "sender": envelope.sender, "recipients": envelope.recipients,
                "notes": loaded.mail.notes, "header": lines,
                "waits": [each._asdict() for each in waits],
            })  # fmt: skip
            return
        say(f"{identity}  arrived {moment(loaded.arrived)}  {counted(content.size, 'octet')}")
        say(f"envelope: {way(envelope.sender, envelope.recipients)}")
        for line in [*_why(waits), "", *lines]:
            say(line)


def _why(waits: Sequence[queue.Entry]) -> Iterator[str]:
    """What a mail waits for, and what a human can do about it."""
    now = time.time()
    for each in waits:
        at = f" at {each.step}" if each.step else ""
        to = f" for {text(each.recipients)}" if each.recipients else ""
        when = _next(each, now)
        reason = f": {each.reason}" if each.reason else ""
        yield f"{each.state}{at}{to}{f', {when}' if when else ''}{reason}"
    mail = waits[0].mail if waits else ""
    if any(each.state == "held" for each in waits):
        yield f"let it go on:   mailflow queue release {mail}"
    if any(each.due > now for each in waits):
        yield f"try it now:     mailflow queue retry {mail}"
    if waits:
        yield f"give it up:     mailflow queue drop {mail}"


@command.command()
@click.argument("mails", nargs=-1, metavar="[ID...]")
@file_option
@click.option("--all", "everything", is_flag=True, help="All that waits for its time.")
@dry_option
def retry(mails: tuple[str, ...], files: tuple[str, ...], everything: bool, dry_run: bool) -> None:
    """Try at the next run what waits for its time."""
    if everything == bool(mails):
        raise click.UsageError("say which mails, or --all")
    with opened(files) as journals:
        found = [Chosen(*find(journals, mail)) for mail in mails]
        for journal in journals if everything else ():
            waiting = (
                each.mail
                for each in journal.read(queue.entries)
                if each.state in ("due", "waiting") and not each.busy
            )
            found += [Chosen(journal, mail) for mail in dict.fromkeys(waiting)]
        _decide(
            found, "retry", "tried at the next run",
            lambda tx, mail, now, _step: queue.retry(tx, mail, now), dry_run=dry_run,
            none="nothing of it waits for its time; `mailflow queue release` lets go on what is"
            " held",
        )  # fmt: skip


@command.command()
@click.argument("mails", nargs=-1, metavar="[ID...]")
@file_option
@filters
@all_option
@dry_option
def release(
    mails: tuple[str, ...], files: tuple[str, ...], step: str, reason: str, where: str,
    everything: bool, dry_run: bool,
) -> None:  # fmt: skip
    """Let held mail go on: the step that held it meets it again, approved."""
    asked = filtered(step, reason, where)
    with opened(files) as journals:
        found = chosen(journals, mails, asked, everything=everything)
        _decide(
            found, "released", "goes on at the next run", queue.release, dry_run=dry_run,
            none="nothing of it is held; `mailflow queue retry` tries at once what waits",
        )  # fmt: skip


@command.command()
@click.argument("mails", nargs=-1, metavar="[ID...]")
@file_option
@filters
@all_option
@dry_option
@click.option("--yes", is_flag=True, help="Do not ask.")
def drop(
    mails: tuple[str, ...], files: tuple[str, ...], step: str, reason: str, where: str,
    everything: bool, dry_run: bool, yes: bool,
) -> None:  # fmt: skip
    """Give mail up, for good; nobody is told. Of mail that is chosen by a filter, what is
    held; of a mail that is named, all that waits."""
    asked = filtered(step, reason, where)
    with opened(files) as journals:
        found = chosen(journals, mails, asked, everything=everything)
        if found and not (yes or dry_run):
            for each in found:
                click.echo(_described(each), err=True)
            click.confirm("Drop for good?", abort=True, err=True)
        _decide(found, "dropped", "dropped", queue.drop, dry_run=dry_run)


def _described(each: Chosen) -> str:
    """A mail in one line, as its author would know it."""
    from mailflow.log import clean

    try:
        header = plans.load(each.journal, each.mail, None).mail.header()
    except MailflowError:
        return each.mail
    author, subject = header.decoded("From") or "nobody", header.decoded("Subject") or "no subject"
    return clean(f"{each.mail}  from {author}: {subject}")


def _decide(
    found: Sequence[Chosen], what: str, said: str, change: Change, *, dry_run: bool = False,
    none: str = "there is nothing to do",
) -> None:  # fmt: skip
    """Do it to each, and say so, or `none` where it changes nothing. Raises InUseError in the end
    where one was in work."""
    if not found:
        click.echo("there is no such mail; `mailflow queue list` shows what waits")
    busy: InUseError | None = None
    for each in found:
        try:
            count = _would(each, change) if dry_run else _change(each, what, change)
        except InUseError as error:
            busy = busy or error
            continue
        if not count:
            click.echo(f"{each.mail}: {none}")
        elif dry_run:
            click.echo(f"{_described(each)}: {said}, were this no dry run")
        else:
            click.echo(f"{each.mail}: {said}")
    if busy:
        raise busy


class _UndoneError(Exception):
    """Takes a change back that was made to see what it does."""


def _would(each: Chosen, change: Change) -> int:
    """How much it would change."""
    counts: list[int] = []

    def work(tx: Transaction) -> None:
        counts.append(_changed(tx, each, change, time.time()))
        raise _UndoneError

    with suppress(_UndoneError):
        each.journal.commit(work)
    return counts[-1]


def _changed(tx: Transaction, each: Chosen, change: Change, now: float) -> int:
    if queue.is_busy(tx, each.mail):
        raise InUseError(f"{each.mail} is in work just now; try again")
    return change(tx, each.mail, now, each.step)


def _change(each: Chosen, what: str, change: Change) -> int:
    now, mail = time.time(), each.mail

    def work(tx: Transaction) -> tuple[int, list[str]]:
        count = _changed(tx, each, change, now)
        if count:
            queue.tell(tx, mail, now, what)
        return count, plans.release(tx, mail, now)[1]

    count, files = each.journal.commit(work)
    bodies.remove(each.journal, files)
    return count
