"""The connections of the server: what is sent, what waits, and who does not notice."""

from __future__ import annotations

import os
import select
import socket
import ssl
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, suppress
from pathlib import Path

import pytest

from mailflow.accounts import Account, Accounts
from mailflow.errors import UnavailableError
from mailflow.halt import Halt
from mailflow.kinds import Item, WirePart
from mailflow.mail import Octets
from mailflow.testing.engine import LogDouble
from mailflow.testing.gateway import Gateway, plain
from mailflow.testing.tls import Authority
from mailflow_pop3.hands import Hands
from mailflow_pop3.server import Policy
from mailflow_pop3.transport import Door, Limits, Transport, _prepare

PATIENCE = 10.0


def wire(octets: bytes) -> bytes:
    return b"+OK\r\n" + octets.replace(b"\r\n.", b"\r\n..") + b".\r\n"


class Drop:
    """A drop in files, as they go over the wire. `before` is called with what is asked for,
    and may wait or raise; `closed` counts, `deleted` are keys."""

    prompt = True

    def __init__(self, path: Path, messages: list[bytes], files: int = 1) -> None:
        self.messages = messages
        self.before: Callable[[str], None] = lambda what: None
        self.closed = 0
        self.deleted: list[str] = []
        self.places = {}
        self.files = []
        for number in range(files):
            name = path / f"group{number}"
            at = 0
            with open(name, "wb") as file:
                for index in range(number, len(messages), files):
                    octets = wire(messages[index])
                    file.write(octets)
                    self.places[f"k{index}"] = (number, at, len(octets))
                    at += len(octets)
            self.files.append(os.open(name, os.O_RDONLY))

    def login(self, who):
        self.before("login")
        return self

    def items(self):
        return [Item(f"k{i}", len(octets)) for i, octets in enumerate(self.messages)]

    def wire(self, key):
        self.before("wire")
        number, offset, octets = self.places[key]
        return WirePart(self.files[number], offset, octets)

    def read(self, key):
        self.before("read")
        return Octets(self.messages[int(key[1:])])

    def close(self, delete=()):
        self.before("close")
        self.deleted += delete
        self.closed += 1


class Slow(Drop):
    """One that may wait for others."""

    prompt = False


MAIL = b"Subject: one\r\n\r\n.one\r\n"


@pytest.fixture
def serve(tmp_path: Path) -> Iterator[Callable[..., Gateway]]:
    with ExitStack() as stack:
        yield lambda *drops, **options: stack.enter_context(
            Gateway({f"user{n}": drop for n, drop in enumerate(drops, 1)}, **options)
        )


def client(gateway: Gateway, login: str = "user1") -> socket.socket:
    """A client that has logged in."""
    sock = socket.create_connection((gateway.host, gateway.port), PATIENCE)
    sock.sendall(b"USER %b\r\nPASS secret\r\n" % login.encode())
    assert answers(sock, 3)[-1].startswith(b"+OK")
    return sock


def answers(sock: socket.socket, count: int) -> list[bytes]:
    """So many lines, and no octet more."""
    found: list[bytes] = []
    line = b""
    while len(found) < count:
        octet = sock.recv(1)
        assert octet, found
        line += octet
        if octet == b"\n":
            found.append(line)
            line = b""
    return found


def all_of(sock: socket.socket) -> bytes:
    parts = []
    while data := sock.recv(1 << 20):
        parts.append(data)
    return b"".join(parts)


@pytest.mark.parametrize("files", [1, 3])
def test_ranges_of_files_go_out_in_order_between_other_answers(tmp_path, serve, files):
    messages = [b"Subject: %d\r\n\r\n" % n + b".x\r\n" * (n * 100) for n in range(20)]
    drop = Drop(tmp_path, messages, files)
    sock = client(serve(drop))
    sock.sendall(
        b"".join(b"RETR %d\r\n" % n for n in range(1, 21))
        + b"NOOP\r\nTOP 2 0\r\nRETR 3\r\nQUIT\r\n"
    )
    top = b"+OK message follows\r\nSubject: 1\r\n\r\n.\r\n"
    assert all_of(sock) == (
        b"".join(map(wire, messages)) + b"+OK nothing done\r\n" + top + wire(messages[2])
        + b"+OK bye\r\n"
    )  # fmt: skip


def test_ranges_of_files_go_through_tls(tmp_path, serve):
    authority = Authority(tmp_path)
    messages = [b"Subject: %d\r\n\r\n" % n + b".y\r\n" * 50_000 for n in range(5)]
    drop = Drop(tmp_path, messages)
    gateway = serve(drop, certificate=authority.issue(), tls="implicit")
    context = ssl.create_default_context(cafile=authority.ca_file)
    raw = socket.create_connection((gateway.host, gateway.port), PATIENCE)
    with context.wrap_socket(raw, server_hostname="localhost") as sock:
        sock.sendall(b"USER user1\r\nPASS secret\r\n")
        answers(sock, 3)
        sock.sendall(b"".join(b"RETR %d\r\n" % n for n in range(1, 6)) + b"QUIT\r\n")
        assert all_of(sock) == b"".join(map(wire, messages)) + b"+OK bye\r\n"


def test_a_file_that_is_shorter_than_it_was_ends_the_connection(tmp_path, serve):
    drop = Drop(tmp_path, [MAIL, b"Subject: long\r\n\r\n" + b"x\r\n" * 1000, MAIL])
    sock = client(serve(drop))
    os.truncate(tmp_path / "group0", drop.places["k1"][1] + 500)
    sock.sendall(b"DELE 1\r\nRETR 2\r\nQUIT\r\n")
    got = all_of(sock)
    assert got.startswith(b"+OK message 1 deleted\r\n+OK\r\nSubject: long\r\n")
    assert not got.endswith(b".\r\n")
    wait_for(lambda: drop.closed == 1)
    assert drop.deleted == []


def wait_for(true: Callable[[], bool]) -> None:
    end = time.monotonic() + PATIENCE
    while not true():
        assert time.monotonic() < end
        time.sleep(0.005)


@pytest.mark.parametrize("where", ["login", "read", "close"])
def test_g01_a_slow_back_end_keeps_nobody_else_waiting(tmp_path, serve, where):
    released, reached = threading.Event(), threading.Event()

    def before(what: str) -> None:
        if what == where:
            reached.set()
            assert released.wait(PATIENCE)

    (tmp_path / "other").mkdir()
    slow, quick = Slow(tmp_path, [MAIL]), Slow(tmp_path / "other", [MAIL])
    slow.before = before
    gateway = serve(slow, quick)
    sock = socket.create_connection((gateway.host, gateway.port), PATIENCE)
    sock.sendall(b"USER user1\r\nPASS secret\r\nTOP 1 9\r\nDELE 1\r\nQUIT\r\n")
    assert reached.wait(PATIENCE)
    with client(gateway, "user2") as other:
        other.sendall(b"RETR 1\r\nQUIT\r\n")
        assert all_of(other) == wire(MAIL) + b"+OK bye\r\n"
    released.set()
    assert all_of(sock).endswith(b"+OK message 1 deleted\r\n+OK bye\r\n")
    assert slow.deleted == ["k0"]


@pytest.mark.parametrize("where", ["login", "read"])
def test_a_client_that_is_lost_while_a_call_goes_on_frees_its_drop(tmp_path, serve, where):
    released, reached = threading.Event(), threading.Event()

    def before(what: str) -> None:
        if what == where:
            reached.set()
            assert released.wait(PATIENCE)

    drop = Slow(tmp_path, [MAIL, MAIL])
    drop.before = before
    gateway = serve(drop, stall="200ms")
    sock = socket.create_connection((gateway.host, gateway.port), PATIENCE)
    sock.sendall(b"USER user1\r\nPASS secret\r\nDELE 1\r\nTOP 2 9\r\nQUIT\r\n")
    assert reached.wait(PATIENCE)
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
    sock.close()
    wait_for(lambda: gateway.service_host.reports.get("connections") == 0)
    assert drop.closed == 0
    released.set()
    wait_for(lambda: drop.closed == 1)
    assert drop.deleted == []


@pytest.mark.parametrize("large", [False, True])
def test_a_maildrop_may_say_of_each_drop_whether_it_is_opened_at_once(tmp_path, serve, large):
    asked = []

    class Either(Drop):
        def prompt(self, login):
            asked.append(login)
            return not large

    threads = []
    drop = Either(tmp_path, [MAIL])
    drop.before = lambda what: threads.append(threading.current_thread().name)
    client(serve(drop)).close()
    assert asked == ["user1"]
    assert threads[0] == ("pop3 call" if large else "gateway")


def test_a_client_that_reads_late_gets_everything(tmp_path, serve):
    messages = [b"Subject: big\r\n\r\n" + b"z\r\n" * 700_000] * 10
    drop = Drop(tmp_path, messages)
    sock = client(serve(drop))
    sock.sendall(b"".join(b"RETR %d\r\nDELE %d\r\n" % (n, n) for n in range(1, 11)) + b"QUIT\r\n")
    select.select([], [], [], 0.05)  # until the server is stuck, most likely
    expected = b"".join(
        wire(each) + b"+OK message %d deleted\r\n" % n for n, each in enumerate(messages, 1)
    )
    assert all_of(sock) == expected + b"+OK bye\r\n"
    assert len(drop.deleted) == 10


def test_024_a_client_that_takes_nothing_is_cut_off_in_time(tmp_path, serve):
    drop = Drop(tmp_path, [b"Subject: big\r\n\r\n" + b"z\r\n" * 3_000_000, MAIL])
    sock = client(serve(drop, stall="200ms"))
    sock.sendall(b"DELE 2\r\n" + b"RETR 1\r\n" * 20 + b"QUIT\r\n")
    wait_for(lambda: drop.closed == 1)
    assert drop.deleted == []
    sock.close()


def test_a_client_that_takes_slowly_is_not_cut_off(tmp_path, serve):
    octets = b"Subject: big\r\n\r\n" + b"z\r\n" * 1_000_000
    drop = Drop(tmp_path, [octets])
    gateway = serve(drop, stall="600ms")
    sock = client(gateway)
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1 << 16)
    sock.sendall(b"RETR 1\r\nQUIT\r\n")
    got = 0
    begin = time.monotonic()
    while data := sock.recv(1 << 16):
        got += len(data)
        if time.monotonic() - begin < 1.8:  # three times what it may take nothing
            select.select([], [], [], 0.02)
    assert got == len(wire(octets)) + len(b"+OK bye\r\n")


def test_an_error_of_a_drop_that_is_none_of_ours_is_logged_and_harms_one_answer(tmp_path, serve):
    def before(what: str) -> None:
        if what == "wire":
            raise ZeroDivisionError("a bug of the plugin")

    drop = Drop(tmp_path, [MAIL])
    drop.before = before
    gateway = serve(drop)
    sock = client(gateway)
    sock.sendall(b"RETR 1\r\nNOOP\r\n")
    assert answers(sock, 2) == [
        b"-ERR [SYS/TEMP] an error of the server\r\n", b"+OK nothing done\r\n"
    ]  # fmt: skip
    assert gateway.log.said("error") == ["RETR failed"]


def test_a_bug_in_the_session_ends_that_one_alone(tmp_path, serve, monkeypatch):
    drop = Drop(tmp_path, [MAIL])
    gateway = serve(drop)
    first, second = client(gateway), client(gateway)
    from mailflow_pop3 import server

    broken = {**server.BARE, "NOOP": (server.BOTH, lambda session: 1 / 0)}
    monkeypatch.setattr(server, "BARE", broken)
    first.sendall(b"NOOP\r\n")
    assert all_of(first) == b""
    second.sendall(b"STAT\r\n")
    assert answers(second, 1) == [b"+OK 1 %d\r\n" % len(MAIL)]
    assert gateway.log.said("error") == ["a session broke"]


def test_a_drop_that_cannot_be_closed_is_told(tmp_path, serve):
    def before(what: str) -> None:
        if what == "close":
            raise UnavailableError("the disk is gone")

    drop = Slow(tmp_path, [MAIL])
    drop.before = before
    gateway = serve(drop)
    client(gateway).close()
    wait_for(lambda: "a maildrop was not closed in order" in gateway.log.said("error"))
    sock = client(gateway)
    sock.sendall(b"DELE 1\r\nQUIT\r\n")
    assert all_of(sock).endswith(b"-ERR [SYS/TEMP] a failure of the server; try again later\r\n")


def test_what_is_said_last_is_not_overtaken_by_a_reset(tmp_path, serve):
    """The client has sent more than was read: closing at once would reset the connection."""
    gateway = serve(Drop(tmp_path, [MAIL]))
    sock = client(gateway)
    sock.sendall(b"x\r\n" * 50_000)
    got = all_of(sock)
    assert got.endswith(b"-ERR too many bad commands\r\n")


def test_half_a_command_does_not_keep_a_session(tmp_path, serve, monkeypatch):
    monkeypatch.setattr("mailflow_pop3.gateway.LEAST_IDLE", 0.1)
    drop = Drop(tmp_path, [MAIL])
    sock = client(serve(drop, timeout="400ms"))

    def closed() -> bool:
        with suppress(OSError):
            sock.sendall(b"x")
        return drop.closed == 1

    wait_for(closed)


def test_whole_commands_keep_a_session(tmp_path, serve, monkeypatch):
    monkeypatch.setattr("mailflow_pop3.gateway.LEAST_IDLE", 0.1)
    sock = client(serve(Drop(tmp_path, [MAIL]), timeout="1s"))
    for _ in range(25):
        sock.sendall(b"NOOP\r\n")
        assert answers(sock, 1) == [b"+OK nothing done\r\n"]
        select.select([], [], [], 0.05)


def test_a_client_far_ahead_is_not_read_further_than_it_is_answered(tmp_path, serve):
    """Commands by the megabyte, whose answers are taken at once: all are answered."""
    gateway = serve(Drop(tmp_path, [MAIL]))
    sock = client(gateway)
    count = 100_000
    sender = threading.Thread(target=sock.sendall, args=(b"RETR 1\r\n" * count + b"QUIT\r\n",))
    sender.start()
    got = 0
    while data := sock.recv(1 << 20):
        got += len(data)
    sender.join()
    assert got == count * len(wire(MAIL)) + len(b"+OK bye\r\n")


def test_clients_of_a_unix_socket_are_served(tmp_path, serve):
    path = tmp_path / "pop3"
    drop = Drop(tmp_path, [MAIL])
    serve(drop, listen=[f"unix:{path}"], per_address=1)
    for _ in range(2):  # nobody has an address here, so that nobody has too many connections
        sock = socket.socket(socket.AF_UNIX)
        sock.settimeout(PATIENCE)
        sock.connect(str(path))
        sock.sendall(b"USER user1\r\nPASS secret\r\nRETR 1\r\n")
        answers(sock, 3)
        assert sock.recv(100, socket.MSG_WAITALL)[: len(wire(MAIL))] == wire(MAIL)


def test_who_comes_by_ipv4_to_all_addresses_has_that_address(tmp_path):
    drop = Drop(tmp_path, [MAIL])
    account = Account("user1", drop, secret=plain(), networks=("127.0.0.0/8",))
    with Gateway([], listen=["*:0"], plaintext="anywhere") as gateway:
        gateway.service_host.accounts = Accounts([account])
        client(gateway).close()


def test_connections_inherit_what_is_set_for_their_listener():
    with socket.create_server(("127.0.0.1", 0)) as listening:
        _prepare(listening)
        with socket.create_connection(listening.getsockname()), listening.accept()[0] as sock:
            assert sock.getsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE) == 1
            for name, value in (
                (socket.TCP_NODELAY, 1), (socket.TCP_KEEPIDLE, 60), (socket.TCP_KEEPINTVL, 15),
                (socket.TCP_KEEPCNT, 4), (socket.TCP_NOTSENT_LOWAT, 1 << 17),
            ):  # fmt: skip
                assert sock.getsockopt(socket.IPPROTO_TCP, name) == value


def test_the_service_says_who_has_sessions(tmp_path, serve):
    gateway = serve(Drop(tmp_path, [MAIL]), stall="200ms")  # so often it looks around
    sock = client(gateway)
    wait_for(lambda: gateway.service_host.reports.get("sessions") == {"user1": 1})
    assert gateway.service_host.reports["connections"] == 1
    sock.close()
    wait_for(lambda: gateway.service_host.reports.get("sessions") == {})
    assert gateway.service_host.reports["taken"] == 1


@pytest.mark.parametrize(
    ("sent", "said"),
    [
        (b"GET / HTTP/1.0\r\n\r\n", "the client does not speak TLS, but HTTP"),
        (b"USER ann\r\nPASS secret\r\n", "the client does not speak TLS"),
        (b"", "the client left in the middle of it"),
    ],
)
def test_a_failed_handshake_is_one_clear_line(tmp_path, serve, sent, said):
    authority = Authority(tmp_path)
    drop = Drop(tmp_path, [MAIL])
    gateway = serve(drop, certificate=authority.issue(), tls="implicit")
    with socket.create_connection((gateway.host, gateway.port), PATIENCE) as sock:
        sock.sendall(sent)
        sock.shutdown(socket.SHUT_WR)
        with suppress(ConnectionResetError):  # what it sent was not read
            all_of(sock)
    wait_for(lambda: bool(failed(gateway)))
    (line,) = failed(gateway)
    assert line.facts == {"address": "127.0.0.1", "error": said}


def test_who_does_not_trust_the_certificate_is_told_of(tmp_path, serve):
    authority = Authority(tmp_path)
    gateway = serve(Drop(tmp_path, [MAIL]), certificate=authority.issue(), tls="implicit")
    raw = socket.create_connection((gateway.host, gateway.port), PATIENCE)
    with pytest.raises(ssl.SSLError):
        ssl.create_default_context().wrap_socket(raw, server_hostname="localhost")
    raw.close()
    wait_for(lambda: bool(failed(gateway)))
    assert "certificate" in str(failed(gateway)[0].facts["error"])


def failed(gateway):
    return [line for line in gateway.log.lines if line.event == "TLS handshake failed"]


class TestHands:
    def test_calls_do_not_wait_for_each_other(self) -> None:
        hands = Hands()
        barrier = threading.Barrier(5)
        for number in range(5):
            hands.give(lambda: barrier.wait(PATIENCE), number)
        assert sorted(whose for whose, _, _ in finished(hands, 5)) == [0, 1, 2, 3, 4]
        hands.close(PATIENCE)

    def test_what_a_call_raises_is_given_back(self) -> None:
        hands = Hands()
        hands.give(lambda: 1 / 0, "x")
        ((whose, value, error),) = finished(hands, 1)
        assert (whose, value) == ("x", None)
        assert isinstance(error, ZeroDivisionError)
        hands.close(PATIENCE)

    def test_threads_are_used_again(self) -> None:
        hands = Hands()
        names = set()
        for _ in range(20):
            hands.give(lambda: threading.current_thread().name, None)
            names.add(finished(hands, 1)[0][1])
        assert len(names) == 1
        hands.close(PATIENCE)

    def test_there_is_an_end_to_their_number(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr("mailflow_pop3.hands.MOST", 2)
        monkeypatch.setattr("mailflow_pop3.hands.FEW", 0)
        hands = Hands()
        before = set(threading.enumerate())
        gate = threading.Event()
        for number in range(10):
            hands.give(lambda: gate.wait(PATIENCE), number)
        assert len(set(threading.enumerate()) - before) == 2
        gate.set()
        assert len(finished(hands, 10)) == 10
        hands.close(PATIENCE)
        assert set(threading.enumerate()) <= before

    def test_one_that_had_nothing_to_do_ends_and_is_replaced(
        self, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr("mailflow_pop3.hands.FREE", 0.02)
        hands = Hands()
        before = threading.active_count()
        hands.give(lambda: None, 1)
        finished(hands, 1)
        wait_for(lambda: threading.active_count() <= before)
        hands.give(lambda: None, 2)
        assert finished(hands, 1)[0][0] == 2
        hands.close(PATIENCE)

    def test_the_end_does_not_wait_for_ever(self) -> None:
        hands = Hands()
        gate = threading.Event()
        hands.give(lambda: gate.wait(PATIENCE), 1)
        hands.close(0.01)
        gate.set()


def finished(hands: Hands, count: int) -> list:
    found: list = []
    while len(found) < count:
        assert select.select([hands], [], [], PATIENCE)[0]
        found += hands.finished()
    return found


class Counting(socket.socket):
    """A listening socket that counts the clients that are taken there."""

    taken = 0

    def accept(self) -> tuple[socket.socket, object]:
        found = super().accept()
        self.taken += 1
        return found


class Ending(Counting):
    """One that ends the service with the first client."""

    halt: Halt

    def accept(self) -> tuple[socket.socket, object]:
        found = super().accept()
        self.halt.set()
        return found


@pytest.fixture
def listener() -> Iterator[socket.socket]:
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        sock.listen()
        sock.setblocking(False)
        yield sock


def transport(door: socket.socket, halt: Halt) -> Transport:
    policy = Policy(lambda: Accounts([]), LogDouble())
    return Transport([Door(door, policy)], Limits(), halt, LogDouble())


def test_clients_that_come_at_once_are_left_for_other_processes_too(
    listener: socket.socket,
) -> None:
    with Ending(fileno=os.dup(listener.fileno())) as door, ExitStack() as stack:
        door.halt = Halt()
        stack.callback(door.halt.close)
        for _ in range(8):
            stack.enter_context(socket.create_connection(door.getsockname(), PATIENCE))
        transport(door, door.halt).run()
        assert door.taken in (1, 2)


def test_clients_that_come_one_after_the_other_are_shared_by_processes_that_wait(
    listener: socket.socket,
) -> None:
    halt, doors = Halt(), [Counting(fileno=os.dup(listener.fileno())) for _ in range(2)]
    with ExitStack() as stack:
        stack.callback(halt.close)
        threads = [threading.Thread(target=transport(door, halt).run) for door in doors]
        for thread in threads:
            thread.start()
            stack.callback(thread.join)
        stack.callback(halt.set)
        for _ in range(12):
            sock = socket.create_connection(listener.getsockname(), PATIENCE)
            assert answers(stack.enter_context(sock), 1)
        found = [door.taken for door in doors]
    for door in doors:
        door.close()
    assert sum(found) == 12
    assert min(found) > 2
