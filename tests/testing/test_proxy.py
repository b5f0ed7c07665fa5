"""The fault proxy: pipelined commands stay pipelined, and each fault does what it says."""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Callable, Iterator

import pytest

from mailflow.testing.proxy import Fault, Proxy

GREETING = b"+OK ready\r\n"


class Echo:
    """Greets, then answers each line with itself; `heard` is all that arrived."""

    def __init__(self) -> None:
        self.listener = socket.create_server(("127.0.0.1", 0))
        self.address = self.listener.getsockname()
        self.heard = b""
        self.endings: list[str] = []
        self.ended = threading.Event()
        threading.Thread(target=self._run, daemon=True).start()

    def _run(self) -> None:
        while True:
            try:
                sock, _ = self.listener.accept()
            except OSError:
                return
            threading.Thread(target=self._serve, args=(sock,), daemon=True).start()

    def _serve(self, sock: socket.socket) -> None:
        with sock:
            try:
                sock.sendall(GREETING)
                while data := sock.recv(65536):
                    self.heard += data
                    sock.sendall(data)
                self.endings.append("FIN")
            except OSError:
                self.endings.append("RST")
            self.ended.set()


@pytest.fixture
def echo() -> Iterator[Echo]:
    server = Echo()
    yield server
    server.listener.close()


def dial(proxy: Proxy) -> socket.socket:
    return socket.create_connection(proxy.address, timeout=10)


def read_exactly(sock: socket.socket, size: int) -> bytes:
    data = b""
    while len(data) < size:
        piece = sock.recv(size - len(data))
        if not piece:
            break
        data += piece
    return data


def read_to_end(sock: socket.socket) -> tuple[bytes, str]:
    data = b""
    try:
        while piece := sock.recv(65536):
            data += piece
    except ConnectionResetError:
        return data, "RST"
    return data, "FIN"


def least(act: Callable[[], float]) -> float:
    """The least of several times: others on this machine can only add to it."""
    return min(act() for _ in range(4))


def test_without_faults_octets_pass_both_ways_and_are_counted(echo: Echo) -> None:
    body = bytes(range(256)) * 4096
    with Proxy(echo.address) as proxy:
        with dial(proxy) as sock:
            sender = threading.Thread(target=sock.sendall, args=(body,))
            sender.start()
            assert read_exactly(sock, len(GREETING)) == GREETING
            assert read_exactly(sock, len(body)) == body
            sender.join()
        echo.ended.wait(5)
        assert echo.heard == body
        assert (proxy.connections, proxy.to_server) == (1, len(body))
        assert proxy.to_client == len(GREETING) + len(body)


def test_pipelined_commands_cross_a_slow_link_in_one_round_trip(echo: Echo) -> None:
    commands = [b"RETR %d\r\n" % number for number in range(1, 101)]

    def flight() -> float:
        start = time.monotonic()
        for command in commands:  # a write each: many chunks, each with its own due time
            sock.sendall(command)
        assert read_exactly(sock, sum(map(len, commands))) == b"".join(commands)
        return time.monotonic() - start

    with Proxy(echo.address, delay=0.025) as proxy, dial(proxy) as sock:
        read_exactly(sock, len(GREETING))
        assert 0.05 <= least(flight) < 0.15


def test_commands_in_lock_step_pay_a_round_trip_each(echo: Echo) -> None:
    def steps() -> float:
        start = time.monotonic()
        for _ in range(10):
            sock.sendall(b"NOOP\r\n")
            read_exactly(sock, 6)
        return time.monotonic() - start

    with Proxy(echo.address, delay=0.01) as proxy, dial(proxy) as sock:
        read_exactly(sock, len(GREETING))
        assert 0.2 <= least(steps) < 0.4


def test_a_slow_link_keeps_its_throughput(echo: Echo) -> None:
    size = 20 << 20
    with Proxy(echo.address, delay=0.05) as proxy, dial(proxy) as sock:
        read_exactly(sock, len(GREETING))
        start = time.monotonic()
        sender = threading.Thread(target=sock.sendall, args=(bytes(size),))
        sender.start()
        assert len(read_exactly(sock, size)) == size
        sender.join()
        assert time.monotonic() - start < 10  # in lock step, 64 KiB at a time: 32 s


@pytest.mark.parametrize(("handshake", "greeted"), [(True, 0.2), (False, 0.05)])
def test_a_handshake_costs_what_it_costs_on_the_link(
    echo: Echo, handshake: bool, greeted: float
) -> None:
    def greeting() -> float:
        start = time.monotonic()
        with dial(proxy) as sock:
            read_exactly(sock, len(GREETING))
        return time.monotonic() - start

    with Proxy(echo.address, delay=0.05, handshake=handshake) as proxy:
        assert greeted <= least(greeting) < greeted + 0.1


def test_a_rate_is_kept(echo: Echo) -> None:
    def kilobytes() -> float:
        start = time.monotonic()
        sock.sendall(bytes(10_000))
        read_exactly(sock, 10_000)
        return time.monotonic() - start

    with Proxy(echo.address, rate=100_000) as proxy, dial(proxy) as sock:
        read_exactly(sock, len(GREETING))
        assert 0.1 <= least(kilobytes) < 0.3


def test_a_full_link_holds_the_sender_back(echo: Echo) -> None:
    stall = Fault("stall", towards="server")
    with Proxy(echo.address, bound=100_000, faults=[stall]) as proxy, dial(proxy) as sock:
        sock.settimeout(0.3)
        with pytest.raises(TimeoutError):
            sock.sendall(bytes(64 << 20))
        assert proxy.to_server == 0


@pytest.mark.parametrize(("kind", "ending"), [("cut", "FIN"), ("reset", "RST")])
@pytest.mark.parametrize("after", [0, 1, 5, len(GREETING), len(GREETING) + 3])
def test_the_link_ends_after_exactly_that_many_octets_to_the_client(
    echo: Echo, kind: str, ending: str, after: int
) -> None:
    faults = [Fault(kind, after)]  # with a delay, for a reset before connect() returns is its error
    with Proxy(echo.address, delay=0.005, faults=faults) as proxy, dial(proxy) as sock:
        if after > len(GREETING):
            sock.sendall(b"NOOP\r\n")
        assert read_to_end(sock) == ((GREETING + b"NOOP\r\n")[:after], ending)
        assert proxy.to_client == after


@pytest.mark.parametrize(("kind", "ending"), [("cut", "FIN"), ("reset", "RST")])
def test_the_link_ends_after_exactly_that_many_octets_to_the_server(
    echo: Echo, kind: str, ending: str
) -> None:
    fault = Fault(kind, 7, towards="server")
    with Proxy(echo.address, faults=[fault]) as proxy, dial(proxy) as sock:
        read_exactly(sock, len(GREETING))
        sock.sendall(b"DELE 1\r\nQUIT\r\n")
        assert read_to_end(sock)[1] == ending
        assert echo.ended.wait(5)
        assert echo.heard == b"DELE 1\r"
        assert echo.endings == [ending]


def test_a_stall_leaves_the_connection_open_and_silent(echo: Echo) -> None:
    with Proxy(echo.address, faults=[Fault("stall", 4)]) as proxy, dial(proxy) as sock:
        assert read_exactly(sock, 4) == GREETING[:4]
        sock.sendall(b"NOOP\r\n")
        sock.settimeout(0.2)
        with pytest.raises(TimeoutError):
            sock.recv(1)


def test_a_trickle_passes_one_octet_at_a_time(echo: Echo) -> None:
    fault = Fault("trickle", 4, interval=0.03)
    with Proxy(echo.address, faults=[fault]) as proxy, dial(proxy) as sock:
        assert read_exactly(sock, 4) == GREETING[:4]
        start = time.monotonic()
        assert [len(sock.recv(100)) for _ in range(5)] == [1] * 5
        assert time.monotonic() - start >= 0.03 * 4


def test_a_fault_may_befall_one_connection_only(echo: Echo) -> None:
    with Proxy(echo.address, faults=[Fault("cut", connection=1)]) as proxy:
        with dial(proxy) as sock:
            assert read_to_end(sock) == (b"", "FIN")
        with dial(proxy) as sock:
            assert read_exactly(sock, len(GREETING)) == GREETING
        assert proxy.connections == 2


@pytest.mark.parametrize(("reset", "ending"), [(False, "FIN"), (True, "RST")])
def test_open_connections_can_be_dropped_at_will(echo: Echo, reset: bool, ending: str) -> None:
    with Proxy(echo.address) as proxy, dial(proxy) as sock:
        read_exactly(sock, len(GREETING))
        proxy.drop(reset=reset)
        assert read_to_end(sock) == (b"", ending)


def test_the_end_of_one_side_reaches_the_other_behind_its_octets(echo: Echo) -> None:
    with Proxy(echo.address, delay=0.02) as proxy, dial(proxy) as sock:
        sock.sendall(b"QUIT\r\n")
        sock.shutdown(socket.SHUT_WR)
        assert read_to_end(sock) == (GREETING + b"QUIT\r\n", "FIN")
        assert echo.endings == ["FIN"]


def test_a_target_that_is_down_resets_the_client() -> None:
    with socket.create_server(("127.0.0.1", 0)) as gone:
        address = gone.getsockname()
    with Proxy(address, delay=0.01) as proxy, dial(proxy) as sock:
        assert read_to_end(sock) == (b"", "RST")


def test_many_connections_are_carried_at_once(echo: Echo) -> None:
    with Proxy(echo.address, delay=0.02) as proxy:
        start = time.monotonic()
        socks = [dial(proxy) for _ in range(50)]
        for sock in socks:
            assert read_exactly(sock, len(GREETING)) == GREETING
        assert time.monotonic() - start < 3  # one after the other: 4 s
        for sock in socks:
            sock.close()
        assert proxy.connections == 50
