"""Connections: every wait ends, and two full buffers do not dead-lock."""

from __future__ import annotations

import resource
import socket
import struct
import threading
import time

import pytest

from mailflow import net
from mailflow.errors import ConfigError, LoginError, PeerError, UnavailableError
from mailflow.halt import Halt
from mailflow.net import Wire
from mailflow.testing.tls import Authority

LOTS = bytes(range(256)) * 32768  # 8 MiB: more than all socket buffers hold


@pytest.fixture
def halt():
    halt = Halt()
    yield halt
    halt.close()


@pytest.fixture
def pair(halt):
    """A wire, and the blocking socket at its other end."""
    near, far = socket.socketpair()
    wire = Wire(near, "the peer", 5.0, halt)
    far.settimeout(10)
    yield wire, far
    wire.close()
    far.close()


@pytest.fixture
def listener():
    with socket.create_server(("127.0.0.1", 0)) as sock:
        sock.settimeout(10)
        yield sock


@pytest.fixture(scope="module")
def authority(tmp_path_factory):
    return Authority(tmp_path_factory.mktemp("authority"))


def in_thread(function, *arguments):
    thread = threading.Thread(target=function, args=arguments, daemon=True)
    thread.start()
    return thread


def received(sock, size):
    parts = []
    while size and (data := sock.recv(min(size, 1 << 16))):
        parts.append(data)
        size -= len(data)
    return b"".join(parts)


def collect(wire, size):
    parts = []
    while size > 0:
        parts.append(wire.read())
        size -= len(parts[-1])
    return b"".join(parts)


class TestReadingAndWriting:
    def test_octets_leave_with_the_next_read(self, pair):
        wire, far = pair
        wire.write(b"one ")
        wire.write(b"flight")
        assert wire.unsent == 10
        answered = in_thread(lambda: far.sendall(received(far, 10).upper()))
        assert wire.read() == b"ONE FLIGHT"
        assert wire.unsent == 0
        answered.join()

    def test_read_takes_in_while_more_is_to_be_sent_than_the_buffers_hold(self, pair):
        wire, far = pair
        got = []

        def peer():
            far.sendall(LOTS)  # blocks until it is read
            got.append(received(far, len(LOTS)))

        running = in_thread(peer)
        wire.write(LOTS)
        assert collect(wire, len(LOTS)) == LOTS
        wire.flush()
        running.join(10)
        assert got == [LOTS]

    def test_flush_takes_in_what_comes_before_the_peer_reads(self, pair):
        wire, far = pair
        said = LOTS[: net.READ_SIZE]
        got = []

        def peer():
            far.sendall(said)
            got.append(received(far, len(LOTS)))

        running = in_thread(peer)
        wire.write(LOTS)
        wire.flush()
        running.join(10)
        assert got == [LOTS]
        assert collect(wire, len(said)) == said

    def test_poll_does_not_wait(self, pair):
        wire, far = pair
        assert wire.poll() is None
        far.sendall(b"now")
        assert wire.poll() == b"now"
        far.close()
        assert wire.poll() == b""

    def test_the_end_of_the_peer_is_no_octets(self, pair):
        wire, far = pair
        far.sendall(b"last words")
        far.close()
        assert wire.read() == b"last words"
        assert wire.read() == b""

    def test_what_a_peer_said_before_it_left_is_read_though_nothing_can_be_sent(self, pair):
        wire, far = pair
        far.sendall(b"552 too big\r\n")
        far.close()
        wire.write(LOTS)
        with pytest.raises(UnavailableError, match="the peer"):
            wire.flush()
        assert wire.read() == b"552 too big\r\n"

    def test_silence_is_no_fault_while_somebody_only_listens(self, pair):
        wire, far = pair
        wire.timeout = 0.01
        wire.write(b"IDLE")
        assert wire.listen(0.05) is False
        assert received(far, 4) == b"IDLE"
        far.sendall(b"news")
        assert wire.listen(5) is True
        assert wire.read() == b"news"

    def test_listening_ends_with_the_engine(self, pair, halt):
        wire, _ = pair
        halt.set()
        with pytest.raises(UnavailableError, match="stopped on request"):
            wire.listen(60)

    def test_a_reset_is_a_lost_connection(self, listener, halt):
        wire = Wire.connect("127.0.0.1", listener.getsockname()[1], timeout=5, halt=halt)
        far, _ = listener.accept()
        far.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        far.close()
        with pytest.raises(UnavailableError, match="is lost: Connection reset by peer"):
            wire.read()
        wire.close()

    def test_descriptors_over_1023_work(self, halt):
        soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
        if hard < 1200:
            pytest.skip(f"the hard limit of descriptors is {hard}")
        resource.setrlimit(resource.RLIMIT_NOFILE, (max(soft, 1200), hard))
        held = []
        try:
            while not held or held[-1].fileno() < 1030:
                held.append(socket.socket())
            near, far = socket.socketpair()
            wire = Wire(near, "the peer", 0.05, halt)
            with pytest.raises(UnavailableError, match="keeps silent"):
                wire.read()
            far.sendall(b"here")
            assert wire.read() == b"here"
            wire.close()
            far.close()
        finally:
            for sock in held:
                sock.close()
            resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


class TestDeadlines:
    def test_f04_silence_ends_a_read(self, pair):
        wire, _ = pair
        with pytest.raises(UnavailableError, match="the peer keeps silent: no answer in time"):
            wire.read(timeout=0.02)

    def test_a_port_that_says_nothing_in_clear_may_be_one_for_tls(self, halt):
        with socket.create_server(("127.0.0.1", 0)) as silent:
            wire = Wire.connect("127.0.0.1", silent.getsockname()[1], timeout=5, halt=halt)
            with silent.accept()[0] as far:
                with pytest.raises(UnavailableError, match=r'in time; .* set tls = "implicit"$'):
                    wire.read(timeout=0.02)
                far.sendall(b"* OK\r\n")
                wire.read()
                with pytest.raises(UnavailableError, match=r"no answer in time$"):
                    wire.read(timeout=0.02)
            wire.close()

    def test_f04_a_peer_that_does_not_read_ends_a_flush(self, pair):
        wire, _ = pair
        wire.write(LOTS)
        with pytest.raises(UnavailableError, match="no room to send in time"):
            wire.flush(timeout=0.02)

    def test_f03_a_peer_that_trickles_is_too_slow(self, pair):
        wire, far = pair
        wire.timeout, wire.slowest = 0.3, 1000.0
        stop = threading.Event()

        def trickle():
            while not stop.wait(0.02):
                far.sendall(b".")

        running = in_thread(trickle)
        began = time.monotonic()
        with pytest.raises(UnavailableError, match="the peer is too slow"):
            collect(wire, 1 << 30)
        assert time.monotonic() - began < 20
        stop.set()
        running.join()

    def test_time_spent_elsewhere_is_not_held_against_the_peer(self, pair):
        wire, far = pair
        wire.timeout, wire.slowest = 0.01, 1e9
        far.sendall(b"x")
        time.sleep(0.1)  # the reader's own business, longer than PATIENCE time-outs
        assert wire.read() == b"x"

    def test_a_halt_ends_a_read_at_once(self, pair, halt):
        wire, _ = pair
        timer = threading.Timer(0.05, halt.set)
        timer.start()
        with pytest.raises(UnavailableError, match="stopped on request"):
            wire.read(timeout=60)

    def test_with_grace_an_answer_may_still_come_after_a_halt(self, pair, halt):
        wire, far = pair
        wire.grace = 5.0
        halt.set()
        answered = threading.Timer(0.05, far.sendall, (b"250 taken",))
        answered.start()
        assert wire.read() == b"250 taken"

    def test_grace_ends(self, pair, halt):
        wire, _ = pair
        wire.grace = 0.05
        halt.set()
        with pytest.raises(UnavailableError, match="stopped on request"):
            wire.read(timeout=60)

    def test_a_halted_engine_sleeps_no_more(self, halt):
        assert not halt.wait(0.0)
        halt.set()
        assert halt.wait(60)
        with pytest.raises(UnavailableError):
            halt.check()


class TestConnecting:
    def test_f27_a_refused_connection_names_the_host_and_the_reason(self, listener, halt):
        port = listener.getsockname()[1]
        listener.close()
        with pytest.raises(UnavailableError) as caught:
            Wire.connect("127.0.0.1", port, timeout=5, halt=halt)
        assert str(caught.value) == f"cannot connect to 127.0.0.1:{port}: Connection refused"

    def test_f27_a_name_that_is_not_known_says_so(self, halt):
        with pytest.raises(UnavailableError, match=r"cannot find no-such-host\.invalid: "):
            Wire.connect("no-such-host.invalid", 110, timeout=20, halt=halt)

    @pytest.mark.parametrize("host", ["x" * 70, "a..b", ""])
    def test_f27_what_cannot_be_a_name_is_not_found(self, host, halt):
        with pytest.raises(UnavailableError):
            Wire.connect(host, 110, timeout=5, halt=halt)

    def test_f27_a_name_service_that_hangs_ends_with_the_time_out(self, halt, monkeypatch):
        stuck = threading.Event()
        monkeypatch.setattr(socket, "getaddrinfo", hanging_lookup(stuck))
        with pytest.raises(UnavailableError, match="name service does not answer"):
            Wire.connect("mail.example.org", 110, timeout=0.05, halt=halt)
        stuck.set()

    def test_a_halt_ends_a_lookup_at_once(self, halt, monkeypatch):
        stuck = threading.Event()
        monkeypatch.setattr(socket, "getaddrinfo", hanging_lookup(stuck))
        threading.Timer(0.05, halt.set).start()
        with pytest.raises(UnavailableError, match="stopped on request"):
            Wire.connect("mail.example.org", 110, timeout=60, halt=halt)
        stuck.set()

    def test_f27_an_address_that_swallows_packets_delays_the_next_only_a_moment(
        self, listener, black_hole, halt, monkeypatch
    ):
        addresses = [net.Address(socket.AF_INET, sock) for sock in (black_hole,
                     listener.getsockname())]  # fmt: skip
        monkeypatch.setattr(net, "_look_up", lambda host, port, flags: list(addresses))
        began = time.monotonic()
        Wire.connect("mail.example.org", 110, timeout=30, halt=halt).close()
        assert time.monotonic() - began < 5

    def test_f04_an_address_that_swallows_packets_ends_with_the_time_out(self, black_hole, halt):
        with pytest.raises(UnavailableError, match="no answer in time"):
            Wire.connect(*black_hole, timeout=0.1, halt=halt)

    def test_a_unix_socket_is_named_by_its_path(self, tmp_path, halt):
        path = str(tmp_path / "socket")
        with socket.socket(socket.AF_UNIX) as sock:
            sock.bind(path)
            sock.listen()
            wire = Wire.connect(path, 0, timeout=5, halt=halt)
            far, _ = sock.accept()
            far.sendall(b"hello")
            assert wire.read() == b"hello"
            assert wire.local_address == ""
            far.close()
            wire.close()

    @pytest.mark.parametrize(
        ("host", "answer"),
        [
            ("localhost", True),
            ("127.0.0.1", True),
            ("127.1.2.3", True),
            ("::1", True),
            ("/run/socket", True),
            ("127.example.org", False),
            ("127.0.0.1.example.org", False),
            ("localhost.example.org", False),
            ("192.0.2.1", False),
            ("2001:db8::1", False),
        ],
    )
    def test_loopback_is_told_without_asking_the_network(self, host, answer):
        assert net.is_loopback(host) is answer


def hanging_lookup(stuck):
    def getaddrinfo(host, port, *, type, flags):
        if flags & socket.AI_NUMERICHOST:
            raise socket.gaierror(socket.EAI_NONAME, "not an address")
        stuck.wait(30)
        return []

    return getaddrinfo


@pytest.fixture
def black_hole():
    """An address whose queue of connections is full: further SYNs are dropped."""
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        sock.listen(0)
        held = []
        for _ in range(3):
            client = socket.socket()
            client.setblocking(False)
            client.connect_ex(sock.getsockname())
            held.append(client)
        yield sock.getsockname()
        for client in held:
            client.close()


class TestTls:
    @pytest.fixture
    def secured(self, listener, halt, authority):
        """Connect to a server that shakes hands, then runs `serve` on its socket."""
        wires = []

        def connect(serve, certificate=None, name="localhost", ca_file=authority.ca_file):
            context = (certificate or authority.issue()).server_context()

            def accept():
                raw, _ = listener.accept()
                raw.settimeout(10)
                try:
                    with context.wrap_socket(raw, server_side=True) as sock:
                        serve(sock)
                except OSError:
                    raw.close()

            in_thread(accept)
            wire = Wire.connect("127.0.0.1", listener.getsockname()[1], timeout=5, halt=halt)
            wires.append(wire)
            wire.start_tls(net.tls_context(ca_file), name)
            return wire

        yield connect
        for wire in wires:
            wire.close()

    def test_octets_go_both_ways_in_bulk(self, secured):
        got = []

        def serve(sock):
            sock.sendall(LOTS)
            got.append(received(sock, len(LOTS)))
            sock.sendall(b"done")

        wire = secured(serve)
        wire.write(LOTS)
        assert collect(wire, len(LOTS)) == LOTS
        wire.flush()
        assert wire.read() == b"done"
        assert got == [LOTS]

    def test_a_read_takes_many_records_at_once(self, secured):
        sent = threading.Event()

        def serve(sock):
            sock.sendall(LOTS[: 1 << 17])
            sent.set()
            sock.recv(1)

        wire = secured(serve)
        assert sent.wait(5)
        assert len(wire.read()) > 1 << 14

    def test_the_end_of_the_peer_is_no_octets(self, secured):
        wire = secured(lambda sock: sock.sendall(b"bye"))
        assert wire.read() == b"bye"
        assert wire.read() == b""

    def test_f23_an_unknown_authority_is_refused(self, secured):
        refused = r"certificate of 127\.0\.0\.1:\d+ is refused: .*; .*`ca_file`$"
        with pytest.raises(LoginError, match=refused):
            secured(lambda sock: None, ca_file=None)

    def test_f23_a_certificate_for_another_name_is_refused(self, secured, authority):
        with pytest.raises(LoginError, match=r"Hostname mismatch.*mail\.example\.org\)$"):
            secured(lambda sock: None, name="mail.example.org")

    def test_f23_an_expired_certificate_is_refused(self, secured, authority):
        with pytest.raises(LoginError, match="certificate has expired"):
            secured(lambda sock: None, certificate=authority.issue(days=-1))

    def test_f23_an_old_version_of_tls_is_not_offered(self, authority):
        import ssl

        assert net.tls_context(authority.ca_file).minimum_version is ssl.TLSVersion.TLSv1_2

    def test_a_ca_file_that_cannot_be_read_is_named(self, tmp_path):
        with pytest.raises(ConfigError, match=r"cannot use ca_file .*none\.pem: No such file"):
            net.tls_context(str(tmp_path / "none.pem"))

    def test_a_ca_file_without_a_certificate_is_said_to_have_none(self, tmp_path):
        (tmp_path / "a.pem").write_text("not a certificate\n")
        (tmp_path / "b.pem").write_text(
            "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n"
        )
        for name in ("a.pem", "b.pem"):
            with pytest.raises(ConfigError, match=rf"{name}: there is no certificate in it, as P"):
                net.tls_context(str(tmp_path / name))

    @pytest.mark.parametrize("early", [True, False])
    def test_a_port_that_speaks_in_clear_is_recognised(self, pair, early):
        wire, far = pair

        def greet_late():
            received(far, 1)
            far.sendall(b"+OK ready\r\n")

        if early:
            far.sendall(b"+OK ready\r\n")
        else:
            in_thread(greet_late)
        with pytest.raises(LoginError, match=r"from the first octet; .* set tls = \"starttls\"$"):
            wire.start_tls(net.tls_context(), "localhost")

    def test_f04_silence_ends_the_handshake(self, pair):
        wire, _ = pair
        wire.timeout = 0.05
        with pytest.raises(UnavailableError, match="no TLS handshake in time"):
            wire.start_tls(net.tls_context(), "localhost")

    def test_a_peer_that_leaves_breaks_off_the_handshake(self, pair):
        wire, far = pair
        far.close()
        with pytest.raises(UnavailableError, match="broke off the TLS handshake"):
            wire.start_tls(net.tls_context(), "localhost")

    def test_f21_octets_sent_in_clear_before_the_handshake_are_never_believed(self, pair):
        wire, far = pair
        far.sendall(b"+OK begin\r\n")
        assert wire.read() == b"+OK begin\r\n"
        far.sendall(b"+OK injected\r\n")
        with pytest.raises(PeerError, match="octets in clear before the TLS handshake"):
            wire.start_tls(net.tls_context(), "localhost")
