"""The test bed of a webmail keeps the contract of a service."""

from __future__ import annotations

from collections.abc import Mapping
from http.client import HTTPConnection
from pathlib import Path

import pytest

from mailflow.testing.contracts import ServiceContract
from mailflow_webmail.testbed.service import TestBedService

PATIENCE = 10.0


class TestTestBed(ServiceContract):
    component = TestBedService

    @pytest.fixture(autouse=True)
    def mbox(self, tmp_path: Path) -> None:
        self.path = tmp_path / "archive.mbox"
        self.path.write_bytes(b"From ann Thu Jan  1 00:00:00 2026\nSubject: one\n\none\n\n")

    def at(self, host: str, port: int) -> Mapping[str, object]:
        return {"path": str(self.path), "listen": [f"{host}:{port}"]}

    def visit(self, address: tuple[str, int]) -> None:
        client = HTTPConnection(*address, timeout=PATIENCE)
        client.request("GET", "/login")
        assert b'name="nonce"' in client.getresponse().read()
        client.close()
