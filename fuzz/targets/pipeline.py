"""A pipeline in TOML: it is read, or each fault says its line and what is wrong there."""

from __future__ import annotations

import os
import tempfile

from fuzz.faults import check
from mailflow.engine.config import load
from mailflow.engine.registry import Registry
from mailflow.toml_file import ConfigFaults

PACKAGES = ["mailflow_pop3", "mailflow_list", "mailflow_smtp", "mailflow_maildir"]
WORDS = [
    b"[[fetch]]\n", b"[[process]]\n", b"[[distribute]]\n", b"[[react]]\n", b"[[serve]]\n",
    b"[maildrop.a]\n", b"[pipeline]\n", b"[accounts]\n", b'use = "pop3"\n', b'use = "imap"\n',
    b'use = "smtp"\n', b'use = "maildir"\n', b'use = "list"\n', b'use = "filter.tag"\n',
    b'path = "a"\n', b'host = "mail.example.org"\n', b'url = "pop3s://a@b/"\n', b'where = "seen"\n',
    b'password = "x"\n', b"keep = ", b'"30d"\n', b'every = "5m"\n', b"folders = []\n", b"= {", b"}",
    b"to = ", b"\n", b'"""', b"'", b"true", b"1e9", b"2026-01-01",
]  # fmt: skip
SEEDS = [
    b'[[fetch]]\nuse = "pop3"\nhost = "mail.example.org"\nuser = "a"\npassword = "b"\n'
    b'[[process]]\nuse = "list"\naddress = "red@example.org"\nmembers = ["a@b.org"]\n'
    b'[[distribute]]\nuse = "smtp"\nhost = "smtp.example.org"\n',
    b'[pipeline]\nname = "x"\n[[fetch]]\nuse = "stdin"\n[[distribute]]\nuse = "maildir"\n'
    b'path = "m"\nwhere = "size < 2MB and not seen"\n[[react]]\nuse = "retry"\n',
    b'[maildrop.ann]\nuse = "spool"\nsecret = "x"\n[[serve]]\nuse = "pop3"\n',
]
REGISTRY = Registry()
HOME = tempfile.mkdtemp()
os.environ["HOME"] = os.environ["XDG_STATE_HOME"] = os.environ["XDG_CONFIG_HOME"] = HOME
FILE = os.path.join(HOME, "fuzzed.toml")


def one(data: bytes) -> None:
    with open(FILE, "wb") as file:
        file.write(data)
    try:
        load([FILE], REGISTRY)
    except ConfigFaults as error:
        check(error, data)
