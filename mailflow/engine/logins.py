"""Which logins at a provider of tokens the files name: for `mailflow auth`.

Rule of the file: tables are read as they stand, whatever else in them is wrong; who logs in
because a pipeline cannot must not be kept from it by that pipeline.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from contextlib import suppress
from glob import escape, glob

from mailflow.engine import layers
from mailflow.engine.layers import Place, Said
from mailflow.engine.source import directories
from mailflow.errors import ConfigError
from mailflow.oauth2 import Access, access
from mailflow.options import ElementsError, Fault
from mailflow.record import NamedTuple
from mailflow.toml_file import ConfigFaults, Source
from mailflow.values import listed

STEPS = ("fetch", "distribute")


class Login(NamedTuple):
    """Where a file says `oauth2`. `account` is the name of an [account.NAME], "" elsewhere;
    `user` is "" where the file leaves it open."""

    account: str
    user: str
    value: object
    source: Source
    path: Place

    @property
    def provider(self) -> str:
        value = self.value.get("provider") if isinstance(self.value, dict) else self.value
        return str(value)

    def access(self, flow: str = "") -> Access:
        """With `flow` in the place of its own. Raises ConfigFaults."""
        value = self.value
        if flow:
            value = {**(value if isinstance(value, dict) else {"provider": value}), "flow": flow}
        try:
            return access(value, self.source.base)
        except ElementsError as error:
            faults = [Fault((*self.path, *inner), str(each)) for inner, each in error.faults]
        except ValueError as error:
            faults = [Fault(self.path, str(error))]
        raise ConfigFaults(self.source.located(faults))


def logins(file: str | None) -> list[Login]:
    """All of a pipeline's file and of those with defaults, or of these alone. Raises
    ConfigFaults."""
    sources = layers.with_accounts(file)
    named = dict.fromkeys(
        name
        for source in sources
        if isinstance(source.data.get("account"), dict)
        for name in source.data["account"]
    )
    found = [
        login for name in named for login in _of(name, list(layers.of_account(sources, name)))
    ]  # fmt: skip
    if file is not None:
        found += (login for said in _tables(sources[0]) for login in _of("", [said]))
    return found


def meant(word: str, file: str | None, flow: str = "") -> tuple[Access, str]:
    """(provider, user) of an account's name, of PROVIDER/USER, or of a user whom the files name
    once. Raises ConfigError."""
    known = logins(file)
    provider, slash, user = word.partition("/")
    fitting = [each for each in known if each.account == word] or _whose(word, known)
    if not fitting and file is None:
        fitting = _in_pipelines(word)
    if not fitting and slash:
        fitting = [each for each in known if each.provider == provider and not each.user]
    whose = {(each.provider, each.user or user) for each in fitting}
    if len(whose) == 1:
        name = fitting[0].user or user
        if not name:
            raise ConfigError(f"{word} leaves the user open; write {fitting[0].provider}/USER")
        return fitting[0].access(flow), name
    if whose:
        several = ", ".join(sorted("/".join(each) for each in whose))
        raise ConfigError(f"{word} may be one of several: {several}")
    if not (provider and user):
        raise ConfigError(_missing(word, known, file))
    return _by_itself(provider, flow), user


def _whose(word: str, known: Sequence[Login]) -> list[Login]:
    """Those of a user, or of PROVIDER/USER."""
    return [
        each for each in known if each.user and word in (each.user, f"{each.provider}/{each.user}")
    ]


def _in_pipelines(word: str) -> list[Login]:
    """Those of the pipelines that are found by name, as what runs says whom to log in without
    knowing any file. Raises ConfigError where they ask as different clients."""
    found: list[Login] = []
    for directory in directories()[1:]:
        for file in sorted(glob(os.path.join(escape(directory), "*.toml"))):
            with suppress(ConfigError):  # another one's faults are no reason to fail
                found += _whose(word, logins(file))
    asking = {repr(each.value): each.source.path for each in reversed(found)}
    if len(asking) > 1:
        files = ", ".join(sorted({*asking.values()}))
        raise ConfigError(f"{word} logs in in several ways; name one of them by --file: {files}")
    return found


def _by_itself(provider: str, flow: str) -> Access:
    """By what the provider's file says alone."""
    try:
        return access({"provider": provider, **({"flow": flow} if flow else {})}, os.curdir)
    except ValueError as error:
        raise ConfigError(
            f"{provider}: {error}. Where a pipeline says it, name that by --file"
        ) from None


def _missing(word: str, known: Sequence[Login], file: str | None) -> str:
    names = sorted({each.account or f"{each.provider}/{each.user}" for each in known})
    where = "" if file else ", name the pipeline that has it by --file,"
    return (
        f"no account with oauth2 is called {word!r}{listed(names)}. Write the name of an"
        f" [account.NAME] that says oauth2{where} or write PROVIDER/USER"
    )


def _of(name: str, said: Sequence[Said]) -> Iterator[Login]:
    """The login that tables say together, the nearest first."""
    user = next((str(table["user"]) for _, _, table in said if table.get("user")), "")
    user = "" if "{" in user else user  # it is another one for each client
    for source, path, table in said:
        if "oauth2" in table:
            yield Login(name, user, table["oauth2"], source, (*path, "oauth2"))
            return


def _tables(source: Source) -> Iterator[Said]:
    """The steps and the maildrops of a pipeline that say it themselves."""
    for kind in STEPS:
        steps = source.data.get(kind)
        for number, table in enumerate(steps if isinstance(steps, list) else ()):
            if isinstance(table, dict):
                yield source, (kind, number), table
    drops = source.data.get("maildrop")
    for name, table in (drops if isinstance(drops, dict) else {}).items():
        if isinstance(table, dict):
            own = {} if any(each in name for each in "*?[") else {"user": name}
            yield source, ("maildrop", name), {**own, **table}
