from __future__ import annotations

import mailbox
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from mailflow.halt import Halt
from mailflow.kinds import Item, Runtime, Ticket
from mailflow.mail import Envelope, Mail, Octets
from mailflow.query import Query
from mailflow.testing.engine import LogDouble
from mailflow.verdicts import Fate, Report
from mailflow_mbox.distributor import MboxDistributor, MboxOptions
from mailflow_mbox.fetcher import MboxFetcher, MboxSourceOptions

LINE = b"From ann@example.org Thu Jan  1 00:00:00 2026\n"


class Box:
    """An mbox under test: appended to and fetched as the engine does, read as others do."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.log = path.with_name(f".{path.name}.mailflow")
        self.halt = Halt()
        self.said = LogDouble()
        log: Any = self.said
        self.runtime = Runtime("mbox", "test", self.halt, log, str(path.parent))

    def distributor(self, **table: object) -> MboxDistributor:
        options = MboxOptions.read({"path": str(self.path), "timeout": "300ms", **table})
        return MboxDistributor(options, self.runtime)

    def deliver(self, *mails: Mail, finish: bool = True, **table: object) -> list[Report]:
        """Each under the ticket of its id, in one group."""
        jobs = [(mail, Ticket(mail.id, ("",))) for mail in mails]
        with self.distributor(**table) as distributor:
            reports = list(distributor.distribute_many(jobs))
            if finish:
                distributor.finish([mail.id for mail in mails])
        assert [ticket for ticket, _ in reports] == [ticket for _, ticket in jobs]
        return [report for _, report in reports]

    def fetcher(self, **table: object) -> MboxFetcher:
        options = MboxSourceOptions.read({"path": str(self.path), "timeout": "300ms", **table})
        return MboxFetcher(options, self.runtime)

    def items(self, **table: object) -> list[Item]:
        with self.fetcher(**table) as fetcher:
            return list(fetcher.listing(Query.always))

    def settle(self, *numbers: int, **table: object) -> None:
        with self.fetcher(**table) as fetcher:
            keys = [item.key for item in fetcher.listing(Query.always)]
            for number in numbers:
                fetcher.settle(keys[number], Fate.DONE)

    def bodies(self) -> list[bytes]:
        """As Python's mailbox reads it, which knows no quoting."""
        box = mailbox.mbox(self.path, create=False)
        try:
            return [box.get_bytes(key) for key in box.iterkeys()]
        finally:
            box.close()

    def write(self, *messages: bytes) -> None:
        self.path.write_bytes(b"".join(LINE + message + b"\n" for message in messages))

    def others(self) -> list[str]:
        """What lies beside the mbox."""
        return sorted(each.name for each in self.path.parent.iterdir() if each != self.path)


def make(number: int, data: bytes | None = None, sender: str | None = "ann@x.org") -> Mail:
    data = b"Subject: %d\r\n\r\n%d\r\n" % (number, number) if data is None else data
    return Mail(f"m{number}", Envelope(sender), Octets(data))


@pytest.fixture
def box(tmp_path: Path) -> Iterator[Box]:
    (tmp_path / "mail").mkdir()
    box = Box(tmp_path / "mail" / "box")
    yield box
    box.halt.close()
