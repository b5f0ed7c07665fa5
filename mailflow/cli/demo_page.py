"""The last part of `mailflow demo`: a webmail, read page by page.

Rule of the file: the webmail needs Flask, which nothing else of the demo does; without it the
demo says how to have it, and all else is shown.
"""

from __future__ import annotations

from collections.abc import Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import NamedTuple

PIPELINE = """\
# What lies on a web page, into a Maildir, and no longer there once it is safe here.
[pipeline]
journal = "page.journal"

[[fetch]]
use = "webmail"
site = "testbed"
url = "{url}"
user = "demo"
password = {{ file = "page.secret" }}
keep = "0d"

[[distribute]]
use = "maildir"
path = "page.maildir"
"""

ON_A_PAGE = 4
"""Messages on a page, so that there are several."""


class Read(NamedTuple):
    """What came of the page: the messages in the Maildir, those that were left at the webmail,
    and how many requests it took."""

    arrived: list[bytes]
    left: int
    requests: int

    def holds(self, messages: Sequence[bytes]) -> bool:
        """Whether each of these is there once, as it was, and none is left."""
        bodies = [each.partition(b"\n\n")[2].replace(b"\n", b"\r\n") for each in self.arrived]
        wanted = [each.partition(b"\r\n\r\n")[2] for each in messages]
        return sorted(bodies) == sorted(wanted) and not self.left


def told(page: Read | None) -> str:
    """What happened, for whoever reads the demo."""
    if page is None:
        return "With Flask (pip install 'mailflow[testbed]') it reads a webmail, too."
    return (
        f"Last, `mailflow run page.toml` read {len(page.arrived)} messages from a webmail, with"
        f" {page.requests} requests, each as\nit was; the page is empty now."
    )


def can_read() -> bool:
    return find_spec("flask") is not None


def read(directory: str, messages: Sequence[bytes]) -> Read:
    """`mailflow run page.toml`, with these messages on pages of the test bed."""
    from mailflow.running import run
    from mailflow.testing.webmail import TestBed

    base = Path(directory)
    with TestBed(page_size=ON_A_PAGE) as bed:
        bed.put("INBOX", *messages)
        secret = base / "page.secret"
        secret.touch(0o600)
        secret.write_text(bed.password)
        (base / "page.toml").write_text(PIPELINE.format(url=bed.url))
        run(base / "page.toml")
        arrived = [path.read_bytes() for path in (base / "page.maildir" / "new").glob("*")]
        return Read(arrived, len(bed.messages("INBOX")), len(bed.requests))
