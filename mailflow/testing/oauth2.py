"""A real OAuth2 authorization server on loopback, made of Authlib: codes with PKCE, devices,
refresh with rotation, client credentials, introspection, revocation.

    with OAuth2Server() as server:
        server.user = "ann@example.org"          # who says yes at the authorization endpoint
        access({**server.provider(), ...})
        server.introspection                     # what Dovecot's passdb asks

Rule of the file: what the protocol says is Authlib's; faults are prepared answers in the place
of its own.
"""

from __future__ import annotations

import json
import sys
import threading
import time
from collections import deque
from contextlib import suppress
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, Self
from urllib.parse import parse_qs, parse_qsl, urlsplit

from mailflow.testing.tls import Certificate

CLIENT = "mailflow-test"
SECRET = "client-canary-1"
SCOPES = ("mail", "offline_access")


@dataclass
class Fault:
    """An answer in the place of the server's own. `issued`: it has given tokens, and the answer
    is lost."""

    status: int = 503
    body: str = ""
    headers: dict[str, str] = field(default_factory=dict)
    issued: bool = False
    delay: float = 0.0


@dataclass
class Token:
    """As Authlib wants it (TokenMixin)."""

    client_id: str
    user: str
    scope: str
    access_token: str
    refresh_token: str
    expires: float
    used: bool = False
    revoked: bool = False

    def check_client(self, client: Client) -> bool:
        return client.get_client_id() == self.client_id

    def get_scope(self) -> str:
        return self.scope

    def is_expired(self) -> bool:
        return time.time() > self.expires

    def is_revoked(self) -> bool:
        return self.revoked


@dataclass
class Code:
    """An authorization code, or one for a device."""

    client_id: str
    scope: str
    user: str = ""
    redirect_uri: str = ""
    code_challenge: str = ""
    code_challenge_method: str = ""
    user_code: str = ""
    granted: bool | None = None
    expires: float = 0.0

    def get_client_id(self) -> str:
        return self.client_id

    def get_redirect_uri(self) -> str:
        return self.redirect_uri

    def get_scope(self) -> str:
        return self.scope

    def get_user_code(self) -> str:
        return self.user_code

    def is_expired(self) -> bool:
        return time.time() > self.expires


class Client:
    """As Authlib wants it (ClientMixin)."""

    def __init__(self, client_id: str, secret: str) -> None:
        self.client_id = client_id
        self.secret = secret

    def get_client_id(self) -> str:
        return self.client_id

    def get_default_redirect_uri(self) -> None:
        return None

    def get_allowed_scope(self, scope: str) -> str:
        return " ".join(each for each in (scope or "").split() if each in SCOPES)

    def check_redirect_uri(self, uri: str) -> bool:
        return urlsplit(uri).hostname in ("127.0.0.1", "localhost")

    def check_client_secret(self, secret: str) -> bool:
        return bool(self.secret) and secret == self.secret

    def check_endpoint_auth_method(self, method: str, endpoint: str) -> bool:
        return (method == "none") is not bool(self.secret)

    def check_response_type(self, response_type: str) -> bool:
        return response_type == "code"

    def check_grant_type(self, grant_type: str) -> bool:
        return True


class OAuth2Server:
    """Listens from `__enter__` to `__exit__`.

    `user` says yes in the browser, nobody if it is ""; `life` is the seconds an access token
    is good for; with `rotate`, a refresh token is good once, and its second use ends all that
    came of it (RFC 9700, 4.14.2); with a `certificate` it speaks TLS. `faults` are the next
    answers of the token endpoint; `requests` what it was asked, as (grant type, form).
    """

    host = "127.0.0.1"

    def __init__(
        self,
        *,
        life: float = 3600,
        rotate: bool = True,
        secret: str = SECRET,
        certificate: Certificate | None = None,
    ) -> None:
        self.user = "ann@example.org"
        self.life = life
        self.rotate = rotate
        self.interval = 1
        self.faults: deque[Fault] = deque()
        self.requests: list[tuple[str, dict[str, str]]] = []
        self.tokens: list[Token] = []
        self.codes: dict[str, Code] = {}
        self.clients = {
            CLIENT: Client(CLIENT, secret),
            "dovecot": Client("dovecot", "introspect"),
        }
        self._secret = secret
        self._lock = threading.Lock()
        self._http = _Http((self.host, 0), _handler(self))
        self._tls = certificate is not None
        if certificate is not None:
            self._http.socket = certificate.server_context().wrap_socket(
                self._http.socket, server_side=True, do_handshake_on_connect=False
            )
        self._thread = threading.Thread(
            target=self._http.serve_forever, args=(0.02,), name="oauth2 server", daemon=True
        )
        self.authlib = _authlib(self)

    @property
    def url(self) -> str:
        port = self._http.server_address[1]
        return f"https://localhost:{port}" if self._tls else f"http://{self.host}:{port}"

    @property
    def introspection(self) -> str:
        """Where Dovecot asks whether a token is good, and whose it is (RFC 7662)."""
        return f"{self.url.replace('//', '//dovecot:introspect@')}/introspect"

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._http.shutdown()
        self._http.server_close()

    def provider(self) -> dict[str, object]:
        """What a provider's file says of this server."""
        words: dict[str, object] = {
            f"{name}_endpoint": f"{self.url}/{name}"
            for name in ("authorization", "token", "device", "revocation")
        }
        secret = {"client_secret": self._secret} if self._secret else {}
        return {**words, **secret, "client_id": CLIENT, "issuer": self.url, "scopes": [*SCOPES]}

    def withdraw(self) -> None:
        """The user takes back what was allowed: no token is good any more."""
        for token in self.tokens:
            token.revoked = True

    def end_access(self) -> None:
        """Access tokens end before their time; refresh tokens stay good."""
        for token in self.tokens:
            token.expires = 0.0

    def enter(self, user_code: str, *, granted: bool = True) -> None:
        """The user enters a code from another device."""
        code = next(each for each in self.codes.values() if each.user_code == user_code)
        code.user, code.granted = self.user, granted

    def asked(self, grant: str) -> list[dict[str, str]]:
        """The forms of all requests of that grant type."""
        return [form for name, form in self.requests if name == grant]

    def answer(self, method: str, path: str, form: dict[str, str], headers: Any) -> Any:
        """(status, body, headers) of one request."""
        parts = urlsplit(path)
        ask = _Asked(method, f"https://{self.host}{path}", form, headers)
        with self._lock:
            if parts.path == "/authorization":
                return self._authorize(ask)
            if parts.path == "/token":
                return self._token(ask, form)
            if parts.path == "/device":
                return self.authlib.create_endpoint_response("device_authorization", ask)
            if parts.path == "/introspect":
                return self.authlib.create_endpoint_response("introspection", ask)
            if parts.path == "/revocation":
                return self.authlib.create_endpoint_response("revocation", ask)
        return 404, "", []

    def _authorize(self, ask: _Asked) -> Any:
        from authlib.oauth2 import OAuth2Error

        try:
            grant = self.authlib.get_consent_grant(ask, self.user)
        except OAuth2Error as error:
            return 400, {"error": error.error, "error_description": error.description}, []
        status, body, headers = self.authlib.create_authorization_response(
            ask, self.user or None, grant
        )
        named = [
            (name, f"{value}&iss={self.url}" if name == "Location" else value)
            for name, value in headers
        ]
        return status, body, named

    def _token(self, ask: _Asked, form: dict[str, str]) -> Any:
        self.requests.append((form.get("grant_type", ""), form))
        fault = self.faults.popleft() if self.faults else None
        if fault is None:
            return self.authlib.create_token_response(ask)
        if fault.issued:
            self.authlib.create_token_response(ask)
        if fault.delay:
            time.sleep(fault.delay)
        return fault.status, fault.body, list(fault.headers.items())


class _Http(ThreadingHTTPServer):
    daemon_threads = True

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Who leaves in the middle of it is no fault of ours."""
        if not isinstance(sys.exc_info()[1], OSError):
            super().handle_error(request, client_address)


class _Asked:
    """A request on its way into Authlib."""

    def __init__(self, method: str, uri: str, form: dict[str, str], headers: Any) -> None:
        self.method, self.uri, self.form, self.headers = method, uri, form, headers


def _handler(server: OAuth2Server) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        timeout = 30.0
        protocol_version = "HTTP/1.1"

        def do_GET(self) -> None:
            self._do({key: each[0] for key, each in parse_qs(urlsplit(self.path).query).items()})

        def do_POST(self) -> None:
            data = self.rfile.read(int(self.headers.get("Content-Length", 0)))
            self._do(dict(parse_qsl(data.decode())))

        def _do(self, form: dict[str, str]) -> None:
            status, body, headers = server.answer(self.command, self.path, form, self.headers)
            data = (json.dumps(body) if isinstance(body, dict) else body).encode()
            self.send_response(status)
            for name, value in headers:
                self.send_header(name, value)
            self.send_header("Content-Length", str(len(data)))
            with suppress(ConnectionError):  # who asked may be dead by now
                self.end_headers()
                self.wfile.write(data)

        def log_message(self, *words: object) -> None:
            pass

    return Handler


def _authlib(server: OAuth2Server) -> Any:
    """Authlib's server with our store behind it."""
    from authlib.common.security import generate_token
    from authlib.oauth2 import AuthorizationServer, OAuth2Request
    from authlib.oauth2.rfc6749.requests import BasicOAuth2Payload
    from authlib.oauth2.rfc6750 import BearerTokenGenerator
    from authlib.oauth2.rfc7636 import CodeChallenge

    class Request(OAuth2Request):  # type: ignore[misc]  # Authlib has no types
        def __init__(self, asked: _Asked) -> None:
            super().__init__(asked.method, asked.uri, headers=asked.headers)
            self._form = asked.form
            self.payload = BasicOAuth2Payload(asked.form)

        @property
        def form(self) -> dict[str, str]:
            return self._form

        @property
        def args(self) -> dict[str, str]:
            return self._form

    class Authority(AuthorizationServer):  # type: ignore[misc]
        def query_client(self, client_id: str) -> Client | None:
            return server.clients.get(client_id)

        def save_token(self, token: dict[str, Any], request: Any) -> None:
            server.tokens.append(
                Token(
                    request.client.client_id, request.user or request.client.client_id,
                    token.get("scope", ""), token["access_token"],
                    token.get("refresh_token", ""), time.time() + server.life,
                )
            )  # fmt: skip

        def send_signal(self, name: str, *words: object, **more: object) -> None:
            pass

        def create_oauth2_request(self, request: Any) -> Any:
            return request if isinstance(request, OAuth2Request) else Request(request)

        def handle_response(self, status: int, body: object, headers: object) -> object:
            return status, body, headers

    authority = Authority(scopes_supported=[*SCOPES])
    authority.register_token_generator(
        "default",
        BearerTokenGenerator(
            lambda **_: generate_token(42), lambda **_: generate_token(48),
            lambda client, grant: int(server.life),
        ),
    )  # fmt: skip
    code, refresh, device_grant, client_grant = _grants(server)
    authority.register_grant(code, [CodeChallenge(required=True)])
    for each in (refresh, device_grant, client_grant):
        authority.register_grant(each)
    for each in _endpoints(server):
        authority.register_endpoint(each)
    return authority


def _grants(server: OAuth2Server) -> tuple[Any, ...]:
    from authlib.oauth2.rfc6749 import grants
    from authlib.oauth2.rfc8628 import DeviceCodeGrant

    methods = ["client_secret_basic", "client_secret_post", "none"]

    class ByCode(grants.AuthorizationCodeGrant):  # type: ignore[misc]
        TOKEN_ENDPOINT_AUTH_METHODS = methods

        def save_authorization_code(self, code: str, request: Any) -> None:
            data = request.payload.data
            server.codes[code] = Code(
                request.client.client_id, request.scope or "", user=request.user,
                redirect_uri=data.get("redirect_uri", ""),
                code_challenge=data.get("code_challenge", ""),
                code_challenge_method=data.get("code_challenge_method", ""),
            )  # fmt: skip

        def query_authorization_code(self, code: str, client: Client) -> Code | None:
            found = server.codes.get(code)
            return found if found and found.client_id == client.client_id else None

        def delete_authorization_code(self, code: Code) -> None:
            server.codes = {key: each for key, each in server.codes.items() if each is not code}

        def authenticate_user(self, code: Code) -> str:
            return code.user

    class ByRefresh(grants.RefreshTokenGrant):  # type: ignore[misc]
        TOKEN_ENDPOINT_AUTH_METHODS = methods

        @property
        def INCLUDE_NEW_REFRESH_TOKEN(self) -> bool:  # noqa: N802
            return server.rotate

        def authenticate_refresh_token(self, text: str) -> Token | None:
            found = next((each for each in server.tokens if each.refresh_token == text), None)
            if found is None or found.revoked:
                return None
            if found.used:
                server.withdraw()
                return None
            return found

        def authenticate_user(self, token: Token) -> str:
            return token.user

        def revoke_old_credential(self, token: Token) -> None:
            token.used = server.rotate

    class ByDevice(DeviceCodeGrant):  # type: ignore[misc]
        TOKEN_ENDPOINT_AUTH_METHODS = methods

        def query_device_credential(self, code: str) -> Code | None:
            return server.codes.get(code)

        def query_user_grant(self, user_code: str) -> tuple[str, bool] | None:
            code = next(each for each in server.codes.values() if each.user_code == user_code)
            return None if code.granted is None else (code.user, code.granted)

        def should_slow_down(self, code: Code) -> bool:
            return False

    class ByItself(grants.ClientCredentialsGrant):  # type: ignore[misc]
        TOKEN_ENDPOINT_AUTH_METHODS = methods

    return ByCode, ByRefresh, ByDevice, ByItself


def _endpoints(server: OAuth2Server) -> tuple[Any, ...]:
    from authlib.oauth2.rfc7009 import RevocationEndpoint
    from authlib.oauth2.rfc7662 import IntrospectionEndpoint
    from authlib.oauth2.rfc8628 import DeviceAuthorizationEndpoint

    def find(text: str) -> Token | None:
        return next(
            (each for each in server.tokens if text in (each.access_token, each.refresh_token)),
            None,
        )

    class Devices(DeviceAuthorizationEndpoint):  # type: ignore[misc]
        @property
        def INTERVAL(self) -> int:  # noqa: N802
            return server.interval

        def get_verification_uri(self) -> str:
            return f"{server.url}/enter"

        def save_device_credential(self, client_id: str, scope: str, data: Any) -> None:
            server.codes[data["device_code"]] = Code(
                client_id, scope, user_code=data["user_code"],
                expires=time.time() + data["expires_in"],
            )  # fmt: skip

    class Introspection(IntrospectionEndpoint):  # type: ignore[misc]
        def check_permission(self, token: Token, client: Client, request: Any) -> bool:
            return client.client_id == "dovecot"

        def query_token(self, text: str, hint: str | None) -> Token | None:
            found = find(text)
            return found if found and found.access_token == text else None

        def introspect_token(self, token: Token) -> dict[str, object]:
            return {"active": True, "username": token.user, "scope": token.scope,
                    "client_id": token.client_id}  # fmt: skip

    class Revocation(RevocationEndpoint):  # type: ignore[misc]
        CLIENT_AUTH_METHODS = ["client_secret_basic", "client_secret_post", "none"]

        def query_token(self, text: str, hint: str | None) -> Token | None:
            return find(text)

        def revoke_token(self, token: Token, request: Any) -> None:
            server.withdraw()

    return Devices, Introspection, Revocation
