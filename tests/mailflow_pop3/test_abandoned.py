"""Clients that leave while something is done for them, and calls that have to wait."""

from __future__ import annotations

import os
import select
import socket
import threading
import time
from collections.abc import Callable, Collection, Iterator, Sequence
from contextlib import ExitStack, suppress

import pytest

from mailflow.kinds import Credentials, Item, WirePart
from mailflow.mail import Content, Octets
from mailflow.testing.gateway import Gateway
from mailflow_pop3.hands import Hands

PATIENCE = 10.0
MAIL = b"Subject: one\r\n\r\none\r\n"


class Waiting:
    """A maildrop whose log-ins, or what else is named, wait for `gate`. `open` counts drops."""

    def __init__(self, at: str = "") -> None:
        self.at = at
        self.gate = threading.Event()
        self.begun = threading.Semaphore(0)
        self.logins = self.open = 0
        self.deleted: list[str] = []

    def wait(self, what: str) -> None:
        if what == self.at:
            self.begun.release()
            assert self.gate.wait(PATIENCE)

    def login(self, who: Credentials) -> Opened:
        self.logins += 1
        self.wait("login")
        self.open += 1
        return Opened(self)


class Opened:
    def __init__(self, owner: Waiting) -> None:
        self.owner = owner
        self.left = False

    def items(self) -> Sequence[Item]:
        self.owner.wait("items")
        return [Item("one", len(MAIL))]

    def read(self, key: str) -> Content:
        self.owner.wait("read")
        return Octets(MAIL)

    def close(self, delete: Collection[str] = ()) -> None:
        assert not self.left, "closed twice"
        self.left = True
        self.owner.wait("close")
        self.owner.deleted += delete
        self.owner.open -= 1


def connected(gateway: Gateway, octets: bytes) -> socket.socket:
    sock = socket.create_connection((gateway.host, gateway.port), PATIENCE)
    sock.sendall(octets)
    return sock


def reset(sock: socket.socket) -> None:
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
    sock.close()


def wait_for(true: Callable[[], bool]) -> None:
    end = time.monotonic() + PATIENCE
    while not true():
        assert time.monotonic() < end
        time.sleep(0.005)


def everything(sock: socket.socket) -> bytes:
    parts = []
    while data := sock.recv(1 << 16):
        parts.append(data)
    return b"".join(parts)


def log_in(name: str) -> bytes:
    return b"USER %b\r\nPASS secret\r\n" % name.encode()


@pytest.fixture
def stack() -> Iterator[ExitStack]:
    with ExitStack() as found:
        yield found


@pytest.mark.parametrize("goes", [reset, socket.socket.close], ids=["reset", "close"])
@pytest.mark.parametrize("at", ["login", "items", "read", "close"])
def test_a_client_that_leaves_while_it_waits_leaves_no_drop_open(stack, at, goes):
    drop = Waiting(at)
    gateway = stack.enter_context(Gateway({"ann": drop}))
    sock = connected(gateway, log_in("ann") + b"RETR 1\r\nDELE 1\r\nQUIT\r\n")
    assert drop.begun.acquire(timeout=PATIENCE)
    goes(sock)
    drop.gate.set()
    drop.at = ""
    wait_for(lambda: drop.open == 0 and gateway.service_host.reports.get("connections") != 1)
    assert b"+OK 1 message\r\n" in everything(connected(gateway, log_in("ann") + b"QUIT\r\n"))


def test_a_log_in_of_a_client_that_is_gone_is_not_begun(stack, monkeypatch):
    """Else those who come and go would keep the others waiting for ever."""
    monkeypatch.setattr("mailflow_pop3.hands.LANE", 1)
    drop = Waiting("login")
    gateway = stack.enter_context(Gateway({"ann": drop}))
    first = stack.enter_context(connected(gateway, log_in("ann")))
    assert drop.begun.acquire(timeout=PATIENCE)
    for _ in range(10):
        reset(connected(gateway, log_in("ann")))
    wait_for(lambda: gateway.service_host.reports.get("connections") == 1)
    drop.gate.set()
    first.sendall(b"QUIT\r\n")
    everything(first)
    assert drop.logins == 1


def test_g01_a_back_end_with_many_slow_log_ins_keeps_nobody_out_of_another(stack, monkeypatch):
    monkeypatch.setattr("mailflow_pop3.hands.MOST", 4)
    monkeypatch.setattr("mailflow_pop3.hands.LANE", 2)
    slow, quick = Waiting("login"), Waiting()
    gateway = stack.enter_context(Gateway({"slow": slow, "quick": quick}))
    waiting = [stack.enter_context(connected(gateway, log_in("slow"))) for _ in range(10)]
    assert slow.begun.acquire(timeout=PATIENCE)
    assert b"+OK bye" in everything(connected(gateway, log_in("quick") + b"QUIT\r\n"))
    slow.gate.set()
    for sock in waiting:
        sock.sendall(b"QUIT\r\n")
        assert everything(sock).endswith(b"+OK bye\r\n")


def test_g01_many_back_ends_with_slow_log_ins_keep_nobody_out_of_another(stack, monkeypatch):
    """Each has less than a lane may have, all together have more than there are threads."""
    monkeypatch.setattr("mailflow_pop3.hands.MOST", 4)
    monkeypatch.setattr("mailflow_pop3.hands.LANE", 3)
    monkeypatch.setattr("mailflow_pop3.hands.FEW", 1)
    slow, quick = {f"slow{number}": Waiting("login") for number in range(5)}, Waiting()
    gateway = stack.enter_context(Gateway({**slow, "quick": quick}))
    waiting = [
        stack.enter_context(connected(gateway, log_in(name))) for name in slow for _ in range(4)
    ]
    for each in slow.values():
        assert each.begun.acquire(timeout=PATIENCE)
    wait_for(lambda: gateway.service_host.reports.get("connections") == len(waiting))
    assert b"+OK bye" in everything(connected(gateway, log_in("quick") + b"DELE 1\r\nQUIT\r\n"))
    for each in slow.values():
        each.gate.set()
    for sock in waiting:
        sock.sendall(b"QUIT\r\n")
        assert everything(sock).endswith(b"+OK bye\r\n")


def test_a_log_in_that_ends_after_the_service_leaves_no_drop_open(stack, monkeypatch):
    """The service may be begun again in the same process: it would find the drop locked."""
    drop = Waiting("login")

    def close(hands: Hands, seconds: float) -> list:
        drop.gate.set()
        return ended(hands, PATIENCE)

    ended = Hands.close
    monkeypatch.setattr("mailflow_pop3.transport.GRACE", 0.0)
    monkeypatch.setattr(Hands, "close", close)
    gateway = stack.enter_context(Gateway({"ann": drop}))
    stack.enter_context(connected(gateway, log_in("ann")))
    assert drop.begun.acquire(timeout=PATIENCE)
    gateway.stop()
    assert (drop.logins, drop.open) == (1, 0)


def test_who_has_not_logged_in_gains_no_time_by_reading_slowly(stack):
    gateway = stack.enter_context(Gateway({"ann": Waiting()}, login_timeout="1s", stall="10m"))
    sock = stack.enter_context(socket.socket())
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
    sock.connect((gateway.host, gateway.port))
    sock.settimeout(PATIENCE)
    end = time.monotonic() + PATIENCE
    with suppress(BlockingIOError, TimeoutError, ConnectionError):
        sock.setblocking(False)
        for _ in range(10_000):
            sock.send(b"CAPA\r\n" * 1000)
    while gateway.service_host.reports.get("connections") != 0:
        assert time.monotonic() < end
        with suppress(OSError):
            sock.recv(1)
        time.sleep(0.02)


def test_a_file_that_cannot_be_read_is_told_to_who_can_mend_it(stack, tmp_path, monkeypatch):
    path = tmp_path / "body"
    path.write_bytes(b"+OK\r\nshort\r\n.\r\n")
    descriptor = os.open(path, os.O_RDONLY)
    stack.callback(os.close, descriptor)
    drop = Waiting()
    drop.open = 1
    gateway = stack.enter_context(Gateway({"ann": drop}))

    class Wired(Opened):
        def wire(self, key: str) -> WirePart:
            return WirePart(descriptor, 0, 1000)

    monkeypatch.setattr(drop, "login", lambda who: Wired(drop))
    everything(connected(gateway, log_in("ann") + b"RETR 1\r\n"))
    wait_for(lambda: drop.open == 0)
    assert "cut a session: a message cannot be read to its end" in gateway.log.said("warning")


def test_without_a_thread_a_call_waits_until_there_can_be_one(monkeypatch):
    def none(thread: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    hands = Hands()
    with monkeypatch.context() as patch:
        patch.setattr(threading.Thread, "start", none)
        hands.give(lambda: "done", "whose")
        hands.try_again()
    assert hands.finished() == []
    hands.try_again()
    found: list[object] = []
    wait_for(lambda: bool(found.extend(hands.finished()) or found))
    assert found == [("whose", "done", None)]
    hands.give(lambda: "again", "whose")
    assert hands.close(PATIENCE) == [("whose", "again", None)]


def test_a_password_is_checked_though_back_ends_have_all_threads(monkeypatch):
    monkeypatch.setattr("mailflow_pop3.hands.MOST", 2)
    hands, gate = Hands(), threading.Event()
    for number in range(3):
        hands.give(lambda: gate.wait(PATIENCE), number, "lane")
    hands.give(lambda: "right", "check")
    found: list[object] = []
    wait_for(lambda: bool(found.extend(hands.finished()) or found))
    assert found == [("check", "right", None)]
    gate.set()
    hands.close(PATIENCE)


def test_what_waits_can_be_taken_back_and_what_was_begun_cannot(monkeypatch):
    monkeypatch.setattr("mailflow_pop3.hands.LANE", 1)
    hands, gate = Hands(), threading.Event()
    first = hands.give(lambda: gate.wait(PATIENCE), 1, "lane")
    second = hands.give(lambda: None, 2, "lane")
    hands.give(lambda: None, 3, "lane")
    assert not hands.take_back(first, "lane")
    assert hands.take_back(second, "lane")
    assert not hands.take_back(second, "lane")
    gate.set()
    assert [whose for whose, _, _ in hands.close(PATIENCE)] in ([1, 3], [1])


def test_of_what_waits_the_lane_is_next_that_has_the_fewest_threads(monkeypatch):
    monkeypatch.setattr("mailflow_pop3.hands.MOST", 2)
    monkeypatch.setattr("mailflow_pop3.hands.FEW", 0)
    hands, gates, begun = Hands(), [threading.Event() for _ in range(5)], []

    def wait(number: int, lane: str) -> None:
        begun.append(lane)
        assert gates[number].wait(PATIENCE)

    for number, lane in enumerate(("busy", "busy", "busy", "busy", "other")):
        hands.give(lambda number=number, lane=lane: wait(number, lane), number, lane)
    wait_for(lambda: len(begun) == 2)
    gates[0].set()
    wait_for(lambda: bool(hands.finished()))
    wait_for(lambda: len(begun) == 3)
    assert begun == ["busy", "busy", "other"]
    for gate in gates:
        gate.set()
    hands.close(PATIENCE)


def test_a_client_that_woke_another_process_which_then_ended_is_served(stack, monkeypatch):
    """Of processes that share a socket one is woken for a client; it may be about to end."""
    other = stack.enter_context(select.epoll())
    gateway = Gateway({"ann": Waiting()})
    listen = gateway._service.listen

    def shared() -> Sequence[socket.socket]:
        sockets = listen()
        for sock in sockets:
            other.register(sock, select.EPOLLIN | select.EPOLLEXCLUSIVE)
        return sockets

    monkeypatch.setattr(gateway._service, "listen", shared)
    stack.enter_context(gateway)
    woken = threading.Thread(target=other.poll, args=(PATIENCE,))
    woken.start()
    asleep(woken)
    sock = stack.enter_context(connected(gateway, b"QUIT\r\n"))
    assert everything(sock).endswith(b"+OK bye\r\n")
    woken.join()


def asleep(thread: threading.Thread) -> None:
    """Wait until it waits in the kernel."""

    def state() -> str:
        with open(f"/proc/self/task/{thread.native_id}/wchan") as file:
            return file.read()

    wait_for(lambda: "ep_poll" in state() or "epoll" in state())
