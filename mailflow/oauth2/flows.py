"""How a user says yes, once: in a browser here or elsewhere, or on another device.

Rule of the file: the answer counts only with the state and the proof (PKCE) that were made
for this attempt, and nothing of it is shown.
"""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from mailflow.errors import LoginError, UnavailableError, from_os
from mailflow.log import clean, register_secret
from mailflow.oauth2 import ask
from mailflow.oauth2.http import host_of
from mailflow.oauth2.refresh import kept
from mailflow.oauth2.store import Tokens
from mailflow.typed import TYPE_CHECKING, Any, Protocol

if TYPE_CHECKING:
    from mailflow.oauth2 import Access
    from mailflow.oauth2.provider import Provider

PATIENCE = 600.0
"""Seconds that a user has to say yes."""

LONGEST_INTERVAL = 60.0
"""Seconds between two questions whether the user has said yes, whatever the provider wants."""

PASTED_PORT = 53682
"""Where nobody listens: the browser ends there, and its address is pasted."""

_PAGE = b"""<!doctype html><meta charset="utf-8"><title>mailflow</title>
<p>The answer has arrived. This window can be closed; mailflow says in its terminal how it went.
"""


class Talk(Protocol):
    """With the user."""

    def say(self, line: str) -> None: ...
    def browse(self, url: str) -> None:
        """Open a browser there, if one can be opened."""

    def ask(self, question: str) -> str: ...


def log_in(access: Access, user: str, talk: Talk) -> Tokens:
    """Have `user` say yes, and keep what that gives. Raises LoginError where he does not."""
    store = access.store(user)
    with store.locked():
        store.reserve()  # before anybody is asked for what could not be kept
    given = _FLOWS[access.provider.flow](access.provider, user, talk)
    now = time.time()
    empty = Tokens(client_id=access.provider.client_id, consented=now)
    tokens = kept(empty, given, now)
    with store.locked():
        store.save(tokens)
    return tokens


def _browser(provider: Provider, user: str, talk: Talk) -> dict[str, Any]:
    """The browser comes back to a port of this machine (RFC 8252, 7.3)."""
    state = _state()
    with _listening(provider.redirect, state) as (redirect, wait):
        verifier, url = _begin(provider, user, redirect, state)
        talk.say(f"Say yes in the browser. If none opens here, go to:\n{url}")
        talk.browse(url)
        came_back = wait()
    code = ask.code_of(provider, came_back, state)
    return ask.exchange(provider, code, verifier, redirect)


def _paste(provider: Provider, user: str, talk: Talk) -> dict[str, Any]:
    """The browser runs elsewhere: the address that it ends at is brought here by hand."""
    redirect, state = provider.redirect.replace("{port}", str(PASTED_PORT)), _state()
    verifier, url = _begin(provider, user, redirect, state)
    talk.say(f"Go to this address, on any machine, and say yes:\n{url}")
    talk.say("The browser then ends at a page that it cannot open; copy that page's address.")
    came_back = talk.ask("The address").strip()
    code = ask.code_of(provider, came_back, state)
    return ask.exchange(provider, code, verifier, redirect)


def _device(provider: Provider, user: str, talk: Talk) -> dict[str, Any]:  # noqa: ARG001
    """The code is entered on another device (RFC 8628)."""
    given = ask.device_code(provider)
    code, shown = str(given.get("device_code", "")), clean(str(given.get("user_code", "")))
    where = given.get("verification_uri") or given.get("verification_url") or ""
    if not (code and shown and where):
        raise LoginError(f"{host_of(provider.endpoint('device'))} gives no code to enter")
    register_secret(code)
    talk.say(f"On any device, go to {clean(str(where))} and enter the code {shown}")
    every = min(ask.seconds(given.get("interval")) or 5.0, LONGEST_INTERVAL)
    until = time.monotonic() + min(ask.seconds(given.get("expires_in")) or PATIENCE, 3600.0)
    while (left := until - time.monotonic()) > 0:
        time.sleep(min(every, left))
        try:
            return ask.by_device(provider, code)
        except LoginError as error:
            if error.fields.get("code") != "authorization_pending":
                raise
        except UnavailableError as error:  # RFC 8628, 3.5
            every = (
                every + 5
                if error.fields.get("code") == "slow_down"
                else min(2 * every, LONGEST_INTERVAL)
            )
    raise LoginError("nobody has entered the code in time")


def _client(provider: Provider, user: str, talk: Talk) -> dict[str, Any]:  # noqa: ARG001
    """Nobody is asked."""
    return ask.by_itself(provider)


_FLOWS: dict[str, Callable[[Any, str, Any], dict[str, Any]]] = {
    "browser": _browser,
    "paste": _paste,
    "device": _device,
    "client": _client,
}


def _state() -> str:
    """What only the answer to this attempt can repeat."""
    return os.urandom(24).hex()


def _begin(provider: Provider, user: str, redirect: str, state: str) -> tuple[str, str]:
    """(verifier, where the browser goes)."""
    verifier, challenge = ask.proof()
    return verifier, ask.destination(provider, redirect, state, challenge, user)


@contextmanager
def _listening(redirect: str, state: str) -> Iterator[tuple[str, Callable[[], str]]]:
    """(the redirect with its port, what waits for the address that comes with the state)."""
    from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
    from urllib.parse import parse_qs, urlsplit

    parts = urlsplit(redirect.replace("{port}", "0"))
    came: list[str] = []
    arrived = threading.Event()

    class Server(ThreadingHTTPServer):
        daemon_threads = True

        def handle_error(self, *words: object) -> None:
            """Nothing: a browser that goes away has its reasons."""

    class Answered(BaseHTTPRequestHandler):
        timeout = 10.0

        def do_GET(self) -> None:
            """Only what carries the state of this attempt is the answer."""
            asked = urlsplit(self.path)
            if asked.path != (parts.path or "/") or parse_qs(asked.query).get("state") != [state]:
                self.send_error(404)
                return
            came.append(f"http://{parts.hostname}{self.path}")
            try:
                self.send_response(200)
                self.send_header("Content-Type", "text/html; charset=utf-8")
                self.send_header("Content-Length", str(len(_PAGE)))
                self.send_header("Referrer-Policy", "no-referrer")
                self.end_headers()
                self.wfile.write(_PAGE)
            finally:
                arrived.set()

        def log_message(self, *words: object) -> None:
            """Nothing: the path holds a code."""

    try:
        server = Server(("127.0.0.1", parts.port or 0), Answered)
    except OSError as error:
        raise from_os(error, f"listen for the browser at {redirect}") from None
    thread = threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True)

    def wait() -> str:
        if not arrived.wait(PATIENCE):
            raise LoginError("the browser did not come back in time")
        return came[0]

    thread.start()
    try:
        yield redirect.replace("{port}", str(server.server_address[1])), wait
    finally:
        server.shutdown()
        server.server_close()


__all__ = ["Talk", "log_in"]
