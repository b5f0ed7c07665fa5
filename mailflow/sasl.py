"""SASL (RFC 4422): mechanisms, their order, and one exchange in base64, for POP3 and SMTP.

    for name in choose(wanted, offered):
        exchange = Exchange(mechanism(name, credentials))
        send("AUTH " + exchange.command(limit))
        while the server sends a challenge:
            send(exchange.answer(challenge))

Rule of the file: a secret goes only to a question that its mechanism asks; whatever
else a server asks is answered with "*", which cancels. No repr or error holds one.
"""

from __future__ import annotations

import binascii
from base64 import b64decode, b64encode
from collections.abc import Callable, Collection, Mapping, Sequence

from mailflow.record import NamedTuple
from mailflow.typed import Protocol

CANCEL = "*"

CHALLENGE_LIMIT = 12288
"""Octets of a challenge in base64 (RFC 4954, 4)."""


class Credentials(NamedTuple):
    """Who logs in; `secret` is a password, or the token of a mechanism with tokens."""

    user: str
    secret: str

    def __repr__(self) -> str:
        return f"<credentials of {self.user}>"

    def mask(self, text: str) -> str:
        """`text` without the secret, plain or in base64, should a server have repeated it."""
        for octets in (f"\0{self.user}\0{self.secret}".encode(), self.secret.encode()):
            if octets:
                encoded = b64encode(octets).decode("ascii")
                text = text.replace(encoded, "***").replace(encoded.rstrip("="), "***")
        return text.replace(self.secret, "***") if self.secret else text


class SurpriseError(Exception):
    """A challenge that the mechanism does not know: the exchange is cancelled."""


class Mechanism(Protocol):
    """One exchange's side of the client, in octets."""

    name: str

    def initial(self) -> bytes | None:
        """What may be sent before any challenge; None: the server speaks first."""
        ...

    def answer(self, challenge: bytes) -> bytes:
        """The response to a challenge. Raises SurpriseError."""
        ...


class Plain:
    """PLAIN (RFC 4616): everything at once."""

    name = "PLAIN"

    def __init__(self, credentials: Credentials) -> None:
        self._credentials = credentials

    def initial(self) -> bytes:
        return f"\0{self._credentials.user}\0{self._credentials.secret}".encode()

    def answer(self, challenge: bytes) -> bytes:
        raise SurpriseError("PLAIN has no challenge")


class Login:
    """LOGIN: never a standard; the server asks for the name, then for the password."""

    name = "LOGIN"

    def __init__(self, credentials: Credentials) -> None:
        self._credentials = credentials
        self._asked: list[bytes] = []

    def initial(self) -> None:
        return None

    def answer(self, challenge: bytes) -> bytes:
        if not challenge.strip():
            raise SurpriseError("LOGIN has no empty challenge")
        if len(self._asked) == 2 or challenge in self._asked:
            raise SurpriseError("LOGIN asks for a name and a password, once each")
        self._asked.append(challenge)
        first = len(self._asked) == 1
        return (self._credentials.user if first else self._credentials.secret).encode()


class OAuthBearer:
    """OAUTHBEARER (RFC 7628): the secret is an access token."""

    name = "OAUTHBEARER"

    def __init__(self, credentials: Credentials) -> None:
        self._credentials = credentials
        self._told = False

    def initial(self) -> bytes:
        user = self._credentials.user.replace("=", "=3D").replace(",", "=2C")
        return f"n,a={user},\1auth=Bearer {self._credentials.secret}\1\1".encode()

    def answer(self, challenge: bytes) -> bytes:
        """A refusal comes as a challenge, which asks for a last word (RFC 7628, 3.2.3)."""
        if self._told or not challenge:
            raise SurpriseError(f"{self.name} has no such challenge")
        self._told = True
        return b"\1"


class XOAuth2(OAuthBearer):
    """XOAUTH2: what Google and Microsoft had before there was a standard."""

    name = "XOAUTH2"

    def initial(self) -> bytes:
        user, token = self._credentials
        return f"user={user}\1auth=Bearer {token}\1\1".encode()

    def answer(self, challenge: bytes) -> bytes:
        super().answer(challenge)
        return b""


class External:
    """EXTERNAL (RFC 4422, appendix A): the certificate of the connection says who we are."""

    name = "EXTERNAL"

    def __init__(self, credentials: Credentials) -> None:
        self._user = credentials.user

    def initial(self) -> bytes:
        """As whom we want to act; nothing: as whom the certificate names."""
        return self._user.encode()

    def answer(self, challenge: bytes) -> bytes:
        raise SurpriseError("EXTERNAL has no challenge")


MECHANISMS: Mapping[str, Callable[[Credentials], Mechanism]] = {"PLAIN": Plain, "LOGIN": Login}
"""What can be spoken with a password, the preferred first."""

TOKEN_MECHANISMS: Mapping[str, Callable[[Credentials], Mechanism]] = {
    "OAUTHBEARER": OAuthBearer,
    "XOAUTH2": XOAuth2,
}
"""What can be spoken with an access token of OAuth2, the preferred first."""

_ALL = {**MECHANISMS, **TOKEN_MECHANISMS, "EXTERNAL": External}


def mechanism(name: str, credentials: Credentials) -> Mechanism:
    """A fresh exchange of the mechanism `name`. Raises KeyError for one not spoken."""
    return _ALL[name.upper()](credentials)


def choose(wanted: Sequence[str], offered: Collection[str]) -> list[str]:
    """The mechanisms to try, in the order of `wanted`: those that the server offers too."""
    available = {name.upper() for name in offered} & _ALL.keys()
    return [name.upper() for name in wanted if name.upper() in available]


class Exchange:
    """One AUTH command, in the base64 of POP3 (RFC 5034) and SMTP (RFC 4954).

    `cancelled` says why the exchange was cancelled, "" as long as it was not;
    `said_all`, that the command held all there is to say, so that others may follow it.
    """

    def __init__(self, mechanism: Mechanism) -> None:
        self.cancelled = ""
        self.said_all = False
        self._mechanism = mechanism
        self._initial = mechanism.initial()

    def command(self, limit: int) -> str:
        """What follows "AUTH ": the name, and the initial response if both fit in `limit`."""
        name = self._mechanism.name
        if self._initial is None:
            return name
        whole = f"{name} {_encoded(self._initial) or '='}"
        if len(whole) > limit:
            return name
        self._initial = None
        self.said_all = True
        return whole

    def answer(self, challenge: bytes | str) -> str:
        """The line that answers a challenge (without its "+ " or "334 "): base64, or *."""
        try:
            octets = _decoded(challenge)
            if self._initial is None:
                return _encoded(self._mechanism.answer(octets))
            if octets:
                raise SurpriseError(f"{self._mechanism.name} begins with an empty challenge")
        except SurpriseError as surprise:
            self.cancelled = str(surprise)
            return CANCEL
        response, self._initial = self._initial, None
        return _encoded(response)


def _encoded(octets: bytes) -> str:
    return b64encode(octets).decode("ascii")


def _decoded(challenge: bytes | str) -> bytes:
    if len(challenge) > CHALLENGE_LIMIT:
        raise SurpriseError("a challenge of that length is none")
    try:
        return b64decode(challenge, validate=True)
    except (binascii.Error, ValueError):
        raise SurpriseError("a challenge that is not base64") from None
