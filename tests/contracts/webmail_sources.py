"""The INBOX of a new user of a real Roundcube, as the suites of contracts see it from behind.

Rule of the file: what another mail program would do is done by IMAP, at the server behind the page.
"""

from __future__ import annotations

import re
from pathlib import Path

from mailflow.testing.dovecot import Dovecot
from mailflow.testing.roundcube import Roundcube

from .imap_sources import SECRET, Inbox

FIELD = re.compile(rb"[!-9;-~]+[ \t]*:")


class Page(Inbox):
    def __init__(self, dovecot: Dovecot, webmail: Roundcube, directory: Path) -> None:
        super().__init__(dovecot, directory)
        self.table = {
            "site": "roundcube", "url": webmail.url, "user": self.user,
            "password": self.table["password"], "timeout": "20s",
        }  # fmt: skip

    def holds(self, octets: bytes) -> bool:
        """What begins with no field is taken for no message (an error page, a cut answer)."""
        return FIELD.match(octets) is not None


__all__ = ["SECRET", "Page"]
