"""A definition of a webmail: it is read, or each fault says its line and what is wrong there."""

from __future__ import annotations

import os
import tempfile

from fuzz.faults import check
from mailflow.toml_file import ConfigFaults
from mailflow_webmail.definition.site import read

PACKAGES = ["mailflow_webmail"]
WORDS = [
    b"[login]\n", b"[folders]\n", b"[folders.rows]\n", b"[list]\n", b"[list.rows]\n", b"[raw]\n",
    b"[seen]\n", b"[delete]\n", b"[compose]\n", b"[send]\n", b"[logout]\n", b"signal = [", b"]\n",
    b"expect = { ", b"css = ", b"attr = ", b"json = ", b"regex = ", b"url = ", b"text = ", b" }\n",
    b"fields.id = ", b"next = { from = 1 }\n", b"total = ", b"before = ['list']\n", b"{folder}",
    b"{n}", b"{id}", b"(?P<id>", b"hook = 'a.py'\n", b"decode = ", b"recode = ['utf-8']\n",
]  # fmt: skip
SEEDS = [
    b'format = 1\nname = "a"\n[login]\nget = "l"\nform = "form"\nfill = { u = "{user}" }\n'
    b'expect = { css = "a" }\n[folders]\nget = "f"\nrows = { css = "a", fields.id = {} }\n[list]\n'
    b'query = { box = "{folder}", n = "{n}" }\nrows = { css = "a", fields.id = {} }\n'
    b'empty = { css = "b" }\nnext = { from = 1 }\n[raw]\nget = "{id}"\n'
    b'expect = { type = "message/rfc822" }\n',
]
FILE = os.path.join(tempfile.mkdtemp(), "fuzzed.toml")


def one(data: bytes) -> None:
    with open(FILE, "wb") as file:
        file.write(data)
    try:
        site = read(FILE)
    except ConfigFaults as error:
        check(error, data)
    else:
        assert site.has("raw")
