"""Real servers that the tests of interoperability share, as long as one process of them runs."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from mailflow.testing.cyrus import Cyrus
from mailflow.testing.dovecot import Dovecot
from mailflow.testing.roundcube import Roundcube
from mailflow.testing.sqwebmail import SqWebMail

from .imap_servers import Account, Server
from .webmail_servers import RoundcubeAccount, SqWebMailAccount


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


@pytest.fixture(scope="session")
def roundcube(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Roundcube]:
    """A Roundcube before a Dovecot of its own; every test has a user of its own there."""
    directory = tmp_path_factory.mktemp("roundcube")
    with Dovecot(directory, imap=True) as dovecot, Roundcube(dovecot) as running:
        yield running


@pytest.fixture(scope="session")
def sqwebmail(tmp_path_factory: pytest.TempPathFactory) -> Iterator[SqWebMail]:
    """A SqWebMail; every test has a user of its own there."""
    with SqWebMail(tmp_path_factory.mktemp("sqwebmail")) as running:
        yield running


@pytest.fixture
def at_roundcube(roundcube: Roundcube, tmp_path: Path) -> RoundcubeAccount:
    """A new user of Roundcube, and a pipeline that reads his mail."""
    return RoundcubeAccount(roundcube, tmp_path)


@pytest.fixture
def at_sqwebmail(sqwebmail: SqWebMail, tmp_path: Path) -> SqWebMailAccount:
    """A new user of SqWebMail, and a pipeline that reads his mail."""
    return SqWebMailAccount(sqwebmail, tmp_path)
