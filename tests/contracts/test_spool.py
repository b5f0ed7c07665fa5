"""The spool keeps the contracts of its kinds."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import pytest

from mailflow.halt import Halt
from mailflow.kinds import Runtime, Ticket
from mailflow.log import Logger
from mailflow.mail import Envelope, Mail, Octets, read
from mailflow.testing.contracts import (
    Destination,
    DistributorContract,
    Source,
    Taken,
    WireMaildropContract,
)
from mailflow.testing.corpus import stored
from mailflow.verdicts import SENT
from mailflow_spool.distributor import SpoolDistributor, SpoolOptions
from mailflow_spool.maildrop import OpenSpool, SpoolMaildrop
from mailflow_spool.shelf import messages
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


class Filled(Source):
    """A drop that a pipeline has put mail into, some of it one by one."""

    def __init__(self, path: Path) -> None:
        self.spool = path
        self.table: dict[str, object] = {"path": str(path)}
        self._put = 0

    def put(self, octets: bytes) -> None:
        self._put += 1
        halt = Halt()
        options = SpoolOptions.read({"path": str(self.spool), "drop": "ann"})
        runtime = Runtime("spool", "test", halt, Logger(), "")
        mail = Mail(f"m-{self._put}", Envelope(), Octets(stored(octets)))
        ticket = Ticket(mail.id, ("",))
        with SpoolDistributor(options, runtime) as distributor:
            assert [each.outcome for each in distributor.distribute(mail, ticket)] == [SENT]
            distributor.finish([ticket.key])
        halt.close()

    def messages(self) -> Sequence[bytes]:
        store = Store(str(self.spool))
        drop = store.drop("ann")
        assert drop is not None
        found = [read(each.content) for each in messages(store, drop)]
        store.close()
        return found

    def lose(self, octets: bytes) -> None:
        store = Store(str(self.spool))
        drop = store.drop("ann")
        assert drop is not None
        for each in list(messages(store, drop)):
            if read(each.content) == octets:
                store.remove(drop, [each.number])
        store.close()


class TestMaildrop(WireMaildropContract):
    component = SpoolMaildrop

    @pytest.fixture
    def source(self, tmp_path: Path) -> Filled:
        return Filled(tmp_path / "spool")
