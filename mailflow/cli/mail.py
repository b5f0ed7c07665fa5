"""mailflow mail: the mailbox of one account by hand, as a database."""

from __future__ import annotations

import os
import sys
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, NamedTuple, TypeVar

import click

from mailflow.asking import typed
from mailflow.mailboxes.flags import WRITABLE
from mailflow.tables import dry_run_option, json_option, moment, say, show, show_json
from mailflow.values import counted
from mailflow.wildcards import fits

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from mailflow.mailboxes import Database, Row, Selection, Table

F = TypeVar("F", bound="Callable[..., Any]")

COLUMNS = ("folder", "uid", "created", "size", "flags", "sender", "subject")


class Asked(NamedTuple):
    """Which messages of which account. `uids` and `where` are both to hold."""

    account: str
    file: str | None
    folders: tuple[str, ...]
    where: str
    uids: tuple[int, ...]

    @property
    def several(self) -> bool:
        """Whether they may be in more folders than one."""
        return len(self.folders) > 1 or any(map(is_pattern, self.folders))

    @property
    def everything(self) -> bool:
        return not self.where and not self.uids

    def selections(self, box: Database) -> Iterator[tuple[Table, Selection]]:
        """What is meant of each folder. Raises click.BadParameter."""
        from mailflow.cli.expression import expression
        from mailflow.query import Query, field

        query = expression(self.where, "--where") if self.where else Query.always
        if self.uids:
            chosen = field.uid.belongs(self.uids)
            query = chosen & query if self.where else chosen
        for name in meant(box, self.folders):
            table = box.folder(name)
            yield table, table(query)


def meant(box: Database, patterns: Sequence[str]) -> list[str]:
    r"""The folders that are meant: names, "*" for any letters, "\Sent" for what it is for."""
    if not any(map(is_pattern, patterns)):
        return list(dict.fromkeys(patterns))
    there = box.folders()
    found: dict[str, None] = {}
    for pattern in patterns:
        if pattern.startswith("\\"):
            names = [each.name for each in there if each.purpose == pattern[1:].lower()]
        elif "*" in pattern:
            names = [each.name for each in there if fits(pattern, each.name)]
        else:
            names = [pattern]
        if not names:
            raise click.BadParameter(
                f"there is no folder for {pattern}; `mailflow mail folders` shows those there are",
                param_hint="--folder",
            )
        found.update(dict.fromkeys(names))
    return list(found)


def is_pattern(folder: str) -> bool:
    """Whether it stands for all folders that fit, and is no name."""
    return "*" in folder or folder.startswith("\\")


file_option = click.option(
    "--file", metavar="FILE",
    help="Where [account.NAME] stands: a pipeline, by path or name, instead of defaults.toml.",
)  # fmt: skip


def choice(command: F) -> F:
    """Give a command what says which messages it is about."""
    options = (
        click.argument("account"),
        click.argument("uids", nargs=-1, type=click.IntRange(1, 2**32 - 1), metavar="[UID...]"),
        file_option,
        click.option(
            "--folder", "folders", multiple=True, default=("INBOX",), metavar="FOLDER",
            help='This folder instead of INBOX; "*" stands for any letters, "\\Sent" for what it is'
            " for. May be repeated.",
        ),
        click.option(
            "-w", "--where", default="", metavar="EXPR",
            help="Messages that fit this query.",
        ),
    )  # fmt: skip
    for option in reversed(options):
        command = option(command)
    return command


all_option = click.option("--all", "everything", is_flag=True, help="All of the folder.")
order_option = click.option(
    "--order", default="-uid", metavar="FIELDS", show_default=True,
    help="By uid, created, size, subject, from, to or cc; - before one turns it round.",
)  # fmt: skip


@contextmanager
def opened(account: str, file: str | None) -> Iterator[Database]:
    """The mailbox, logged in to as soon as it is asked something."""
    from mailflow.mailboxes.opening import mailbox

    try:
        with mailbox(account, file=file, password=_password(account)) as box:
            yield box
    except ValueError as error:
        raise click.UsageError(str(error)) from None


def _password(account: str) -> str | None:
    """Asked of a human, where one sits there and nothing else says it."""
    from mailflow.engine.urls import wants_password

    if ":" not in account or not wants_password(account):
        return None
    return typed(account.partition("://")[2].partition("?")[0].rstrip("/"))


@click.group(name="mail")
def command() -> None:
    """See and change the mail of one account by hand.

    ACCOUNT is the name of an [account.NAME] table, in the user's or the system's
    defaults.toml or in --file, whose `use` says which plugin it is for; or a URL such as
    imaps://ann@imap.example.org. A UID is the number that `list` shows. Nothing is marked as
    seen by looking at it.
    """


@command.command()
@click.argument("account")
@file_option
@json_option
def folders(account: str, file: str | None, as_json: bool) -> None:
    """The folders of an account, what each is for, and its name in Python."""
    from mailflow.mailboxes.database import named

    with opened(account, file) as box:
        there = box.folders()
    names = {folder: table for table, folder in named(there).items()}
    if as_json:
        show_json([{**each._asdict(), "table": names[each.name]} for each in there])
    else:
        show(
            ("FOLDER", "FOR", "TABLE"),
            ((each.name, each.purpose, names[each.name]) for each in there),
        )


@command.command(name="list")
@choice
@order_option
@click.option("--limit", type=click.IntRange(1), metavar="N", help="N of each folder at most.")
@json_option
def list_(
    account: str, uids: tuple[int, ...], file: str | None, folders: tuple[str, ...], where: str,
    order: str, limit: int | None, as_json: bool,
) -> None:  # fmt: skip
    """The messages of a folder, the newest first."""
    asked = Asked(account, file, folders, where, uids)
    with opened(account, file) as box:
        rows = (
            row
            for _, selection in asked.selections(box)
            for row in selection.select(order=order, limit=limit)
        )
        if as_json:
            _stream(row.as_dict() for row in rows)
        else:
            _table(list(rows), several=asked.several)


def _table(rows: Sequence[Row], *, several: bool) -> None:
    columns = [name for name in COLUMNS if several or name != "folder"]
    heading = ["from" if name == "sender" else name for name in columns]
    show([name.upper() for name in heading], [[_cell(row, name) for name in columns]
                                              for row in rows])  # fmt: skip


def _cell(row: Row, name: str) -> object:
    if name == "created":
        return "" if row.created is None else moment(row.created.timestamp())
    if name == "flags":
        return " ".join(flag.lstrip("\\").lower() for flag in row.flags)
    return row[name]


def _stream(rows: Iterator[dict[str, Any]]) -> None:
    """A JSON array, element by element: there may be more than memory holds."""
    import json

    some = False
    for row in rows:
        text = json.dumps(row, indent=2, default=_plain)
        click.echo((",\n" if some else "[\n") + text, nl=False)
        some = True
    click.echo("\n]" if some else "[]")


def _plain(value: object) -> object:
    """What JSON has no word for: moments, and octets in base64."""
    if isinstance(value, bytes):
        from base64 import b64encode

        return b64encode(value).decode("ascii")
    return str(value)


@command.command()
@choice
@json_option
def count(
    account: str, uids: tuple[int, ...], file: str | None, folders: tuple[str, ...], where: str,
    as_json: bool,
) -> None:  # fmt: skip
    """How many messages there are, or fit."""
    asked = Asked(account, file, folders, where, uids)
    with opened(account, file) as box:
        found = {table.mailbox: chosen.count() for table, chosen in asked.selections(box)}
    if as_json:
        show_json(found)
    elif len(found) == 1:
        click.echo(next(iter(found.values())))
    else:
        show(("COUNT", "FOLDER"), [(number, name) for name, number in found.items()])


@command.command(short_help="Print a message, octet for octet, or decoded as JSON.")
@choice
@click.option(
    "--to", "directory", metavar="DIRECTORY", type=click.Path(file_okay=False),
    help="Write each message into a file there, FOLDER.UID.eml.",
)  # fmt: skip
@json_option
def get(
    account: str, uids: tuple[int, ...], file: str | None, folders: tuple[str, ...], where: str,
    directory: str | None, as_json: bool,
) -> None:  # fmt: skip
    """Print a message, octet for octet, or decoded as JSON: texts, attachments (in base64)."""
    asked = Asked(account, file, folders, where, uids)
    if asked.everything:
        raise click.UsageError("say which messages: their UIDs, or --where")
    with opened(account, file) as box:
        chosen = [selection for _, selection in asked.selections(box)]
        rows = (row for each in chosen for row in each.select("email"))
        if as_json:
            _stream(row.as_dict() | row.as_dict("content", "attachments") for row in rows)
        elif directory is not None:
            _save(rows, directory)
        else:
            _print(rows)


def _print(rows: Iterator[Row]) -> None:
    """The one message. Raises GoneError, click.UsageError for several."""
    from mailflow.errors import GoneError
    from mailflow.mail import chunks

    first = next(rows, None)
    if first is None:
        raise GoneError("there is no such message; `mailflow mail list` shows those there are")
    if next(rows, None) is not None:
        raise click.UsageError("these are several messages: say --to DIRECTORY or --json")
    for piece in chunks(first.raw):
        sys.stdout.buffer.write(piece)
    sys.stdout.buffer.flush()


def _save(rows: Iterator[Row], directory: str) -> None:
    """Each into a file of its own; one that is there is not written over."""
    from urllib.parse import quote

    from mailflow.errors import from_os
    from mailflow.mail import chunks

    for row in rows:
        path = os.path.join(directory, f"{quote(row.folder, safe=' ')}.{row.uid}.eml")
        try:
            os.makedirs(directory, exist_ok=True)
            with open(path, "xb") as writer:
                writer.writelines(chunks(row.raw))
        except OSError as error:
            raise from_os(error, f"write {path}") from None
        say(path)


@command.command()
@choice
@all_option
@click.option(
    "--set", "set_", multiple=True, type=click.Choice(WRITABLE),
    help="Set this flag; may be repeated.",
)  # fmt: skip
@click.option(
    "--clear", multiple=True, type=click.Choice(WRITABLE), help="Remove this flag; may be repeated."
)
@dry_run_option
@json_option
def update(
    account: str, uids: tuple[int, ...], file: str | None, folders: tuple[str, ...], where: str,
    everything: bool, set_: tuple[str, ...], clear: tuple[str, ...], dry: bool, as_json: bool,
) -> None:  # fmt: skip
    """Set or remove flags of messages; `--set deleted` marks, and removes nothing."""
    flags = dict.fromkeys(set_, True) | dict.fromkeys(clear, False)
    if not flags:
        raise click.UsageError("say which flag: --set seen, --clear flagged ...")
    for flag in set_:
        if flag in clear:
            raise click.UsageError(f"--set {flag} and --clear {flag}: say one of the two")
    asked = _for_a_change(Asked(account, file, folders, where, uids), everything)
    _change(asked, "changed", lambda each: each.update(**flags), dry=dry, as_json=as_json)


@command.command()
@choice
@all_option
@dry_run_option
@json_option
def delete(
    account: str, uids: tuple[int, ...], file: str | None, folders: tuple[str, ...], where: str,
    everything: bool, dry: bool, as_json: bool,
) -> None:  # fmt: skip
    """Remove messages for good, and no other, whatever is marked as deleted."""
    asked = _for_a_change(Asked(account, file, folders, where, uids), everything)
    _change(asked, "deleted", lambda each: each.delete(), dry=dry, as_json=as_json)


def _for_a_change(asked: Asked, everything: bool) -> Asked:
    if asked.everything and not everything:
        raise click.UsageError("say which messages: their UIDs, --where, or --all")
    if everything and not asked.everything:
        raise click.UsageError("--all is all of the folder; leave it out beside UIDs or --where")
    return asked


def _change(
    asked: Asked, done: str, act: Callable[[Selection], int], *, dry: bool, as_json: bool
) -> None:
    """Do it folder by folder, and say after each what was done; or what would be."""
    found: dict[str, int] = {}
    with opened(asked.account, asked.file) as box:
        for table, selection in asked.selections(box):
            if dry and not as_json:
                rows = list(selection.select())
                found[table.mailbox] = len(rows)
                if rows:
                    _table(rows, several=asked.several)
            else:
                found[table.mailbox] = selection.count() if dry else act(selection)
            if not as_json:
                number = found[table.mailbox]
                what = counted(number, "message")
                would = f"would be {done}" if dry else done
                say(f"{table.mailbox}: {what} {would}")
    if as_json:
        show_json(found)


@command.command()
@click.argument("account")
@file_option
@click.option(
    "--folder", default="INBOX", metavar="FOLDER",
    help='Where to, by default INBOX; "\\Sent" is the folder for sent mail.',
)  # fmt: skip
@click.option(
    "--set",
    "set_",
    multiple=True,
    type=click.Choice(WRITABLE),
    help="With this flag; may be repeated.",
)
@dry_run_option
def insert(account: str, file: str | None, folder: str, set_: tuple[str, ...], dry: bool) -> None:
    """Put the message on standard input into a folder, octet for octet; prints its id."""
    from mailflow.errors import BadMailError

    octets = b"" if sys.stdin is None else sys.stdin.buffer.read()
    if not octets.strip():
        raise BadMailError("stdin is empty: expected one message")
    with opened(account, file) as box:
        if is_pattern(folder):
            folder, *others = meant(box, (folder,))
            if others:
                raise click.BadParameter("these are several folders", param_hint="--folder")
        table = box.folder(folder)
        if dry:
            table().count()
            say(f"{folder}: {counted(len(octets), 'octet')} would be inserted")
            return
        say(table.insert(email=octets, flags=set_) or f"{folder}: inserted")
