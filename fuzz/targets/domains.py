"""The file of domains: it is read, or each fault says its line and what is wrong there."""

from __future__ import annotations

import os
import tempfile

from fuzz.faults import check
from mailflow.toml_file import ConfigFaults
from mailflow_webmail.domains import read

PACKAGES = ["mailflow_webmail"]
WORDS = [
    b'["example.org"]\n', b"[a.b]\n", b"site = ", b"url = ", b"user = ", b'"https://a.example/"\n',
    b'"roundcube"\n', b'"{login}"\n', b'"{', b'"""', b"\\u0000", b"[[x]]\n", b"= 1\n", b"http://",
    b"@", b"\xc3\x89.example", b"\xff", b"\0", b"?#", b":99999", b"[::1]", b"%00",
]  # fmt: skip
SEEDS = [
    b'["example.org"]\nsite = "roundcube"\nurl = "https://webmail.example.org/"\nuser = "{user}"\n',
    b'[Example]\nsite = 1\nurl = "ftp://x"\n["b"]\nuser = "{nobody}"\nx = 1\n[c]\n',
]
FILE = os.path.join(tempfile.mkdtemp(), "domains.toml")


def one(data: bytes) -> None:
    with open(FILE, "wb") as file:
        file.write(data)
    try:
        found = read(FILE)
    except ConfigFaults as error:
        check(error, data)
    else:
        for name, domain in found.items():
            assert name == name.lower()
            assert domain.site
            assert domain.url.startswith(("https://", "http://"))
