"""What is asked of a provider, and what its answers mean: the messages are oauthlib's.

Rule of the file: LoginError where asking again is of no use, its field `code` being the
provider's word for it (RFC 6749, 5.2); UnavailableError where it is, `retry_after` seconds
from now if it said so. What a provider says of a request goes into no error but its code
and description, cleaned.
"""

from __future__ import annotations

import re
from collections.abc import Mapping

from mailflow.errors import ConfigError, LoginError, MailflowError, PeerError, UnavailableError
from mailflow.log import clean, register_secret
from mailflow.oauth2.http import Answer, host_of, post
from mailflow.typed import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from mailflow.oauth2.provider import Provider

EXTRA = "pip install 'mailflow[oauth2]'"

PASSING = ("temporarily_unavailable", "server_error", "slow_down")
"""Errors that may be gone the next time (RFC 6749, 4.1.2.1)."""

_TOKEN = re.compile("[ -~]{1,100000}")


def check_installed() -> None:
    """Raise ConfigError with the command to run, where oauthlib is not here."""
    from importlib.util import find_spec

    if find_spec("oauthlib") is None:
        raise ConfigError(f"oauth2 needs oauthlib: {EXTRA}")


def refresh(provider: Provider, refresh_token: str) -> dict[str, Any]:
    """A new access token, and perhaps a refresh token that takes the old one's place."""
    client = _client(provider)
    body = client.prepare_refresh_body(refresh_token=refresh_token)
    return _tokens(provider, client, body)


def exchange(provider: Provider, code: str, verifier: str, redirect: str) -> dict[str, Any]:
    """The tokens that an authorization code stands for (RFC 6749, 4.1.3; RFC 7636)."""
    client = _client(provider)
    body = client.prepare_request_body(
        code=code, redirect_uri=redirect, code_verifier=verifier, include_client_id=False
    )
    return _tokens(provider, client, body)


def by_itself(provider: Provider) -> dict[str, Any]:
    """An access token for a program that acts on its own (RFC 6749, 4.4)."""
    check_installed()
    from oauthlib.oauth2 import BackendApplicationClient

    client = BackendApplicationClient(provider.client_id)
    body = client.prepare_request_body(scope=provider.scopes or None, include_client_id=False)
    return _tokens(provider, client, body)


def device_code(provider: Provider) -> dict[str, Any]:
    """A code for another device, and where it is entered (RFC 8628, 3.2)."""
    url = provider.endpoint("device")
    answer = _post(provider, url, _form({"scope": " ".join(provider.scopes)}))
    return _table(url, answer)


def by_device(provider: Provider, code: str) -> dict[str, Any]:
    """The tokens, once the user has entered the code (RFC 8628, 3.4)."""
    check_installed()
    from oauthlib.oauth2 import DeviceClient

    client = DeviceClient(provider.client_id)
    body = client.prepare_request_body(device_code=code, include_client_id=False)
    return _tokens(provider, client, body)


def give_back(provider: Provider, token: str) -> None:
    """Have the provider forget a token (RFC 7009)."""
    check_installed()
    from oauthlib.oauth2 import Client

    url = provider.endpoint("revocation")
    _, _, body = Client(provider.client_id).prepare_token_revocation_request(
        _as_https(url), token, "refresh_token"
    )
    answer = _post(provider, url, body)
    if answer.status != 200:
        raise _refused(url, answer, *_said(answer))


def destination(provider: Provider, redirect: str, state: str, challenge: str, user: str) -> str:
    """Where the browser is sent (RFC 6749, 4.1.1)."""
    url = provider.endpoint("authorization")
    whole = _client(provider).prepare_request_uri(
        _as_https(url), redirect_uri=redirect, scope=list(provider.scopes), state=state,
        code_challenge=challenge, code_challenge_method="S256",
    )  # fmt: skip
    from oauthlib.common import add_params_to_uri

    more = {"login_hint": user, **provider.parameters}
    whole = str(add_params_to_uri(whole, more.items()))
    return url[: url.index(":")] + whole[len("https") :]


def code_of(provider: Provider, came_back: str, state: str) -> str:
    """The authorization code in the address that the browser came back with. Raises
    LoginError."""
    from urllib.parse import parse_qs, urlsplit

    client = _client(provider)
    from oauthlib.oauth2 import OAuth2Error

    if not came_back.startswith(("http://", "https://")):
        raise LoginError("this is not the address that the browser ended at")
    try:
        issuer = parse_qs(urlsplit(came_back).query).get("iss", [""])[0]
    except ValueError:
        raise LoginError("this is not the address that the browser ended at") from None
    if provider.issuer and issuer and issuer != provider.issuer:
        raise LoginError(f"this answer is not {provider.issuer}'s: it is {clean(issuer)!r}'s")
    try:
        found = client.parse_request_uri_response(_as_https(came_back), state=state)
    except OAuth2Error as error:
        code = error.error or ""
        if code == "mismatching_state":
            raise LoginError("this answer belongs to another attempt to log in") from None
        if code == "missing_code":
            raise LoginError("there is no code in this address") from None
        what = _words(code, error.description)
        where = host_of(provider.endpoint("authorization"))
        raise LoginError(f"{where} gives no access: {what}", code=code) from None
    code = str(found["code"])
    register_secret(code)
    return code


def proof() -> tuple[str, str]:
    """(verifier, challenge) of PKCE (RFC 7636, 4.1)."""
    check_installed()
    from oauthlib.oauth2 import WebApplicationClient

    client = WebApplicationClient("")
    verifier: str = client.create_code_verifier(64)
    register_secret(verifier)
    return verifier, client.create_code_challenge(verifier, "S256")


def _client(provider: Provider) -> Any:
    check_installed()
    from oauthlib.oauth2 import WebApplicationClient

    return WebApplicationClient(provider.client_id)


def _as_https(url: str) -> str:
    """oauthlib wants https; what goes in clear stays on this machine (see Endpoint)."""
    return f"https{url[4:]}" if url.startswith("http:") else url


def _form(words: Mapping[str, str]) -> str:
    from urllib.parse import urlencode

    return urlencode({key: each for key, each in words.items() if each})


def _post(provider: Provider, url: str, body: str) -> Answer:
    """With who we are: in the body, or as HTTP Basic (RFC 6749, 2.3.1)."""
    headers = {
        "Content-Type": "application/x-www-form-urlencoded",
        "Accept": "application/json",
        "User-Agent": "mailflow",
    }
    secret = provider.client_secret.reveal() if provider.client_secret is not None else ""
    if secret and provider.client_auth == "basic":
        from base64 import b64encode
        from urllib.parse import quote_plus

        pair = f"{quote_plus(provider.client_id)}:{quote_plus(secret)}"
        headers["Authorization"] = f"Basic {b64encode(pair.encode()).decode()}"
    else:
        mine = _form({"client_id": provider.client_id, "client_secret": secret})
        body = f"{body}&{mine}" if body else mine
    return post(provider, url, body, headers)


def _tokens(provider: Provider, client: Any, body: str) -> dict[str, Any]:
    """What the token endpoint gives. Raises LoginError, UnavailableError, PeerError."""
    from oauthlib.oauth2 import OAuth2Error

    url = provider.endpoint("token")
    answer = _post(provider, url, body)
    code, description = _said(answer)
    if answer.status != 200 or code:
        raise _refused(url, answer, code, description)
    try:
        found: dict[str, Any] = client.parse_request_body_response(_sound(answer))
    except (
        OAuth2Error,
        AttributeError,
        TypeError,
        ValueError,
        RecursionError,
    ):  # a page of a portal, for one
        raise PeerError(f"{host_of(url)} gives no token, and does not say why") from None
    if not isinstance(found.get("access_token"), str):
        raise PeerError(f"{host_of(url)} gives no token, and does not say why")
    for name in ("access_token", "refresh_token"):
        if not _TOKEN.fullmatch(str(found.get(name) or " ")):  # RFC 6749, A.12 and A.17
            raise PeerError(f"{host_of(url)} gives a token that is none")
    kind = str(found.get("token_type", "bearer"))
    if kind.lower() != "bearer":
        raise LoginError(f"{host_of(url)} gives a token of the type {clean(kind)!r}, not Bearer")
    return found


def _sound(answer: Answer) -> str:
    """What it says of tokens, without what oauthlib cannot read and nobody needs: what has
    replaced a refresh token must not be lost for the sake of a number."""
    import json

    table = _parsed(answer)
    if table is None:
        return answer.text
    table["expires_in"] = seconds(table.get("expires_in"))
    table.pop("expires_at", None)
    if not isinstance(table.get("scope"), str | list):
        table.pop("scope", None)
    return json.dumps(table)


def _parsed(answer: Answer) -> dict[str, Any] | None:
    """The JSON object in it; None where there is none."""
    import json

    try:
        table = json.loads(answer.text)
    except (ValueError, RecursionError):
        return None
    return table if isinstance(table, dict) else None


def seconds(value: object) -> float:
    """A span as providers write it: a number, or one in quotes; 0.0 for none."""
    try:
        found = float(value) if isinstance(value, int | float | str) else 0.0
    except (ValueError, OverflowError):
        return 0.0
    return found if 0 < found < 1e10 else 0.0


def _table(url: str, answer: Answer) -> dict[str, Any]:
    if answer.status != 200:
        raise _refused(url, answer, *_said(answer))
    table = _parsed(answer)
    if table is None:
        raise PeerError(f"{host_of(url)} does not answer as RFC 8628 says")
    return table


def _said(answer: Answer) -> tuple[str, str]:
    """(error, error_description) of a refusal, "" for what is not there."""
    table = _parsed(answer) or {}
    error, description = table.get("error"), table.get("error_description")
    return (
        error if isinstance(error, str) else "",
        description if isinstance(description, str) else "",
    )


def _refused(url: str, answer: Answer, code: str, description: str) -> MailflowError:
    """What a refusal comes to: for good, or for now."""
    host = host_of(url)
    said = _words(code, description) if code else f"HTTP status {answer.status}"
    text = f"{host} gives no token: {said}"
    passing = answer.status >= 500 or answer.status == 429 or code in PASSING
    if passing or not code:
        return UnavailableError(text, code=code, retry_after=answer.retry_after)
    return LoginError(text, code=code)


def _words(code: str, description: str | None) -> str:
    line = (description or "").strip().partition("\n")[0]
    return f"{clean(code)[:100]} ({clean(line)[:200]})" if line else clean(code)[:100]


__all__ = [
    "by_device", "by_itself", "check_installed", "code_of", "destination", "device_code",
    "exchange", "give_back", "proof", "refresh", "seconds",
]  # fmt: skip
