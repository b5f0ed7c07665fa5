"""What is wrong with accounts before anybody logs in, for `mailflow check`.

Rule of the file: it looks, asks no agent for a secret, and no text holds one.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from shlex import quote

from mailflow.accounts.book import is_glob
from mailflow.accounts.doors import passes
from mailflow.accounts.networks import Networks
from mailflow.accounts.passwords import contents, default_path, parsed
from mailflow.accounts.verifiers import read
from mailflow.errors import ConfigError, MailflowError
from mailflow.options import ServerOptions
from mailflow.record import NamedTuple
from mailflow.typed import TYPE_CHECKING, Any, Protocol

if TYPE_CHECKING:
    from mailflow.options import SecretValue


class Finding(NamedTuple):
    """One thing that is wrong with the account `name`, at one of its keys; "" for none of
    them. `grave`: it cannot stay so; else somebody may want it."""

    name: str
    key: str
    text: str
    grave: bool = True


class Table(Protocol):
    """A [maildrop.NAME] as it was read; `component` is the class of the maildrop."""

    @property
    def name(self) -> str: ...
    @property
    def component(self) -> Any: ...
    @property
    def options(self) -> Any: ...
    @property
    def login(self) -> str: ...
    @property
    def secret(self) -> SecretValue | None: ...
    @property
    def passwords(self) -> str | None: ...
    @property
    def aliases(self) -> tuple[str, ...]: ...
    @property
    def networks(self) -> tuple[str, ...]: ...


def audit(accounts: Sequence[Table], *, thorough: bool) -> Iterator[Finding]:
    """All that is wrong; with the files that are named only where `thorough`."""
    taken = {account.name: account.name for account in accounts}
    for account in accounts:
        yield from _name(account.name)
        for alias in account.aliases:
            if alias in taken:
                text = f"{alias!r} is a login name of `{taken[alias]}` already"
                yield Finding(account.name, "aliases", text)
            taken[alias] = account.name
        try:
            Networks(account.networks)
        except ValueError as error:
            yield Finding(account.name, "networks", str(error))
        yield from _behind(account)
        if account.login == "passthrough":
            yield from _passed_on(account)
        elif thorough:
            yield from (_secret(account) if account.secret is not None else _passwords(account))


def _name(name: str) -> Iterator[Finding]:
    """Of what it is called, where no login name can ever be that."""
    if not name.isprintable() or not name:
        yield Finding(name, "", "expected a login name, or a glob over login names")
    elif "[" in name and "]" not in name.partition("[")[2].removeprefix("!")[1:]:
        yield Finding(name, "", "its [ has no ], and so stands for itself", grave=False)


def _behind(account: Table) -> Iterator[Finding]:
    """Of the log-in at the server that a maildrop has behind it, where it has one."""
    options = account.options
    if not isinstance(options, ServerOptions) or not passes(account.component):
        return
    given = options.secret is not None
    if account.login == "passthrough" and given:
        text = "the password there is never used, since login is passthrough"
        yield Finding(account.name, "login", text, grave=False)
    elif account.login != "passthrough" and not (given or getattr(options, "certificate", None)):
        ways = 'a `token` or `oauth2`, or login = "passthrough"'
        text = f"expected a password for {options.host}, {ways}"
        yield Finding(account.name, "password", text)


def _passed_on(account: Table) -> Iterator[Finding]:
    if not passes(account.component):
        text = "it has no back end that could check a password; set a secret instead"
        yield Finding(account.name, "login", text)
    for key, value in (("secret", account.secret), ("passwords", account.passwords)):
        if value is not None:
            text = "nobody asks for it, since login is passthrough"
            yield Finding(account.name, key, text, grave=False)


def _secret(account: Table) -> Iterator[Finding]:
    secret = account.secret
    if secret is None:
        return
    if is_glob(account.name):
        text = "one password opens every maildrop whose name fits; better `passwords`"
        yield Finding(account.name, "secret", text, grave=False)
    if secret.literal or secret.watched is not None:
        try:
            read(secret.reveal())
        except ValueError as error:
            yield Finding(account.name, "secret", str(error))
        except MailflowError:
            return  # whoever looks for secrets has told it


def _stored(name: str, where: str, secret: str) -> Iterator[Finding]:
    """One of many: the others can log in."""
    try:
        read(secret)
    except ValueError as error:
        yield Finding(name, "", f"{where} cannot log in: {error}", grave=False)


def _passwords(account: Table) -> Iterator[Finding]:
    """Of the file of many; a default one need not be there."""
    name = account.name
    try:
        path = account.passwords or default_path()
        table = parsed(contents(path, optional=account.passwords is None))
    except ConfigError as error:
        yield Finding(name, "passwords" if account.passwords else "", error.text)
        return
    for line, text in table.faults:
        yield Finding(name, "passwords" if account.passwords else "", f"{path}:{line}: {text}")
    entry = table.entries.get(name)
    if is_glob(name):
        if not table.entries:
            text = f"nobody can log in: {path} has no names; see `mailflow maildrop add`"
            yield Finding(name, "", text, grave=False)
        for each in table.entries.values():
            yield from _stored(name, f"{path}:{each.line}: {each.login!r}", each.secret)
    elif entry is None or not entry.secret:
        text = f"nobody can log in: no secret, and none in {path}"
        yield Finding(name, "", f"{text}; run: mailflow maildrop add {quote(name)}", grave=False)
    else:
        try:
            read(entry.secret)
        except ValueError as error:
            yield Finding(name, "", f"{path}:{entry.line}: {error}")
