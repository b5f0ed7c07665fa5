"""The spool keeps the contracts of its kinds."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import pytest

from mailflow.mail import read
from mailflow.testing.contracts import Destination, DistributorContract, Taken
from mailflow.testing.corpus import stored
from mailflow_spool.distributor import SpoolDistributor
from mailflow_spool.maildrop import OpenSpool
from mailflow_spool.store import Store


class Drop(Destination):
    """A drop, as its maildrop serves it."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.table: dict[str, object] = {"path": str(path), "drop": "ann"}

    def taken(self) -> Sequence[Taken]:
        if not self.path.exists():
            return []
        store = Store(str(self.path))
        drop = OpenSpool(store, "ann")
        try:
            return [Taken(read(drop.read(item.key))) for item in drop.items()]
        finally:
            drop.close()
            store.close()

    def expected(self, octets: bytes) -> bytes:
        octets = stored(octets)
        return octets + b"\r\n" if octets and not octets.endswith(b"\r\n") else octets


class TestDistributor(DistributorContract):
    component = SpoolDistributor

    @pytest.fixture
    def destination(self, tmp_path: Path) -> Drop:
        return Drop(tmp_path / "spool")
