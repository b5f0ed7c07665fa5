from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest

from mailflow.halt import Halt
from mailflow.kinds import Credentials, Runtime, Ticket
from mailflow.mail import Content, Envelope, Mail, Octets, read
from mailflow.testing.engine import LogDouble
from mailflow.verdicts import SENT, Report
from mailflow_spool.distributor import SpoolDistributor, SpoolOptions
from mailflow_spool.maildrop import _STORES, MaildropOptions, OpenSpool, SpoolMaildrop
from mailflow_spool.store import Store
from mailflow_spool.verify import verify

LARGE = b"Subject: large\r\n\r\n" + b"0123456789 and so on, line after line\r\n" * 2500
"""So large that it becomes no row of the index."""


def text(number: int, octets: int = 0) -> bytes:
    return b"Subject: %d\r\n\r\nhello\r\n" % number + b"x" * octets + b"\r\n" * bool(octets)


class Spool:
    """A spool under test: filled as the engine does, read as the gateway does."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.halt = Halt()
        self.said = LogDouble()
        log: Any = self.said
        self.runtime = Runtime("spool", "test", self.halt, log, str(path.parent))
        self._stores: list[Store] = []

    @property
    def store(self) -> Store:
        """Opened anew each time."""
        self._stores.append(Store(str(self.path)))
        return self._stores[-1]

    def close(self) -> None:
        served = _STORES.get(str(self.path))  # else open until a garbage collection
        for store in [*self._stores, *filter(None, [served])]:
            store.close()
        self.halt.close()

    def distributor(self, **table: object) -> SpoolDistributor:
        options = SpoolOptions.read({"path": str(self.path), "drop": "ann", **table})
        return SpoolDistributor(options, self.runtime)

    def deliver(
        self, *contents: bytes | Content, keys: Sequence[str] = (), finish: bool = True,
        resumed: bool = False, sender: str | None = "bob@example.org", **table: object,
    ) -> list[Report]:  # fmt: skip
        """Each under a ticket of its own, or of `keys`, in one session."""
        keys = keys or [f"{os.urandom(6).hex()}.0.x" for _ in contents]
        jobs = [
            (mail(each, key, sender), Ticket(key, ("",), resumed=resumed))
            for each, key in zip(contents, keys, strict=True)
        ]
        with self.distributor(**table) as distributor:
            reports = list(distributor.distribute_many(jobs))
            if finish:
                distributor.finish(keys)
        assert [ticket for ticket, _ in reports] == [ticket for _, ticket in jobs]
        return [report for _, report in reports]

    def fill(
        self, *contents: bytes | Content, sender: str | None = "bob@example.org", **table: object
    ) -> None:
        reports = self.deliver(*contents, sender=sender, **table)
        assert {report.outcome for report in reports} <= {SENT}

    def maildrop(self) -> SpoolMaildrop:
        return SpoolMaildrop(MaildropOptions.read({"path": str(self.path)}), self.runtime)

    def login(self, name: str = "ann") -> OpenSpool:
        return self.maildrop().login(Credentials(name, checked=True))

    def messages(self, name: str = "ann") -> list[bytes]:
        drop = self.login(name)
        try:
            return [read(drop.read(item.key)) for item in drop.items()]
        finally:
            drop.close()

    def uidls(self, name: str = "ann") -> list[str]:
        drop = self.login(name)
        try:
            return [item.key for item in drop.items()]
        finally:
            drop.close()

    def delete(self, *uidls: str, name: str = "ann") -> None:
        drop = self.login(name)
        drop.close(uidls or [item.key for item in drop.items()])

    def bodies(self) -> list[Path]:
        return sorted((self.path / "bodies").iterdir())

    def damage(self) -> list[str]:
        return [str(each) for each in verify(self.store)]


def mail(
    content: bytes | Content, key: str = "m-1", sender: str | None = "bob@example.org"
) -> Mail:
    return Mail(key, Envelope(sender), Octets(content) if isinstance(content, bytes) else content)


def sent(drop: OpenSpool, uidl: str) -> bytes:
    """What a client gets of a message that is sent as it lies there."""
    part = drop.wire(uidl)
    assert part is not None
    if isinstance(part, bytes):
        return part
    return os.pread(part.file, part.octets, part.offset)


@pytest.fixture
def spool(tmp_path: Path) -> Iterator[Spool]:
    spool = Spool(tmp_path / "spool")
    yield spool
    spool.close()
