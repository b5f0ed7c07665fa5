"""The IMAP fetcher and the live maildrop keep the contracts of their kinds with Cyrus, too."""

from __future__ import annotations

import imaplib
import os
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest

from mailflow.testing.contracts import (
    MaildropContract,
    PushFetcherContract,
    RemoteFetcherContract,
    RemoteSource,
    Source,
)
from mailflow.testing.corpus import AWKWARD, stored
from mailflow.testing.cyrus import Cyrus
from mailflow.testing.proxy import Proxy
from mailflow_imap.fetcher import ImapFetcher
from mailflow_imap.maildrop import ImapDrop

SECRET = "canary-c1f0-secret"

pytestmark = pytest.mark.interop("cyrus-imapd")

REFUSED = {
    "header-cut-in-mid-line", "no-field-at-all", "one-octet", "nul", "utf-16-body",
    "field-that-is-none", "space-before-colon",
}  # fmt: skip
"""What Cyrus takes into no mailbox: a header section that is none, and NUL."""

CHANGED = {"bare-cr", "cr-at-the-end", "cr-cr-lf", "dot-behind-bare-cr"}
"""What it does not keep as it was given: it takes away a CR that ends no line."""

FOREIGN = {sample.octets for sample in AWKWARD if sample.name in REFUSED | CHANGED}


class Mailbox(Source):
    """The INBOX of a new user."""

    def __init__(self, cyrus: Cyrus, port: int, directory: Path) -> None:
        self.cyrus = cyrus
        self.user = f"u{os.urandom(6).hex()}"
        secret = directory / "secret"
        secret.write_text(f"{SECRET}\n")
        secret.chmod(0o600)
        self.table: dict[str, object] = {
            "host": cyrus.host, "port": port, "tls": "none", "user": self.user,
            "password": {"file": str(secret)}, "timeout": "1s",
        }  # fmt: skip
        cyrus.add_user(self.user, SECRET)

    def holds(self, octets: bytes) -> bool:
        return bool(octets) and octets not in FOREIGN

    def put(self, octets: bytes) -> None:
        self.cyrus.deliver(self.user, octets)

    def messages(self) -> Sequence[bytes]:
        return self.cyrus.messages(self.user)

    def lose(self, octets: bytes) -> None:
        with imaplib.IMAP4(self.cyrus.host, self.cyrus.imap_port) as session:
            session.login(self.user, SECRET)
            session.select()
            for number, there in enumerate(self.messages(), 1):
                if there == stored(octets):
                    session.store(str(number), "+FLAGS", "\\Deleted")
            session.expunge()


class FarMailbox(Mailbox, RemoteSource):
    """The same behind a proxy, and what is settled is deleted."""

    def __init__(self, cyrus: Cyrus, proxy: Proxy, directory: Path) -> None:
        super().__init__(cyrus, proxy.port, directory)
        self.proxy = proxy
        self.table["on_done"] = "delete"


@pytest.fixture(scope="module")
def cyrus(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cyrus]:
    with Cyrus(tmp_path_factory.mktemp("cyrus")) as running:
        yield running


class TestFetcherWithCyrus(RemoteFetcherContract, PushFetcherContract):
    component = ImapFetcher
    secrets = (SECRET,)

    @pytest.fixture
    def source(self, cyrus: Cyrus, tmp_path: Path) -> Iterator[FarMailbox]:
        with Proxy((cyrus.host, cyrus.imap_port)) as proxy:
            yield FarMailbox(cyrus, proxy, tmp_path)


class TestDropWithCyrus(MaildropContract):
    component = ImapDrop
    secrets = (SECRET,)
    whole = False
    measured = False

    @pytest.fixture
    def source(self, cyrus: Cyrus, tmp_path: Path) -> Mailbox:
        return Mailbox(cyrus, cyrus.imap_port, tmp_path)
