"""One POST to a provider, as OAuth2 has it: a form goes there, JSON comes back.

Rule of the file: no redirect is followed, since what is sent is secret; it ends in time,
whatever the other side does.
"""

from __future__ import annotations

import threading
from collections.abc import Mapping

from mailflow.errors import LoginError, MailflowError, UnavailableError
from mailflow.log import clean
from mailflow.net import is_loopback, tls_context
from mailflow.record import NamedTuple
from mailflow.typed import TYPE_CHECKING, Any
from mailflow.values import FOREVER

if TYPE_CHECKING:
    from mailflow.oauth2.provider import Provider

LIMIT = 1 << 20
"""Octets of an answer."""


class Answer(NamedTuple):
    """`retry_after` is in seconds, 0.0 where nothing is said of it."""

    status: int
    text: str
    retry_after: float = 0.0


def post(provider: Provider, url: str, form: str, headers: Mapping[str, str]) -> Answer:
    """Whatever is answered, refusals too. Raises UnavailableError, LoginError (its TLS)."""
    answers: list[Answer | MailflowError] = []

    def ask() -> None:
        try:
            answers.append(_post(provider, url, form, headers))
        except MailflowError as error:
            answers.append(error)

    # A name that is looked up, and octets that trickle, know no deadline of urllib's.
    thread = threading.Thread(target=ask, name=f"ask {host_of(url)}", daemon=True)
    thread.start()
    thread.join(None if provider.timeout == FOREVER else provider.timeout)
    if not answers:
        raise UnavailableError(f"{host_of(url)} does not answer in time")
    if isinstance(answers[0], MailflowError):
        raise answers[0]
    return answers[0]


def host_of(url: str) -> str:
    """The name of who is asked, for a line about it."""
    from urllib.parse import urlsplit

    return urlsplit(url).netloc


def _post(provider: Provider, url: str, form: str, headers: Mapping[str, str]) -> Answer:
    import ssl
    from http.client import HTTPException
    from urllib.error import HTTPError, URLError
    from urllib.request import Request

    request = Request(url, form.encode("ascii"), dict(headers))  # noqa: S310  # http on loopback only
    patience = None if provider.timeout == FOREVER else provider.timeout
    try:
        try:
            response = _opener(provider, url).open(request, timeout=patience)
        except HTTPError as error:
            response = error
        with response:
            return _answer(url, response)
    except URLError as error:
        reason = error.reason
        if isinstance(reason, ssl.SSLCertVerificationError):
            raise LoginError(
                f"the certificate of {host_of(url)} is refused: {reason.verify_message}"
            ) from None
        raise _lost(url, reason) from None
    except OSError as error:
        raise _lost(url, error) from None
    except (HTTPException, ValueError):  # such as a Location that is none; a token may be in it
        raise _lost(url, "it does not answer as HTTP has it") from None


def _lost(url: str, reason: object) -> UnavailableError:
    text = getattr(reason, "strerror", None) or str(reason) or type(reason).__name__
    return UnavailableError(f"cannot ask {host_of(url)}: {clean(text.strip())[:200]}")


def _opener(provider: Provider, url: str) -> Any:
    from urllib.parse import urlsplit
    from urllib.request import HTTPRedirectHandler, HTTPSHandler, ProxyHandler, build_opener

    class Stay(HTTPRedirectHandler):
        """A redirect is an answer like any other."""

        def redirect_request(self, *words: object) -> None:
            return None

    handlers: list[Any] = [Stay()]
    if url.startswith("https:"):
        handlers.append(HTTPSHandler(context=tls_context(provider.ca_file)))
    if is_loopback(urlsplit(url).hostname or ""):
        handlers.append(ProxyHandler({}))
    return build_opener(*handlers)


def _answer(url: str, response: Any) -> Answer:
    data: bytes = response.read(LIMIT + 1)
    if len(data) > LIMIT:
        raise UnavailableError(f"{host_of(url)} answers with more than {LIMIT} octets")
    said = response.headers.get("Retry-After", "")
    later = float(said) if said.isascii() and said.isdecimal() and len(said) < 9 else 0.0
    return Answer(response.status, data.decode("utf-8", "replace"), later)


__all__ = ["Answer", "host_of", "post"]
