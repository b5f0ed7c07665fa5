"""DELE, RSET, NOOP, QUIT: nothing is removed but by QUIT, and what QUIT says is true."""

from __future__ import annotations

import socket
import struct
import threading

import pytest

from mailflow.errors import UnavailableError

from .shelf import Counting, Shelf

MAIL = b"Subject: one\r\n\r\nbody\r\n"
PATIENCE = 20


def reset(dialogue) -> None:
    """Leave with RST: what was not read yet is thrown away on both sides."""
    linger = struct.pack("ii", 1, 0)
    dialogue.sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)
    dialogue.sock.close()


def test_081_dele_marks_and_removes_nothing_yet(store):
    drop = store.fill(MAIL, MAIL)
    dialogue = store.enter(drop)
    assert dialogue.say("DELE 1").ok
    assert store.left(drop) == 2 if store.name != "spool" else True
    assert dialogue.stat()[0] == 1
    dialogue.quit()
    assert store.left(drop) == 1


def test_081_a_message_is_deleted_once(store):
    dialogue = store.open(MAIL, MAIL)
    assert dialogue.say("DELE 1").ok
    assert not dialogue.say("DELE 1").ok
    assert dialogue.stat()[0] == 1
    dialogue.quit()


def test_082_rset_takes_every_mark_back(store):
    drop = store.fill(MAIL, MAIL, MAIL)
    dialogue = store.enter(drop)
    before = dialogue.stat()
    dialogue.send(b"DELE 1\r\nDELE 2\r\nDELE 3\r\nRSET\r\nSTAT\r\n")
    assert [dialogue.status().ok for _ in range(4)] == [True] * 4
    assert dialogue.status().line.split(b" ")[1:3] == [b"%d" % number for number in before]
    assert dialogue.retrieve(2) == MAIL
    dialogue.quit()
    assert store.enter(drop).stat() == before


def test_082_what_is_marked_after_rset_counts(store):
    drop = store.fill(MAIL, MAIL + b"two\r\n")
    dialogue = store.enter(drop)
    dialogue.send(b"DELE 1\r\nRSET\r\nDELE 2\r\nQUIT\r\n")
    dialogue.rest()
    dialogue.drop()
    dialogue = store.enter(drop)
    assert dialogue.stat()[0] == 1
    assert dialogue.retrieve(1) == MAIL


@pytest.mark.parametrize("leave", ["fin", "reset", "half-closed"])
def test_083_who_leaves_without_quit_has_removed_nothing(store, leave):
    drop = store.fill(MAIL, MAIL)
    dialogue = store.enter(drop)
    assert dialogue.say("DELE 1").ok
    assert dialogue.say("DELE 2").ok
    if leave == "reset":
        reset(dialogue)
    elif leave == "half-closed":
        dialogue.end_of_sending()
        assert dialogue.closes()
    else:
        dialogue.drop()
    assert store.enter(drop).stat()[0] == 2


def test_083_a_tls_error_removes_nothing(server):
    drop = server.fill(MAIL, MAIL)
    dialogue = server.connect(implicit=True)
    assert dialogue.log_in(*drop).ok
    dialogue.say("DELE 1")
    with socket.socket(fileno=dialogue.sock.detach()) as sock:
        sock.sendall(b"QUIT\r\n" * 10)  # no TLS record
    assert server.enter(drop).stat()[0] == 2


def test_084_quit_removes_what_is_marked_then_says_so(store):
    drop = store.fill(MAIL, MAIL + b"two\r\n", MAIL)
    dialogue = store.enter(drop)
    dialogue.say("DELE 1")
    dialogue.say("DELE 3")
    assert dialogue.say("QUIT").ok
    assert store.left(drop) == 1
    assert store.enter(drop).retrieve(1) == MAIL + b"two\r\n"


@pytest.mark.parametrize("delete", [b"", b"DELE 2\r\n"], ids=["nothing-deleted", "deleted"])
def test_083_a_quit_that_was_not_begun_is_none_when_the_client_is_lost(store, delete):
    """RETR is being sent, QUIT was read behind it, nobody takes the octets: the drop is
    unlocked, with all that was in it."""
    large = b"Subject: large\r\n\r\n" + b"x" * 20_000_000 + b"\r\n"
    drop = store.fill(large, MAIL)
    dialogue = store.enter(drop)
    dialogue.send(delete + b"RETR 1\r\nQUIT\r\n")
    assert dialogue.status().ok
    reset(dialogue)
    assert store.enter(drop).stat()[0] == 2


@pytest.mark.parametrize("delete", [False, True], ids=["nothing-deleted", "deleted"])
def test_084_the_lock_is_free_once_quit_is_answered(store, delete):
    """Not a little later: a client that comes back at once is let in."""
    drop = store.fill(MAIL, MAIL)
    for _ in range(2):
        dialogue = store.connect()
        assert dialogue.log_in(*drop).ok
        if delete:
            dialogue.say("DELE 1")
        assert dialogue.say("QUIT").ok


def test_085_a_removal_that_fails_is_said_and_nothing_else_is_removed(gateway):
    shelf = Shelf(MAIL, MAIL, MAIL)
    shelf.refusing = UnavailableError("cannot remove it: Read-only file system")
    running = gateway(shelf)
    dialogue = running.enter()
    dialogue.say("DELE 2")
    answer = dialogue.say("QUIT")
    assert not answer.ok
    assert answer.code == "SYS/TEMP"
    assert dialogue.closes()
    assert len(shelf.messages) == 3
    assert running.enter().stat()[0] == 3


def test_085_a_slip_of_a_maildrop_at_quit_is_said_too(gateway):
    shelf = Shelf(MAIL)
    running = gateway(shelf)
    dialogue = running.enter()
    dialogue.say("DELE 1")
    shelf.before = fail_at("close")
    answer = dialogue.say("QUIT")
    assert (answer.ok, answer.code) == (False, "SYS/TEMP")
    assert "Traceback" not in answer.line.decode()
    shelf.before = lambda what: None
    assert running.enter().stat()[0] == 1


def fail_at(moment):
    def fail(what):
        if what == moment:
            raise RuntimeError("a slip, with a path /var/secret")

    return fail


def test_085_only_what_was_marked_is_asked_to_be_removed(gateway):
    shelf = Shelf(*[MAIL] * 5)
    keys = list(shelf.messages)
    dialogue = gateway(shelf).enter()
    for command in ("DELE 2", "DELE 4", "DELE 9", "DELE 0", "RETR 3", "TOP 1 0"):
        dialogue.send(command.encode() + b"\r\n")
    assert dialogue.say("NOOP").line
    dialogue.send(b"QUIT\r\n")
    dialogue.rest()
    assert shelf.closings == [(keys[1], keys[3])]


def test_087_a_quit_whose_answer_cannot_be_sent_is_done_once(gateway):
    shelf = Shelf(MAIL, MAIL)
    gone, closing = threading.Event(), threading.Event()

    def wait(what):
        if what == "close":
            closing.set()
            assert gone.wait(PATIENCE)

    running = gateway(shelf)
    dialogue = running.enter()
    dialogue.say("DELE 1")
    shelf.before = wait
    dialogue.send(b"QUIT\r\n")
    assert closing.wait(PATIENCE)
    reset(dialogue)
    gone.set()
    after = running.enter()
    assert after.stat()[0] == 1
    assert len(shelf.closings) == 1
    after.quit()


@pytest.mark.parametrize("deleted", [0, 5000])
def test_088_noop_stat_and_rset_look_at_no_message_of_100000(gateway, monkeypatch, deleted):
    items = Counting(100_000)
    running = gateway(Shelf())
    monkeypatch.setattr("tests.mailflow_pop3.server.shelf.OpenShelf.items", lambda _: items)
    dialogue = running.enter()
    dialogue.send(b"".join(b"DELE %d\r\n" % number for number in range(1, deleted + 1)))
    assert all(dialogue.status().ok for _ in range(deleted))
    items.looks = 0
    for command in ("NOOP", "STAT", "RSET", "STAT"):
        assert dialogue.say(command).ok
    assert items.looks == 0
    assert dialogue.stat() == (100_000, 100_000_000)


def test_089_what_stands_behind_quit_is_not_looked_at(store):
    drop = store.fill(MAIL, MAIL)
    dialogue = store.enter(drop)
    dialogue.send(b"DELE 1\r\nQUIT\r\nDELE 2\r\nQUIT\r\nRETR 2\r\n")
    assert dialogue.status().ok
    assert dialogue.status().ok
    assert dialogue.closes()
    assert store.left(drop) == 1
