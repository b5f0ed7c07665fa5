"""Who may log in at a maildrop: names, secrets, and the drop behind them.

Rule of the file: an unknown name costs and says what a wrong password does, and no secret
is in any text. Every call may block; a service makes it where that harms nobody.
"""

from __future__ import annotations

import hmac
from collections.abc import Sequence
from fnmatch import fnmatchcase

from mailflow.errors import LoginError
from mailflow.kinds import Credentials, Maildrop, OpenDrop
from mailflow.record import NamedTuple
from mailflow.typed import TYPE_CHECKING

if TYPE_CHECKING:
    from mailflow.options import SecretValue


class Account(NamedTuple):
    """One [maildrop.NAME]: `name` is a login name or a glob, `login` secret or passthrough."""

    name: str
    maildrop: Maildrop
    login: str = "secret"
    secret: SecretValue | None = None
    passwords: str | None = None
    aliases: tuple[str, ...] = ()
    networks: tuple[str, ...] = ()


class Entered(NamedTuple):
    """A login that went well: the login name (that of the table, where an alias was given),
    and the drop, locked."""

    login: str
    drop: OpenDrop


class Accounts:
    """The accounts of an installation. Used by many threads.

    Every way in raises LoginError, whose `fields["delay"]` is how many seconds the answer is
    to be kept back, InUseError or UnavailableError. `address` is the client's IP address,
    "" for a unix socket.
    """

    def __init__(self, accounts: Sequence[Account]) -> None:
        self._accounts = tuple(accounts)

    def password(self, login: str, password: str, address: str = "") -> Entered:
        """By login name and password (USER and PASS, SASL PLAIN and LOGIN)."""
        account = self._find(login)
        if account is None or account.secret is None:
            raise LoginError("no such login name, or a wrong password", delay=0.0)
        known = account.secret.reveal().encode()
        if not hmac.compare_digest(known, password.encode()):
            raise LoginError("no such login name, or a wrong password", delay=0.0)
        who = Credentials(login, checked=True, address=address)
        return Entered(login, account.maildrop.login(who))

    def _find(self, login: str) -> Account | None:
        exact = [account for account in self._accounts if account.name == login]
        globs = [account for account in self._accounts if fnmatchcase(login, account.name)]
        return next(iter(exact + globs), None)
