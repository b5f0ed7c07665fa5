"""What a provider of tokens answers: tokens that can be sent, or an error of ours."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from fuzz.saying import Sayer
from mailflow.errors import MailflowError
from mailflow.log import clean
from mailflow.oauth2 import ask
from mailflow.oauth2.provider import Provider
from mailflow.oauth2.refresh import consent_ends, kept
from mailflow.oauth2.store import Tokens

WORDS = [
    b"HTTP/1.1 200 OK\r\n\r\n", b"HTTP/1.1 400 x\r\n\r\n",
    b"HTTP/1.1 503 x\r\nRetry-After: 9\r\n\r\n", b'{"access_token":"', b'"token_type":"Bearer"',
    b'"expires_in":', b'"refresh_token":"', b'"scope":', b'"error":"invalid_grant"',
    b'"error_description":"', b'"authorization_pending"', b'"device_code":"', b'"user_code":"',
    b'"verification_uri":"https://', b'"interval":', b"1e999", b"NaN", b"null", b"[", b"}",
    b"\\u0000", b"\\ud800", b"\x1b[2J", b"\xff", b"\r\n", b"access_token=a&token_type=bearer",
]  # fmt: skip
SEEDS = [
    b'HTTP/1.1 200 OK\r\n\r\n{"access_token":"abc","token_type":"Bearer","expires_in":"3600",'
    b'"refresh_token":"r","scope":["a","b"]}',
    b'HTTP/1.1 400 Bad Request\r\nRetry-After: 5\r\n\r\n{"error":"invalid_grant",'
    b'"error_description":"no\\nway"}',
    b'HTTP/1.1 200 OK\r\n\r\n{"device_code":"d","user_code":"U-C","verification_uri":"https://a/b",'
    b'"interval":5,"expires_in":900}',
]
SERVER = Sayer()
HERE = f"http://127.0.0.1:{SERVER.port}"
TABLE = {
    "client_id": "mine", "scopes": ["mail"], "timeout": "5s",
    "token_endpoint": f"{HERE}/token",
    "device_endpoint": f"{HERE}/device",
}  # fmt: skip
PROVIDER = Provider.read(TABLE)
CALLS: list[Callable[[], dict[str, Any]]] = [
    lambda: ask.refresh(PROVIDER, "canary"),
    lambda: ask.by_itself(PROVIDER),
    lambda: ask.by_device(PROVIDER, "canary"),
    lambda: ask.device_code(PROVIDER),
]
NO_TOKENS = CALLS[-1]


def one(data: bytes) -> None:
    SERVER.words = data
    for call in CALLS:
        try:
            given = call()
        except MailflowError as error:
            assert error.text == clean(error.text), error.text
            assert "canary" not in error.text or b"canary" in data
            continue
        if call is not NO_TOKENS:
            tokens = kept(Tokens(refresh_token="r"), given, 1.8e9)
            assert tokens.access_token.isascii()
            assert tokens.access_token.isprintable()
            assert tokens.refresh_token.isprintable()
            assert tokens.expires >= 0
            assert consent_ends(PROVIDER, tokens) > 0
