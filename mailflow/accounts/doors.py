"""One account's door: who may come to it, from where, and what opens it."""

from __future__ import annotations

from mailflow.accounts.claims import Account
from mailflow.accounts.locks import Lock, Locks
from mailflow.accounts.networks import Networks
from mailflow.accounts.verifiers import Verifier
from mailflow.errors import ConfigError

ELSEWHERE = Lock(None, "not from this network")


class Door:
    """One account. Raises ConfigError where its networks are none, or where a password would
    be passed on to nobody."""

    def __init__(self, account: Account, locks: Locks | None) -> None:
        self.account = account
        self.locks = locks
        self.passthrough = account.login == "passthrough"
        self.tokens = self.passthrough and bool(getattr(account.maildrop, "tokens", False))
        if self.passthrough and not passes(account.maildrop):
            text = f"maildrop `{account.name}` has no back end that could check a password"
            raise ConfigError(f"{text}; set a secret, and leave login out")
        words = account.networks or getattr(account.maildrop, "networks", ())
        try:
            self._networks = Networks(words)
        except ValueError as error:
            raise ConfigError(f"maildrop `{account.name}`: {error}") from None

    def quick(self) -> bool:
        return self.locks is None or self.locks.quick()

    def lock(self, login: str, address: str) -> Lock:
        """The lock that `login` meets here, coming from there. Raises UnavailableError."""
        found = Lock(None, "nothing opens it") if self.locks is None else self.locks.lock(login)
        further = found.networks
        if not self.admits(address) or (further is not None and not further.holds(address)):
            return ELSEWHERE
        return found

    def verifier(self, login: str) -> Verifier | None:
        """What `login` is checked by, wherever it comes from. Raises UnavailableError."""
        return None if self.locks is None else self.locks.lock(login).verifier

    def admits(self, address: str) -> bool:
        return self._networks.holds(address)


def passes(maildrop: object) -> bool:
    """Whether a maildrop can ask its back end whether a password is right."""
    return any(getattr(maildrop, word, False) for word in ("passthrough", "tokens"))
