"""An access token that is good for a while: the one that is kept, or a new one.

Rule of the file: a provider is asked by one thread of one process at a time, never again
after it said that the consent is over, and not at once after it failed; what it gives is
kept before anybody uses it.
"""

from __future__ import annotations

import time

from mailflow.errors import LoginError, MailflowError, PeerError, UnavailableError
from mailflow.log import get_logger
from mailflow.oauth2 import ask
from mailflow.oauth2.store import Store, Tokens
from mailflow.typed import TYPE_CHECKING, Any
from mailflow.values import FOREVER

if TYPE_CHECKING:
    from mailflow.oauth2 import Access
    from mailflow.oauth2.provider import Provider

MARGIN = 300.0
"""Seconds that a token must still be good for; of a short-lived one, a fifth of its life."""

UNKNOWN_LIFE = 3600.0
"""Seconds that a token is taken to be good where the provider does not say."""

YOUNG = 60.0
"""A token of fewer seconds that a server refuses has not ended: another would not help."""

FIRST_PAUSE, LONGEST_PAUSE = 10.0, 600.0
"""Seconds before a provider that failed is asked again; each time twice as many."""

NOTICE = 7 * 86400.0
"""Seconds before the end of a consent that it is warned of; or a quarter of its life."""

_warned: dict[str, float] = {}


def fresh(access: Access, user: str) -> str:
    """An access token that ends no sooner than in some minutes, or seconds if no other is to
    be had. Raises LoginError where `user` must log in (again), UnavailableError, ConfigError."""
    store = access.store(user)
    tokens = store.load()
    now = time.time()
    if tokens is not None and _good(access.provider, tokens, now):
        return tokens.access_token
    try:
        with store.locked():
            return _renewed(access, user, store, refused="").access_token
    except MailflowError as error:
        if tokens is None or not _usable(access.provider, tokens, now):
            raise
        get_logger().warning("the token cannot be renewed", account=store.name, error=error)
        return tokens.access_token


def renewed(access: Access, user: str, refused: str) -> str:
    """The one to use where a server has refused `refused`: the same where there is no other."""
    store = access.store(user)
    with store.locked():
        tokens = store.load()
        if tokens is not None and tokens.access_token == refused:
            young = 0 <= time.time() - tokens.obtained < YOUNG
            if young or not _renewable(access.provider, tokens):
                return refused
        return _renewed(access, user, store, refused).access_token


def renew(access: Access, user: str) -> Tokens:
    """A new token, however good the one is that is there."""
    store = access.store(user)
    with store.locked():
        tokens = store.load()
        return _renewed(access, user, store, tokens.access_token if tokens else "")


def check(access: Access, user: str) -> None:
    """Raise what `fresh` will, where that can be told without asking anybody."""
    ask.check_installed()
    tokens = access.store(user).load() or Tokens()
    if refusal(access.provider, tokens) or not _usable(access.provider, tokens, time.time()):
        _check_consent(access, user, tokens if tokens.access_token else None)


def refusal(provider: Provider, tokens: Tokens) -> str:
    """Why the provider gives no more for what would be asked with now; "" if it does."""
    return tokens.refused if tokens.refused_as == _mark(provider, tokens) else ""


def kept(tokens: Tokens, given: dict[str, Any], now: float) -> Tokens:
    """`tokens` with what a provider has given; a refresh token stays until there is another."""
    life = ask.seconds(given.get("expires_in"))
    again = given.get("refresh_token")
    ends = ask.seconds(given.get("refresh_token_expires_in") or given.get("refresh_expires_in"))
    scope = given.get("scope")
    return tokens._replace(
        access_token=str(given["access_token"]),
        obtained=now,
        expires=now + life if life else 0.0,
        refresh_token=again if isinstance(again, str) and again else tokens.refresh_token,
        scope=" ".join(scope) if isinstance(scope, list) else str(scope or tokens.scope),
        used=now,
        ends=now + ends if ends else tokens.ends,
        refused="", refused_as="", failure="", failures=0, retry_at=0.0,
    )  # fmt: skip


def consent_ends(provider: Provider, tokens: Tokens) -> float:
    """When the user must say yes again, in seconds since the epoch; FOREVER if never."""
    ends = [tokens.consented + provider.consent, tokens.used + provider.idle]
    return min([*ends, tokens.ends or FOREVER])


def ends_soon(provider: Provider, tokens: Tokens, now: float) -> bool:
    """Whether it is time to warn of that."""
    ends = consent_ends(provider, tokens)
    begun = tokens.consented if ends == tokens.consented + provider.consent else tokens.used
    return ends - now < min(NOTICE, (ends - begun) / 4)


def _renewed(access: Access, user: str, store: Store, refused: str) -> Tokens:
    """What another process has fetched meanwhile, or what the provider gives. The lock is
    held; `refused` is the token that will not do."""
    provider, now = access.provider, time.time()
    tokens = store.load()
    if tokens and tokens.access_token != refused and _good(provider, tokens, now):
        return tokens
    _check_consent(access, user, tokens)
    tokens = tokens or Tokens()
    if 0 < tokens.retry_at - now <= LONGEST_PAUSE:
        text = f"{tokens.failure}; it is asked again in {tokens.retry_at - now:.0f} s"
        raise UnavailableError(text)
    store.reserve()
    try:
        given = (
            ask.by_itself(provider)
            if provider.flow == "client"
            else ask.refresh(provider, tokens.refresh_token)
        )
    except LoginError as error:
        if not error.fields.get("code"):
            raise  # of TLS, not of what was asked
        text = f"{error.text}; {_remedy(access, user)}"
        mark = _mark(provider, tokens)
        store.save(tokens._replace(refused=text, refused_as=mark, failures=0, failure=""))
        raise LoginError(text) from None
    except (UnavailableError, PeerError) as error:
        store.save(_failed(tokens, error))
        raise
    if provider.flow == "client":
        tokens = tokens._replace(client_id=provider.client_id)
    tokens = kept(tokens, given, now)
    store.save(tokens)
    get_logger().info("token renewed", account=store.name)
    _warn(access, store, tokens, now)
    return tokens


def _failed(tokens: Tokens, error: MailflowError) -> Tokens:
    pause = min(LONGEST_PAUSE, FIRST_PAUSE * 2 ** min(tokens.failures, 10))
    said = error.fields.get("retry_after")
    if isinstance(said, float) and said > 0:
        pause = min(LONGEST_PAUSE, max(pause, said))
    return tokens._replace(
        failure=error.text, failures=tokens.failures + 1, retry_at=time.time() + pause
    )


def _check_consent(access: Access, user: str, tokens: Tokens | None) -> None:
    """Raise LoginError where the provider has nothing to go by, or has said no already."""
    provider = access.provider
    if tokens and (refused := refusal(provider, tokens)):
        raise LoginError(refused)
    if provider.flow == "client":
        return
    remedy = _remedy(access, user)
    if tokens is None:
        raise LoginError(f"nobody has logged in at {access.name} as {user}; {remedy}")
    if tokens.client_id != provider.client_id:
        raise LoginError(f"{user} has logged in at {access.name} by another client_id; {remedy}")
    if not tokens.refresh_token:
        raise LoginError(
            f"the token of {user} has ended, and {access.name} gave none to renew it; {remedy}"
        )


def _remedy(access: Access, user: str) -> str:
    if access.provider.flow == "client":
        return "check `client_id` and `client_secret`, and what the provider allows them"
    return f"run: mailflow auth login {access.name}/{user}"


def _mark(provider: Provider, tokens: Tokens) -> str:
    """A digest of what is asked with: what was refused may do once that has changed."""
    from hashlib import sha256

    secret = provider.client_secret.reveal() if provider.client_secret is not None else ""
    words = (provider.endpoint("token"), provider.client_id, secret, tokens.refresh_token)
    return sha256("\0".join(words).encode()).hexdigest()[:16]


def _renewable(provider: Provider, tokens: Tokens) -> bool:
    return provider.flow == "client" or bool(tokens.refresh_token)


def _good(provider: Provider, tokens: Tokens, now: float) -> bool:
    """Whether it can be used without a thought. A clock that was set back makes it old."""
    if not _usable(provider, tokens, now):
        return False
    if not _renewable(provider, tokens):
        return True
    ends = tokens.expires or tokens.obtained + UNKNOWN_LIFE
    return now < ends - min(MARGIN, (ends - tokens.obtained) / 5)


def _usable(provider: Provider, tokens: Tokens, now: float) -> bool:
    """Whether a server will take it."""
    mine = tokens.client_id == provider.client_id
    in_time = tokens.obtained <= now and (not tokens.expires or now < tokens.expires - 1)
    return bool(tokens.access_token) and mine and in_time


def _warn(access: Access, store: Store, tokens: Tokens, now: float) -> None:
    """Once a day, as the end of a consent comes near."""
    if not ends_soon(access.provider, tokens, now) or now - _warned.get(store.name, 0) < 86400:
        return
    _warned[store.name] = now
    days = (consent_ends(access.provider, tokens) - now) / 86400
    get_logger().warning(
        f"the consent ends in {days:.1f} days; run: mailflow auth login {store.name}",
        account=store.name,
    )


__all__ = ["check", "consent_ends", "ends_soon", "fresh", "kept", "renew", "renewed"]
