"""The live maildrop keeps the contract of its kind, with Dovecot: an INBOX alone, and the folders
of a mailbox one behind the other."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from contextlib import suppress
from pathlib import Path

import pytest

from mailflow.testing.contracts import MaildropContract, Source
from mailflow.testing.corpus import stored
from mailflow.testing.dovecot import Dovecot
from mailflow_imap.maildrop import ImapDrop

SECRET = "canary-83ae-secret"


class Mailbox(Source):
    """Folders of a mailbox, each message in the next of them."""

    def __init__(self, dovecot: Dovecot, directory: Path) -> None:
        self.user = f"u{os.urandom(6).hex()}"
        secret = directory / "secret"
        secret.write_text(f"{SECRET}\n")
        secret.chmod(0o600)
        self.table: dict[str, object] = {
            "host": dovecot.host,
            "port": dovecot.imap_port,
            "tls": "none",
            "user": self.user,
            "password": {"file": str(secret)},
        }
        self.dovecot = dovecot
        dovecot.add_user(self.user, SECRET)

    def put(self, octets: bytes) -> None:
        self.dovecot.deliver(self.user, octets)

    def expected(self, octets: bytes) -> bytes:
        """A literal of IMAP holds no NUL (RFC 9051, 9: CHAR8): Dovecot sends 0x80 instead."""
        return stored(octets).replace(b"\0", b"\x80")

    def messages(self) -> Sequence[bytes]:
        return self.dovecot.messages(self.user)

    def lose(self, octets: bytes) -> None:
        """Dovecot may still be renaming what the session before has looked at."""
        for _ in range(100):
            with suppress(FileNotFoundError):
                for path in Path(self.dovecot.maildir(self.user)).rglob("[nc]*/*"):
                    if path.is_file() and path.read_bytes() == octets:
                        path.unlink()
                return


@pytest.fixture(scope="module")
def dovecot(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Dovecot]:
    with Dovecot(tmp_path_factory.mktemp("dovecot"), imap=True) as dovecot:
        yield dovecot


@pytest.mark.interop("dovecot-imapd")
class TestDropOfDovecot(MaildropContract):
    component = ImapDrop
    secrets = (SECRET,)
    whole = False
    measured = False

    @pytest.fixture
    def source(self, dovecot: Dovecot, tmp_path: Path) -> Mailbox:
        return Mailbox(dovecot, tmp_path)
