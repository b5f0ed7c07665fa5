"""The IMAP mailbox keeps the contract of its kind, with Dovecot."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest

from mailflow.testing.contracts import MailboxContract, Source
from mailflow.testing.dovecot import Dovecot
from mailflow_imap.mailbox import ImapMailbox

SECRET = "canary-60c2-secret"


class Inbox(Source):
    """The INBOX of an account."""

    def __init__(self, dovecot: Dovecot, directory: Path) -> None:
        self.user = f"u{os.urandom(6).hex()}"
        secret = directory / "secret"
        secret.write_text(f"{SECRET}\n")
        secret.chmod(0o600)
        self.table = {
            "host": dovecot.host, "port": dovecot.imap_port, "tls": "none", "timeout": "5s",
            "user": self.user, "password": {"file": str(secret)},
        }  # fmt: skip
        self._dovecot = dovecot
        dovecot.add_user(self.user, SECRET)

    def holds(self, octets: bytes) -> bool:
        """No IMAP literal has a NUL (RFC 3501, 4.3); Dovecot sends 0x80 in its place."""
        return bool(octets) and b"\0" not in octets

    def put(self, octets: bytes) -> None:
        self._dovecot.deliver(self.user, octets)

    def messages(self) -> Sequence[bytes]:
        return self._dovecot.messages(self.user)

    def lose(self, octets: bytes) -> None:
        for path in Path(self._dovecot.maildir(self.user)).glob("[nc]*/*"):
            if path.read_bytes() == octets:
                path.unlink()


@pytest.fixture(scope="module")
def dovecot(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Dovecot]:
    with Dovecot(tmp_path_factory.mktemp("dovecot"), imap=True) as dovecot:
        yield dovecot


@pytest.fixture(scope="module")
def without_sort(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Dovecot]:
    directory = tmp_path_factory.mktemp("plain")
    with Dovecot(directory, imap=True, without=("SORT", "ESEARCH")) as dovecot:
        yield dovecot


@pytest.mark.interop("dovecot-imapd")
class TestWithDovecot(MailboxContract):
    component = ImapMailbox
    secrets = (SECRET,)

    @pytest.fixture
    def source(self, dovecot: Dovecot, tmp_path: Path) -> Inbox:
        return Inbox(dovecot, tmp_path)


@pytest.mark.interop("dovecot-imapd")
class TestWithoutSort(MailboxContract):
    """What the server does not sort is sorted here, and comes to the same order."""

    component = ImapMailbox
    secrets = (SECRET,)

    @pytest.fixture
    def source(self, without_sort: Dovecot, tmp_path: Path) -> Inbox:
        return Inbox(without_sort, tmp_path)
