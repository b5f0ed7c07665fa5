"""The plugin keeps the promises of mailflow."""

import os
import socket

import pytest
from mailflow_pigeon.distributor import PigeonDistributor
from mailflow_pigeon.fetcher import PigeonFetcher
from mailflow_pigeon.maildrop import PigeonMaildrop
from mailflow_pigeon.once import OnceProcessor
from mailflow_pigeon.rest import RestReactor
from mailflow_pigeon.service import PigeonService

from mailflow.testing import (
    Destination,
    DistributorContract,
    FetcherContract,
    MaildropContract,
    MailServiceContract,
    ProcessorContract,
    ReactorContract,
    Source,
    Taken,
)

WORD = "canary-5e1f-word"


class Loft(Source, Destination):
    """A loft with a keeper, seen from outside."""

    def __init__(self, path):
        self.path = path
        self.put_so_far = 0
        path.mkdir()
        (path / ".keeper").write_text(f"{WORD}\n")
        secret = path.parent / "word.secret"
        secret.write_text(f"{WORD}\n")
        secret.chmod(0o600)
        self.table = {"loft": str(path), "keeper": {"file": str(secret)}}

    def put(self, octets):
        self.put_so_far += 1
        (self.path / f"{self.put_so_far:06}.eml").write_bytes(octets)

    def messages(self):
        return [path.read_bytes() for path in sorted(self.path.glob("*.eml"))]

    def lose(self, octets):
        for path in self.path.glob("*.eml"):
            if path.read_bytes() == octets:
                os.unlink(path)

    def taken(self):
        return [Taken(octets) for octets in self.messages()]

    def expected(self, octets):
        return octets.replace(b"\r\n", b"\n").replace(b"\n", b"\r\n")


class TestFetcher(FetcherContract):
    component = PigeonFetcher
    secrets = (WORD,)

    @pytest.fixture
    def source(self, tmp_path):
        return Loft(tmp_path / "loft")


class TestDistributor(DistributorContract):
    component = PigeonDistributor
    secrets = (WORD,)

    @pytest.fixture
    def destination(self, tmp_path):
        return Loft(tmp_path / "loft")


class TestOnce(ProcessorContract):
    component = OnceProcessor


class TestRest(ReactorContract):
    component = RestReactor

    @pytest.fixture
    def table(self):
        return {"after": "5m"}


class TestMaildrop(MaildropContract):
    component = PigeonMaildrop
    secrets = (WORD,)

    @pytest.fixture
    def source(self, tmp_path):
        return Loft(tmp_path / "loft")


class TestService(MailServiceContract):
    component = PigeonService

    def at(self, host, port):
        return {"listen": f"{host}:{port}"}

    def visit(self, address):
        assert said(address, b"coo\n") == b"say LOGIN PASSWORD\n"

    def ask(self, address, login, password):
        answer = said(address, f"{login} {password}\n".encode())
        return None if answer == b"no\n" else int(answer.split()[0])


def said(address, line):
    with socket.create_connection(address, 10) as client, client.makefile("rb") as answer:
        client.sendall(line)
        return answer.read()
