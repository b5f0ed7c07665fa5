"""The cookies that a browser has saved: they go to their hosts alone, or a line is told of."""

from __future__ import annotations

import os
import tempfile

from requests import Request
from requests.cookies import get_cookie_header

from mailflow.errors import ConfigError
from mailflow_webmail.web.cookies import Jar, Lent, imported

PACKAGES = ["mailflow_webmail"]
WORDS = [
    b"\t", b"TRUE", b"FALSE", b"\n", b"\r\n", b"#HttpOnly_", b"# Netscape HTTP Cookie File\n",
    b"-1", b"a.example", b".a.example", b".example", b"/", b"9999999999", b"0", b"1.5", b"\xff",
    b"\0", b'"', b"\xc3\xa9", b";", b"\r", b"b.a.example", b"localhost", b".local",
]  # fmt: skip
SEEDS = [
    b"# Netscape HTTP Cookie File\n#HttpOnly_.a.example\tTRUE\t/\tTRUE\t9999999999\ts\tv\r\n"
    b"a.example\tFALSE\t/x\tFALSE\t0\tb\t\n",
    b"A.example\tFALSE\t/\tFALSE\t-1\ta\tx;y\n.b.example\tTRUE\t/\tFALSE\t99999999999\tc\td\n",
]
HOSTS = ("a.example",)
ROOT = tempfile.mkdtemp()
FILE, KEPT = os.path.join(ROOT, "cookies.txt"), os.path.join(ROOT, "kept")
os.close(os.open(FILE, os.O_CREAT | os.O_WRONLY, 0o600))


def one(data: bytes) -> None:
    with open(FILE, "wb") as file:
        file.write(data)
    if os.path.exists(KEPT):
        os.unlink(KEPT)
    last = data.count(b"\n") + 1
    try:
        lent = Lent(FILE, HOSTS, KEPT)
    except ConfigError as error:
        assert error.text.isprintable(), error.text
        if error.text.startswith("line "):
            assert 0 < int(error.text.split()[1]) <= last
        return
    jar = Jar()
    for cookie in lent.cookies:
        jar.set_cookie(cookie)
    for host in ("a.example", "b.a.example", "evil.example", "xa.example", "example"):
        header = get_cookie_header(jar, Request("GET", f"https://{host}/x/y").prepare()) or ""
        assert not header or host.endswith(("b.a.example", "a.example")), (host, header)
        assert host != "xa.example" or not header
    jar.set("new", "1", domain="a.example", path="/")
    lent.keep(jar)
    again = imported(KEPT, HOSTS)
    assert "new" in {each.name for each in again}
    assert {(each.name, each.value or "") for each in again} <= {
        (each.name, each.value or "") for each in jar
    }
