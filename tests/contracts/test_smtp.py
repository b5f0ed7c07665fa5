"""The SMTP distributor keeps the contract of its kind, with our sink and with aiosmtpd."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, Self

import pytest
from aiosmtpd.controller import UnixSocketController as Controller

from mailflow.testing.contracts import (
    Destination,
    DistributorContract,
    RefusingDestination,
    RefusingDistributorContract,
    RemoteDestination,
    RemoteDistributorContract,
    Taken,
)
from mailflow.testing.proxy import Proxy
from mailflow.testing.smtp import EXTENSIONS, SmtpSink
from mailflow_smtp.distributor import LmtpDistributor, SmtpDistributor

SECRET = "canary-2c7f-secret"


def on_the_wire(octets: bytes) -> bytes:
    """SMTP knows CRLF and no other line end (RFC 5321, 2.3.8), and text ends with one."""
    mended = re.sub(rb"\r\n|\r|\n", b"\r\n", octets)
    return mended if mended.endswith(b"\r\n") else mended + b"\r\n"


class Sink(RefusingDestination, RemoteDestination):
    """Our sink behind a proxy, for whoever logs in."""

    def __init__(self, sink: SmtpSink, proxy: Proxy, directory: Path) -> None:
        self.sink, self.proxy = sink, proxy
        secret = directory / "secret"
        secret.write_text(f"{SECRET}\n")
        secret.chmod(0o600)
        self.table = {
            "host": proxy.host, "port": proxy.port, "tls": "none", "timeout": "1s",
            "message_timeout": "1s", "user": "red", "password": {"file": str(secret)},
        }  # fmt: skip

    def taken(self) -> Sequence[Taken]:
        return [Taken(each.data, each.recipients) for each in self.sink.messages]

    def expected(self, octets: bytes) -> bytes:
        return on_the_wire(octets)

    def refuse(self, recipient: str, *, for_good: bool) -> None:
        reply = "550 5.1.1 no such user" if for_good else "450 4.2.0 not now"
        self.sink.on("RCPT", reply, match=recipient)


class TestWithOurSink(RefusingDistributorContract, RemoteDistributorContract):
    component = SmtpDistributor
    secrets = (SECRET,)

    @pytest.fixture
    def destination(self, tmp_path: Path) -> Iterator[Sink]:
        with SmtpSink(users={"red": SECRET}) as sink, Proxy((sink.host, sink.port)) as proxy:
            yield Sink(sink, proxy, tmp_path)
            assert sink.violations == []


class TestWithChunking(TestWithOurSink):
    """Envelope and content in one flight (RFC 3030): the commit stands before both."""

    @pytest.fixture
    def destination(self, tmp_path: Path) -> Iterator[Sink]:
        extensions = (*EXTENSIONS, "CHUNKING")
        with (
            SmtpSink(users={"red": SECRET}, extensions=extensions) as sink,
            Proxy((sink.host, sink.port)) as proxy,
        ):
            destination = Sink(sink, proxy, tmp_path)
            destination.asks_first = False
            yield destination
            assert any("BDAT" in command for command in sink.commands) or not sink.messages
            assert sink.violations == []


class TestWithAServerFor7BitsOnly(DistributorContract):
    """8-bit octets are refused and never cut down."""

    component = SmtpDistributor

    @pytest.fixture
    def destination(self) -> Iterator[Destination]:
        class Old(Sink):
            def __init__(self, sink: SmtpSink) -> None:
                self.sink = sink
                self.table = {"host": sink.host, "port": sink.port, "tls": "none"}

            def holds(self, octets: bytes) -> bool:
                return octets.isascii()

        with SmtpSink(extensions=()) as sink:
            yield Old(sink)
            assert sink.violations == []


class Aiosmtpd(Destination):
    """A server of other people's making, in this process."""

    def __init__(self, directory: Path) -> None:
        self._taken: list[Taken] = []
        self._controller = Controller(self, unix_socket=str(directory / "smtp"))
        self.table = {"host": str(directory / "smtp"), "tls": "none", "timeout": "5s"}

    async def handle_DATA(self, server: object, session: object, envelope: Any) -> str:  # noqa: N802
        self._taken.append(Taken(envelope.original_content, tuple(envelope.rcpt_tos)))
        return "250 2.0.0 taken"

    def __enter__(self) -> Self:
        self._controller.start()
        return self

    def __exit__(self, *error: object) -> None:
        self._controller.stop()

    def taken(self) -> Sequence[Taken]:
        return list(self._taken)

    def expected(self, octets: bytes) -> bytes:
        return on_the_wire(octets)

    def holds(self, octets: bytes) -> bool:
        """It refuses lines of more than 1,000 octets (RFC 5321, 4.5.3.1.6)."""
        return max(map(len, on_the_wire(octets).split(b"\r\n"))) < 1000


class TestWithAiosmtpd(DistributorContract):
    component = SmtpDistributor

    @pytest.fixture
    def destination(self) -> Iterator[Aiosmtpd]:
        with TemporaryDirectory() as directory, Aiosmtpd(Path(directory)) as server:
            yield server


class TestLmtp(RefusingDistributorContract, RemoteDistributorContract):
    """Each recipient has an answer of its own to the end of the content (RFC 2033)."""

    component = LmtpDistributor
    secrets = (SECRET,)

    @pytest.fixture
    def destination(self, tmp_path: Path) -> Iterator[Sink]:
        users = {"red": SECRET}
        with (
            SmtpSink(users=users, lmtp=True) as sink,
            Proxy((sink.host, sink.port)) as proxy,
        ):
            yield Sink(sink, proxy, tmp_path)
            assert sink.violations == []
