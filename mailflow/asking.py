"""Passwords for commands: told where they are, or asked of whoever sits at a terminal.

Rule of the file: no password stands in arguments, which whoever lists processes can see.
"""

from __future__ import annotations

import sys

import click

WAYS = ("file", "env", "command", "netrc", "keyring")
"""Where a password can be, as in { file = "PATH" }."""


def source(told: str, option: str = "--password") -> dict[str, str]:
    """What TOML says of a password that is to be had at "file:PATH", say. Raises UsageError."""
    way, colon, where = told.partition(":")
    if not colon or way not in WAYS or not where:
        raise click.UsageError(f"{option}: expected {', '.join(WAYS)}, a colon, and where")
    return {way: where}


def somebody_is_there() -> bool:
    """Whether a human can be asked: stdin is a terminal, and nobody has closed it."""
    return sys.stdin is not None and sys.stdin.isatty()


def typed(what: str) -> str | None:
    """What a human types when asked for the password of `what`; None where there is none."""
    if not somebody_is_there():
        return None
    given: str = click.prompt(f"Password of {what}", hide_input=True, err=True)
    return given
