"""mailflow copy SOURCE DESTINATION: a one-off pipeline from two URLs."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from mailflow.asking import typed
from mailflow.cli.dry import show_visit
from mailflow.cli.expression import indented
from mailflow.tables import json_option
from mailflow.values import counted

if TYPE_CHECKING:
    from mailflow.engine.pipeline import Pipeline
    from mailflow.engine.registry import Registry


@click.command(name="copy")
@click.argument("source")
@click.argument("destination")
@click.option("--where", metavar="EXPR", help="Messages that fit this query.")
@click.option("--limit", type=click.IntRange(1), metavar="N", help="N messages at most.")
@click.option(
    "--keep/--delete", default=True, help="Let them stay at the source (the default), or not."
)
@click.option("--sender", metavar="ADDRESS", help="Who sends it, where that is a mail server.")
@click.option(
    "--to", "recipients", multiple=True, metavar="ADDRESS",
    help="Who gets the mail, where the destination is a mail server; may be repeated.",
)  # fmt: skip
@click.option("--dry-run", is_flag=True, help="Say what would be copied, and copy nothing.")
@json_option
def command(
    source: str, destination: str, where: str | None, limit: int | None, keep: bool,
    sender: str | None, recipients: tuple[str, ...], dry_run: bool, as_json: bool,
) -> int:  # fmt: skip
    """Copy what is new from one place to another.

    SOURCE and DESTINATION are URLs, such as pop3s://ann@pop.example.org and
    maildir:~/Maildir; options of a component stand behind a "?". The password of a user
    is read from ~/.netrc, or from where ?password_file=PATH or ?password_env=NAME says.
    The same command once more copies what has come since, and what could not be copied.
    Ends as `mailflow run` does.
    """
    from mailflow.engine.registry import Registry

    registry = Registry()
    pipeline = _pipeline(
        registry, source, destination, sender, recipients,
        {"where": where, "limit": limit, "keep": None if keep else "0d"},
    )  # fmt: skip
    if dry_run:
        return show_visit(pipeline, registry, as_json=as_json)
    return _run(pipeline, registry, as_json=as_json)


def _pipeline(
    registry: Registry,
    source: str,
    destination: str,
    sender: str | None,
    recipients: tuple[str, ...],
    words: dict[str, object],
) -> Pipeline:
    """What a file would say: the source's step has all of its words, the destination's
    its own. Raises UrlError, or UsageError for an option."""
    from mailflow.engine.config import load_dict
    from mailflow.engine.urls import read
    from mailflow.running import journal_between
    from mailflow.toml_file import ConfigFaults

    ends = {
        table: read(url, table, registry, password=_password(url))
        for table, url in (("fetch", source), ("distribute", destination))
    }
    origin, target = ends["fetch"], ends["distribute"]
    if origin.where == target.where and hasattr(origin.component, "url_path"):
        raise click.UsageError(
            f"{origin.where} is both source and destination; each run would double what is there"
        )
    fetch = {**origin.table, **{key: word for key, word in words.items() if word is not None}}
    if words["keep"] is not None and "on_done" in origin.component.options.declared():
        fetch.setdefault("on_done", "delete")
    distribute = {**target.table, **({"sender": sender} if sender else {})}
    data: dict[str, object] = {
        "pipeline": {"name": "copy", "journal": journal_between(origin.where, target.where)},
        "fetch": [{**fetch, "name": "source", "start": "all"}],
        "distribute": [{**distribute, "name": "destination"}],
    }
    if target.component.per_recipient and not (recipients and "sender" in distribute):
        raise click.UsageError(
            "a mail server asks who sends and who gets the mail: --sender ADDRESS --to ADDRESS"
        )
    if recipients:
        data["process"] = [{"use": "filter.recipients", "name": "to", "set": list(recipients)}]
    try:
        return load_dict(data, registry, name="copy")
    except ConfigFaults as error:
        fault = error.faults[0]
        option = {"where": "--where", "set": "--to", "sender": "--sender"}.get(
            fault.path.rpartition(".")[2]
        )
        text = f"{option or fault.path}: {fault.text}{indented(fault.detail)}"
        raise click.UsageError(text) from None


def _password(url: str) -> str | None:
    """Asked of a human, where one sits there and nothing else says it."""
    from mailflow.engine.urls import wants_password

    if not wants_password(url):
        return None
    return typed(url.partition("://")[2].partition("?")[0].rstrip("/"))


def _run(pipeline: Pipeline, registry: Registry, *, as_json: bool) -> int:
    from mailflow.engine.supervisor import run
    from mailflow.progress import Progress
    from mailflow.tables import show_json

    before = _waiting(pipeline.journal)
    with Progress() as progress:
        status = run([pipeline], registry, force=True, meter=progress.meter)
    waiting = _waiting(pipeline.journal)
    count = max(0, progress.meter.messages + before - waiting)
    if as_json:
        show_json({"messages": count, "waiting": waiting, "status": status})
    elif status == 0:
        click.echo(f"{counted(count, 'message')} copied")
    if waiting and not as_json:
        click.echo(f"mailflow: {waiting} not copied; see `mailflow queue list`", err=True)
    return status


def _waiting(journal: str) -> int:
    """How many mails were taken at the source and are not at the destination."""
    from mailflow.engine.journal import queue
    from mailflow.engine.shadow import Shadow
    from mailflow.errors import JournalError

    try:
        shadow = Shadow(journal)
    except JournalError:  # the run says what is wrong with it, or renews it
        return 0
    try:
        entries = shadow.read(queue.entries)
    finally:
        shadow.close()
    return len({entry.mail for entry in entries if entry.state != "intent"})
