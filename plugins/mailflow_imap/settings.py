"""What the fetcher, the live maildrop and the mailbox on an IMAP server have in common."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

from mailflow.mailserver import MailServerOptions
from mailflow.options import Choice, Integer, ListOf, Path

PORTS = {"implicit": 993, "starttls": 143, "none": 143}
"""`tls` -> the port where nothing else is said."""

SCHEMES: Mapping[str, Mapping[str, object]] = {
    "imap": {"tls": "starttls"},
    "imaps": {"tls": "implicit"},
}
"""Scheme of a URL -> what it says of the options."""

WAYS = ("login", "plain")
"""The command LOGIN (RFC 3501, 6.2.3), behind which other commands may leave at once, and SASL
PLAIN (RFC 4616)."""

CERTIFICATE_WAYS = ("external",)
"""With our certificate (RFC 4422, appendix A)."""

TOKEN_WAYS = ("oauthbearer", "xoauth2")
"""With an access token instead of a password (RFC 7628)."""


class ImapAccount(MailServerOptions):
    """How an IMAP server is reached, and the ways to log in to it."""

    ports = PORTS

    port = Integer.optional(
        'Its port; by default 993 for tls = "implicit", else 143.', least=1, most=65535
    )
    tls = Choice(
        "How the connection is protected: TLS from the first octet (the default), after STARTTLS,"
        " or not at all, which is the default on loopback only.",
        "implicit", "starttls", "none", default="",
    )  # fmt: skip
    auth = ListOf(
        "The ways to log in, in the order they are tried, of those that the server offers. With a"
        " password: the command LOGIN and SASL PLAIN, by default both. With a token: OAUTHBEARER"
        " and XOAUTH2, by default both. With a `certificate` alone: SASL EXTERNAL.",
        Choice("A way to log in.", *WAYS, *TOKEN_WAYS, *CERTIFICATE_WAYS),
        default=(),
    )

    certificate = Path.optional(
        "A PEM file with our own certificate, to show to the server, and its key if it is there;"
        " with it and no password the way to log in is SASL EXTERNAL."
    )
    key = Path.optional("A PEM file with the key of `certificate`, where it is not in there.")
    pipelining = Choice(
        "Whether commands are sent before earlier ones are answered, as the standard allows; never"
        " is for a server that cannot cope.",
        "always", "never", default="always",
    )  # fmt: skip

    @property
    def ways(self) -> Sequence[str]:
        """`auth`, with its default worked out."""
        if self.secret is None and self.certificate is not None:
            return self.auth or ("external",)
        return self.auth or (TOKEN_WAYS if self.by_token else WAYS)

    def faults(self) -> Iterator[tuple[str, str]]:
        if self.secret is not None or self.certificate is None:
            yield from self.faults_of_login()
        yield from self.faults_of_ways()

    def faults_of_ways(self) -> Iterator[tuple[str, str]]:
        """What is wrong with `auth` and `certificate`."""
        if self.key is not None and self.certificate is None:
            yield "key", "there is no `certificate` that it belongs to"
        if self.secret is None and self.certificate is None:
            return
        if self.secret is None:
            known: tuple[str, ...] = CERTIFICATE_WAYS
            given = "certificate"
        else:
            known, given = (TOKEN_WAYS, "token") if self.by_token else (WAYS, "password")
        if wrong := [way for way in self.auth if way not in known]:
            yield "auth", f"{', '.join(wrong)} does not go with a `{given}`"


class ImapOptions(ImapAccount):
    """A mailbox on an IMAP server, and who logs in to it."""

    search = Choice(
        "Who looks for the texts of a query: the server where it is known to find all that is"
        " there, else we do in what we read (exact); or always the server, which is faster and"
        " misses what its index of words does not have (server).",
        "exact", "server", default="exact",
    )  # fmt: skip

    def faults(self) -> Iterator[tuple[str, str]]:
        if self.user is None and self.secret is None and self.certificate is None:
            yield "user", "expected the login name"
            yield "password", "expected the password, a `token` or `oauth2`"
        yield from super().faults()
