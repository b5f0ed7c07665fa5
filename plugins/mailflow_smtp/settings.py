"""What the [[distribute]] steps of this plugin may say.

Rule of the file: what the sessions of one step know together is in `standing`, which
belongs to the options that they share.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from functools import cached_property

from mailflow.net import is_loopback
from mailflow.options import (
    Address,
    Choice,
    Duration,
    Flag,
    Host,
    Integer,
    ListOf,
    Option,
    Path,
    ServerOptions,
    Text,
)
from mailflow.sasl import MECHANISMS, TOKEN_MECHANISMS
from mailflow.values import duration
from mailflow_smtp.standing import Standing
from mailflow_smtp.verp import DEFAULT, Verp

PORTS = {"implicit": 465, "starttls": 587, "none": 25}
LMTP_PORT = 24

RECIPIENTS = 100
"""What every server takes in one transaction (RFC 5321, 4.5.3.1.8), but Amazon's."""

_HELO = re.compile(r"[A-Za-z0-9]([A-Za-z0-9.-]*[A-Za-z0-9])?|\[[0-9A-Za-z.:]+\]")
_RATE = re.compile(r"\s*([1-9][0-9]{0,8})\s*/\s*(\S.*)")


class Rate(Option["tuple[int, float] | None"]):
    """So many messages in so much time: "10/1m"."""

    expected = 'a number of messages and a span, such as "10/1m"'
    json_type = {"type": "string", "pattern": "^ *[1-9][0-9]* */ *[0-9]* *[a-z]+$"}

    def convert(self, value: object, base: str) -> tuple[int, float]:
        found = _RATE.fullmatch(value) if isinstance(value, str) else None
        if found is None:
            raise self.reject()
        span = found[2] if found[2][0].isdigit() else f"1{found[2]}"
        seconds = duration(span)
        if not 0 < seconds < float("inf"):
            raise self.reject()
        return int(found[1]), seconds


class VerpOption(Option["Verp | None"]):
    """true, or the form of the address."""

    expected = f'true or an address such as "{DEFAULT}"'
    json_type = {"type": ["boolean", "string"]}

    def convert(self, value: object, base: str) -> Verp | None:
        if isinstance(value, bool):
            return Verp(DEFAULT) if value else None
        if not isinstance(value, str):
            raise self.reject()
        return Verp(value)


class Settings(ServerOptions):
    """What SMTP and LMTP have in common."""

    timeout = Duration("How long to wait for each answer (RFC 5321, 4.5.3.2).", default=300.0)
    auth = ListOf(
        "The mechanisms to log in with, in this order; the next is tried where one is refused."
        " With a password by default PLAIN and LOGIN, with a token OAUTHBEARER and XOAUTH2.",
        Choice("A mechanism.", *MECHANISMS, *TOKEN_MECHANISMS), default=(),
    )  # fmt: skip
    helo = Text.optional(
        "The name to greet with; by default this host's full name, or its address in brackets."
    )
    sender = Address.optional(
        "The reverse-path of all that is sent, whatever the mail's own is; a bounce's empty one"
        " stays."
    )
    recipients_max = Integer.optional(
        "The most recipients in one transaction; by default 100, or what the server says."
        " A server that says less counts in any case. Amazon SES needs 50.",
        least=1,
    )  # fmt: skip
    message_timeout = Duration(
        "How long to wait for the answer to a whole message: who leaves early sends twice.",
        default=600.0,
    )
    rate = Rate.optional(
        'How many messages in how much time the server takes, such as "10/1m" or "500/1d", each'
        " transaction being one; all sessions together wait for their turn. Without it, as fast"
        " as it goes."
    )
    chunking = Flag(
        "Whether to send with BDAT (RFC 3030) where the server offers CHUNKING.", default=True
    )
    verp = VerpOption.optional(
        "Give each recipient a reverse-path of its own, by which a bounce says whom it is about:"
        f' true for "{DEFAULT}", or another address with these names in it. By the server itself'
        " where it offers XVERP, else in a transaction for each recipient."
    )
    dsn_notify = ListOf(
        "What the recipients' servers should tell the sender of (RFC 3461), where the server"
        ' offers DSN: "failure", "delay", "success", or "never" alone.',
        Choice("An event.", "never", "failure", "delay", "success"), default=(),
    )  # fmt: skip
    dsn_return = Choice(
        "How much of the mail such a notice should bring back, where the server offers DSN.",
        "full", "headers", default="",
    )  # fmt: skip
    lmtp = False
    """Whether it is spoken as RFC 2033 has it."""

    @cached_property
    def standing(self) -> Standing:
        """What all sessions of this step know of the server together."""
        return Standing(self.rate, chunking=self.chunking)

    @property
    def server(self) -> str:
        """Where to connect: a host, or the path of a Unix socket."""
        return self.host

    @property
    def protection(self) -> str:
        """`tls`, with its default worked out."""
        return self.tls or ("none" if is_loopback(self.server) else "starttls")

    @property
    def port_number(self) -> int:
        return self.port or PORTS[self.protection]

    @property
    def mechanisms(self) -> Sequence[str]:
        """`auth`, with its default worked out."""
        return self.auth or tuple(TOKEN_MECHANISMS if self.by_token else MECHANISMS)

    def faults(self) -> Iterator[tuple[str, str]]:
        yield from self.faults_of_login()
        fitting = TOKEN_MECHANISMS if self.by_token else MECHANISMS
        if wrong := [name for name in self.auth if name not in fitting]:
            given = "token" if self.by_token else "password"
            yield "auth", f"{', '.join(wrong)} does not go with a `{given}`"
        if self.helo is not None and not _HELO.fullmatch(self.helo):
            yield "helo", 'expected a host name or an address literal such as "[192.0.2.1]"'
        if "never" in self.dsn_notify and len(self.dsn_notify) > 1:
            yield "dsn_notify", 'expected "never" alone, or any of the others (RFC 3461, 4.1)'


class SmtpOptions(Settings):
    """The server that takes the mail, and how to talk to it."""

    port = Integer.optional(
        'Its port; by default 465 for tls = "implicit", 587 for "starttls", 25 for "none".',
        least=1, most=65535,
    )  # fmt: skip
    tls = Choice(
        "How the connection is protected: TLS from the first octet, after STARTTLS (the default),"
        " or not at all, which is the default on loopback only.",
        "implicit", "starttls", "none", default="",
    )  # fmt: skip


class LmtpOptions(Settings):
    """The delivery agent that takes the mail, and how to talk to it."""

    host = Host("The server's name or address, where it is not a socket.", default="")
    path = Path("The server's Unix socket, such as /run/dovecot/lmtp.", default="")
    port = Integer.optional("Its port; 24 by default.", least=1, most=65535)
    tls = Choice(
        "How the connection is protected: TLS from the first octet, after STARTTLS (the default),"
        " or not at all, which is the default on loopback and on a socket only.",
        "implicit", "starttls", "none", default="",
    )  # fmt: skip
    lmtp = True

    @property
    def server(self) -> str:
        return self.path or self.host

    @property
    def port_number(self) -> int:
        return self.port or LMTP_PORT

    def faults(self) -> Iterator[tuple[str, str]]:
        yield from super().faults()
        if bool(self.host) == bool(self.path):
            yield "host", "expected either `host`, or `path` for a Unix socket"
