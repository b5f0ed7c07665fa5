"""The IMAP fetcher, the live maildrop and the mailbox keep the contracts of their kinds, with two
real servers."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from mailflow.testing.contracts import (
    MailboxContract,
    MaildropContract,
    PushFetcherContract,
    RemoteFetcherContract,
)
from mailflow.testing.cyrus import Cyrus
from mailflow.testing.dovecot import Dovecot
from mailflow.testing.proxy import Proxy
from mailflow_imap.fetcher import ImapFetcher
from mailflow_imap.mailbox import ImapMailbox
from mailflow_imap.maildrop import ImapDrop

from .imap_sources import SECRET, FarInbox, Inbox


@pytest.fixture(
    scope="module",
    params=[
        pytest.param(Dovecot, marks=pytest.mark.interop("dovecot-imapd")),
        pytest.param(Cyrus, marks=pytest.mark.interop("cyrus-imapd")),
    ],
)
def server(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Dovecot | Cyrus]:
    directory = tmp_path_factory.mktemp("server")
    made = (
        Dovecot(directory, imap=True)
        if request.param is Dovecot
        else Cyrus(directory, prefixed=False)
    )
    with made as running:
        yield running


class TestFetcher(RemoteFetcherContract, PushFetcherContract):
    component = ImapFetcher
    secrets = (SECRET,)

    @pytest.fixture
    def source(self, server: Dovecot | Cyrus, tmp_path: Path) -> Iterator[FarInbox]:
        with Proxy((server.host, server.imap_port)) as proxy:
            yield FarInbox(server, proxy, tmp_path)


class TestDrop(MaildropContract):
    component = ImapDrop
    secrets = (SECRET,)
    whole = False
    measured = False

    @pytest.fixture
    def source(self, server: Dovecot | Cyrus, tmp_path: Path) -> Inbox:
        return Inbox(server, tmp_path)


class TestMailbox(MailboxContract):
    component = ImapMailbox
    secrets = (SECRET,)

    @pytest.fixture
    def source(self, server: Dovecot | Cyrus, tmp_path: Path) -> Inbox:
        return Inbox(server, tmp_path)


@pytest.fixture(scope="module")
def without_sort(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Dovecot]:
    directory = tmp_path_factory.mktemp("plain")
    with Dovecot(directory, imap=True, without=("SORT", "ESEARCH")) as running:
        yield running


@pytest.mark.interop("dovecot-imapd")
class TestMailboxWithoutSort(TestMailbox):
    """What the server does not sort is sorted here, and comes to the same order."""

    @pytest.fixture
    def server(self, without_sort: Dovecot) -> Dovecot:
        return without_sort
