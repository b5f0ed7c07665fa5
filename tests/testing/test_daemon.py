"""Servers that others wrote, as processes of the tests."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import threading
from collections.abc import Sequence
from pathlib import Path

import pytest

from mailflow.testing.daemon import Daemon, greets
from mailflow.testing.serving import free_ports

LATE = "import socket, sys, time; time.sleep(0.1); s = socket.create_server(('127.0.0.1', {port}))"
GREETING = LATE + "\nwhile True: c, _ = s.accept(); c.sendall(b'+OK\\r\\n'); c.close()"
DYING = "print('no such option'); raise SystemExit(1)"


class Program(Daemon):
    name = "Pigeon"

    def __init__(self, directory: Path, *codes: str) -> None:
        super().__init__(directory)
        self.codes = list(codes)
        self.port = 0

    def _configure(self) -> Sequence[int]:
        self.port = 1 if self.codes[0] == DYING else free_ports(1)[0]  # nobody listens at 1
        return [self.port]

    def _command(self) -> Sequence[str]:
        return [sys.executable, "-c", self.codes.pop(0).format(port=self.port)]


def test_it_is_there_once_it_greets_and_gone_with_its_directory_at_the_end(tmp_path: Path) -> None:
    with Program(tmp_path, GREETING) as program:
        with socket.create_connection((program.host, program.port), 5) as sock:
            assert sock.recv(5) == b"+OK\r\n"
        pid, base = program.pid, program._base
        assert os.path.isdir(base)
    assert not os.path.exists(base)
    with pytest.raises(ProcessLookupError):
        os.kill(pid, 0)


def test_one_that_finds_its_port_taken_is_started_on_another(tmp_path: Path) -> None:
    with Program(tmp_path, DYING, GREETING) as program:
        assert program.codes == []


def test_it_is_there_when_every_port_greets() -> None:
    (near, far) = free_ports(2)
    code = GREETING.format(port=far)
    with (
        socket.create_server(("127.0.0.1", near)) as first,
        subprocess.Popen([sys.executable, "-c", code]) as program,
    ):
        answer = threading.Thread(
            target=lambda: first.accept()[0].sendall(b"* OK\r\n"), daemon=True
        )
        answer.start()
        try:
            assert greets(program, near, far)
            socket.create_connection(("127.0.0.1", far), 5).close()
        finally:
            program.kill()


@pytest.mark.timeout(20)  # seconds, before which it is not waited for any longer
def test_one_that_does_not_start_is_told_with_what_it_said(tmp_path: Path) -> None:
    program = Program(tmp_path, DYING, DYING, DYING)
    with pytest.raises(RuntimeError, match="Pigeon does not start:\nno such option"):
        program.__enter__()
    assert not os.path.exists(program._base)


def test_it_is_ended_and_started_again(tmp_path: Path) -> None:
    with Program(tmp_path, GREETING, GREETING) as program:
        first = program.pid
        program.stop()
        with pytest.raises(AssertionError, match="not running"):
            assert program.pid
        program.start()
        assert program.pid != first
