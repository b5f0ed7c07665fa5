"""A Maildir in and out keeps the contracts of its kinds."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

import pytest

from mailflow.lines import to_lf
from mailflow.testing.contracts import (
    Destination,
    DistributorContract,
    PushFetcherContract,
    Source,
    Taken,
    WireMaildropContract,
)
from mailflow_maildir.distributor import MaildirDistributor
from mailflow_maildir.fetcher import MaildirFetcher
from mailflow_maildir.maildrop import MaildirDrop


class Maildir(Destination):
    def __init__(self, path: Path) -> None:
        self.path = path
        self.table: dict[str, object] = {"path": str(path)}

    def taken(self) -> Sequence[Taken]:
        return [Taken(path.read_bytes()) for path in self.path.glob("[nc]*/*")]

    def expected(self, octets: bytes) -> bytes:
        return to_lf(octets)


class TestMaildir(DistributorContract):
    component = MaildirDistributor

    @pytest.fixture
    def destination(self, tmp_path: Path) -> Maildir:
        return Maildir(tmp_path / "Maildir")


class Inbox(Source):
    """A Maildir in which some are new, some read."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.table: dict[str, object] = {"path": str(path)}
        self._put = 0
        for place in ("tmp", "new", "cur"):
            (path / place).mkdir(parents=True)

    def put(self, octets: bytes) -> None:
        self._put += 1
        place = f"cur/{self._put:06}.x:2,{'S' * (self._put % 3 % 2)}"
        (self.path / (place if self._put % 3 else f"new/{self._put:06}.x")).write_bytes(octets)

    def messages(self) -> Sequence[bytes]:
        return [path.read_bytes() for path in self.path.glob("[nc]*/*")]

    def lose(self, octets: bytes) -> None:
        for path in self.path.glob("[nc]*/*"):
            if path.read_bytes() == octets:
                path.unlink()


class TestMaildirSource(PushFetcherContract):
    component = MaildirFetcher

    @pytest.fixture
    def source(self, tmp_path: Path) -> Inbox:
        return Inbox(tmp_path / "Maildir")


class TestMaildirDrop(WireMaildropContract):
    component = MaildirDrop

    @pytest.fixture(autouse=True)
    def near(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """Also where these tests run on a file system that cannot tell, as tmpfs."""
        monkeypatch.setattr("mailflow_maildir.ledger.is_near", lambda file: True)
        monkeypatch.setattr(
            "mailflow_maildir.opened.held", lambda file, size: os.pread(file, size, 0)
        )

    @pytest.fixture
    def source(self, tmp_path: Path) -> Inbox:
        return Inbox(tmp_path / "Maildir")
