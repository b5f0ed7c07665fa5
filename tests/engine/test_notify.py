"""What a service manager is told, as sd_notify(3) has it."""

from __future__ import annotations

import os
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest

from mailflow.engine.notify import Notifier


@pytest.fixture(params=["path", "abstract"])
def manager(
    request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[socket.socket]:
    """A manager's socket, in the file system or outside of it."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sock:
        if request.param == "path":
            monkeypatch.chdir(tmp_path)
            sock.bind("notify")
            address = str(tmp_path / "notify")
        else:
            sock.bind(f"\0mailflow-{os.getpid()}")
            address = f"@mailflow-{os.getpid()}"
        sock.settimeout(5)
        monkeypatch.setenv("NOTIFY_SOCKET", address)
        yield sock


def test_each_state_is_one_datagram(manager: socket.socket) -> None:
    notifier = Notifier()
    notifier.ready("2 sources")
    notifier.status("2 sources")  # said already
    notifier.status("1 source")
    notifier.reloading()
    notifier.stopping()
    told = [manager.recv(1000).decode() for _ in range(4)]
    assert told[:2] == ["READY=1\nSTATUS=2 sources", "STATUS=1 source"]
    assert told[2].startswith("RELOADING=1\nMONOTONIC_USEC=")
    assert told[3].startswith("STOPPING=1\n")


def test_no_program_that_is_started_speaks_for_the_service(
    manager: socket.socket, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("WATCHDOG_USEC", "1000000")
    monkeypatch.setenv("WATCHDOG_PID", str(os.getpid()))
    assert Notifier().watchdog == 1.0
    assert not {"NOTIFY_SOCKET", "WATCHDOG_USEC", "WATCHDOG_PID"} & set(os.environ)


def test_the_watchdog_is_fed_three_times_as_often_as_it_bites(
    manager: socket.socket, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("WATCHDOG_USEC", "3000000")
    now = [1000.0]
    monkeypatch.setattr("time.monotonic", lambda: now[0])
    notifier = Notifier()
    manager.settimeout(0)
    told = []
    for _ in range(50):
        notifier.alive()
        now[0] += 0.1
        try:
            told.append(manager.recv(100))
        except BlockingIOError:
            continue
    assert told == [b"WATCHDOG=1"] * 5


@pytest.mark.parametrize(("usec", "pid"), [("", ""), ("x", ""), ("1000000", "1")])
def test_another_processs_watchdog_is_not_fed(
    monkeypatch: pytest.MonkeyPatch, usec: str, pid: str
) -> None:
    monkeypatch.setenv("WATCHDOG_USEC", usec)
    monkeypatch.setenv("WATCHDOG_PID", pid)
    assert Notifier().watchdog == 0.0


@pytest.mark.parametrize("address", ["", "relative", "/no/such/socket", "@nobody-there"])
def test_where_nobody_listens_nothing_happens(
    monkeypatch: pytest.MonkeyPatch, address: str
) -> None:
    monkeypatch.setenv("NOTIFY_SOCKET", address)
    Notifier().ready("x")
