"""What there is to know of a provider: TOML, ours and the user's, and no code.

    # ~/.config/mailflow/providers/mine.toml
    authorization_endpoint = "https://login.example.org/authorize"
    token_endpoint = "https://login.example.org/token"
    scopes = ["mail"]

Rule of the file: of one key, what the step says counts before the user's file, that before
the system's, and that before the one that is shipped.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping

from mailflow.directories import SYSTEM, settings_directory
from mailflow.net import is_loopback
from mailflow.options import (
    Choice,
    Duration,
    Fault,
    ListOf,
    Option,
    Options,
    Path,
    Secret,
    TableOf,
    Text,
    convert,
    nearest,
)
from mailflow.values import FOREVER, instead

SHIPPED = os.path.join(os.path.dirname(__file__), "providers")

FLOWS = ("browser", "paste", "device", "client")

OURS = ("response_type", "client_id", "redirect_uri", "scope", "state", "code_challenge",
        "code_challenge_method")  # fmt: skip
"""Parameters that the browser is sent with anyway (RFC 6749, 4.1.1; RFC 7636, 4.3)."""


class Endpoint(Option[str]):
    """An https URL, or, on this machine, an http one; {tenant} may stand in it."""

    expected = 'a URL such as "https://login.example.org/token"'
    json_type = {"type": "string", "pattern": "^https?://"}

    def convert(self, value: object, base: str) -> str:
        from urllib.parse import urlsplit

        try:
            parts = urlsplit(value if isinstance(value, str) else "")
            host = parts.hostname or ""
            parts.port  # noqa: B018  # looks at it
        except ValueError:
            raise self.reject() from None
        if parts.scheme not in ("https", "http") or not host or parts.username:
            raise self.reject()
        if not str(value).isascii() or any(c <= " " for c in str(value)):
            raise self.reject()
        if parts.scheme == "http" and not is_loopback(host):
            raise ValueError("expected an https URL: what is sent there is secret")
        return str(value)


class Redirect(Endpoint):
    """A URL in which {port} may stand for its port."""

    expected = 'a URL such as "http://127.0.0.1:{port}/"'

    def convert(self, value: object, base: str) -> str:
        super().convert(str(value).replace("{port}", "1"), base)
        return str(value)


class Provider(Options):
    """Who gives access tokens, what for, and as whom we ask."""

    client_id = Text(
        "The name under which this program was registered with the provider.", default=""
    )
    client_secret = Secret.optional(
        "The secret that belongs to `client_id`, where the provider has given one."
    )
    client_auth = Choice(
        "How the secret is sent: in the body of the request, or as a password of HTTP.",
        "body", "basic", default="body",
    )  # fmt: skip
    flow = Choice(
        "How a user says yes: in a browser on this machine, in one elsewhere whose last address"
        " is pasted here, on another device by a code, or, for a program that acts on its own,"
        " not at all (client credentials).",
        *FLOWS, default="browser",
    )  # fmt: skip
    scopes = ListOf("What is asked for, in the provider's own words.", Text("A scope."), default=())
    tenant = Text("What stands for {tenant} in the endpoints.", default="")
    authorization_endpoint = Endpoint.optional("Where the browser goes.")
    token_endpoint = Endpoint("Where tokens come from.", default="")
    device_endpoint = Endpoint.optional("Where codes for another device come from (RFC 8628).")
    revocation_endpoint = Endpoint.optional("Where tokens are given back (RFC 7009).")
    issuer = Text("Its name, for which an answer must be, if it says one (RFC 9207).", default="")
    parameters = TableOf("What else the browser is sent with.", Text("A value."), default={})
    redirect = Redirect(
        "Where the browser comes back to, on this machine; {port} is a free one.",
        default="http://127.0.0.1:{port}/",
    )
    consent = Duration("How long a consent lasts, however often it is used.", default=FOREVER)
    idle = Duration("How long it lasts while it is not used.", default=FOREVER)
    store = Choice(
        "Where tokens are kept: in a file that only the user can read, or in the keyring.",
        "file", "keyring", default="file",
    )  # fmt: skip
    ca_file = Path.optional("A PEM file with the authorities to trust instead of the system's.")
    timeout = Duration("How long an answer of the provider is waited for.", default=15.0)
    register = Text("Where `client_id` is to be had.", default="")

    def endpoint(self, name: str) -> str:
        """`name`_endpoint, with its tenant; "" where the provider has none."""
        url: str = getattr(self, f"{name}_endpoint") or ""
        return url.replace("{tenant}", self.tenant)


def known() -> list[str]:
    """The names of all providers."""
    found: set[str] = set()
    for directory in directories():
        try:
            names = os.listdir(directory)
        except OSError:
            continue
        found.update(name[: -len(".toml")] for name in names if name.endswith(".toml"))
    return sorted(found)


def directories() -> tuple[str, ...]:
    """Where providers' files are, the one that counts first."""
    return (
        os.path.join(settings_directory(), "providers"),
        os.path.join(SYSTEM, "providers"),
        SHIPPED,
    )


def provider(name: str, table: Mapping[str, object], base: str) -> tuple[Provider, list[Fault]]:
    """A provider, and what is wrong with what `table` says of it; its file is in order.

    Raises ValueError where there is none of that name, or its file is wrong.
    """
    found = list(_files(name))
    if not found:
        others = known()
        hint = instead(name, others)
        where = os.path.join(settings_directory(), "providers", f"{name}.toml")
        raise ValueError(f"there is no provider {name!r}{hint}; one of your own is a file {where}")
    values: dict[str, object] = {}
    for path in reversed(found):
        values |= _read(path)
    mine, faults = _converted(table, base)
    values |= mine
    if not faults:
        faults = list(_missing(values))
    return Provider(values), faults


def _files(name: str) -> Iterator[str]:
    if not name or name.startswith(".") or "/" in name or "\0" in name:
        return
    for directory in directories():
        path = os.path.join(directory, f"{name}.toml")
        if os.path.isfile(path):
            yield path


def _read(path: str) -> dict[str, object]:
    """The values of a provider's file. Raises ValueError."""
    from mailflow.toml_file import ConfigFaults, Source

    try:
        source = Source.read(path)
        values, faults = _converted(source.data, os.path.dirname(path))
        if faults:
            raise ConfigFaults(source.located(faults))
    except ConfigFaults as error:
        raise ValueError("; ".join(map(str, error.faults))) from None
    return values


def _converted(table: Mapping[str, object], base: str) -> tuple[dict[str, object], list[Fault]]:
    declared = Provider.declared()
    values, faults = convert(declared, table, base)
    for name in table.keys() - declared.keys():
        faults.append(Fault((name,), f"unknown key{nearest(name, declared)}"))
    return values, faults


def _missing(values: Mapping[str, object]) -> Iterator[Fault]:
    """What every login needs, and what its flow does."""
    wanted = {"browser": "authorization", "paste": "authorization", "device": "device"}
    flow = str(values.get("flow", "browser"))
    endpoint = wanted.get(flow, "token")
    for each in dict.fromkeys(("token", endpoint)):
        if not values.get(f"{each}_endpoint"):
            text = f'flow = "{flow}" needs `{each}_endpoint`, which this provider does not have'
            yield Fault(("flow",), text)
    if any("{tenant}" in str(value) for value in values.values()) and not values.get("tenant"):
        yield Fault((), "expected the `tenant` that stands in the endpoints")
    if not values.get("client_id"):
        where = values.get("register")
        more = f"; register a program of your own at {where}" if where else ""
        yield Fault((), f"`client_id` is missing: the name that the provider knows us by{more}")
    parameters = values.get("parameters")
    for name in OURS:
        if isinstance(parameters, dict) and name in parameters:
            yield Fault(("parameters", name), "is said already; leave it out")
    if flow == "client" and not values.get("client_secret"):
        yield Fault((), '`client_secret` is missing: flow = "client" logs in with it')


__all__ = ["FLOWS", "Provider", "directories", "known", "provider"]
