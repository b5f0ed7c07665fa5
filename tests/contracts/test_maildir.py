"""The Maildir distributor keeps the contract of its kind."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import pytest

from mailflow.lines import to_lf
from mailflow.testing.contracts import Destination, DistributorContract, Taken
from mailflow_maildir.distributor import MaildirDistributor


class Maildir(Destination):
    def __init__(self, path: Path) -> None:
        self.path = path
        self.table = {"path": str(path)}

    def taken(self) -> Sequence[Taken]:
        return [Taken(path.read_bytes()) for path in self.path.glob("[nc]*/*")]

    def expected(self, octets: bytes) -> bytes:
        return to_lf(octets)


class TestMaildir(DistributorContract):
    component = MaildirDistributor

    @pytest.fixture
    def destination(self, tmp_path: Path) -> Maildir:
        return Maildir(tmp_path / "Maildir")
