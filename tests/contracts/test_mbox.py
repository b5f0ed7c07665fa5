"""mbox in and out keeps the contracts of its kinds."""

from __future__ import annotations

import re
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
)
from mailflow.testing.corpus import stored
from mailflow_mbox.distributor import MboxDistributor
from mailflow_mbox.fetcher import MboxFetcher

FROM = b"From ann@example.org Fri Nov 21 01:02:03 2025\n"


class Mbox(Source, Destination):
    """An mbox file, written and read here as mboxrd has it: From lines are quoted once more."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.table = {"path": str(path)}

    def put(self, octets: bytes) -> None:
        with open(self.path, "ab") as file:
            file.write(FROM + re.sub(rb"(?m)^(>*From )", rb">\1", ended(octets)) + b"\n")

    def messages(self) -> Sequence[bytes]:
        if not self.path.exists():
            return []
        parts = re.split(rb"(?m)^From .*\n", self.path.read_bytes())[1:]
        return [re.sub(rb"(?m)^>(>*From )", rb"\1", part.removesuffix(b"\n")) for part in parts]

    def lose(self, octets: bytes) -> None:
        kept = [each for each in self.messages() if each != ended(octets)]
        self.path.write_bytes(b"")
        for each in kept:
            self.put(each)

    def taken(self) -> Sequence[Taken]:
        return [Taken(octets) for octets in self.messages()]


class In(Mbox):
    def expected(self, octets: bytes) -> bytes:
        return stored(ended(octets))


class Out(Mbox):
    def expected(self, octets: bytes) -> bytes:
        return ended(octets)


def ended(octets: bytes) -> bytes:
    """With LF lines, the last one too."""
    lines = to_lf(stored(octets))
    return lines if lines.endswith(b"\n") else lines + b"\n"


class TestFetcher(PushFetcherContract):
    component = MboxFetcher

    @pytest.fixture
    def source(self, tmp_path: Path) -> Mbox:
        return In(tmp_path / "mbox")


class TestDistributor(DistributorContract):
    component = MboxDistributor

    @pytest.fixture
    def destination(self, tmp_path: Path) -> Mbox:
        return Out(tmp_path / "mbox")
