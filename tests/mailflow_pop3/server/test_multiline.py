"""Multi-line replies: every octet of a message arrives, and the end is where it is said.

Each runs over every store: what differs between them is how lines end on the disk.
"""

from __future__ import annotations

import time

import pytest

from mailflow.testing.corpus import AWKWARD, stored

from .apart import Apart
from .dialogue import Dialogue
from .memory import Memory
from .shelf import Shelf

HEAD = b"Subject: one\r\n\r\n"


def served(octets: bytes) -> bytes:
    """What RETR gives of a stored message: bare LF is CRLF, and the last line ends."""
    whole = stored(octets)
    return whole + b"\r\n" if whole and not whole.endswith(b"\r\n") else whole


def stuffed(octets: bytes) -> bytes:
    lines = octets.split(b"\r\n")
    return b"\r\n".join(b"." + line if line.startswith(b".") else line for line in lines)


@pytest.mark.parametrize("command", ["RETR 1", "TOP 1 99", "LIST", "UIDL"])
def test_016_the_end_comes_once(store, command):
    dialogue = store.open(HEAD + b"text\r\n")
    dialogue.send(command.encode() + b"\r\nSTAT\r\n")
    assert dialogue.status().ok
    assert dialogue.body().endswith(b"\r\n")
    assert dialogue.line().startswith(b"+OK 1 ")
    dialogue.quit()


def test_016_capa_ends_once_too(server):
    dialogue = server.connect()
    dialogue.send(b"CAPA\r\nQUIT\r\n")
    assert dialogue.status().ok
    assert dialogue.body().endswith(b"\r\n")
    assert dialogue.status().ok
    assert dialogue.closes()


DOTS = [
    b".", b".\r\n", b"..\r\n", b".\r\n.\r\n.\r\n", b"text\r\n.\r\n", b"..\r\n.x\r\n...\r\n",
    b"\r\n.\r\n\r\n", b"x.\r\n.", b"text\r\n.\r\nQUIT\r\n",
]  # fmt: skip


@pytest.mark.parametrize("body", DOTS)
def test_017_a_line_that_begins_with_a_dot_gets_another(store, body):
    octets = HEAD + body
    dialogue = store.open(octets)
    answer = dialogue.ask("RETR 1")
    assert answer.body == stuffed(served(octets))
    assert answer.octets == served(octets)
    dialogue.quit()


@pytest.mark.parametrize("octets", [b".", b"..\r\n", b".Subject: one\r\n\r\ntext\r\n"])
def test_017_the_very_first_line_is_stuffed_too(store, octets):
    dialogue = store.open(octets)
    answer = dialogue.ask("RETR 1")
    assert answer.body == stuffed(served(octets))
    dialogue.quit()


def test_017_top_stuffs_dots_as_retr_does(store):
    dialogue = store.open(HEAD + b".\r\n..\r\nx\r\n")
    assert dialogue.ask("TOP 1 2").body == HEAD + b"..\r\n...\r\n"
    dialogue.quit()


@pytest.mark.parametrize("octets", [HEAD + b"no end", b"Subject: only", b"x", HEAD + b"a\r\n."])
def test_018_a_last_line_without_an_end_gets_one_and_the_size_says_so(store, octets):
    dialogue = store.open(octets)
    assert dialogue.retrieve(1) == octets + b"\r\n"
    assert dialogue.listing() == {1: b"%d" % len(octets + b"\r\n")}
    dialogue.quit()


@pytest.mark.parametrize("octets", [b"Subject: one\n\n\none\n\ntwo\n", b"a\nb\r\nc\n", b"\n\n\n"])
def test_019_lf_is_sent_as_crlf_and_crlf_as_it_is(store, octets):
    dialogue = store.open(octets)
    got = dialogue.retrieve(1)
    assert got == octets.replace(b"\r\n", b"\n").replace(b"\n", b"\r\n")
    assert dialogue.listing() == {1: b"%d" % len(got)}
    dialogue.quit()


def test_020_a_bare_cr_passes_and_is_no_line(store):
    octets = HEAD + b"one\rtwo\r\r\nthree\r\nfour\r\n"
    dialogue = store.open(octets)
    assert dialogue.retrieve(1) == octets
    assert dialogue.listing() == {1: b"%d" % len(octets)}
    assert dialogue.ask("TOP 1 1").octets == HEAD + b"one\rtwo\r\r\n"
    dialogue.quit()


def test_020_a_bare_lf_among_crlf_becomes_crlf_and_counts_so(store):
    octets = HEAD + b"one\ntwo\r\nthree\n"
    dialogue = store.open(octets)
    assert dialogue.retrieve(1) == HEAD + b"one\r\ntwo\r\nthree\r\n"
    assert dialogue.listing() == {1: b"%d" % (len(octets) + 2)}
    assert dialogue.ask("TOP 1 1").octets == HEAD + b"one\r\n"
    dialogue.quit()


def test_021_nul_and_octets_above_127_pass_unchanged(store):
    octets = HEAD + b"\0a\0\r\n" + bytes(range(14, 256)) + b"\r\n\0\r\n"
    dialogue = store.open(octets)
    assert dialogue.retrieve(1) == octets
    assert dialogue.listing() == {1: b"%d" % len(octets)}
    dialogue.quit()


@pytest.mark.parametrize("length", [998, 1000, 10_000, 10_000_000])
def test_022_a_long_line_is_not_broken(store, length):
    octets = HEAD + b"." + b"x" * (length - 1) + b"\r\nafter\r\n"
    dialogue = store.open(octets)
    assert dialogue.retrieve(1) == octets
    assert dialogue.listing() == {1: b"%d" % len(octets)}
    dialogue.quit()


EDGES = [b"", b"Subject: only header\r\n\r\n", b".\r\n", b"\n", b"\r\n", b".\n.\n..\n", b"."]


@pytest.mark.parametrize("octets", EDGES)
def test_023_a_message_that_is_hardly_one_comes_as_it_is(store, octets):
    dialogue = store.open(octets, HEAD)
    assert dialogue.retrieve(1) == served(octets)
    assert dialogue.listing()[1] == b"%d" % len(served(octets))
    assert dialogue.retrieve(2) == HEAD
    dialogue.quit()


def test_023_every_awkward_message_comes_as_it_is(store):
    dialogue = store.open(*[sample.octets for sample in AWKWARD], utf8=True)
    sizes = dialogue.listing()
    for number, sample in enumerate(AWKWARD, 1):
        got = dialogue.retrieve(number)
        assert got == served(sample.octets), sample.name
        assert sizes[number] == b"%d" % len(got), sample.name
    dialogue.quit()


def test_024_a_client_that_stops_reading_goes_and_its_lock_is_freed(gateway):
    shelf = Shelf(HEAD + b"x" * 30_000_000 + b"\r\n")
    running = gateway(shelf, stall="1s")
    dialogue = running.enter()
    with Memory() as memory:
        dialogue.send(b"RETR 1\r\nRETR 1\r\nRETR 1\r\n")
        assert dialogue.status().ok
        deadline = time.monotonic() + 20
        while shelf.lock.locked():
            assert time.monotonic() < deadline, "it keeps the lock"
            time.sleep(0.02)  # nothing else tells when it has given up
    assert memory.grown < 8 << 20
    assert b"\r\n.\r\n" not in dialogue.rest()
    assert running.enter().stat()[0] == 1


def test_024_a_slow_reader_is_no_stopped_one(gateway):
    octets = HEAD + b"x" * 20_000_000 + b"\r\n"
    running = gateway(octets, stall="1s")
    dialogue = running.enter()
    dialogue.send(b"RETR 1\r\nQUIT\r\n")
    got = 0
    deadline = time.monotonic() + 2.5
    while data := dialogue.sock.recv(200_000):
        got += len(data)
        if time.monotonic() < deadline:
            time.sleep(0.1)  # slower than the stall in all, never in one step
    assert got > len(octets)


def test_025_two_gigabytes_take_no_memory(tmp_path):
    """A file with a hole: no disk either. The octets are NUL, and one line."""
    size = 2 << 30
    large = tmp_path / "large"
    with large.open("wb") as file:
        file.write(HEAD)
        file.truncate(size - 2)
        file.seek(0, 2)
        file.write(b"\r\n")
    with Apart(messages=0, file=str(large)) as apart:
        dialogue = Dialogue(apart.connect())
        assert dialogue.log_in("user0", "sesame").ok
        with Memory(apart.pid) as memory:
            dialogue.send(b"RETR 1\r\nQUIT\r\n")
            got, buffer = 0, bytearray(1 << 20)
            while count := dialogue.sock.recv_into(buffer):
                got += count
        assert got > size
        assert apart.resident() < 64 << 20
        assert memory.grown < 16 << 20
