"""Where a service listens, as a user writes it, and what is bound."""

from __future__ import annotations

import os
import socket
import stat
import subprocess
import sys
from pathlib import Path

import pytest

from mailflow import listening
from mailflow.errors import ConfigError, UnavailableError
from mailflow.listening import Address, bind, is_local, read


@pytest.mark.parametrize(
    ("text", "address"),
    [
        ("127.0.0.1:1110", Address("tcp", "127.0.0.1", 1110)),
        ("localhost:0", Address("tcp", "localhost", 0)),
        ("[::1]:1110", Address("tcp", "::1", 1110)),
        ("*:995", Address("tcp", "*", 995)),
        (":995", Address("tcp", "*", 995)),
        ("unix:/run/x", Address("unix", path="/run/x")),
        ("unix:x", Address("unix", path="/base/x")),
        ("systemd", Address("systemd")),
        ("systemd:pop3", Address("systemd", path="pop3")),
    ],
)
def test_an_address_is_read_as_it_is_written(text: str, address: Address) -> None:
    assert read(text, "/base") == address


@pytest.mark.parametrize(
    "text", ["", "127.0.0.1", "1110", "127.0.0.1:", "host:99999", "::1:1110", "host:x", "unix:",
             "unix:" + "x" * 200, "host:-1"],
)  # fmt: skip
def test_what_is_no_address_says_what_was_expected(text: str) -> None:
    with pytest.raises(ValueError, match="expected"):
        read(text, "/")


@pytest.mark.parametrize("text", ["127.0.0.1:1110", "[::1]:1110", "*:995", "unix:/run/x"])
def test_an_address_is_told_as_it_is_written(text: str) -> None:
    assert str(read(text)) == text


def test_loopback_and_sockets_are_local_and_all_addresses_are_not() -> None:
    assert read("127.0.0.1:1").local
    assert read("[::1]:1").local
    assert read("unix:/x").local
    assert not read("*:1").local
    assert not read("mail.example.org:1").local


def test_a_tcp_address_is_bound_and_does_not_wait() -> None:
    (sock,) = bind([read("127.0.0.1:0")])
    with sock:
        assert not sock.getblocking()
        assert is_local(sock)
        socket.create_connection(sock.getsockname()).close()
        assert sock.accept()


def test_all_addresses_are_those_of_both_families() -> None:
    (sock,) = bind([read("*:0")])
    with sock:
        assert not is_local(sock)
        port = sock.getsockname()[1]
        socket.create_connection(("127.0.0.1", port)).close()


def test_an_address_in_use_is_said_and_nothing_stays_bound() -> None:
    (taken,) = bind([read("127.0.0.1:0")])
    with taken:
        port = taken.getsockname()[1]
        with pytest.raises(UnavailableError, match=rf"127.0.0.1:{port}: another program listens"):
            bind([read("127.0.0.1:0"), Address("tcp", "127.0.0.1", port)])


def test_an_address_of_another_machine_is_said() -> None:
    with pytest.raises(UnavailableError, match=r"192\.0\.2\.1:0: this machine has no such"):
        bind([read("192.0.2.1:0")])


def test_an_unknown_host_is_said() -> None:
    with pytest.raises(UnavailableError, match=r"cannot listen on nowhere\.invalid:0"):
        bind([read("nowhere.invalid:0")])


def test_a_unix_socket_has_its_mode_and_replaces_what_was_left(tmp_path: Path) -> None:
    address = Address("unix", path=str(tmp_path / "pop3"))
    bind([address])[0].close()  # what an ended process leaves
    (sock,) = bind([address], mode=0o620)
    with sock:
        assert is_local(sock)
        assert stat.S_IMODE(os.stat(address.path).st_mode) == 0o620
        assert os.listdir(tmp_path) == ["pop3"]
        with socket.socket(socket.AF_UNIX) as client:
            client.connect(address.path)


def test_what_a_killed_process_of_the_same_number_has_left_is_in_nobodys_way(
    tmp_path: Path,
) -> None:
    address = Address("unix", path=str(tmp_path / "pop3"))
    (tmp_path / f"pop3.{os.getpid()}").touch()
    with bind([address])[0]:
        assert os.listdir(tmp_path) == ["pop3"]


def test_a_name_with_an_address_that_this_machine_has_not_is_bound_at_the_others(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    real = socket.getaddrinfo("127.0.0.1", 0, type=socket.SOCK_STREAM)
    other = socket.getaddrinfo("192.0.2.1", 0, type=socket.SOCK_STREAM)
    monkeypatch.setattr(socket, "getaddrinfo", lambda *facts, **more: other + real)
    (sock,) = bind([read("mail.example.org:0")])
    with sock:
        assert sock.getsockname()[0] == "127.0.0.1"


def test_a_unix_socket_that_somebody_listens_on_is_left(tmp_path: Path) -> None:
    address = Address("unix", path=str(tmp_path / "pop3"))
    (sock,) = bind([address])
    with sock, pytest.raises(UnavailableError, match="another program listens"):
        bind([address])


def test_a_file_in_the_place_of_a_unix_socket_is_left(tmp_path: Path) -> None:
    path = tmp_path / "pop3"
    path.write_text("precious")
    with pytest.raises(UnavailableError, match="a file of that name"):
        bind([Address("unix", path=str(path))])
    assert path.read_text() == "precious"


def test_a_missing_directory_is_said(tmp_path: Path) -> None:
    with pytest.raises(UnavailableError, match="No such file"):
        bind([Address("unix", path=str(tmp_path / "none" / "pop3"))])


def inherited(named: str, wanted: str, *, pid: str = "str(os.getpid())") -> str:
    """What a program says of the sockets that it was started with, as systemd does it."""
    program = (
        "import os, sys, socket\n"
        "a = socket.create_server(('127.0.0.1', 0)); os.dup2(a.fileno(), 3)\n"
        "b = socket.create_server(('127.0.0.1', 0)); os.dup2(b.fileno(), 4)\n"
        f"os.environ.update(LISTEN_FDS='2', LISTEN_PID={pid}, LISTEN_FDNAMES={named!r})\n"
        "from mailflow.listening import bind, read\n"
        "from mailflow.errors import ConfigError\n"
        "try:\n"
        f"    found = [s.getsockname()[1] for s in bind([read({wanted!r})])]\n"
        "except ConfigError as error:\n"
        "    print(error); raise SystemExit\n"
        "print(*[{a.getsockname()[1]: 'a', b.getsockname()[1]: 'b'}[port] for port in found])\n"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


def test_sockets_of_systemd_are_taken_by_name_or_all() -> None:
    assert inherited("pop3:pop3s", "systemd") == "a b"
    assert inherited("pop3:pop3s", "systemd:pop3s") == "b"


def test_a_name_that_systemd_has_not_is_said_with_those_that_there_are() -> None:
    said = inherited("pop3:pop3s", "systemd:imap")
    assert "named pop3, pop3s" in said
    assert "FileDescriptorName=imap" in said


def test_sockets_for_another_process_are_not_taken() -> None:
    assert "systemd has handed on no socket" in inherited("pop3:pop3s", "systemd", pid="'1'")


def test_without_systemd_that_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("LISTEN_FDS", raising=False)
    with pytest.raises(ConfigError, match="handed on no socket"):
        bind([read("systemd")])


@pytest.mark.parametrize("kind", ["connected", "datagram", "file", "nothing"])
def test_what_is_no_socket_that_listens_is_not_taken(
    kind: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Accept=yes, ListenDatagram=, ListenFIFO=: it would fail for every client."""
    with (
        socket.socket(type=socket.SOCK_DGRAM) as datagram,
        open(tmp_path / "file", "w") as file,
    ):
        one, other = socket.socketpair()
        with one, other:
            descriptors = {"connected": one, "datagram": datagram, "file": file}
            there = descriptors[kind].fileno() if kind in descriptors else 9999
            monkeypatch.setattr(listening, "FIRST_INHERITED", there)
            monkeypatch.setenv("LISTEN_FDS", "1")
            monkeypatch.setenv("LISTEN_PID", str(os.getpid()))
            before = len(os.listdir("/proc/self/fd"))
            with pytest.raises(ConfigError, match="Accept=no"):
                bind([read("systemd")])
            assert len(os.listdir("/proc/self/fd")) == before


def test_a_unix_socket_where_nobody_accepts_any_more_is_left_at_once(tmp_path: Path) -> None:
    path = str(tmp_path / "hung")
    with socket.socket(socket.AF_UNIX) as hung:
        hung.bind(path)
        hung.listen(0)
        waiting = []
        full = 0
        while not full:
            waiting.append(socket.socket(socket.AF_UNIX))
            waiting[-1].setblocking(False)
            full = waiting[-1].connect_ex(path)
        with pytest.raises(
            UnavailableError, match="another program listens there; `mailflow status`"
        ):
            bind([read(f"unix:{path}")])
        for each in waiting:
            each.close()


def test_a_refusal_for_want_of_privilege_says_what_to_do() -> None:
    error = listening._refused(Address("tcp", "*", 995), PermissionError(13, "x"))
    assert "--user" in str(error)
