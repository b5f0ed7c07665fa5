"""What the fetcher, the live maildrop and the mailbox on an IMAP server have in common."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from mailflow.net import is_loopback
from mailflow.options import Choice, Integer, ListOf, Secret, SecretValue, ServerOptions, Text
from mailflow.program import Command

PORTS = {"implicit": 993, "starttls": 143, "none": 143}
"""`tls` -> the port where nothing else is said."""

WAYS = ("plain", "login")
"""SASL PLAIN (RFC 4616) and the command LOGIN (RFC 3501, 6.2.3)."""

TOKEN_WAYS = ("oauthbearer", "xoauth2")
"""With an access token instead of a password (RFC 7628)."""


class Connector(Command):
    """A program that is a connection."""

    expected = 'a command such as ["ssh", "-W", "imap.example.org:993", "gateway"]'


class ImapOptions(ServerOptions):
    """A mailbox on an IMAP server."""

    port = Integer.optional(
        'Its port; by default 993 for tls = "implicit", else 143.', least=1, most=65535
    )
    tls = Choice(
        "How the connection is protected: TLS from the first octet (the default), after STARTTLS,"
        " or not at all, which is the default on loopback only.",
        "implicit", "starttls", "none", default="",
    )  # fmt: skip
    command = Connector.optional(
        "A program whose stdin and stdout are the connection, instead of one to `host` and"
        ' `port`; `host` still names the account and the certificate. With tls = "none" its'
        " way is taken for protected."
    )
    tls_name = Text.optional(
        "The name that the certificate must be for, where it is not `host` (behind an ssh forward)."
    )
    token = Secret.optional(
        "An access token of OAuth2, instead of a password, such as what"
        ' { command = ["oauth-token", "work"] } prints.'
    )
    auth = ListOf(
        "The ways to log in, in the order they are tried, of those that the server offers. With a"
        " password: SASL PLAIN and the command LOGIN, by default both. With a token: OAUTHBEARER"
        " and XOAUTH2, by default both.",
        Choice("A way to log in.", *WAYS, *TOKEN_WAYS),
        default=(),
    )

    @property
    def protection(self) -> str:
        """`tls`, with its default worked out."""
        return self.tls or ("none" if is_loopback(self.host) else "implicit")

    @property
    def number(self) -> int:
        """`port`, with its default worked out."""
        return self.port or PORTS[self.protection]

    @property
    def ways(self) -> Sequence[str]:
        """`auth`, with its default worked out."""
        return self.auth or (WAYS if self.token is None else TOKEN_WAYS)

    @property
    def secret(self) -> SecretValue | None:
        """The password or the token."""
        return self.password if self.token is None else self.token

    def faults(self) -> Iterator[tuple[str, str]]:
        if self.user is None:
            yield "user", "expected the login name"
        if self.password is None and self.token is None:
            yield "password", "expected the password, or a `token`"
        elif self.password is not None and self.token is not None:
            yield "token", "a `password` is given too; expected one of them"
        elif wrong := [way for way in self.auth if (way in TOKEN_WAYS) is (self.token is None)]:
            given = "password" if self.token is None else "token"
            yield "auth", f"{', '.join(wrong)} does not go with a `{given}`"

    def look(self) -> Iterator[tuple[str, str]]:
        yield from super().look()
        if self.command is not None and (missing := self.command.missing()):
            yield "command", missing
