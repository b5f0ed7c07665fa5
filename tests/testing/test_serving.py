"""The ports that real servers of the tests are given."""

from __future__ import annotations

import socket
import subprocess
import sys
from pathlib import Path

from mailflow.testing.serving import free_ports

PORTS = "from mailflow.testing.serving import free_ports; print(*free_ports(50))"


def test_no_two_processes_are_given_the_same_port() -> None:
    mine = free_ports(50)
    other = subprocess.run([sys.executable, "-c", PORTS], capture_output=True, check=True)
    theirs = [int(port) for port in other.stdout.split()]
    assert len({*mine, *theirs}) == 100


def test_the_system_gives_no_client_one_of_them() -> None:
    low, _ = Path("/proc/sys/net/ipv4/ip_local_port_range").read_text().split()
    assert max(free_ports(50)) < int(low)


def test_a_port_on_which_somebody_listens_is_passed_over() -> None:
    (port,) = free_ports(1)
    with socket.create_server(("127.0.0.1", port + 1)):
        assert port + 1 not in free_ports(2)
