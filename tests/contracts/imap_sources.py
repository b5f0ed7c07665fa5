"""The INBOX of a new user of a real IMAP server, as the suites of contracts see it from behind.

Rule of the file: what another mail program would do is done by Python's imaplib, which has
no line in common with what is tested.
"""

from __future__ import annotations

import imaplib
import os
from collections.abc import Sequence
from pathlib import Path

from mailflow.lines import to_crlf
from mailflow.testing.contracts import RemoteSource, Source
from mailflow.testing.corpus import AWKWARD, stored
from mailflow.testing.cyrus import Cyrus
from mailflow.testing.dovecot import Dovecot
from mailflow.testing.proxy import Proxy

SECRET = "canary-41d0-secret"

REFUSED = {
    "header-cut-in-mid-line", "no-field-at-all", "one-octet", "nul", "utf-16-body",
    "field-that-is-none", "space-before-colon",
}  # fmt: skip
"""What Cyrus takes into no mailbox: a header section that is none, and NUL."""

CHANGED = {"bare-cr", "cr-at-the-end", "cr-cr-lf", "dot-behind-bare-cr"}
"""What it does not keep as it was given: it takes away a CR that ends no line."""

FOREIGN = {sample.octets for sample in AWKWARD if sample.name in REFUSED | CHANGED}


class Inbox(Source):
    def __init__(self, server: Dovecot | Cyrus, directory: Path) -> None:
        self.server = server
        self.user = f"u{os.urandom(6).hex()}"
        secret = directory / "secret"
        secret.write_text(f"{SECRET}\n")
        secret.chmod(0o600)
        self.table: dict[str, object] = {
            "host": server.host, "port": server.imap_port, "tls": "none", "user": self.user,
            "password": {"file": str(secret)}, "timeout": "5s",
        }  # fmt: skip
        server.add_user(self.user, SECRET)

    def holds(self, octets: bytes) -> bool:
        return bool(octets) and not (isinstance(self.server, Cyrus) and octets in FOREIGN)

    def put(self, octets: bytes) -> None:
        self.server.deliver(self.user, octets)

    def expected(self, octets: bytes) -> bytes:
        """A literal of IMAP holds no NUL (RFC 9051, 9: CHAR8): Dovecot sends 0x80 instead."""
        return stored(octets).replace(b"\0", b"\x80")

    def messages(self) -> Sequence[bytes]:
        return self.server.messages(self.user)

    def lose(self, octets: bytes) -> None:
        with imaplib.IMAP4(self.server.host, self.server.imap_port, timeout=20) as program:
            program.login(self.user, SECRET)
            program.select()
            for number, there in enumerate(self.messages(), 1):
                if to_crlf(there) == stored(octets):
                    program.store(str(number), "+FLAGS", "\\Deleted")
            program.expunge()


class FarInbox(Inbox, RemoteSource):
    """The same behind a proxy, and what is settled is deleted."""

    def __init__(self, server: Dovecot | Cyrus, proxy: Proxy, directory: Path) -> None:
        super().__init__(server, directory)
        self.proxy = proxy
        self.table |= {"port": proxy.port, "timeout": "1s", "on_done": "delete"}
