"""SASL (RFC 4422) on the side of the server: one AUTH exchange of POP3 (RFC 5034).

    exchange = Exchange("PLAIN", accounts)
    said = exchange.begin(initial)          # or None, where AUTH had no initial response
    while isinstance(said, str):            # a challenge: "+ " and this
        said = exchange.answer(next_line)
    checked = accounts.check(said, address) # a claim; refused, see `refusal`

Rule of the file: nothing of what a client sends is in an error's text.
"""

from __future__ import annotations

import binascii
from base64 import b64decode, b64encode

from mailflow.accounts import Accounts, Claim, PasswordClaim
from mailflow.errors import MailflowError

LIMIT = 12288
"""Octets of a response in base64 (RFC 5034, 4)."""


class ExchangeError(MailflowError):
    """The exchange ends with -ERR, and nothing was claimed: cancelled by "*", not base64, or
    not what the mechanism asks for. No credentials were refused, so no [AUTH]."""


def mechanisms(accounts: Accounts, *, plain: bool) -> tuple[str, ...]:
    """What may be offered to a client, the best first; `plain`: passwords and tokens may come
    as they are (TLS, or loopback)."""
    found = ["SCRAM-SHA-256"] if accounts.offers_scram else []
    if plain:
        found += ["PLAIN", "LOGIN"]
        found += ["OAUTHBEARER", "XOAUTH2"] if accounts.offers_tokens else []
    return tuple(found)


class Exchange:
    """One AUTH command. `mechanism` is one that `mechanisms` names, in capitals."""

    def __init__(self, mechanism: str, accounts: Accounts) -> None:
        self.mechanism = mechanism
        self._accounts = accounts

    def begin(self, initial: str | None = None) -> str | Claim:
        """The first challenge, base64 without "+ ", or the claim where `initial`, the initial
        response as it stands in the command ("=" is an empty one), says all. Raises
        ExchangeError."""
        if initial is None:
            return ""
        return self.answer("" if initial == "=" else initial)

    def answer(self, line: str) -> str | Claim:
        """What follows the client's response line, which has no CRLF. Raises ExchangeError."""
        if line == "*":
            raise ExchangeError("authentication cancelled")
        if len(line) > LIMIT:
            raise ExchangeError("the response is too long")
        try:
            parts = b64decode(line, validate=True).decode().split("\0")
        except (binascii.Error, ValueError):
            raise ExchangeError("the response is not base64") from None
        if len(parts) != 3 or parts[0] not in ("", parts[1]):
            raise ExchangeError("PLAIN holds a name and a password")
        return PasswordClaim(parts[1], parts[2])

    @property
    def refusal(self) -> str | None:
        """Where the claim was refused: a last challenge that goes out before -ERR (its answer,
        one line, is read and thrown away), None for none (RFC 7628, 3.2.3)."""
        return None


def encoded(octets: bytes) -> str:
    """A challenge as it goes over the wire."""
    return b64encode(octets).decode("ascii")
