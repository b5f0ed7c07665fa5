"""Who may log in at a maildrop: names, secrets, and the drop behind them.

    checked = accounts.check(PasswordClaim("ann", password), address)
    entered = accounts.enter(checked)

Rule of the package: an unknown name costs and says what a wrong password does, and no
secret is in any text.
"""

from __future__ import annotations

from mailflow.accounts.book import Accounts
from mailflow.accounts.claims import (
    Account,
    ApopClaim,
    Checked,
    Claim,
    Entered,
    PasswordClaim,
    ScramClaim,
    TokenClaim,
)
from mailflow.accounts.pace import Pace
from mailflow.accounts.verifiers import ScramKeys

__all__ = [
    "Account", "Accounts", "ApopClaim", "Checked", "Claim", "Entered", "Pace", "PasswordClaim",
    "ScramClaim", "ScramKeys", "TokenClaim",
]  # fmt: skip
