"""Sources and destinations as URLs: pop3s://ann@pop.example.org, maildir:~/Maildir.

    named = read("pop3s://ann@pop.example.org", "fetch", registry)
    named.table          # what the file of a pipeline would say in [[fetch]]

Rule of the file: a URL is seen by whoever lists processes or reads a shell's history,
so that no secret may stand in one; whatever is wrong with it is one clear line.
"""

from __future__ import annotations

import os
import re
from collections.abc import Mapping

from mailflow.errors import ConfigError
from mailflow.options import (
    Flag,
    Integer,
    ListOf,
    Option,
    Path,
    Secret,
    ServerOptions,
    Size,
    TableOf,
    Template,
    Text,
)
from mailflow.record import NamedTuple
from mailflow.typed import TYPE_CHECKING, Any
from mailflow.values import instead

if TYPE_CHECKING:
    from urllib.parse import SplitResult

    from mailflow.engine.registry import Registry
    from mailflow.options import Options

WAYS = ("file", "env", "netrc", "keyring")
"""Where a secret of a URL may come from: password_file=PATH, password_env=NAME ..."""

_SIDES = {"fetch": "source", "distribute": "destination", "maildrop": "back end",
          "account": "mailbox"}  # fmt: skip
_SCHEME = re.compile(r"([A-Za-z][A-Za-z0-9+.-]*):(.*)")
_FALSE_CODE = re.compile("%(?![0-9A-Fa-f]{2})")


class UrlError(ConfigError):
    """A URL that names no source or destination."""

    exit_code = 64


class Named(NamedTuple):
    """What a URL names: a component with its options, as a TOML `table` and as `options`.

    `where` names the place for good, without a secret and wherever it is said.
    """

    use: str
    component: type[Any]
    table: dict[str, object]
    options: Options
    where: str


def read(
    url: str, table: str, registry: Registry, *, base: str = ".", password: str | None = None
) -> Named:
    """The component under [[fetch]] or [[distribute]] that a URL names.

    `base` is where a relative path starts. A password that is given is used; else, where
    there is a user, the one of that host in ~/.netrc. Raises UrlError, or PluginError where
    the plugin of its scheme cannot be had.
    """
    scheme, parts = _split(url)
    use, component = _component(scheme, table, registry)
    said = _Said(_shown(scheme, parts), component)
    said.take(component.schemes[scheme])
    said.server(parts)
    said.path(parts)
    said.query(parts.query)
    said.password(password)
    try:
        options = component.options.read(said.table, base)
    except ConfigError as error:
        raise UrlError(f"{said.shown}: {error.text}") from None
    where = said.shown
    way = getattr(component, "url_path", None)
    if way is not None:
        where = f"{scheme}:{getattr(options, way)}"
    if table == "distribute" or way is not None:  # of a server, the account is the place
        where += said.place
    return Named(use, component, {"use": use, **said.table}, options, where)


def _split(url: str) -> tuple[str, SplitResult]:
    """(scheme, parts). Raises UrlError; what may hold a password is not repeated."""
    from urllib.parse import urlsplit

    match = _SCHEME.fullmatch(url)
    if match is None:
        raise UrlError(
            f"{url!r} is no URL; write pop3s://USER@HOST, smtp://HOST or maildir:PATH"
            if "@" not in url
            else "expected a URL such as pop3s://USER@HOST or smtp://HOST"
        )
    scheme = match[1].lower()
    if any(character <= " " or character == "\x7f" for character in url):
        raise UrlError(f"{scheme}: a space or control character in a URL is written %20 and so on")
    if "#" in url:
        raise UrlError(f'{scheme}: a "#" in a URL is written %23')
    try:
        parts = urlsplit(url)
        parts.port  # noqa: B018  # looks at it
    except ValueError as error:
        text = str(error)
        reason = (
            "expected a port of 1 to 65535 behind the host"
            if "ort" in text
            else "an IPv6 address stands in brackets: pop3s://[2001:db8::1]"
        )
        raise UrlError(f"{scheme}: {reason}") from None
    if parts.password is not None:
        raise UrlError(
            f"{scheme}: a password in a URL is seen by others; put it into ~/.netrc, or add"
            " ?password_file=PATH or ?password_env=NAME"
        )
    if _FALSE_CODE.search(url):
        raise UrlError(f'{scheme}: a "%" in a URL is written %25')
    return scheme, parts


def _component(scheme: str, table: str, registry: Registry) -> tuple[str, type[Any]]:
    found = registry.named_by(scheme, table)
    if found is not None:
        return found
    side = _SIDES[table]
    for other in _SIDES:
        if other != table and registry.named_by(scheme, other) is not None:
            raise UrlError(f"{scheme}: is a {_SIDES[other]}, and here stands the {side}")
    known = registry.schemes(table)
    hint = instead(scheme, known)
    raise UrlError(f"{scheme}: no {side} has such URLs{hint}")


def _shown(scheme: str, parts: SplitResult) -> str:
    """A URL without its query, which is of no use to a reader and may name secrets."""
    if not parts.netloc:
        return f"{scheme}:{parts.path}"
    return f"{scheme}://{parts.netloc}{parts.path.rstrip('/')}"


class _Said:
    """What a URL says, as the TOML table of a step."""

    def __init__(self, shown: str, component: type[Any]) -> None:
        self.shown = shown
        self.component = component
        self.declared: dict[str, Option[Any]] = component.options.declared()
        self.table: dict[str, object] = {}
        self.place = ""

    def take(self, options: Mapping[str, object]) -> None:
        self.table.update(options)

    def server(self, parts: SplitResult) -> None:
        """User, host and port."""
        given = {"user": parts.username, "host": parts.hostname, "port": parts.port}
        if given["host"] and "%" in str(given["host"]):
            given["host"] = self._decoded(str(given["host"]))
        for name, value in given.items():
            if value is None or value == "":
                continue
            if name not in self.declared:
                raise self._fault(f"takes no {name}; three slashes begin a path")
            self.table[name] = self._decoded(value) if isinstance(value, str) else value
        if "host" in self.declared and not parts.hostname:
            raise self._fault(f"expected a host: {self._scheme}://HOST")

    def path(self, parts: SplitResult) -> None:
        way: str | None = getattr(self.component, "url_path", None)
        if way is not None and parts.path:
            self.table[way] = self._decoded(parts.path)
        elif way is not None:
            raise self._fault(f"expected a path: {self._scheme}:PATH")
        elif hasattr(self.component, "url_folder") and parts.path not in ("", "/"):
            self.table[self.component.url_folder] = [self._decoded(parts.path[1:])]
        elif parts.path not in ("", "/"):
            raise self._fault(f"takes no path; found {parts.path!r}")

    def query(self, text: str) -> None:
        """option=value, several with "&" between them; twice is a list of two."""
        for pair in text.split("&") if text else ():
            name, equals, raw = pair.partition("=")
            value = self._decoded(raw)
            if self._secret(name, value):
                continue
            option = self.declared.get(name)
            if not equals or option is None:
                hint = instead(name, self.declared)
                raise self._fault(f"{name!r} is none of its options{hint}")
            self._add(name, option, value)

    def _secret(self, name: str, value: str) -> bool:
        """password_file=PATH and such; whether it was one."""
        option = self.declared.get(name)
        if isinstance(option, Secret):
            raise self._fault(
                f"a {name} in a URL is seen by others; say {name}_file=PATH or {name}_env=NAME"
            )
        secret, _, way = name.rpartition("_")
        if way not in WAYS or not isinstance(self.declared.get(secret), Secret):
            return False
        self.table[secret] = {way: value}
        return True

    def _add(self, name: str, option: Option[Any], value: str) -> None:
        several = isinstance(option, ListOf)
        kind = option.element if isinstance(option, ListOf) else option
        if isinstance(kind, TableOf):
            raise self._fault(f"`{name}` is a table, and cannot stand in a URL")
        typed = self._typed(kind, value)
        if several:
            before = self.table.get(name)
            self.table[name] = [*(before if isinstance(before, list) else ()), typed]
        else:
            self.table[name] = typed
        if name not in ServerOptions.declared() and isinstance(kind, Text | Template | Path):
            self.place += f"?{name}={value}"

    def _typed(self, option: Option[Any], value: str) -> object:
        """A word as TOML would have it: a number where one is expected."""
        if isinstance(option, Integer | Size) and re.fullmatch("-?[0-9]{1,18}", value):
            return int(value)
        if isinstance(option, Flag) and value in ("true", "false"):
            return value == "true"
        return value

    def password(self, given: str | None) -> None:
        """The password of the user, where nothing in the URL says where it is."""
        if not isinstance(self.declared.get("password"), Secret):
            return
        if not {"password", "token", "oauth2"}.isdisjoint(self.table):
            return
        if given is not None:
            self.table["password"] = given
        elif "user" in self.table:
            host = str(self.table.get("host", ""))
            if not in_netrc(host):
                raise self._fault(
                    f"no password is known: write `machine {host} password ...` into ~/.netrc, or"
                    " add ?password_file=PATH or ?password_env=NAME"
                )
            self.table["password"] = {"netrc": host}

    def _decoded(self, text: str) -> str:
        from urllib.parse import unquote

        try:
            plain = unquote(text, errors="strict")
        except UnicodeDecodeError:
            raise self._fault("what is behind a % is no UTF-8") from None
        if any(character < " " or character == "\x7f" for character in plain):
            raise self._fault("a control character stands in it")
        return plain

    @property
    def _scheme(self) -> str:
        return self.shown.partition(":")[0]

    def _fault(self, text: str) -> UrlError:
        return UrlError(f"{self.shown}: {text}")


_SECRETS = ("password_", "token_", "oauth2=")


def wants_password(url: str) -> bool:
    """Whether a URL names a user and nothing says where the password is."""
    try:
        _scheme, parts = _split(url)
    except UrlError:
        return False
    said = any(pair.startswith(_SECRETS) for pair in parts.query.split("&"))
    return bool(parts.username and parts.hostname and not said and not in_netrc(parts.hostname))


def in_netrc(host: str) -> bool:
    """Whether ~/.netrc has a password for this host; a fault of the file is told later,
    when it is read for good."""
    import netrc

    try:
        entry = netrc.netrc(os.path.expanduser("~/.netrc")).authenticators(host)
    except OSError:
        return False
    except (netrc.NetrcParseError, ValueError):
        return True
    return entry is not None and bool(entry[2])
