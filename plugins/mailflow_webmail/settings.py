"""What the fetcher, the maildrop, the mailbox and the distributor of a webmail have in common."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from contextlib import suppress
from urllib.parse import urlsplit

from mailflow.digests import sha256
from mailflow.directories import state_directory
from mailflow.errors import ConfigError, MailflowError
from mailflow.options import (
    Duration,
    Integer,
    ListOf,
    Option,
    Options,
    Path,
    Secret,
    Size,
    Text,
)
from mailflow.typed import TYPE_CHECKING, Any, ClassVar
from mailflow.values import path

if TYPE_CHECKING:
    from mailflow_webmail.web.cookies import Lent

PROXIES = ("http", "https", "socks5", "socks5h")
"""Schemes of a proxy; "socks5h" lets it look the names up, too."""


class Url(Option[str]):
    """The address of a server, without who logs in there."""

    json_type = {"type": "string", "format": "uri"}

    def __init__(self, doc: str, *schemes: str, example: str, **default: Any) -> None:
        super().__init__(doc, **default)
        self.schemes = schemes
        self.expected = f'an address such as "{example}"'

    def convert(self, value: object, base: str) -> str:
        if not isinstance(value, str) or not value.isprintable():
            raise self.reject()
        try:
            parts = urlsplit(value)
            fine = parts.scheme in self.schemes and bool(parts.hostname) and parts.port != 0
        except ValueError:
            raise self.reject() from None
        if not fine:
            raise self.reject()
        if parts.username is not None and not self.hidden:
            raise ValueError("who logs in stands in `user` and `password`, not in the address")
        return value


class ProxyUrl(Url):
    """It may hold a name and a password for the proxy, and so is not shown."""

    hidden = True


class SiteName(Text):
    """A name, or a path that ends in ".toml"; a relative one starts at the file's directory."""

    def convert(self, value: object, base: str) -> str:
        name = super().convert(value, base)
        return path(name, base) if name.endswith(".toml") else name


class WebmailOptions(Options):
    """Which webmail, where it is, who logs in, and how gently it is asked."""

    examples: ClassVar[Mapping[str, object]] = {
        "site": "roundcube",
        "url": "https://webmail.example.org/",
        "proxy": "http://proxy.example.org:3128",
    }

    site = SiteName(
        "The webmail's software: one that `mailflow webmail sites` lists, or a file ending in .toml"
        " that describes it.",
        least=1,
    )
    url = Url(
        "Where it is installed: the address of its login page.",
        "https", "http", example="https://webmail.example.org/",
    )  # fmt: skip
    user = Text("The login name.", least=1)
    password = Secret.optional("The password.")
    """None where `cookies` must do."""
    cookies = Path.optional(
        "A file with the cookies of a browser that is logged in, as Netscape's: for a webmail that"
        " asks for a human (a CAPTCHA, a second factor). A password is not needed then."
    )
    ca_file = Path.optional("A PEM file with the authorities to trust instead of the system's.")
    proxy = ProxyUrl.optional(
        'A proxy: "http://proxy:3128", or "socks5h://localhost:1080" of an ssh.',
        *PROXIES, example="http://proxy.example.org:3128",
    )  # fmt: skip
    proxy_password = Secret.optional(
        'The password for the proxy, where `proxy` has a name alone: "http://ann@proxy:3128".'
    )
    hosts = ListOf(
        "Hosts besides that of `url` where it may send us, such as login.example.org, where its"
        " provider has logins; it is an error if it sends us anywhere else.",
        Text("A host, or one with a port.", least=1),
        default=(),
    )
    timeout = Duration("How long to wait for the webmail each time.", default=60.0)
    delay = Duration("How long to rest between two requests.", default=0.0)
    parallel = Integer("How many messages are loaded at once.", default=4, least=1, most=8)
    max_size = Size.optional("Messages with more octets stay where they are.")

    def lent(self) -> Lent | None:
        """The session of a browser, where `cookies` says so. Raises ConfigError."""
        if self.cookies is None:
            return None
        from mailflow_webmail.web.cookies import Lent
        from mailflow_webmail.web.places import Places

        which = sha256(f"{self.url}\0{self.user}\0{os.path.realpath(self.cookies)}".encode())
        kept = os.path.join(state_directory(), "webmail", f"{which.hexdigest()[:32]}.cookies")
        return Lent(self.cookies, Places(self.url, self.hosts).hosts, kept)

    def faults(self) -> Iterator[tuple[str, str]]:
        if self.proxy_password is not None and urlsplit(self.proxy or "").username is None:
            yield "proxy_password", "`proxy` has no name that it is for"
        if self.hosts:
            from mailflow_webmail.web.places import Places

            try:
                Places(self.url, self.hosts)
            except ConfigError as error:
                yield "hosts", error.text

    def look(self) -> Iterator[tuple[str, str]]:
        from mailflow_webmail.definition.site import site

        if self.site:
            try:
                site(self.site)
            except MailflowError as error:
                yield from (("site", line) for line in error.text.splitlines())
        if self.ca_file is not None:
            from mailflow.net import tls_context

            try:
                tls_context(self.ca_file)
            except ConfigError as error:
                yield "ca_file", error.text
        try:
            self.lent()
        except ConfigError as error:
            yield "cookies", error.text

    def watched(self) -> Iterator[str]:
        from mailflow_webmail.definition.site import find

        yield from super().watched()
        yield from filter(None, (self.cookies, self.ca_file))
        with suppress(ConfigError):
            yield find(self.site)
