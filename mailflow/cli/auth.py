"""mailflow auth: log in at those who give access tokens (OAuth2)."""

from __future__ import annotations

import sys
import time
from contextlib import suppress
from typing import TYPE_CHECKING

import click

from mailflow.asking import somebody_is_there
from mailflow.errors import ConfigError, LoginError, MailflowError
from mailflow.oauth2.provider import FLOWS
from mailflow.tables import dry_run_option, json_option, moment, say, show, show_json, span
from mailflow.values import FOREVER

if TYPE_CHECKING:
    from mailflow.oauth2 import Access
    from mailflow.oauth2.store import Tokens

pipeline_option = click.option(
    "--file", metavar="FILE",
    help="The pipeline that says oauth2, by path or name, beside the accounts of defaults.toml.",
)  # fmt: skip


@click.group(name="auth")
def command() -> None:
    """Log in at those who give access tokens (OAuth2), such as Google or Microsoft.

    ACCOUNT is the name of an [account.NAME] that says oauth2, or PROVIDER/USER, or a user whom
    the file names, or a pipeline that is found by its name. What runs takes up a new login by
    itself.
    """


@command.command()
@click.argument("account")
@pipeline_option
@click.option(
    "--flow", type=click.Choice(FLOWS),
    help="How to say yes, instead of how the file wants it: in a browser on this machine, in one"
    " elsewhere whose last address is pasted here, on another device by a code, or not at all.",
)  # fmt: skip
@click.option("--no-browser", is_flag=True, help="Open no browser; the address is printed.")
@dry_run_option
def login(account: str, file: str | None, flow: str | None, no_browser: bool, dry: bool) -> None:
    """Let ACCOUNT's user say yes, and keep the tokens that this gives."""
    from mailflow.engine.logins import meant
    from mailflow.oauth2.flows import log_in

    access, user = meant(account, file, flow or "")
    if (secret := access.provider.client_secret) is not None:
        secret.check()  # before anybody is sent to a browser for nothing
    store = access.store(user)
    if dry:
        way = access.provider.flow
        say(f"would log in at {access.name} as {user} (flow {way}), and keep it in {store.path}")
        return
    tokens = log_in(access, user, _Talk(browser=not no_browser))
    say(f"{user} has logged in at {access.name}; kept in {store.path}")
    if access.provider.flow != "client" and not tokens.refresh_token:
        ends = span(tokens.expires - time.time()) if tokens.expires else "a while"
        text = f"{access.name} gave nothing to renew the token with, which ends in {ends}"
        say(f"{text}; see `scopes` and `parameters` of the provider", err=True)


@command.command()
@click.argument("accounts", nargs=-1, metavar="[ACCOUNT...]")
@pipeline_option
@json_option
def status(accounts: tuple[str, ...], file: str | None, as_json: bool) -> None:
    """Say who has logged in, how long that lasts, and who must log in again.

    All logins that are kept or named by a file, if no ACCOUNT is given. The exit status is 77
    where somebody must log in.
    """
    rows = [_row(access, user) for access, user in _logins(accounts, file)]
    if as_json:
        show_json(rows)
    else:
        columns = ("LOGIN", "TOKEN", "CONSENT", "ENDS", "STATE")
        show(columns, [_cells(row) for row in rows])
    if any(row["login_needed"] for row in rows):
        sys.exit(LoginError.exit_code)


@command.command()
@click.argument("account")
@pipeline_option
@dry_run_option
def refresh(account: str, file: str | None, dry: bool) -> None:
    """Fetch a new access token for ACCOUNT now, though the old one may be good."""
    from mailflow.engine.logins import meant
    from mailflow.oauth2.refresh import check, renew

    access, user = meant(account, file)
    if dry:
        check(access, user)
        say(f"would renew the token of {user} at {access.name}")
        return
    tokens = renew(access, user)
    say(f"the token of {user} at {access.name} is good for {_life(tokens)}")


@command.command()
@click.argument("account")
@pipeline_option
@dry_run_option
def forget(account: str, file: str | None, dry: bool) -> None:
    """Give ACCOUNT's consent back, where the provider knows how, and remove its tokens."""
    from mailflow.oauth2.ask import give_back

    access, user = _kept(account, file)
    store = access.store(user)
    if dry:
        say(f"would forget {store.name}, kept in {store.path}")
        return
    with store.locked():
        tokens = None
        with suppress(ConfigError):  # what is damaged can be removed
            tokens = store.load()
        if not store.forget():
            raise ConfigError(f"nobody has logged in at {access.name} as {user}")
    token = tokens.refresh_token or tokens.access_token if tokens else ""
    if not token or not access.provider.endpoint("revocation"):
        say(f"{store.name} is forgotten here; {access.name} still counts it as allowed")
        return
    try:
        give_back(access.provider, token)
    except MailflowError as error:
        say(f"{store.name} is forgotten here; the consent could not be given back: {error}")
        return
    say(f"{store.name} is forgotten, here and at {access.name}")


class _Talk:
    """With who sits at the terminal."""

    def __init__(self, *, browser: bool) -> None:
        self._browser = browser

    def say(self, line: str) -> None:
        for each in line.split("\n"):
            say(each, err=True)

    def browse(self, url: str) -> None:
        if self._browser:
            import webbrowser

            webbrowser.open(url)

    def ask(self, question: str) -> str:
        if somebody_is_there():
            answer: str = click.prompt(question, err=True)
            return answer
        return "" if sys.stdin is None else sys.stdin.readline(65536)


def _logins(accounts: tuple[str, ...], file: str | None) -> list[tuple[Access, str]]:
    """Those that are meant: by their names, or all."""
    if accounts:
        return [_kept(each, file) for each in accounts]
    from mailflow.engine.logins import logins as named
    from mailflow.oauth2.store import logins as kept

    known = {(each.provider, each.user) for each in named(file) if each.user}
    return [_kept(f"{provider}/{user}", file) for provider, user in sorted(known | set(kept()))]


def _kept(account: str, file: str | None) -> tuple[Access, str]:
    """A login, though its client may not be known here any more."""
    from mailflow.engine.logins import meant
    from mailflow.oauth2.access import Access
    from mailflow.oauth2.provider import Provider, provider
    from mailflow.oauth2.store import logins

    try:
        return meant(account, file)
    except ConfigError:
        name, _, user = account.partition("/")
        if (name, user) not in logins():
            raise
    found = Provider()
    with suppress(ValueError):
        found, _ = provider(name, {}, ".")
    return Access(name, found), user


def _row(access: Access, user: str) -> dict[str, object]:
    """One login, as JSON says it; times are seconds since the epoch."""
    from mailflow.oauth2.refresh import check, consent_ends

    store, now = access.store(user), time.time()
    tokens, problem, login_needed = None, "", False
    try:
        tokens = store.load()
        if tokens is None or tokens.client_id in ("", access.provider.client_id):
            check(access, user)
        if tokens and tokens.failures and tokens.retry_at > now:
            problem = tokens.failure
    except MailflowError as error:
        problem, login_needed = error.text, isinstance(error, LoginError)
    ends = consent_ends(access.provider, tokens) if tokens and tokens.consented else FOREVER
    return {
        "login": store.name, "provider": access.name, "user": user,
        "logged_in": tokens is not None, "login_needed": login_needed, "problem": problem,
        "token_ends": tokens.expires or None if tokens else None,
        "renewed": tokens.obtained or None if tokens else None,
        "renewable": bool(tokens and tokens.refresh_token) or access.provider.flow == "client",
        "consented": tokens.consented or None if tokens else None,
        "consent_ends": ends if ends != FOREVER else None,
        "kept": store.path,
    }  # fmt: skip


def _cells(row: dict[str, object]) -> tuple[str, ...]:
    now = time.time()

    def away(name: str) -> str:
        at = row[name]
        if not isinstance(at, float):
            return ""
        return f"in {span(at - now)}" if at > now else f"{span(now - at)} ago"

    token = away("token_ends")
    state = str(row["problem"]) or "good"
    if not row["problem"] and isinstance(row["consent_ends"], float):
        left = row["consent_ends"] - now
        if left < 7 * 86400:
            state = f"good; log in again before {moment(row['consent_ends'])}"
    return str(row["login"]), token, away("consented"), away("consent_ends"), state


def _life(tokens: Tokens) -> str:
    return span(tokens.expires - time.time()) if tokens.expires else "as long as it is taken"
