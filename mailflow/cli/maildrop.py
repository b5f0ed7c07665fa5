"""mailflow maildrop: who may log in, in the file of passwords."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

import click

from mailflow.asking import somebody_is_there
from mailflow.errors import ConfigError
from mailflow.tables import dry_run_option, json_option, say, show, show_json

if TYPE_CHECKING:
    from collections.abc import Callable

passwords_option = click.option(
    "--passwords", "path", metavar="FILE", type=click.Path(dir_okay=False),
    help="The file of passwords, instead of the user's own.",
)  # fmt: skip
scram_option = click.option(
    "--scram", is_flag=True, help="Store it so that SCRAM-SHA-256 works, too."
)
plain_option = click.option(
    "--plain", is_flag=True, help="Store it as it is, which APOP needs: who reads the file has it."
)


@click.group(name="maildrop")
def command() -> None:
    """Say who may log in to a maildrop, and with what password.

    The file of passwords has the form of Dovecot's passwd-file. What runs sees a change of it
    at the next login.
    """


@command.command()
@click.argument("login", metavar="NAME")
@passwords_option
@click.option("--chosen", is_flag=True, help="Ask for a password; by default one is made.")
@scram_option
@plain_option
@click.option("--replace", is_flag=True, help="Give a name that is there another password.")
@dry_run_option
def add(
    login: str, path: str | None, chosen: bool, scram: bool, plain: bool, replace: bool, dry: bool
) -> None:
    """Give NAME a password, made here and printed once: 128 random bits.

    A password that was made is stored as {SSHA256}, one that was chosen as {ARGON2ID}.
    """
    from mailflow.accounts import verifiers
    from mailflow.accounts.book import is_glob
    from mailflow.accounts.passwords import add as put
    from mailflow.accounts.passwords import contents, name_fault, parsed

    fault = "a password is for one login name, not for many" if is_glob(login) else ""
    if fault := fault or name_fault(login):
        raise click.BadParameter(fault, param_hint="NAME")
    where = _file(path)
    if dry:
        there = login in parsed(contents(where, optional=True)).entries
        if there and not replace:
            raise ConfigError(f"{login} is there already, in {where}; see --replace")
        say(f"would give {login} a password, in {where}")
        return
    password = _asked() if chosen else verifiers.app_password()
    by_default = verifiers.argon2_verifier if chosen else verifiers.app_verifier
    put(where, login, _stored(password, scram, plain, by_default), replace=replace)
    if not chosen:
        click.echo(password)
    say(f"{login} can log in now, where a file has {_table(login)}; kept in {where}", err=True)


@command.command(name="list")
@passwords_option
@json_option
def list_(path: str | None, as_json: bool) -> None:
    """The names that have a password, and how it is stored."""
    from mailflow.accounts.passwords import contents, parsed

    where = _file(path)
    table = parsed(contents(where, optional=path is None))
    rows = [
        {"login": each.login, "stored": _scheme(each.secret), "networks": each.networks,
         "closed": each.closed, "line": each.line}
        for each in table.entries.values()
    ]  # fmt: skip
    if as_json:
        show_json(rows)
        return
    show(
        ("LOGIN", "STORED", "FROM"),
        (
            (row["login"], row["stored"], "nowhere" if row["closed"] else row["networks"])
            for row in rows
        ),
    )
    for line, fault in table.faults:
        say(f"{where}:{line}: {fault}", err=True)


@command.command()
@click.argument("login", metavar="NAME")
@passwords_option
@dry_run_option
def remove(login: str, path: str | None, dry: bool) -> None:
    """Take NAME's password away. Its maildrop stays as it is."""
    from mailflow.accounts.passwords import contents, parsed
    from mailflow.accounts.passwords import remove as take

    where = _file(path)
    if not dry:
        take(where, login)
        say(f"{login} cannot log in any more by {where}")
    elif login in parsed(contents(where)).entries:
        say(f"would remove {login} from {where}")
    else:
        raise ConfigError(f"there is no {login} in {where}")


@command.command(name="hash")
@scram_option
@click.option("--app", is_flag=True, help="For a password that was made: as {SSHA256}.")
def hash_(scram: bool, app: bool) -> None:
    """Print what to store of a password, which is asked for: a `secret` of a maildrop.

    By default as {ARGON2ID}, for one that a human chose. Where nobody is at a terminal, the
    password is the first line of stdin.
    """
    from mailflow.accounts import verifiers

    by_default = verifiers.app_verifier if app else verifiers.argon2_verifier
    click.echo(_stored(_asked(), scram, False, by_default))


def _file(path: str | None) -> str:
    from mailflow.accounts.passwords import default_path

    return path or default_path()


def _stored(password: str, scram: bool, plain: bool, by_default: Callable[[str], str]) -> str:
    """What goes into the file. Raises ConfigError."""
    from mailflow.accounts import verifiers

    if plain and scram:
        raise click.UsageError("--plain is good for SCRAM as it is; take one of the two")
    if plain:
        return "{PLAIN}" + password
    try:
        return (verifiers.scram_verifier if scram else by_default)(password)
    except ValueError as error:
        raise ConfigError(str(error)) from None


def _asked() -> str:
    """A password from the terminal, twice, or the first line of stdin. Raises UsageError."""
    if somebody_is_there():
        password: str = click.prompt(
            "Password", hide_input=True, confirmation_prompt=True, err=True
        )
    else:
        try:
            line = b"" if sys.stdin is None else sys.stdin.buffer.readline(4096)
            password = line.rstrip(b"\r\n").decode("utf-8")
        except UnicodeDecodeError:
            raise click.UsageError("the password is not UTF-8") from None
    if not password or not password.isprintable():
        raise click.UsageError("the password is empty, or has control characters")
    return password


def _table(login: str) -> str:
    """The heading of a maildrop's table, as TOML wants it."""
    from mailflow.engine.declared import toml_key

    return f"[maildrop.{toml_key(login)}]"


def _scheme(secret: str) -> str:
    """How a secret is stored, or why it opens nothing."""
    from mailflow.accounts.verifiers import read, scheme

    try:
        read(secret)
    except ValueError as error:
        return str(error)
    return scheme(secret)[0]
