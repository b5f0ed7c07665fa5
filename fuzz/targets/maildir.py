"""Names in a Maildir, and what Dovecot wrote beside them."""

from __future__ import annotations

import os
import tempfile

from mailflow.errors import BadMailError, UnavailableError
from mailflow_maildir.folder import folder_directory
from mailflow_maildir.reading import File, flags, size_facts, unique, with_flag
from mailflow_maildir.uidl import digest, dovecot_list, valid

PACKAGES = ["mailflow_maildir"]
WORDS = [
    b":2,",
    b";2,",
    b"!2,",
    b",S=",
    b",W=",
    b"S",
    b".",
    b"..",
    b"/",
    b"3 V1 N2 G0\n",
    b" :",
    b" P",
    b"\n",
]
SEEDS = [
    b"1767268800.M1P2.host,S=10,W=12:2,FS\0.Lists.red\03 V1 N3 Gx\n1 :a\n2 Pxy S3 :b\n",
    b"cur\0..\03 V9\n1 W5 :1767268800.M1P2.host,S=10,W=12:2,S\n",
]
ROOT = tempfile.mkdtemp()


def one(data: bytes) -> None:
    first, _, rest = data.partition(b"\0")
    second, _, listed = rest.partition(b"\0")
    name = first.decode("utf-8", "surrogateescape")
    base = unique(name)
    assert name.startswith(base)
    assert unique(base) == base
    for number in size_facts(base):
        assert number is None or number >= 0
    marked = with_flag(name, "S")
    assert unique(marked) == base
    assert with_flag(marked, "S") == marked
    assert "seen" in flags(File("", "cur", marked)) if base else True
    assert valid(digest(base))
    try:
        directory = folder_directory(second.decode("utf-8", "surrogateescape"))
    except BadMailError as error:
        assert str(error).isprintable()
    else:
        path = os.path.normpath(os.path.join(ROOT, directory))
        assert path == ROOT or (os.path.dirname(path) == ROOT and directory.startswith("."))
    with open(os.path.join(ROOT, "dovecot-uidlist"), "wb") as file:
        file.write(listed)
    try:
        dovecot_list(ROOT, {base})
    except UnavailableError as error:
        assert str(error).isprintable()
