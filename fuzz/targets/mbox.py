"""An mbox, however broken: its messages have their octets, and what goes leaves the others."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Collection

from mailflow.errors import ConfigError, MailflowError
from mailflow.halt import Halt
from mailflow.kinds import Fetched, Runtime
from mailflow.log import Logger
from mailflow.mail import read
from mailflow.query import Query
from mailflow.verdicts import Fate
from mailflow_mbox.fetcher import MboxFetcher

PACKAGES = ["mailflow_mbox"]
WORDS = [
    b"From a@b Mon Jan  1 00:00:00 2026\n", b"\nFrom ", b">From ", b">>From ", b"\n\n", b"\r\n",
    b"From MAILER-DAEMON Thu Jan  1 00:00 2026\n", b"Status: RO\n", b"X-Status: AFDT\n", b"\0",
    b"\xff", b"Subject: DON'T DELETE THIS MESSAGE -- FOLDER INTERNAL DATA\n",
    b"Content-Length: 5\n", b"\r",
]  # fmt: skip
SEEDS = [
    b"From a@b Mon Jan  1 00:00:00 2026\nSubject: x\n\n>From here\n\n"
    b"From  Tue Jan  2 00:00:00 2026\nStatus: RO\n\nb\n\n"
    b"From a@b Mon Jan  1 00:00:00 2026\nSubject: x\n\n>From here\n",
    b"\r\nFrom MAILER-DAEMON Mon Jan  1 00:00:00 2026\r\nSubject: DON'T DELETE THIS MESSAGE -- "
    b"FOLDER INTERNAL DATA\r\nX-IMAP: 1 2\r\n\r\nx\r\n\r\nFrom x 1:00 2026\r\n\r\n",
]
SHM = "/dev/shm"  # a flush costs nothing there
ROOT = tempfile.mkdtemp(dir=SHM if os.path.isdir(SHM) else None)
FILE = os.path.join(ROOT, "box")
RUNTIME = Runtime("mbox", "fuzz", Halt(), Logger(), ROOT)
OPTIONS = MboxFetcher.options.read({"path": FILE})


def visit(done: Collection[str] = ()) -> dict[str, bytes]:
    """What is fetched, by its key; of `done`, nothing is there afterwards."""
    with MboxFetcher(OPTIONS, RUNTIME) as fetcher:
        items = {item.key: item.size for item in fetcher.listing(Query.always)}
        got = {each.key: read(each.content) for each in fetcher.retrieve([*items])
               if isinstance(each, Fetched)}  # fmt: skip
        assert got.keys() == items.keys()
        for key, octets in got.items():
            assert len(octets) == items[key]
        for key in done:
            fetcher.settle(key, Fate.DONE)
    return got


def one(data: bytes) -> None:
    with open(FILE, "wb") as file:
        file.write(data)
    try:
        before = visit()
        keys = [*before]
        visit(keys[::2])
        after = visit()
    except ConfigError as error:
        assert error.text.isprintable(), error.text
        first, end, _ = data.lstrip(b"\r\n").partition(b"\n")
        assert not (first.startswith(b"From ") and end) or len(data) > 1000
        return
    except MailflowError as error:
        raise AssertionError(error.text) from error
    assert sorted(after.values()) == sorted(before[key] for key in keys[1::2])
