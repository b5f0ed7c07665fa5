"""Response codes, limits and the end: each has its word, and nobody else notices."""

from __future__ import annotations

import re
import socket
import threading
import time

import pytest

from mailflow.accounts import Account, Accounts
from mailflow.errors import GoneError, InUseError, LoginError, UnavailableError
from mailflow.log import configure, get_logger
from mailflow.testing.gateway import plain

from .apart import Apart
from .dialogue import Dialogue, sasl
from .ours import AT_ONCE
from .shelf import Counting, Shelf

MAIL = b"Subject: one\r\n\r\nbody\r\n"
LARGE = b"Subject: large\r\n\r\n" + (b"x" * 76 + b"\r\n") * 100_000
CODES = {"SYS/TEMP", "SYS/PERM", "AUTH", "IN-USE", "LOGIN-DELAY", "UTF8", ""}
PATIENCE = 20


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (LoginError("its own password is wrong"), "SYS/PERM"),  # that of the client was right
        (InUseError("another session has it"), "IN-USE"),
        (UnavailableError("cannot open it: Stale file handle"), "SYS/TEMP"),
        (GoneError("there is no such drop"), "SYS/TEMP"),
        (OSError(5, "Input/output error"), "SYS/TEMP"),
        (ValueError("a slip"), "SYS/TEMP"),
    ],
)
def test_112_a_login_that_fails_has_the_code_of_its_cause(gateway, error, code):
    def fail(what):
        raise error

    shelf = Shelf(MAIL)
    running = gateway(shelf)
    shelf.before = fail
    dialogue = running.connect()
    assert dialogue.log_in(*running.drop).code == code
    shelf.before = lambda what: None
    assert dialogue.log_in(*running.drop).ok


def test_112_nothing_else_is_in_brackets(server):
    drop = server.fill(MAIL, MAIL)
    before = ["STAT", "USER", "PASS x", "XYZZY", "AUTH X", f"AUTH PLAIN {sasl('', 'x', 'x')}"]
    after = ["RETR 9", "DELE x", "TOP 1", "LIST 0", "XYZZY", "USER x", "UIDL 7", "STLS", "AUTH X"]
    codes = set()
    for commands, enter in ((before, False), (after, True)):
        for command in commands:
            dialogue = server.enter(drop) if enter else server.connect()
            codes.add(dialogue.say(command).code)
            dialogue.say("QUIT")
            dialogue.drop()
    assert codes <= CODES
    assert codes >= {"", "AUTH"}


def test_113_more_connections_than_allowed_are_refused_in_words(gateway):
    running = gateway(MAIL, connections=3)
    held = [running.connect() for _ in range(3)]
    refused = running.connect()
    assert refused.greeting.startswith(b"-ERR [SYS/TEMP] ")
    assert refused.closes()
    assert all(dialogue.alive() for dialogue in held)
    held[0].drop()
    await_greeting(running, b"+OK")


def test_113_one_address_has_its_share(gateway, outer_address):
    running = gateway(MAIL, per_address=2, host="0.0.0.0")
    held = [running.connect() for _ in range(2)]
    assert running.connect().greeting.startswith(b"-ERR [SYS/TEMP] ")
    other = socket.create_connection((outer_address, running.gateway.port), PATIENCE)
    assert Dialogue(other).greeting.startswith(b"+OK")
    held[0].drop()
    await_greeting(running, b"+OK")


def await_greeting(running, wanted: bytes) -> None:
    """The server learns of an end a little after its client."""
    for _ in range(500):
        dialogue = running.connect()
        if dialogue.greeting.startswith(wanted):
            return
        dialogue.drop()
    raise AssertionError(f"no greeting {wanted!r}")


def test_001_an_overloaded_server_says_so_and_closes(gateway):
    running = gateway(MAIL, connections=1)
    first, second = running.connect(), running.connect()
    assert re.fullmatch(rb"-ERR \[SYS/TEMP\] [ -~]+", second.greeting)
    assert second.closes()
    assert first.alive()


def test_114_without_descriptors_it_neither_spins_nor_ends():
    with Apart(files=40) as apart:
        clients = [apart.connect() for _ in range(60)]
        greeted = [sock for sock in clients if hears(sock, 0.05)]
        assert 5 < len(greeted) < 60
        before = apart.worked()
        time.sleep(1.0)  # what it does in a second with nobody speaking
        assert apart.worked() - before < 0.08
        assert Dialogue(greeted[0], greeted=False).alive()
        for sock in greeted:
            sock.close()
        assert all(hears(sock, PATIENCE) for sock in clients if sock not in greeted)
        for sock in clients:
            sock.close()


def hears(sock: socket.socket, seconds: float) -> bool:
    sock.settimeout(seconds)
    try:
        return sock.recv(100).startswith(b"+OK")
    except TimeoutError:
        return False


def test_115_at_the_end_nobody_new_is_let_in_and_a_quit_under_way_is_done(gateway):
    shelf = Shelf(MAIL, MAIL)
    closing, go_on = threading.Event(), threading.Event()

    def wait(what):
        if what == "close":
            closing.set()
            assert go_on.wait(PATIENCE)

    running = gateway(shelf, login_timeout="2s")  # it looks for who is late more often then
    idle, leaving = running.connect(), running.enter()
    leaving.say("DELE 1")
    shelf.before = wait
    leaving.send(b"QUIT\r\n")
    assert closing.wait(PATIENCE)
    running.gateway.halt.set()
    assert idle.closes()
    late = socket.create_connection(("127.0.0.1", running.gateway.port), PATIENCE)
    late.settimeout(1.0)
    with pytest.raises(TimeoutError):
        late.recv(10)
    go_on.set()
    assert leaving.status().ok
    assert leaving.closes()
    assert len(shelf.messages) == 1
    running.gateway.stop()


def test_115_an_answer_under_way_is_whole_or_has_no_end(gateway):
    shelf = Shelf(LARGE, LARGE)
    running = gateway(shelf)
    dialogue = running.enter()
    dialogue.say("DELE 2")
    dialogue.send(b"RETR 1\r\n")
    assert dialogue.status().ok
    running.gateway.halt.set()
    said = dialogue.rest()
    if b"\r\n.\r\n" in said:
        assert said == LARGE + b".\r\n"
    else:
        assert LARGE.startswith(said)
    running.gateway.stop()
    assert len(shelf.messages) == 2


def test_116_other_accounts_after_a_reload_and_the_sessions_go_on(gateway):
    running = gateway(MAIL, MAIL)
    dialogue = running.enter()
    assert dialogue.say("DELE 1").ok
    other = Account("bob", Shelf(MAIL), secret=plain("other"))
    running.gateway.service_host.accounts = Accounts([other], pace=AT_ONCE)
    assert dialogue.retrieve(2) == MAIL
    assert running.connect().log_in("bob", "other").ok
    assert running.connect().log_in(*running.drop).code == "AUTH"
    assert dialogue.quit().ok
    assert len(running.shelf.messages) == 1


EVIL = [
    b"a\rb", b"a\x1b[2Jb", "a\u202eb".encode(), b"a\xff", b"a\tb", b"\x7f", b"%s%n", b"a\0b",
    b'"level":"error"', b"a" * 240,
]  # fmt: skip


@pytest.mark.parametrize("name", EVIL)
def test_119_what_a_client_sends_is_escaped_in_the_log_and_no_password_is_there(
    gateway, name, capsys
):
    configure(level="debug")
    running = gateway(MAIL, log=get_logger())
    dialogue = running.connect()
    dialogue.send(b"USER " + name + b"\r\nPASS canary-7f3a " + name + b"\r\nXYZZY\r\nQUIT\r\n")
    dialogue.rest()
    running.enter().quit()
    running.gateway.stop()
    lines = capsys.readouterr().err.split("\n")[:-1]
    assert any("XYZZY" in line for line in lines)
    assert any("logged in" in line for line in lines)
    for line in lines:
        assert all(character.isprintable() for character in line), ascii(line)
        assert "canary-7f3a" not in line
        assert "sesame" not in line


def test_119_a_refused_login_is_one_line_that_names_the_address(gateway):
    running = gateway(MAIL)
    running.connect().log_in("ann", "canary-7f3a")
    told = [line for line in running.logged() if line.startswith("warning ")]
    assert len(told) == 1
    assert "127.0.0.1" in told[0]
    assert "canary" not in told[0]


def test_120_a_listing_of_100000_is_made_as_it_is_read(gateway, monkeypatch):
    """Whoever asks and does not read has what fits on the way, and no more is made of it."""
    items = Counting(100_000)
    running = gateway(Shelf())
    monkeypatch.setattr("tests.mailflow_pop3.server.shelf.OpenShelf.items", lambda _: items)
    dialogue = running.enter()
    items.looks = 0
    dialogue.send(b"UIDL\r\n")
    assert dialogue.status().ok
    assert dialogue.line() == b"1 " + items[0].key.encode()
    assert running.connect().alive()
    assert items.looks < 90_000
    body = dialogue.body()
    assert body.count(b"\r\n") == 99_999
    assert body.endswith(b"100000 " + items[99_999].key.encode() + b"\r\n")
