"""`mailflow spool ...`: what is in the spool, and what a human decides about it.

Rule of the file: a drop in which a client has a session is looked at, and not changed.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, TypeVar

import click

from mailflow.errors import ConfigError, MailflowError
from mailflow.log import clean
from mailflow.tables import dry_run_option, json_option, moment, show_json
from mailflow.tables import show as table
from mailflow.values import counted, duration, listed, nearest, size
from mailflow_spool import shelf, tidy, transfer
from mailflow_spool.expire import Old, expired
from mailflow_spool.expire import expire as expire_drop
from mailflow_spool.store import Drop, Policy, Store, default_path, is_name
from mailflow_spool.verify import verify as damages

if TYPE_CHECKING:
    from mailflow_spool.shelf import Message

T = TypeVar("T")

DATA_ERROR = 74
TEMPORARY = 75

spool_option = click.option(
    "--spool", "path", metavar="DIRECTORY", type=click.Path(file_okay=False),
    help="Where the spool is, if not beside the journals.",
)  # fmt: skip
drop_argument = click.argument("name", metavar="DROP")
message_argument = click.argument("which", metavar="UIDL")


class NoSuchDropError(MailflowError):
    """What was given names no drop of the spool."""

    exit_code = 64


@contextmanager
def _opened(path: str | None, *, make: bool = False) -> Iterator[Store]:
    where = os.path.abspath(path) if path else default_path()
    if not make and not os.path.isdir(where):
        raise ConfigError(f"there is no spool at {where}; --spool says where else it is")
    store = Store(where)
    try:
        yield store
    finally:
        store.close()


def _found(store: Store, name: str) -> Drop:
    drops = store.drops()
    for each in drops:
        if each.name == name:
            return each
    names = [each.name for each in drops]
    there = listed(names[:5]) or "; there is none at all"
    raise NoSuchDropError(f"there is no drop {name!r}{nearest(name, names) or there}")


@click.command(name="list")
@click.argument("name", metavar="[DROP]", required=False)
@spool_option
@json_option
def list_(name: str | None, path: str | None, as_json: bool) -> None:
    """Every drop and what it holds; of DROP, every message.

    No source is asked: what is listed here can be read when all of them are out of reach.
    """
    with _opened(path) as store:
        if name is None:
            _show_drops(store.drops(), as_json=as_json)
            return
        messages = shelf.messages(store, _found(store, name).id)
        if as_json:
            show_json([_facts(each) for each in messages])
            return
        rows = ((m.number, m.uidl, m.size, moment(m.arrived), _sender(m)) for m in messages)
        table(("NUMBER", "UIDL", "SIZE", "ARRIVED", "FROM"), rows)


def _show_drops(drops: Sequence[Drop], *, as_json: bool) -> None:
    if as_json:
        show_json([
            {"drop": d.name, "messages": d.messages, "octets": d.octets, "oldest": d.oldest,
             "expire": d.policy.expire, "expire_over": d.policy.most}
            for d in drops
        ])  # fmt: skip
        return
    rows = (
        (d.name, d.messages, d.octets, "" if d.oldest is None else moment(d.oldest), _rule(d))
        for d in drops
    )
    table(("DROP", "MESSAGES", "OCTETS", "OLDEST", "EXPIRES"), rows)


def _rule(drop: Drop) -> str:
    from mailflow.query.tree import show_span

    age, most = drop.policy
    words = [] if age is None else [f"after {show_span(age)}"]
    return ", ".join(words + ([] if most is None else [f"over {most} octets"]))


def _facts(message: Message) -> dict[str, object]:
    return {
        "number": message.number, "uidl": message.uidl, "size": message.size,
        "arrived": message.arrived, "sender": message.sender,
    }  # fmt: skip


def _sender(message: Message) -> str:
    """That of the envelope; a mailbox gives none, and then it is the address in From."""
    if message.sender is not None:
        return f"<{message.sender}>"
    from mailflow.addresses import addresses
    from mailflow.mail import Header, head

    try:
        fields = Header(head(message.content)).get_all("From")
    except (MailflowError, OSError):
        return ""  # it was deleted meanwhile, or is damaged: `verify` says so
    found = [address for value in fields for address in addresses(value).found]
    return ", ".join(found)


@click.command(name="show")
@drop_argument
@message_argument
@spool_option
@json_option
def show(name: str, which: str, path: str | None, as_json: bool) -> None:
    """A message's header, and what the spool knows of it. UIDL may be its number."""
    from mailflow.mail import head

    with _opened(path) as store:
        message = shelf.find(store, _found(store, name).id, which)
        lines = head(message.content).decode("utf-8", "replace").splitlines()
        where = store.bodies.file(message.file) if message.file else store.index.path
    if as_json:
        show_json({**_facts(message), "drop": name, "file": where, "header": lines})
        return
    click.echo(
        clean(
            f"{message.uidl}  arrived {moment(message.arrived)}  {counted(message.size, 'octet')}"
        )
    )
    click.echo(clean(f"in {where}"))
    click.echo()
    for line in lines:
        click.echo(clean(line))


@click.command(name="get")
@drop_argument
@message_argument
@spool_option
def get(name: str, which: str, path: str | None) -> None:
    """Print a message, octet for octet."""
    from mailflow.mail import chunks

    with _opened(path) as store:
        message = shelf.find(store, _found(store, name).id, which)
        for piece in chunks(message.content):
            sys.stdout.buffer.write(piece)
        sys.stdout.buffer.flush()


@click.command(name="drop")
@drop_argument
@click.argument("which", metavar="[UIDL...]", nargs=-1)
@click.option("--all", "everything", is_flag=True, help="The drop itself, with all its mail.")
@spool_option
@dry_run_option
def drop(name: str, which: tuple[str, ...], everything: bool, path: str | None, dry: bool) -> None:
    """Remove messages from DROP for good, or with --all the drop itself.

    A drop that is made anew has new UIDLs.
    """
    if bool(which) == everything:
        raise click.UsageError("name messages, or say --all")
    would = "would be removed" if dry else "removed"
    with _opened(path) as store:
        found = _found(store, name)
        messages = (
            list(shelf.messages(store, found.id))
            if everything
            else [shelf.find(store, found.id, each) for each in which]
        )
        if not dry:
            lock = store.lock(found.id, name)
            try:
                if everything:
                    store.remove_drop(found.id, name)
                else:
                    store.remove(found.id, [each.number for each in messages])
            finally:
                os.close(lock)
            tidy.tidy(store)
    if everything:
        click.echo(clean(f"{name}: {would}, with {counted(len(messages), 'message')}"))
        return
    for each in messages:
        click.echo(clean(f"{each.uidl}: {would}"))


def _worded(convert: Callable[[object], T]) -> Callable[..., T | None]:
    """A duration or a size, as a pipeline's file says it."""

    def callback(ctx: click.Context, param: click.Parameter, value: str | None) -> T | None:
        try:
            return None if value is None else convert(value)
        except ValueError as error:
            raise click.BadParameter(str(error), ctx, param) from None

    return callback


@click.command(name="expire")
@click.argument("names", metavar="[DROP...]", nargs=-1)
@click.option(
    "--older", callback=_worded(duration), metavar="AGE",
    help='Remove what is older, such as "30d", whatever the pipelines say.',
)  # fmt: skip
@click.option(
    "--over", callback=_worded(size), metavar="SIZE",
    help='Remove the oldest beyond this many octets, such as "1GB", whatever the pipelines say.',
)  # fmt: skip
@spool_option
@json_option
@dry_run_option
def expire(
    names: tuple[str, ...], older: float | None, over: int | None, path: str | None,
    as_json: bool, dry: bool,
) -> int:  # fmt: skip
    """Remove the mail that is too old or too much, and give its room back to the disk.

    Without DROP, in every drop. What is too old is said by `expire` and `expire_over` of the
    pipelines that fill it. A drop in which a client has a session is left alone, and this
    ends with 75.
    """
    policy = None if older is None and over is None else Policy(older, over)
    busy = False
    facts: list[dict[str, object]] = []
    with _opened(path) as store:
        for name in names:
            _found(store, name)
        for name in names or [each.name for each in store.drops()]:
            gone = expired(store, name, policy) if dry else expire_drop(store, name, policy)
            if gone is None:
                busy = True
                click.echo(f"mailflow: {clean(name)} is in use: nothing was removed", err=True)
                continue
            facts += [{"drop": name, **old._asdict()} for old in gone]
            if not as_json:
                _tell_expired(name, gone, dry=dry)
        if not dry:
            tidy.tidy(store)
            tidy.sweep(store)
    if as_json:
        show_json(facts)
    return TEMPORARY if busy else 0


def _tell_expired(name: str, gone: Sequence[Old], *, dry: bool) -> None:
    octets = sum(each.size for each in gone)
    verb = "would be removed" if dry else "removed"
    click.echo(clean(f"{name}: {counted(len(gone), 'message')}, {counted(octets, 'octet')} {verb}"))


def _whole(count: int) -> str:
    if count == 0:
        return "no messages"
    return f"{counted(count, 'message')}, {'and it is' if count == 1 else 'all of them'} whole"


@click.command(name="verify")
@spool_option
@json_option
def verify(path: str | None, as_json: bool) -> int:
    """Read the whole spool, and say whatever is damaged. Nothing is changed.

    Ends with 74 where something is. Clients and pipelines may be at work.
    """
    with _opened(path) as store:
        found = list(damages(store))
        count = sum(each.messages for each in store.drops())
    if as_json:
        show_json([each._asdict() for each in found])
    else:
        for each in found:
            click.echo(clean(str(each)))
        if not found:
            click.echo(_whole(count))
    return DATA_ERROR if found else 0


@click.command(name="export", short_help="Copy all mail of DROP to a new Maildir or mbox.")
@drop_argument
@click.argument("target", metavar="PATH", type=click.Path())
@click.option("--mbox", is_flag=True, help="As one mbox file, instead of a Maildir.")
@spool_option
@dry_run_option
def export(name: str, target: str, mbox: bool, path: str | None, dry: bool) -> None:
    """Copy all mail of DROP to PATH, where nothing is yet: a Maildir that keeps the UIDLs.

    Dovecot reads them from it, and so does `mailflow spool import`.
    """
    with _opened(path) as store:
        found = _found(store, name)
        if dry:
            click.echo(clean(f"would write {target}: {counted(found.messages, 'message')}"))
            return
        messages = shelf.messages(store, found.id)
        if mbox:
            count = transfer.export_mbox(messages, target)
        else:
            count = transfer.export_maildir(messages, found.validity, target)
    click.echo(clean(f"{target}: {counted(count, 'message')}"))


@click.command(name="import")
@drop_argument
@click.argument("source", metavar="SOURCE")
@click.option(
    "--uidls", metavar="FILE", type=click.Path(dir_okay=False),
    help="UIDLs as the old server gave them: lines of a message's number, or file, and UIDL.",
)  # fmt: skip
@spool_option
@dry_run_option
def import_(name: str, source: str, uidls: str | None, path: str | None, dry: bool) -> int:
    """Copy all mail of SOURCE into DROP: a Maildir, an mbox file, or a URL.

    Clients know their mail by its UIDL, and download all of it again where that changes.
    So messages keep what the old server called them: its own answer, where SOURCE is its
    URL (pop3s://ann@pop.example.org), what Dovecot has written into the Maildir, or what
    --uidls says. What was imported before is not imported again.
    """
    from mailflow.halt import Halt

    if not is_name(name):
        raise ConfigError(f"no drop can be called {name[:80]!r}")
    failed = old = 0
    taken: list[transfer.Imported] = []
    halt = Halt()
    try:
        with _opened(path, make=True) as store:
            for each in transfer.import_from(store, name, source, uidls, halt=halt, dry=dry):
                if each.why:
                    failed += 1
                    click.echo(f"mailflow: {clean(each.key)}: {clean(each.why)}", err=True)
                elif each.known:
                    old += 1
                else:
                    taken.append(each)
    finally:
        halt.close()
    kept = sum(each.kept for each in taken)
    would = "would be " if dry else ""
    click.echo(
        clean(
            f"{name}: {counted(len(taken), 'message')} {would}imported,"
            f" {kept} with {'the UIDL it' if kept == 1 else 'the UIDLs they'} had"
        )
        + (f"; {old} were here already" if old else "")
    )
    return TEMPORARY if failed else 0


COMMANDS = (list_, show, get, drop, expire, verify, export, import_)
