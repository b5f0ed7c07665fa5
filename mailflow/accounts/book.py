"""The accounts of an installation, and every way in.

Rule of the file: whatever a claim lacks, its answer and its cost are the same.
"""

from __future__ import annotations

import hmac
from collections.abc import Sequence
from fnmatch import fnmatchcase

from mailflow.accounts.claims import (
    Account,
    ApopClaim,
    Checked,
    Claim,
    Entered,
    PasswordClaim,
    TokenClaim,
)
from mailflow.accounts.pace import Pace
from mailflow.errors import LoginError
from mailflow.kinds import Credentials
from mailflow.log import Logger, get_logger

WRONG = "no such login name, or a wrong password"


class Accounts:
    """The accounts of an installation. Used by many threads.

    `before` are those of before a reload: what is known of clients is taken over.

    A login is a claim that is checked, then a drop that is entered. Each raises LoginError,
    InUseError or UnavailableError; whatever it raises, the answer is to be kept back for
    `error.fields.get("delay", 0.0)` seconds, which does not block others. `address` is the
    client's IP address, "" for a unix socket.
    """

    def __init__(
        self,
        accounts: Sequence[Account],
        *,
        before: Accounts | None = None,
        pace: Pace | None = None,
        log: Logger | None = None,
    ) -> None:
        self._accounts = tuple(accounts)
        self._pace: Pace = pace or (before._pace if before is not None else Pace())
        self._log = log or get_logger()

    @property
    def offers_apop(self) -> bool:
        """Whether APOP works: the secret of every account is stored as plain text."""
        return False

    @property
    def offers_scram(self) -> bool:
        """Whether SCRAM-SHA-256 works: every secret is stored plain or as its verifier, and
        scramp is installed."""
        return False

    @property
    def offers_tokens(self) -> bool:
        """Whether some maildrop takes bearer tokens (OAUTHBEARER, XOAUTH2)."""
        return any(getattr(account.maildrop, "tokens", False) for account in self._accounts)

    def quick(self, claim: Claim) -> bool:
        """Whether `check` takes microseconds, so that an event loop may call it; else it may
        take a second (argon2id, a secret from a command) and is for a thread. For names that
        nobody has, one or the other, as for the others."""
        return True

    def check(self, claim: Claim, address: str = "") -> Checked:
        """Whose claim it is. What a back end must decide (passthrough) holds for now."""
        account = self._find(claim.login)
        if account is None:
            raise LoginError(WRONG, delay=self._pace.first)
        if account.login == "passthrough":
            if isinstance(claim, PasswordClaim):
                who = Credentials(claim.login, password=claim.password, address=address)
                return Checked(claim.login, account, who)
            if isinstance(claim, TokenClaim):
                who = Credentials(claim.login, token=claim.token, address=address)
                return Checked(claim.login, account, who)
        elif account.secret is not None and isinstance(claim, PasswordClaim):
            known = account.secret.reveal().encode()
            if hmac.compare_digest(known, claim.password.encode()):
                who = Credentials(claim.login, checked=True, address=address)
                return Checked(claim.login, account, who)
        raise LoginError(WRONG, delay=self._pace.first)

    def enter(self, checked: Checked) -> Entered:
        """Lock and open the drop. It may wait for the disk, or for a back end."""
        return Entered(checked.login, checked.account.maildrop.login(checked.who))

    def password(self, login: str, password: str, address: str = "") -> Entered:
        """By name and password, in one call."""
        return self.enter(self.check(PasswordClaim(login, password), address))

    def apop(self, login: str, timestamp: str, digest: str, address: str = "") -> Entered:
        """By APOP, in one call."""
        return self.enter(self.check(ApopClaim(login, timestamp, digest), address))

    def token(self, login: str, token: str, address: str = "") -> Entered:
        """By bearer token, in one call."""
        return self.enter(self.check(TokenClaim(login, token), address))

    def _find(self, login: str) -> Account | None:
        exact = [account for account in self._accounts if account.name == login]
        globs = [account for account in self._accounts if fnmatchcase(login, account.name)]
        return next(iter(exact + globs), None)
