"""A log-in that does not wait for the greeting: when it leaves, and what a refusal leads to."""

from __future__ import annotations

import socket
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from queue import SimpleQueue

import pytest

from mailflow.errors import LoginError, UnavailableError
from mailflow.halt import Halt
from mailflow.kinds import Runtime
from mailflow.log import get_logger
from mailflow.testing.imap import CAPABILITIES, Faults, ImapServer
from mailflow.testing.tls import Authority
from mailflow_imap import login
from mailflow_imap.login import begin, goes_ahead
from mailflow_imap.responses import Fact
from mailflow_imap.session import Session
from mailflow_imap.settings import ImapOptions

MAIL = b"Subject: hello\r\n\r\nhello\r\n"


@pytest.fixture
def runtime(tmp_path: Path) -> Iterator[Runtime]:
    halt = Halt()
    yield Runtime("inbox", "red", halt, get_logger(), str(tmp_path))
    halt.close()


def options(**more: object) -> ImapOptions:
    told = {"host": "127.0.0.1", "user": "red", "password": "secret", "timeout": "5s"} | more
    return ImapOptions.read(told)


def listed(options: ImapOptions, runtime: Runtime) -> list[Fact]:
    """What a visit finds, asked for with the log-in."""

    def follow(session: Session) -> Callable[[], list[Fact]]:
        session.select("INBOX", read_only=True)
        return session.facts("1:*").wait

    session, look = begin(options, runtime, follow)
    found = look()
    session.log_out()
    session.close()
    return found


def keywords(server: ImapServer) -> list[str]:
    return [command.split(" ")[0] for command in server.commands]


def scripted(*connections: Callable[[socket.socket], None]) -> int:
    """The port of a server that meets its first clients so."""
    listener = socket.create_server(("127.0.0.1", 0))

    def serve() -> None:
        with listener:
            for meet in connections:
                sock, _ = listener.accept()
                with sock:
                    sock.settimeout(5)
                    meet(sock)

    threading.Thread(target=serve, daemon=True).start()
    port: int = listener.getsockname()[1]
    return port


def hear(sock: socket.socket, last: bytes) -> bytes:
    """What a client says, to the line that begins with this behind its tag."""
    heard = b""
    while last not in heard or not heard.endswith(b"\r\n"):
        heard += sock.recv(4096)
    return heard


def test_the_log_in_and_what_follows_leave_before_the_greeting(runtime: Runtime) -> None:
    heard: list[bytes] = []

    def silent_at_first(sock: socket.socket) -> None:
        heard.append(hear(sock, b"m4 UID FETCH"))
        sock.sendall(
            b"* OK [CAPABILITY IMAP4rev1] ready\r\n* CAPABILITY IMAP4rev1\r\nm1 OK\r\n"
            b"m2 OK [CAPABILITY IMAP4rev1 UIDPLUS] welcome\r\n"
            b"* 1 EXISTS\r\n* OK [UIDVALIDITY 7] valid\r\n* OK [UIDNEXT 4] next\r\nm3 OK open\r\n"
            b"* 1 FETCH (UID 3 RFC822.SIZE 26)\r\nm4 OK done\r\n"
            b"* CAPABILITY IMAP4rev1 UIDPLUS\r\nm5 OK\r\n"
        )
        hear(sock, b"LOGOUT")

    port = scripted(silent_at_first)
    assert [fact.uid for fact in listed(options(port=port), runtime)] == [3]
    assert b'm2 LOGIN "red" "secret"\r\nm3 EXAMINE' in heard[0]


def test_a_server_that_refuses_login_is_asked_by_the_other_way_and_in_turn_from_then_on(
    runtime: Runtime,
) -> None:
    offered = ("LOGINDISABLED", *CAPABILITIES)
    with ImapServer({"red": "secret"}, {"red": [MAIL]}, capabilities=offered) as server:
        for _ in range(2):
            assert len(listed(options(port=server.port), runtime)) == 1
        assert server.connections == 2
        assert keywords(server).count("LOGIN") == 1
        assert keywords(server).count("AUTHENTICATE") == 2


def test_a_wrong_password_is_said_once(runtime: Runtime) -> None:
    with ImapServer({"red": "other"}) as server:
        with pytest.raises(LoginError, match="wrong name or password"):
            listed(options(port=server.port), runtime)
        assert (keywords(server).count("LOGIN"), server.connections) == (1, 1)
        assert "AUTHENTICATE" not in keywords(server)


def test_who_is_logged_in_from_the_start_sees_the_mailbox(runtime: Runtime) -> None:
    with ImapServer({"red": "secret"}, {"red": [MAIL]}) as server:
        server.faults = Faults(
            answers={
                "": b"* PREAUTH [CAPABILITY IMAP4rev1] welcome\r\n",
                "LOGIN": lambda right: right.replace(b" OK", b" BAD already"),
            }
        )
        assert len(listed(options(port=server.port), runtime)) == 1
        assert server.connections == 1


def test_a_server_that_leaves_who_speaks_first_is_asked_in_turn(runtime: Runtime) -> None:
    heard: SimpleQueue[bytes] = SimpleQueue()

    def leave(sock: socket.socket) -> None:
        hear(sock, b"CAPABILITY")

    def greet(sock: socket.socket) -> None:
        sock.sendall(b"* BYE come back later\r\n")
        heard.put(sock.recv(4096))

    port = scripted(leave, leave, greet, greet)
    for _ in range(2):  # from then on, too
        with pytest.raises(UnavailableError, match="turns us away: come back later"):
            listed(options(port=port), runtime)
        assert b"LOGIN" not in heard.get(timeout=5)


def test_a_server_that_turns_us_away_is_not_asked_again(runtime: Runtime) -> None:
    with ImapServer({"red": "secret"}) as server:
        server.faults = Faults(answers={"": b"* BYE [UNAVAILABLE] later\r\n"}, cut_at=28)
        with pytest.raises(UnavailableError, match="turns us away: later"):
            listed(options(port=server.port), runtime)
        assert server.connections == 1


def test_a_certificate_is_checked_before_anything_is_said(runtime: Runtime, tmp_path: Path) -> None:
    certificate = Authority(tmp_path).issue(["elsewhere.example.org"])
    with ImapServer({"red": "secret"}, tls=certificate, implicit=True) as server:
        where = options(port=server.port, tls="implicit", ca_file=str(tmp_path / "ca.pem"))
        with pytest.raises(LoginError, match="certificate"):
            listed(where, runtime)
        assert server.commands == []


@pytest.mark.parametrize(
    "more",
    [
        {"tls": "starttls"},
        {"tls": "none", "host": "imap.example.org"},
        {"pipelining": "never"},
        {"auth": ["plain"]},
        {"command": ["ssh", "-W", "imap.example.org:143", "gateway"]},
    ],
    ids=["starttls", "in clear", "no pipelining", "another way", "a program"],
)
def test_a_password_waits_for_the_greeting_where(more: dict[str, object]) -> None:
    assert goes_ahead(options())
    assert not goes_ahead(options(**more))


def test_a_token_waits_for_the_greeting() -> None:
    told = {"host": "127.0.0.1", "user": "red", "token": "secret"}
    assert not goes_ahead(ImapOptions.read(told))


@pytest.fixture(autouse=True)
def _forget(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(login, "_IN_TURN", set())
