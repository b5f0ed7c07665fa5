"""Time and flow: who is idle goes, who is busy may be, and order is kept whatever the pace."""

from __future__ import annotations

import time

import pytest

from mailflow.errors import ConfigError
from mailflow_pop3.gateway import GatewayOptions

from .dialogue import sasl
from .memory import Memory
from .shelf import OpenShelf, Shelf

MAIL = b"Subject: one\r\n\r\n.body\r\n"


class Clock:
    """The clock of the transport, moved on by hand."""

    def __init__(self) -> None:
        self.ahead = 0.0

    def monotonic(self) -> float:
        return time.monotonic() + self.ahead

    def __getattr__(self, name: str) -> object:
        return getattr(time, name)


@pytest.fixture
def clock(monkeypatch):
    clock = Clock()
    monkeypatch.setattr("mailflow_pop3.transport.time", clock)
    return clock


def test_090_no_session_ends_within_ten_minutes_of_silence(gateway, clock):
    shelf = Shelf(MAIL, MAIL)
    dialogue = gateway(shelf, login_timeout="1s").enter()  # so it looks four times a second
    dialogue.say("DELE 1")
    for _ in range(3):  # every command begins the ten minutes anew
        clock.ahead += 590
        time.sleep(0.6)  # it has looked, and found nobody late
        assert dialogue.say("NOOP").ok
    clock.ahead += 615
    assert dialogue.closes()
    assert len(shelf.messages) == 2


def test_090_an_autologout_removes_nothing_and_frees_the_lock(gateway, clock):
    shelf = Shelf(MAIL, MAIL)
    running = gateway(shelf)
    dialogue = running.enter()
    dialogue.say("DELE 1")
    clock.ahead += 700
    assert dialogue.closes()
    assert running.enter().stat()[0] == 2


@pytest.mark.parametrize("timeout", ["1s", "9m", "599s"])
def test_090_a_shorter_time_is_refused_in_the_file(timeout):
    with pytest.raises(ConfigError, match="10m"):
        GatewayOptions.read({"timeout": timeout})


def test_091_who_does_not_log_in_goes_after_a_minute(gateway, clock):
    dialogue = gateway(MAIL).connect()
    clock.ahead += 50
    assert dialogue.alive()
    clock.ahead += 15
    assert dialogue.closes()


def test_091_one_octet_now_and_then_does_not_help(gateway, clock):
    dialogue = gateway(MAIL).connect()
    for octet in b"USER a":
        clock.ahead += 9
        dialogue.send(bytes([octet]))
        assert dialogue.sock.fileno() >= 0
    clock.ahead += 12
    assert dialogue.closes()


def test_091_nor_do_commands(gateway, clock):
    dialogue = gateway(MAIL).connect()
    for _ in range(5):
        clock.ahead += 11
        assert dialogue.say("USER ann").ok
    clock.ahead += 12
    assert dialogue.closes()


SCRIPT = [
    b"CAPA", b"STAT", b"LIST", b"UIDL", b"LIST 2", b"UIDL 2", b"RETR 1", b"TOP 2 0", b"XYZZY",
    b"NOOP", b"DELE 1", b"DELE 1", b"RETR 1", b"LIST", b"TOP 1", b"", b"RSET", b"STAT", b"RETR 2",
    b"QUIT",
]  # fmt: skip
OCTETS = b"".join(line + b"\r\n" for line in SCRIPT)


def heard(server, drop, feed) -> bytes:
    """Every octet that comes for the script, fed as `feed` does it."""
    dialogue = server.enter(drop)
    feed(dialogue)
    said = dialogue.rest()
    dialogue.drop()
    return said


def singly(dialogue) -> None:
    """Each command once the status line of the one before is here."""
    for line in SCRIPT:
        seen = len(dialogue.buffer)
        dialogue.send(line + b"\r\n")
        while b"\r\n" not in dialogue.buffer[seen:]:
            dialogue._more()


def at_once(dialogue) -> None:
    dialogue.send(OCTETS)


def in_octets(dialogue) -> None:
    for octet in OCTETS:
        dialogue.send(bytes([octet]))


def in_lumps(dialogue) -> None:
    for at in range(0, len(OCTETS), 7):
        dialogue.send(OCTETS[at : at + 7])


@pytest.mark.parametrize("feed", [at_once, in_octets, in_lumps])
def test_092_commands_get_the_same_octets_however_they_arrive(server, feed):
    drop = server.fill(MAIL, MAIL + b"\r\n..\r\n")
    one_by_one = heard(server, drop, singly)
    assert one_by_one.count(b"\r\n.\r\n") == 7
    assert heard(server, drop, feed) == one_by_one


@pytest.mark.parametrize("delete", [b"", b"DELE 1\r\n"], ids=["kept", "deleted"])
def test_092_quit_behind_retr_takes_nothing_away_from_its_answer(store, delete):
    """The message may still lie on the disk when QUIT is read, and be gone after it."""
    large = MAIL + b"x" * 500_000 + b"\r\n"
    dialogue = store.open(large, MAIL)
    dialogue.send(b"RETR 1\r\nRETR 2\r\n" + delete + b"QUIT\r\n")
    for octets in (large, MAIL):
        assert dialogue.status().ok
        assert dialogue.body().replace(b"\r\n..", b"\r\n.") == octets
    assert all(line.startswith(b"+OK") for line in dialogue.rest().splitlines())


def test_093_what_is_sent_with_the_password_is_answered_after_it(server):
    drop = server.fill(MAIL, MAIL)
    dialogue = server.connect()
    login = f"USER {drop.login}\r\nPASS {drop.password}\r\n".encode()
    dialogue.send(login + b"STAT\r\nDELE 1\r\nQUIT\r\n")
    assert [dialogue.status().ok for _ in range(5)] == [True] * 5
    assert dialogue.closes()
    assert server.enter(drop).stat()[0] == 1


def test_093_after_a_wrong_password_each_is_refused_and_nothing_is_shown(server):
    drop = server.fill(MAIL)
    dialogue = server.connect()
    lines = f"USER {drop.login}", "PASS wrong", "STAT", "RETR 1", "QUIT"
    dialogue.send("\r\n".join([*lines, ""]).encode())
    assert [dialogue.status().ok for _ in lines] == [True, False, False, False, True]
    assert dialogue.closes()


def test_093_after_auth_too(gateway):
    running = gateway(MAIL)
    dialogue = running.connect()
    dialogue.send(f"AUTH PLAIN {sasl('', *running.drop)}\r\nSTAT\r\nQUIT\r\n".encode())
    assert [dialogue.status().ok for _ in range(3)] == [True] * 3


@pytest.mark.parametrize("deleting", [False, True], ids=["read", "read-and-delete"])
@pytest.mark.parametrize("prompt", [False, True], ids=["by-a-thread", "at-once"])
def test_094_a_thousand_commands_at_once_and_a_late_reader_do_not_dead_lock(
    gateway, monkeypatch, prompt, deleting
):
    monkeypatch.setattr(OpenShelf, "prompt", prompt)
    mail = b"Subject: large\r\n\r\n" + (b"x" * 76 + b"\r\n") * 260  # 20 KB
    shelf = Shelf(*[mail] * 1000)
    running = gateway(shelf)
    dialogue = running.enter()
    with Memory() as memory:
        for number in range(1, 1001):
            dialogue.send(b"RETR %d\r\n" % number)
            if deleting:
                dialogue.send(b"DELE %d\r\n" % number)
        dialogue.send(b"QUIT\r\n")
        got = 0
        while data := dialogue.sock.recv(1 << 16):
            got += len(data)
    assert got > 1000 * len(mail)
    assert memory.grown < 8 << 20
    assert len(shelf.messages) == (0 if deleting else 1000)


def test_094_others_are_served_while_a_reader_is_late(gateway):
    shelf = Shelf(*[b"Subject: large\r\n\r\n" + b"x" * 1_000_000 + b"\r\n"] * 50)
    running = gateway(shelf)
    late = running.enter()
    late.send(b"".join(b"RETR %d\r\n" % number for number in range(1, 51)))
    for _ in range(20):
        other = running.connect()
        assert other.alive()
        other.drop()
    late.drop()


def test_095_quit_behind_500_deletions_removes_them_all(store):
    drop = store.fill(*[MAIL] * 500, MAIL + b"kept\r\n")
    dialogue = store.enter(drop)
    dialogue.send(b"".join(b"DELE %d\r\n" % number for number in range(1, 501)) + b"QUIT\r\n")
    assert all(line.startswith(b"+OK") for line in dialogue.rest().splitlines())
    assert store.left(drop) == 1
    assert store.enter(drop).retrieve(1) == MAIL + b"kept\r\n"


def test_095_without_the_quit_they_are_all_there(store):
    drop = store.fill(*[MAIL] * 500)
    dialogue = store.enter(drop)
    dialogue.send(b"".join(b"DELE %d\r\n" % number for number in range(1, 501)) + b"QUI")
    dialogue.end_of_sending()
    dialogue.rest()
    dialogue.drop()
    assert store.enter(drop).stat()[0] == 500


def test_095_a_quit_that_was_sent_but_not_read_removes_nothing(gateway):
    """The answers before it are too many for who does not read: it was never come to."""
    shelf = Shelf(*[b"Subject: large\r\n\r\n" + b"x" * 1_000_000 + b"\r\n"] * 30)
    running = gateway(shelf)
    dialogue = running.enter()
    dialogue.send(b"DELE 30\r\n" + b"".join(b"RETR %d\r\n" % n for n in range(1, 30)) + b"QUIT\r\n")
    assert dialogue.status().ok
    dialogue.drop()
    assert running.enter().stat()[0] == 30
