"""The options of a POP3 mailbox."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

from mailflow.mailserver import MailServerOptions
from mailflow.options import (
    Choice,
    Flag,
    Integer,
    ListOf,
    Size,
)
from mailflow_pop3.login import TOKEN_WAYS, WAYS

PORTS = {"implicit": 995, "starttls": 110, "none": 110}
"""`tls` -> the port where nothing else is said."""

SCHEMES: Mapping[str, Mapping[str, object]] = {
    "pop3": {"tls": "starttls"},
    "pop3s": {"tls": "implicit"},
}
"""Scheme of a URL -> what it says of the options."""


class Pop3Account(MailServerOptions):
    """A POP3 server, and how to log in there: what the fetcher and the maildrop both need."""

    ports = PORTS

    port = Integer.optional(
        'Its port; by default 995 for tls = "implicit", else 110.', least=1, most=65535
    )
    tls = Choice(
        "How the connection is protected: TLS from the first octet (the default), after STLS, or"
        " not at all, which is the default on loopback only.",
        "implicit", "starttls", "none", default="",
    )  # fmt: skip
    auth = ListOf(
        "The ways to log in, in the order they are tried. With a password: SASL PLAIN and LOGIN"
        " where the server offers them, USER and PASS, APOP where it greets with a timestamp; by"
        " default plain and user. With a token: OAUTHBEARER and XOAUTH2, by default both.",
        Choice("A way to log in.", *WAYS, *TOKEN_WAYS),
        default=(),
    )
    pipelining = Choice(
        "Whether commands are sent before earlier ones are answered: as CAPA says, in any case"
        " (which also saves asking), or never.",
        "auto", "always", "never", default="auto",
    )  # fmt: skip

    @property
    def ways(self) -> Sequence[str]:
        """`auth`, with its default worked out."""
        return self.auth or (TOKEN_WAYS if self.by_token else ("plain", "user"))


class Pop3Options(Pop3Account):
    """A mailbox on a POP3 server."""

    on_done = Choice(
        "What becomes of a message at the server once it is safe here and the time in `keep`,"
        " which is \"forever\" by default, is over.",
        "delete", "keep", default="delete",
    )  # fmt: skip
    max_size = Size.optional("Messages with more octets stay on the server.")
    speculate = Flag(
        "Whether messages that are probably new, going by the last visits, are asked for"
        " together with the log-in, which saves a round trip. It needs a server that"
        " pipelines, and is left out where `where` or `max_size` looks at sizes, or `where`"
        " at headers, since what is not wanted would be loaded.",
        default=True,
    )

    def faults(self) -> Iterator[tuple[str, str]]:
        if self.user is None and self.secret is None:
            yield "user", "expected the login name"
            yield "password", "expected the password, a `token` or `oauth2`"
        yield from self.faults_of_login()
        if wrong := [way for way in self.auth if (way in TOKEN_WAYS) is not self.by_token]:
            given = "token" if self.by_token else "password"
            yield "auth", f"{', '.join(wrong)} does not go with a `{given}`"
