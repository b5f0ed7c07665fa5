"""What `check` and `login` are told of an account at a webmail, and a session with it.

Rule of the file: what is missing is asked of a human; no password stands in an argument.
"""

from __future__ import annotations

import os
import re
import tempfile
from collections.abc import Callable, Iterator, Mapping
from contextlib import closing, contextmanager
from typing import Any, TypeVar

import click

from mailflow.asking import WAYS, somebody_is_there, source, typed
from mailflow.errors import ConfigError
from mailflow.halt import Halt
from mailflow_webmail.account.session import Session, pages
from mailflow_webmail.definition.language import Site
from mailflow_webmail.definition.site import read
from mailflow_webmail.settings import WebmailOptions
from mailflow_webmail.web.browser import Browser

F = TypeVar("F", bound=Callable[..., Any])

_OPTIONS = (
    click.argument("site", metavar="SITE"),
    click.argument("url", metavar="URL"),
    click.option("--user", metavar="NAME", help="The login name."),
    click.option(
        "--password", "secret", metavar="SOURCE:WHERE",
        help=f"Where the password is: {', '.join(WAYS)}, as in file:PATH. By default it is asked"
        " for.",
    ),
    click.option(
        "--cookies", metavar="FILE",
        help="The cookies of a browser that is logged in, as Netscape's.",
    ),
    click.option("--ca-file", metavar="FILE", help="The authorities to trust, as PEM."),
    click.option("--proxy", metavar="URL", help="A proxy, such as socks5h://localhost:1080."),
    click.option(
        "--proxy-password", metavar="SOURCE:WHERE",
        help="Where the password for the proxy is, if it wants one of the name in --proxy. By"
        " default it is asked for.",
    ),
    click.option("--hosts", multiple=True, metavar="HOST", help="One more host; may be repeated."),
    click.option("--timeout", metavar="TIME", help="How long to wait each time (60s)."),
)  # fmt: skip

_FILES = ("cookies", "ca_file")
_SCHEME = re.compile(r"\A[a-z0-9]+://", re.IGNORECASE)

Said = Mapping[str, object]
"""What a pipeline says of an account, as TOML has it."""


def account_options(command: F) -> F:
    """SITE, URL and what belongs to them."""
    for option in reversed(_OPTIONS):
        command = option(command)
    return command


def said(
    site: str,
    url: str,
    user: str | None,
    secret: str | None,
    proxy: str | None,
    proxy_password: str | None,
    **more: object,
) -> dict[str, object]:
    """The account, as TOML has it but for passwords that are typed. Raises UsageError,
    ConfigError."""
    through = _through(proxy, proxy_password)
    if user is None:
        if not somebody_is_there():
            raise click.UsageError("who logs in? say --user NAME")
        user = str(click.prompt("Login name", err=True))
    site = _absolute(site) if site.endswith(".toml") else site
    table: dict[str, object] = {"site": site, "url": url, "user": user}
    if secret is not None:
        table["password"] = _source(secret, "--password")
    elif not more["cookies"]:
        password = typed(f"{user} at {url}")
        if password is None:
            raise ConfigError(f"no password is known for {user} at {url}: say --password file:PATH")
        table["password"] = password
    for name, each in more.items():
        if isinstance(each, tuple):
            table.update({name: list(each)} if each else {})
        elif isinstance(each, str):
            table[name] = _absolute(each) if name in _FILES else each
    return table | through


def _through(proxy: str | None, secret: str | None) -> dict[str, object]:
    """The proxy and where its password is. Raises UsageError for one that holds it."""
    if proxy is None:
        if secret is not None:
            raise click.UsageError("--proxy-password: there is no --proxy that it is for")
        return {}
    who, _, place = proxy.rpartition("@")
    user, colon, _ = _SCHEME.sub("", who).partition(":")
    if colon:
        scheme = "".join(_SCHEME.findall(who))
        raise click.UsageError(
            "--proxy: whoever lists processes sees a password in an argument: write"
            f" {scheme}{user}@{place} and say --proxy-password file:PATH"
        )
    table: dict[str, object] = {"proxy": proxy}
    if secret is not None:
        return {**table, "proxy_password": _source(secret, "--proxy-password")}
    password = typed(f"{user} at the proxy {place}") if user else None
    return table if password is None else {**table, "proxy_password": password}


def _source(told: str, option: str) -> dict[str, str]:
    """Where a password is, wherever a file says so that is written later. Raises UsageError."""
    where = source(told, option)
    return {**where, "file": _absolute(where["file"])} if "file" in where else where


def _absolute(path: str) -> str:
    """Where it is, from wherever a file names it that is written later."""
    return path if path.startswith("~") else os.path.abspath(path)


@contextmanager
def session_at(table: Said, path: str, *, draft: bool = False) -> Iterator[Session]:
    """A session of that account, by the definition in a file. Raises ConfigError."""
    site = read(path, draft=draft)
    options = WebmailOptions.read({**table, "site": path}, os.getcwd())
    with closing(Halt()) as halt, tempfile.TemporaryDirectory(prefix="mailflow-") as scratch:
        session = _session(site, options, halt, scratch)
        try:
            yield session
        finally:
            session.close()


def _session(site: Site, options: WebmailOptions, halt: Halt, scratch: str) -> Session:
    secret = options.password
    return Session(
        site, Browser.of(options, halt), options.user, secret.reveal if secret else None, scratch,
        saved=pages(),
    )  # fmt: skip
