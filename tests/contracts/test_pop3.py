"""The POP3 fetcher and the live maildrop keep the contracts of their kinds, with Dovecot and with
our own server."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from contextlib import suppress
from pathlib import Path

import pytest

from mailflow.testing.contracts import MaildropContract, RemoteFetcherContract, RemoteSource
from mailflow.testing.corpus import stored
from mailflow.testing.dovecot import Dovecot
from mailflow.testing.pop3 import Pop3Server
from mailflow.testing.proxy import Proxy
from mailflow_pop3.fetcher import Pop3Fetcher
from mailflow_pop3.maildrop import Pop3Drop

SECRET = "canary-2c7f-secret"


class Mailbox(RemoteSource):
    """A POP3 mailbox behind a proxy."""

    def __init__(self, proxy: Proxy, user: str, directory: Path) -> None:
        self.proxy = proxy
        secret = directory / "secret"
        secret.write_text(f"{SECRET}\n")
        secret.chmod(0o600)
        self.user = user
        self.table = {
            "host": proxy.host,
            "port": proxy.port,
            "tls": "none",
            "user": user,
            "password": {"file": str(secret)},
            "timeout": "1s",
        }

    def expected(self, octets: bytes) -> bytes:
        """A last line without its end gets one on the wire (RFC 1939, 3)."""
        lines = stored(octets)
        return lines if lines.endswith(b"\r\n") else lines + b"\r\n"


class OfDovecot(Mailbox):
    def __init__(self, dovecot: Dovecot, proxy: Proxy, directory: Path) -> None:
        super().__init__(proxy, f"u{os.urandom(6).hex()}", directory)
        self._dovecot = dovecot
        dovecot.add_user(self.user, SECRET)

    def put(self, octets: bytes) -> None:
        self._dovecot.deliver(self.user, octets)

    def messages(self) -> Sequence[bytes]:
        return self._dovecot.messages(self.user)

    def lose(self, octets: bytes) -> None:
        """Dovecot may still be renaming what the session before has looked at."""
        for _ in range(100):
            with suppress(FileNotFoundError):
                for path in Path(self._dovecot.maildir(self.user)).glob("[nc]*/*"):
                    if path.read_bytes() == octets:
                        path.unlink()
                return


class OfOurs(Mailbox):
    def __init__(self, server: Pop3Server, proxy: Proxy, directory: Path) -> None:
        super().__init__(proxy, "red", directory)
        self._box = server.mailbox("red")

    def put(self, octets: bytes) -> None:
        self._box.deliver(octets)

    def messages(self) -> Sequence[bytes]:
        return [octets for _, octets in self._box.messages]

    def lose(self, octets: bytes) -> None:
        self._box.messages = [each for each in self._box.messages if each[1] != octets]


@pytest.fixture(scope="module")
def dovecot(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Dovecot]:
    with Dovecot(tmp_path_factory.mktemp("dovecot")) as dovecot:
        yield dovecot


@pytest.fixture
def in_dovecot(dovecot: Dovecot, tmp_path: Path) -> Iterator[OfDovecot]:
    with Proxy((dovecot.host, dovecot.pop3_port)) as proxy:
        yield OfDovecot(dovecot, proxy, tmp_path)


@pytest.fixture
def in_ours(tmp_path: Path) -> Iterator[OfOurs]:
    with Pop3Server({"red": SECRET}) as server, Proxy((server.host, server.port)) as proxy:
        yield OfOurs(server, proxy, tmp_path)


@pytest.mark.interop("dovecot-pop3d")
class TestWithDovecot(RemoteFetcherContract):
    component = Pop3Fetcher
    secrets = (SECRET,)

    @pytest.fixture
    def source(self, in_dovecot: OfDovecot) -> OfDovecot:
        return in_dovecot


class TestWithOurServer(RemoteFetcherContract):
    component = Pop3Fetcher
    secrets = (SECRET,)

    @pytest.fixture
    def source(self, in_ours: OfOurs) -> OfOurs:
        return in_ours


class DropContract(MaildropContract):
    component = Pop3Drop
    secrets = (SECRET,)
    whole = False
    measured = False


@pytest.mark.interop("dovecot-pop3d")
class TestDropOfDovecot(DropContract):
    @pytest.fixture
    def source(self, in_dovecot: OfDovecot) -> OfDovecot:
        return in_dovecot


class TestDropOfOurServer(DropContract):
    @pytest.fixture
    def source(self, in_ours: OfOurs) -> OfOurs:
        return in_ours
