"""What is said at the door: an account, a client's claim to it, and what came of that."""

from __future__ import annotations

from mailflow.kinds import Credentials, Maildrop, OpenDrop
from mailflow.record import NamedTuple
from mailflow.typed import TYPE_CHECKING

if TYPE_CHECKING:
    from mailflow.options import SecretValue


class Account(NamedTuple):
    """One [maildrop.NAME]: `name` is a login name or a glob, `login` secret or passthrough.

    `passwords` is the path of a file of secrets by login name. Where `networks` is empty,
    the maildrop's own `networks` count, if it has any.
    """

    name: str
    maildrop: Maildrop
    login: str = "secret"
    secret: SecretValue | None = None
    passwords: str | None = None
    aliases: tuple[str, ...] = ()
    networks: tuple[str, ...] = ()


class PasswordClaim(NamedTuple):
    """A name and a password: USER and PASS, SASL PLAIN and LOGIN."""

    login: str
    password: str

    def __repr__(self) -> str:
        return f"<password of {self.login!a}>"


class ApopClaim(NamedTuple):
    """A name, and the lower-case hexadecimal MD5 of `timestamp` and the password, the
    timestamp as it stood in the greeting, brackets and all (RFC 1939, 7)."""

    login: str
    timestamp: str
    digest: str


class TokenClaim(NamedTuple):
    """A name and an OAuth 2 bearer token (RFC 7628)."""

    login: str
    token: str

    def __repr__(self) -> str:
        return f"<token of {self.login!a}>"


class ScramClaim(NamedTuple):
    """A name, and whether a SCRAM exchange has proven that the client knows its password.
    Only mailflow.sasl_server makes one."""

    login: str
    proven: bool


Claim = PasswordClaim | ApopClaim | TokenClaim | ScramClaim


class Checked(NamedTuple):
    """A claim that holds, the drop not opened yet. `login` is the name of the table, also
    where an alias was given; for a glob, the name that was given."""

    login: str
    account: Account
    who: Credentials


class Entered(NamedTuple):
    """A login that went well: the login name as in Checked, and the drop, locked."""

    login: str
    drop: OpenDrop
