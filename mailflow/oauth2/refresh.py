"""An access token that is good for a while: the one that is kept, or a new one.

Rule of the file: a provider is asked by one thread of one process at a time, never again
after it said that the consent is over, and not at once after it failed; what it gives is
kept before anybody uses it.
"""

from __future__ import annotations

import time

from mailflow.errors import LoginError
from mailflow.oauth2.store import Tokens
from mailflow.typed import TYPE_CHECKING

if TYPE_CHECKING:
    from mailflow.oauth2 import Access


def fresh(access: Access, user: str) -> str:
    """An access token that ends no sooner than in some minutes."""
    tokens = access.store(user).load()
    if tokens is None or not tokens.access_token or tokens.expires <= time.time():
        raise LoginError(f"nobody has logged in at {access.name} as {user}")
    return tokens.access_token


def renewed(access: Access, user: str, refused: str) -> str:
    """The one to use where a server has refused `refused`: the same where there is no other."""
    return fresh(access, user) or refused


def check(access: Access, user: str) -> Tokens | None:
    """Raise what `fresh` will, where that can be told without asking anybody."""
    return access.store(user).load()
