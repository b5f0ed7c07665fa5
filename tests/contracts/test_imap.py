"""The IMAP fetcher keeps the contract of its kind, with Dovecot."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest

from mailflow.testing.contracts import PushFetcherContract, RemoteFetcherContract, RemoteSource
from mailflow.testing.corpus import stored
from mailflow.testing.dovecot import Dovecot
from mailflow.testing.proxy import Proxy
from mailflow_imap.fetcher import ImapFetcher

SECRET = "canary-41d0-secret"


class Mailbox(RemoteSource):
    """An IMAP mailbox behind a proxy."""

    def __init__(self, dovecot: Dovecot, proxy: Proxy, directory: Path) -> None:
        self.proxy = proxy
        self.user = f"u{os.urandom(6).hex()}"
        secret = directory / "secret"
        secret.write_text(f"{SECRET}\n")
        secret.chmod(0o600)
        self.table = {
            "host": proxy.host,
            "port": proxy.port,
            "tls": "none",
            "user": self.user,
            "password": {"file": str(secret)},
            "timeout": "1s",
            "on_done": "delete",
        }
        self._dovecot = dovecot
        dovecot.add_user(self.user, SECRET)

    def put(self, octets: bytes) -> None:
        self._dovecot.deliver(self.user, octets)

    def expected(self, octets: bytes) -> bytes:
        """A literal of IMAP holds no NUL (RFC 9051, 9: CHAR8): Dovecot sends 0x80 instead."""
        return stored(octets).replace(b"\0", b"\x80")

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


@pytest.mark.interop("dovecot-imapd")
class TestWithDovecot(RemoteFetcherContract, PushFetcherContract):
    component = ImapFetcher
    secrets = (SECRET,)

    @pytest.fixture
    def source(self, dovecot: Dovecot, tmp_path: Path) -> Iterator[Mailbox]:
        with Proxy((dovecot.host, dovecot.imap_port)) as proxy:
            yield Mailbox(dovecot, proxy, tmp_path)
