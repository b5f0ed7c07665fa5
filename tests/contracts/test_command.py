"""A program as destination keeps the contract of its kind."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import pytest

from mailflow.lines import to_lf
from mailflow.testing.contracts import (
    Destination,
    DistributorContract,
    RefusingDestination,
    RefusingDistributorContract,
    Taken,
)
from mailflow_command.distributor import CommandDistributor, EachCommandDistributor

PROGRAM = 'name=$0/$MAILFLOW_KEY.$$; cat > "$name" && mv "$name" "$name.eml"'
"""Keeps what it is given to the end under a name of its own: handed in twice, it is twice."""


class Files(Destination):
    def __init__(self, path: Path) -> None:
        self.path = path
        path.mkdir()
        self.table = {"command": ["/bin/sh", "-c", PROGRAM, str(path)], "timeout": "10s"}

    def taken(self) -> Sequence[Taken]:
        return [Taken(path.read_bytes()) for path in self.path.glob("*.eml")]

    def expected(self, octets: bytes) -> bytes:
        return to_lf(octets)


class TestCommand(DistributorContract):
    component = CommandDistributor

    @pytest.fixture
    def destination(self, tmp_path: Path) -> Files:
        return Files(tmp_path / "files")


EACH = (
    'grep -qsx "$RECIPIENT" "$0/later" && exit 75; grep -qsx "$RECIPIENT" "$0/failed" && exit 67;'
)


class FilesOfEach(RefusingDestination, Files):
    """A file for each recipient, but for those that two lists name."""

    asks_first = False

    def __init__(self, path: Path) -> None:
        super().__init__(path)
        program = f"{EACH} {PROGRAM.replace('$$', '$$.to-$RECIPIENT')}"
        self.table["command"] = ["/bin/sh", "-c", program, str(path)]

    def taken(self) -> Sequence[Taken]:
        return [
            Taken(path.read_bytes(), (path.stem.rpartition(".to-")[2],))
            for path in self.path.glob("*.eml")
        ]

    def refuse(self, recipient: str, *, for_good: bool) -> None:
        with open(self.path / ("failed" if for_good else "later"), "a") as file:
            file.write(f"{recipient}\n")


class TestCommandEach(RefusingDistributorContract):
    component = EachCommandDistributor

    @pytest.fixture
    def destination(self, tmp_path: Path) -> FilesOfEach:
        return FilesOfEach(tmp_path / "files")
