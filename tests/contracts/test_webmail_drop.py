"""The live maildrop on a webmail keeps the contract of its kind, with a real Roundcube."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from mailflow.testing.contracts import MaildropContract
from mailflow.testing.dovecot import Dovecot
from mailflow.testing.roundcube import Roundcube
from mailflow_webmail.maildrop import WebmailDrop

from .webmail_sources import SECRET, Page

pytestmark = pytest.mark.interop("dovecot-imapd", "roundcube-core")


@pytest.fixture(scope="module")
def dovecot(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Dovecot]:
    with Dovecot(tmp_path_factory.mktemp("dovecot"), imap=True) as running:
        yield running


@pytest.fixture(scope="module")
def webmail(dovecot: Dovecot) -> Iterator[Roundcube]:
    with Roundcube(dovecot) as running:
        yield running


class TestDrop(MaildropContract):
    component = WebmailDrop
    secrets = (SECRET,)
    whole = False

    @pytest.fixture
    def source(self, dovecot: Dovecot, webmail: Roundcube, tmp_path: Path) -> Page:
        return Page(dovecot, webmail, tmp_path)
