"""`mailflow list ...`: who is on a list, and how it is set up.

Rule of the file: FILE is a pipeline, which is checked and never changed; what changes is
the file of addresses that it names.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Sequence

import click

from mailflow.addresses import same
from mailflow.errors import ConfigError, MailflowError
from mailflow.log import clean
from mailflow.options import FOREVER, Duration
from mailflow.record import NamedTuple
from mailflow.running import describe
from mailflow.values import nearest
from mailflow_list import edit
from mailflow_list.members import Entry, Roll, entries, one_address
from mailflow_list.settings import ROLES, ListOptions, PostOptions


class NoSuchListError(MailflowError):
    """What was given names no list of the file, or several."""

    exit_code = 64


class Found(NamedTuple):
    """A list of a pipeline file, and the step that it belongs to."""

    file: str
    step: str
    options: ListOptions

    @property
    def address(self) -> str:
        return self.options.mailbox.address

    def roll(self, role: str) -> Roll:
        roll: Roll | None = getattr(self.options, role)
        if roll is None:
            raise ConfigError(
                f"{self.address} has no {role}; give it a file of them in {self.file}"
            )
        return roll

    def path(self, role: str) -> str:
        """The file that may be changed. Raises ConfigError where the TOML holds them."""
        path = self.roll(role).file
        if not path:
            raise ConfigError(
                f"the {role} of {self.address} stand in {self.file} itself: edit it,"
                f' or move them into a file and say {role} = "~/{self.address}.{role}"'
            )
        return path


def find(file: str, name: str) -> Found:
    """The one list of a pipeline file that is called so: its address, an alias, its name,
    the part before the @, or its List-Id. Raises NoSuchListError, ConfigError."""
    lists = [
        Found(file, step.name, each)
        for step in describe(file)
        if isinstance(step.options, PostOptions)
        for each in step.options.lists()
    ]
    exact = [each for each in lists if same(name) in each.options.addresses()]
    found = exact or [each for each in lists if name.lower() in _names(each.options)]
    if len(found) == 1:
        return found[0]
    if not lists:
        raise NoSuchListError(f"{file} has no list: none of its [[process]] steps is list.post")
    there = ", ".join(each.address for each in found or lists)
    if found:
        raise NoSuchListError(f"{len(found)} lists of {file} are called {name!r}: {there}")
    hint = nearest(name, [each.address for each in lists]) or f"; there is {there}"
    raise NoSuchListError(f"{file} has no list {clean(name)!r}{hint}")


def _names(options: ListOptions) -> set[str]:
    own = options.mailbox
    names = {own.name, own.address.rpartition("@")[0], options.list_id or ""}
    return {name.lower() for name in names if name}


file_argument = click.argument("file", metavar="FILE")
list_argument = click.argument("name", metavar="LIST")
addresses_argument = click.argument("written", nargs=-1, required=True, metavar="ADDRESS...")
json_option = click.option("--json", "as_json", is_flag=True, help="Print JSON, for programs.")
dry_option = click.option(
    "--dry-run", is_flag=True, help="Say what would be done, and change nothing."
)
role_option = click.option(
    "--moderators", "role", flag_value="moderators", default="members",
    help="The list's moderators instead of its members.",
)  # fmt: skip


@click.command(name="members")
@file_argument
@list_argument
@role_option
@json_option
def members(file: str, name: str, role: str, as_json: bool) -> None:
    """Print who is on a list, a line each, as it is written.

    LIST is its address, or what stands there before the @.
    """
    roll = find(file, name).roll(role)
    found = _read(roll)
    for each in found:
        if not each.address:
            click.echo(
                f"mailflow: {roll.file}:{each.line}: not an address, left out: {clean(each.text)}",
                err=True,
            )
    there = [each for each in found if each.address]
    if as_json:
        _show_json([{"address": each.address, "written": each.text} for each in there])
        return
    for each in there:
        click.echo(clean(each.text))


def _read(roll: Roll) -> list[Entry]:
    """What is written, as it is. Raises UnavailableError."""
    if not roll.file:
        from mailflow.log import get_logger

        written: Iterable[str] = roll.read(get_logger()).addresses
    else:
        from mailflow.errors import from_os

        try:
            with open(roll.file, "rb") as opened:
                written = edit.lines(opened.read())
        except OSError as error:
            raise from_os(error, f"read the addresses in {roll.file}") from error
    return list(entries(written))


@click.command(name="add")
@file_argument
@list_argument
@addresses_argument
@role_option
@dry_option
def add(file: str, name: str, written: Sequence[str], role: str, dry_run: bool) -> None:
    """Put addresses on a list: "ann@example.org" or "Ann <ann@example.org>".

    LIST is its address, or what stands there before the @.
    Who is on it stays as it is. Posts that are fetched from now on go to the new ones.
    """
    texts = [_checked(text) for text in written]
    path = find(file, name).path(role)
    is_new = not os.path.lexists(path)
    before = _change(path, lambda octets: edit.with_added(octets, texts), dry_run=dry_run)
    if is_new:
        made = "would be made" if dry_run else "is made now"
        click.echo(f"mailflow: there was no {path}; it {made}", err=True)
    _say(texts, lambda address: address not in before, "added", "on it already", dry_run=dry_run)


@click.command(name="remove")
@file_argument
@list_argument
@addresses_argument
@role_option
@dry_option
def remove(file: str, name: str, written: Sequence[str], role: str, dry_run: bool) -> None:
    """Take addresses off a list; who is not on it is said and no error.

    LIST is its address, or what stands there before the @.
    The comments and the order of the file stay.
    """
    gone = [one_address(_checked(text)) for text in written]
    path = find(file, name).path(role)
    before = _change(path, lambda octets: edit.without(octets, gone), dry_run=dry_run)
    _say(gone, lambda address: address in before, "removed", "not on it", dry_run=dry_run)
    if role == "members" and not before - {same(each) for each in gone}:
        click.echo(f"mailflow: nobody is left in {path}: posts wait until somebody is", err=True)


def _checked(text: str) -> str:
    """One address, perhaps with a name, that is a line. Raises click.BadParameter."""
    text = text.strip()
    if not one_address(text) or not text.isprintable():
        raise click.BadParameter(f"{clean(text)!r} is no address; nothing was changed")
    return text


def _change(path: str, how: edit.Change, *, dry_run: bool) -> frozenset[str]:
    """Change the file; who was in it before, in the form of `same`."""
    before: list[frozenset[str]] = []

    def change(octets: bytes) -> bytes:
        before.append(edit.known(octets))
        return octets if dry_run else how(octets)

    edit.change(path, change)
    return before[0]


def _say(
    written: Sequence[str], changes: Callable[[str], bool], done: str, idle: str, *, dry_run: bool
) -> None:
    for text in dict.fromkeys(one_address(each) for each in written):
        new = changes(same(text))
        what = f"would be {done}" if new and dry_run else done if new else idle
        click.echo(clean(f"{text}: {what}"))


@click.command(name="show")
@file_argument
@list_argument
@json_option
def show(file: str, name: str, as_json: bool) -> None:
    """Print how a list is set up: each option, as it holds for this list.

    LIST is its address, or what stands there before the @.
    """
    found = find(file, name)
    options = found.options
    values: dict[str, object] = {"pipeline": file, "step": found.step}
    declared = ListOptions.declared()
    for key in declared:
        values[key] = _plain(getattr(options, key))
    values["list_id"] = options.list_id or options.mailbox.address.replace("@", ".")
    values["bounces"] = str(options.bounces or options.mailbox)
    values["posting"] = {role: options.rule(role) for role in ROLES}
    if as_json:
        _show_json(values)
        return
    width = max(len(key) for key in values)
    for key, value in values.items():
        shown = _span(value) if isinstance(declared.get(key), Duration) else _words(value)
        click.echo(clean(f"{key:<{width}}  {shown}".rstrip()))


def _span(seconds: object) -> str:
    """A duration as the file says it."""
    from mailflow.query.tree import show_span

    return show_span(seconds) if isinstance(seconds, float | int) else _words(seconds)


def _plain(value: object) -> object:
    """An option's value as JSON has it, which knows no infinity."""
    if value == FOREVER:
        return "forever"
    if isinstance(value, Roll):
        if not value.file:
            return {"count": len(_read(value))}
        try:
            count: int | None = sum(bool(each.address) for each in _read(value))
        except MailflowError:
            count = None
        return {"file": value.file, "count": count}
    if isinstance(value, tuple) and not hasattr(value, "address"):
        return [_plain(each) for each in value]
    return value if value is None or isinstance(value, bool | int | float | str) else str(value)


def _words(value: object) -> str:
    if isinstance(value, dict):
        if "count" in value:
            count = "cannot be read" if value["count"] is None else str(value["count"])
            return f"{count} in {value['file']}" if "file" in value else count
        return ", ".join(f"{key} = {each}" for key, each in value.items())
    if isinstance(value, list):
        return ", ".join(_words(each) for each in value)
    if isinstance(value, bool):
        return "true" if value else "false"
    return "" if value is None else str(value)


def _show_json(rows: object) -> None:
    import json

    click.echo(json.dumps(rows, indent=2))


COMMANDS = (members, add, remove, show)
