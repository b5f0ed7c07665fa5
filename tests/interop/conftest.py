"""Real servers that the tests of interoperability share, as long as one process of them runs."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from mailflow.testing.cyrus import Cyrus
from mailflow.testing.dovecot import Dovecot

from .imap_servers import Account, Server


@pytest.fixture(
    scope="session",
    params=[
        pytest.param(Dovecot, marks=pytest.mark.interop("dovecot-imapd")),
        pytest.param(Cyrus, marks=pytest.mark.interop("cyrus-imapd")),
    ],
)
def imap_server(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Server]:
    """Each of the IMAP servers; every test has a user of its own there."""
    directory = tmp_path_factory.mktemp("imap")
    made = Dovecot(directory, imap=True) if request.param is Dovecot else Cyrus(directory)
    with made as running:
        yield running


@pytest.fixture
def account(imap_server: Server, tmp_path: Path) -> Account:
    """A new user of each of the IMAP servers, and a pipeline that reads his mail."""
    return Account(imap_server, tmp_path)
