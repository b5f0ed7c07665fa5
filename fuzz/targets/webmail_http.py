"""What a webmail or a proxy answers on the wire: a page, or an error that quotes none of it."""

from __future__ import annotations

from contextlib import closing
from typing import Any

from fuzz.saying import Sayer
from mailflow.errors import MailflowError
from mailflow.halt import Halt
from mailflow_webmail.web.browser import Browser

PACKAGES = ["mailflow_webmail"]
WORDS = [
    b"HTTP/1.1 200 OK\r\n", b"HTTP/1.0 407 x\r\n", b"HTTP/1.1 302 Found\r\nLocation: ", b"\r\n\r\n",
    b"Content-Length: ", b"Transfer-Encoding: chunked\r\n", b"Content-Encoding: gzip\r\n", b"0\r\n",
    b"Set-Cookie: a=b; Domain=", b"Content-Type: text/html; charset=",
    b"HTTP/1.1 100 Continue\r\n\r\n", b"\x05\x00", b"\x05\x02", b"\x01\x00",
    b"\x05\x00\x00\x01\x7f\x00\x00\x01\x00P", b"\x1f\x8b\x08", b"\xff",
    b"HTTP/1.1 429 x\r\nRetry-After: 5\r\n", b"//a.example/", b"Proxy-Authenticate: Basic\r\n",
    b"\r\n ",
]  # fmt: skip
SEEDS = [
    b"dHTTP/1.1 200 OK\r\nContent-Type: text/html; charset=utf-8\r\nSet-Cookie: a=b; Path=/\r\n"
    b"Transfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n",
    b"dHTTP/1.1 302 Found\r\nLocation: /b?c=d\r\nContent-Length: 0\r\n\r\n",
    b"hHTTP/1.1 407 Proxy Authentication Required\r\nProxy-Authenticate: Basic\r\n"
    b"Content-Length: 0\r\n\r\n",
    b"tHTTP/1.0 200 Connection established\r\n\r\n\x16\x03\x03\x00\x02\x02\x28",
    b"s\x05\x00\x05\x00\x00\x01\x7f\x00\x00\x01\x00PHTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok",
]
SERVER = Sayer()
HERE = f"127.0.0.1:{SERVER.port}"
WAYS: dict[bytes, dict[str, Any]] = {
    b"h": {"url": "http://a.example/", "proxy": f"http://ann:secret@{HERE}"},
    b"t": {"url": "https://a.example/", "proxy": f"http://{HERE}"},
    b"s": {"url": "http://a.example/", "proxy": f"socks5h://ann:secret@{HERE}"},
}
DIRECT = {"url": f"http://{HERE}/"}


def one(data: bytes) -> None:
    SERVER.words = data[1:]
    halt = Halt()
    way = WAYS.get(data[:1], DIRECT)
    try:
        with closing(Browser(**way, halt=halt, timeout=5.0)) as browser:
            page = browser.page("GET", "")
            assert 100 <= page.status < 1000
            assert page.url.startswith(("http://127.0.0.1:", "http://a.example"))
    except MailflowError as error:
        assert error.text.isprintable(), error.text
        assert "secret" not in error.text
    finally:
        halt.close()
