"""The IMAP mailbox keeps the contract of its kind, with two real servers."""

from __future__ import annotations

import imaplib
import os
import re
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest

from mailflow.mail import Octets, head
from mailflow.testing.contracts import MailboxContract, Source
from mailflow.testing.corpus import stored
from mailflow.testing.cyrus import Cyrus
from mailflow.testing.dovecot import Dovecot
from mailflow_imap.mailbox import ImapMailbox

SECRET = "canary-60c2-secret"


class Inbox(Source):
    """The INBOX of an account."""

    def __init__(self, server: Dovecot | Cyrus, directory: Path, user: str = "") -> None:
        self.user = user or f"u{os.urandom(6).hex()}"
        secret = directory / "secret"
        secret.write_text(f"{SECRET}\n")
        secret.chmod(0o600)
        self.table = {
            "host": server.host, "port": server.imap_port, "tls": "none", "timeout": "5s",
            "user": self.user, "password": {"file": str(secret)},
        }  # fmt: skip
        self._server = server
        if not user:
            server.add_user(self.user, SECRET)

    def holds(self, octets: bytes) -> bool:
        """No IMAP literal has a NUL (RFC 3501, 4.3); Dovecot sends 0x80 in its place."""
        return bool(octets) and b"\0" not in octets

    def put(self, octets: bytes) -> None:
        self._server.deliver(self.user, octets)

    def messages(self) -> Sequence[bytes]:
        return self._server.messages(self.user)

    def lose(self, octets: bytes) -> None:
        """As another program removes a message: all that it has marked."""
        number = str(self.messages().index(octets) + 1)
        with imaplib.IMAP4(self._server.host, self._server.imap_port, timeout=20) as program:
            program.login(self.user, SECRET)
            program.select()
            assert program.store(number, "+FLAGS", "\\Deleted")[0] == "OK"
            assert program.expunge()[0] == "OK"


class CyrusInbox(Inbox):
    """What Cyrus would change or refuse is not put there. A session of its own puts it,
    since logging in takes long."""

    def __init__(self, server: Cyrus, directory: Path, program: imaplib.IMAP4) -> None:
        super().__init__(server, directory, "ann")
        self._program = program
        program.select()
        program.store("1:*", "+FLAGS", "\\Deleted")
        program.expunge()

    def put(self, octets: bytes) -> None:
        answer = self._program.append("INBOX", None, None, stored(octets))  # type: ignore[arg-type]
        assert answer[0] == "OK", (answer, octets)

    def holds(self, octets: bytes) -> bool:
        section = head(Octets(stored(octets)))
        plain = section.isascii() and b"\x1b" not in section
        plain = plain and stored(octets)[len(section) :].startswith(b"\r\n")
        odd = re.search(rb"\r(?!\n)|(?m:^[!-9;-~]+ +:)", octets)
        return super().holds(octets) and plain and not odd


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


@pytest.fixture(scope="module")
def cyrus(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cyrus]:
    with Cyrus(tmp_path_factory.mktemp("cyrus")) as cyrus:
        cyrus.add_user("ann", SECRET)
        yield cyrus


@pytest.fixture(scope="module")
def program(cyrus: Cyrus) -> Iterator[imaplib.IMAP4]:
    with imaplib.IMAP4(cyrus.host, cyrus.imap_port, timeout=20) as program:
        program.login("ann", SECRET)
        program.create("INBOX/Trash")
        yield program


@pytest.mark.interop("cyrus-imapd")
class TestWithCyrus(MailboxContract):
    component = ImapMailbox
    other = "INBOX/Trash"
    secrets = (SECRET,)

    @pytest.fixture
    def source(self, cyrus: Cyrus, program: imaplib.IMAP4, tmp_path: Path) -> Inbox:
        return CyrusInbox(cyrus, tmp_path, program)
