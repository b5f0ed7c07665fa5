"""mailflow queue: what waits or is held, and what a human decides about it."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

import click

from mailflow.addresses import addresses
from mailflow.cli.journals import find, opened
from mailflow.cli.tables import file_option, json_option, moment, say, show, show_json, span
from mailflow.engine.journal import bodies, plans, queue
from mailflow.errors import InUseError, MailflowError

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from mailflow.engine.journal.database import Database, Transaction


@click.group(name="queue")
def command() -> None:
    """Look at what is due or held, and decide about it.

    A mail is named by its id, or the beginning of it. What is decided happens at the
    next `mailflow run`.
    """


@command.command(name="list")
@file_option
@click.option("--held", is_flag=True, help="Only what waits for a human.")
@json_option
def list_(files: tuple[str, ...], held: bool, as_json: bool) -> None:
    """Every mail that is not done, and what it waits for."""
    with opened(files) as journals:
        found = [
            (journal, entry)
            for journal in journals
            for entry in journal.read(queue.entries)
            if not held or entry.state == "held"
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
@click.option("--copy", type=int, help="Of several copies, this one; by default as it came.")
def show_(mail: str, files: tuple[str, ...], raw: bool, copy: int | None) -> None:
    """The header of a mail that waits, or the whole of it."""
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
        say(f"{identity}  arrived {moment(loaded.arrived)}  {content.size} octets")
        sender = loaded.mail.envelope.sender
        say(f"envelope: {'unknown' if sender is None else f'<{sender}>'} to "
            f"{', '.join(loaded.mail.envelope.recipients) or 'nobody'}")  # fmt: skip
        for line in head(content).decode("utf-8", "replace").splitlines():
            say(line)


@command.command()
@click.argument("mails", nargs=-1, metavar="[ID...]")
@file_option
@click.option("--all", "everything", is_flag=True, help="All that waits for its time.")
def retry(mails: tuple[str, ...], files: tuple[str, ...], everything: bool) -> None:
    """Try at the next run what waits for its time."""
    if everything == bool(mails):
        raise click.UsageError("say which mails, or --all")
    if everything:
        with opened(files) as journals:
            found = [entry for journal in journals for entry in journal.read(queue.entries)]
        waiting = (each for each in found if each.state in ("due", "waiting") and not each.busy)
        mails = tuple(dict.fromkeys(each.mail for each in waiting))
    _each(mails, files, "retry", "tried at the next run", queue.retry)


@command.command()
@click.argument("mails", nargs=-1, required=True, metavar="ID...")
@file_option
def release(mails: tuple[str, ...], files: tuple[str, ...]) -> None:
    """Let held mail go on: the step that held it meets it again, approved."""
    _each(mails, files, "released", "goes on at the next run", queue.release)


@command.command()
@click.argument("mails", nargs=-1, required=True, metavar="ID...")
@file_option
@click.option("--yes", is_flag=True, help="Do not ask.")
def drop(mails: tuple[str, ...], files: tuple[str, ...], yes: bool) -> None:
    """Give mail up, for good; nobody is told."""
    if not yes:
        with opened(files) as journals:
            for given in mails:
                click.echo(_described(*find(journals, given)), err=True)
        click.confirm("Drop for good?", abort=True, err=True)
    _each(mails, files, "dropped", "dropped", _drop)


def _described(journal: Database, mail: str) -> str:
    """A mail in one line, as its author would know it."""
    from mailflow.log import clean

    try:
        header = plans.load(journal, mail, None).mail.header()
    except MailflowError:
        return mail
    author, subject = header.decoded("From") or "nobody", header.decoded("Subject") or "no subject"
    return clean(f"{mail}  from {author}: {subject}")


def _drop(tx: Transaction, mail: str, now: float) -> int:
    return queue.drop(tx, mail, now)


def _each(
    mails: tuple[str, ...],
    files: tuple[str, ...],
    what: str,
    said: str,
    change: Callable[[Transaction, str, float], int],
) -> None:
    with opened(files) as journals:
        for given in mails:
            journal, mail = find(journals, given)
            count = _change(journal, mail, what, change)
            click.echo(f"{mail}: {said}" if count else f"{mail}: there is nothing to do")


def _change(
    journal: Database, mail: str, what: str, change: Callable[[Transaction, str, float], int]
) -> int:
    now = time.time()

    def work(tx: Transaction) -> tuple[int, list[str]]:
        if queue.is_busy(tx, mail):
            raise InUseError(f"{mail} is in work just now; try again")
        count = change(tx, mail, now)
        if count:
            queue.tell(tx, mail, now, what)
        return count, plans.release(tx, mail, now)[1]

    count, files = journal.commit(work)
    bodies.remove(journal, files)
    return count
