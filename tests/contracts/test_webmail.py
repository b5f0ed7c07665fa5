"""The webmail fetcher keeps the contract of its kind, with the test bed behind a poor link."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence

import pytest

from mailflow.testing.contracts import (
    RemoteFetcherContract,
    RemoteSource,
    StayingFetcherContract,
)
from mailflow.testing.corpus import stored
from mailflow.testing.proxy import Proxy
from mailflow.testing.webmail import TestBed
from mailflow_webmail.fetcher import WebmailFetcher

SECRET = "canary-77c1-secret"

FIELD = re.compile(rb"[!-9;-~]+[ \t]*:")


class FarPage(RemoteSource):
    """The INBOX of the test bed, emptied."""

    def __init__(self, bed: TestBed, proxy: Proxy) -> None:
        self.bed = bed
        self.proxy = proxy
        self.table = {
            **bed.source(password=SECRET),
            "url": f"http://127.0.0.1:{proxy.port}/", "timeout": "1s", "on_done": "delete",
        }  # fmt: skip
        del self.table["use"]
        bed.delete("INBOX", *bed.uids("INBOX"))

    def holds(self, octets: bytes) -> bool:
        """What begins with no field is taken for no message (an error page, a cut answer)."""
        return FIELD.match(octets) is not None

    def expected(self, octets: bytes) -> bytes:
        """As an mbox file holds it: the last line ends, too."""
        lines = stored(octets)
        return lines if lines.endswith(b"\n") else lines + b"\r\n"

    def put(self, octets: bytes) -> None:
        self.bed.put("INBOX", octets)

    def messages(self) -> Sequence[bytes]:
        return self.bed.messages("INBOX")

    def lose(self, octets: bytes) -> None:
        there = zip(self.bed.uids("INBOX"), self.messages(), strict=True)
        self.bed.delete("INBOX", *(uid for uid, each in there if each == self.expected(octets)))


@pytest.fixture(scope="module")
def bed() -> Iterator[TestBed]:
    with TestBed(["INBOX"], password=SECRET) as bed:
        yield bed


class TestFetcher(RemoteFetcherContract, StayingFetcherContract):
    component = WebmailFetcher
    secrets = (SECRET,)

    @pytest.fixture
    def source(self, bed: TestBed) -> Iterator[FarPage]:
        with Proxy(("127.0.0.1", bed.port)) as proxy:
            yield FarPage(bed, proxy)
