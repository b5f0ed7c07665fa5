"""SASL (RFC 4422) on the side of the server: one AUTH exchange of POP3 (RFC 5034).

    exchange = Exchange("PLAIN", accounts)
    said = exchange.begin(initial)          # None, where AUTH had no initial response
    while isinstance(said, str):            # a challenge: "+ " and this
        said = exchange.answer(next_line)
    checked = accounts.check(said, address) # a claim; where it is refused, see `refusal`

Rule of the file: nothing of what a client sends is in an error's text.
"""

from __future__ import annotations

import binascii
from base64 import b64decode, b64encode
from collections.abc import Callable, Mapping

from mailflow.accounts import (
    Accounts,
    Claim,
    PasswordClaim,
    ScramClaim,
    ScramKeys,
    TokenClaim,
)
from mailflow.errors import MailflowError
from mailflow.typed import Any, Protocol

LIMIT = 12288
"""Octets of a response in base64 (RFC 5034, 4)."""


class ExchangeError(MailflowError):
    """The exchange ends with -ERR, and nothing was claimed: cancelled by "*", not base64, or
    not what the mechanism asks for. No credentials were refused, so no [AUTH]."""


class Mechanism(Protocol):
    """One exchange's side of the server, in octets."""

    @property
    def first(self) -> bytes:
        """The challenge to a client that sent no initial response."""
        ...

    @property
    def refusal(self) -> bytes | None:
        """The last challenge to a client whose claim was refused, None for none."""
        ...

    def answer(self, response: bytes) -> bytes | Claim:
        """A further challenge, or the claim. Raises ExchangeError, UnavailableError."""
        ...


class Plain:
    """PLAIN (RFC 4616): everything at once; nobody acts for somebody else."""

    first = b""
    refusal = None

    def answer(self, response: bytes) -> Claim:
        parts = response.split(b"\0")
        if len(parts) != 3:
            raise ExchangeError("PLAIN is a name and a password, each behind a NUL")
        authorize, login, password = (_text(part) for part in parts)
        if authorize not in ("", login):
            raise ExchangeError("to log in for somebody else is not supported")
        return PasswordClaim(login, password)


class Login:
    """LOGIN: never a standard; the name, then the password."""

    first = b"Username:"
    refusal = None

    def __init__(self) -> None:
        self._login: str | None = None

    def answer(self, response: bytes) -> bytes | Claim:
        said = _text(response)
        if self._login is None:
            self._login = said
            return b"Password:"
        return PasswordClaim(self._login, said)


class OAuthBearer:
    """OAUTHBEARER (RFC 7628): "n,a=LOGIN," and fields with 0x01 between."""

    first = b""
    refusal = b'{"status":"invalid_token"}'

    def answer(self, response: bytes) -> Claim:
        header, *fields = _text(response).split("\1")
        parts = header.split(",")
        if len(parts) != 3 or parts[0] not in ("n", "y") or parts[2]:
            raise ExchangeError("OAUTHBEARER begins with a header such as n,a=LOGIN,")
        name = parts[1].removeprefix("a=").replace("=2C", ",").replace("=3D", "=")
        return _bearer(name, fields)


class XOAuth2(OAuthBearer):
    """XOAUTH2: what Google and Microsoft had before there was a standard."""

    refusal = b'{"status":"401","schemes":"bearer"}'

    def answer(self, response: bytes) -> Claim:
        header, *fields = _text(response).split("\1")
        return _bearer(header.removeprefix("user="), fields)


def _bearer(login: str, fields: list[str]) -> Claim:
    known = dict(field.partition("=")[::2] for field in fields)
    scheme, _, token = known.get("auth", "").partition(" ")
    if not login or scheme.lower() != "bearer" or not token.strip():
        raise ExchangeError("there is a login name to say, and auth=Bearer TOKEN")
    return TokenClaim(login, token.strip())


class ScramSha256:
    """SCRAM-SHA-256 (RFC 7677), by scramp; without channel binding."""

    first = b""
    refusal = None

    def __init__(self, accounts: Accounts) -> None:
        from scramp import ScramMechanism  # type: ignore[import-untyped]

        self._accounts = accounts
        self._login = ""
        self._server: Any = ScramMechanism("SCRAM-SHA-256").make_server(self._keys)
        self._asked = 0
        self._failed: MailflowError | None = None

    def _keys(self, login: str) -> ScramKeys:
        self._login = login
        try:
            return self._accounts.scram_keys(login)
        except MailflowError as error:
            self._failed = error
            raise

    def answer(self, response: bytes) -> bytes | Claim:
        from scramp import ScramException

        said = _text(response)
        self._asked += 1
        try:
            if self._asked == 1:
                self._server.set_client_first(said)
                return self._challenge(self._server.get_server_first())
            if self._asked == 2:
                self._server.set_client_final(said)
                return self._challenge(self._server.get_server_final())
        except ScramException as error:
            if self._failed is not None:
                raise self._failed from None
            if error.server_error is not None and error.server_error.value == "invalid-proof":
                return ScramClaim(self._login, proven=False)
            raise ExchangeError("that is not what SCRAM-SHA-256 asks for") from None
        if said:
            raise ExchangeError("SCRAM-SHA-256 ends with an empty response")
        return ScramClaim(self._login, proven=True)

    @staticmethod
    def _challenge(said: str) -> bytes:
        return said.encode()


_MECHANISMS: Mapping[str, Callable[[Accounts], Mechanism]] = {
    "SCRAM-SHA-256": ScramSha256,
    "PLAIN": lambda _: Plain(),
    "LOGIN": lambda _: Login(),
    "OAUTHBEARER": lambda _: OAuthBearer(),
    "XOAUTH2": lambda _: XOAuth2(),
}


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
        self._mechanism = _MECHANISMS[mechanism](accounts)

    def begin(self, initial: str | None = None) -> str | Claim:
        """The first challenge, base64 without "+ ", or the claim where `initial`, the initial
        response as it stands in the command ("=" is an empty one), says all. Raises
        ExchangeError, UnavailableError."""
        if initial is None:
            return _encoded(self._mechanism.first)
        return self.answer("" if initial == "=" else initial)

    def answer(self, line: str) -> str | Claim:
        """What follows the client's response line, which has no CRLF. Raises ExchangeError,
        UnavailableError."""
        if line == "*":
            raise ExchangeError("authentication cancelled")
        if len(line) > LIMIT:
            raise ExchangeError("the response is too long")
        try:
            octets = b64decode(line, validate=True)
        except (binascii.Error, ValueError):
            raise ExchangeError("the response is not base64") from None
        said = self._mechanism.answer(octets)
        return _encoded(said) if isinstance(said, bytes) else said

    @property
    def refusal(self) -> str | None:
        """Where the claim was refused: a last challenge that goes out before -ERR (its answer,
        one line, is read and thrown away), None for none (RFC 7628, 3.2.3)."""
        refusal = self._mechanism.refusal
        return None if refusal is None else _encoded(refusal)


def _encoded(octets: bytes) -> str:
    return b64encode(octets).decode("ascii")


def _text(octets: bytes) -> str:
    try:
        return octets.decode("utf-8")
    except UnicodeDecodeError:
        raise ExchangeError("the response is not UTF-8") from None
