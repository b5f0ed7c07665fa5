"""RETR and TOP: the message that is stored, all of it or the part that was asked for."""

from __future__ import annotations

import hashlib

import pytest

from mailflow.testing.corpus import AWKWARD, stored

from .shelf import Cut, Shelf

MAIL = b"Subject: one\r\n\r\nbody\r\n"
TALL = b"From: a@b\r\nSubject: tall\r\n\r\n" + b"".join(b"%d\r\n" % n for n in range(1, 6))
HEAD = TALL[: TALL.index(b"\r\n\r\n") + 4]


def served(octets: bytes) -> bytes:
    whole = stored(octets)
    return whole + b"\r\n" if whole and not whole.endswith(b"\r\n") else whole


def test_074_every_stored_message_comes_with_the_same_digest(store):
    dialogue = store.open(*[sample.octets for sample in AWKWARD], utf8=True)
    got = [hashlib.sha256(dialogue.retrieve(n)).hexdigest() for n in range(1, len(AWKWARD) + 1)]
    assert got == [hashlib.sha256(served(sample.octets)).hexdigest() for sample in AWKWARD]
    dialogue.quit()


def test_074_no_header_is_added(store):
    dialogue = store.open(MAIL)
    assert dialogue.retrieve(1) == MAIL
    dialogue.quit()


@pytest.mark.parametrize("lines", [0, 1, 3, 5, 6, 99999999])
def test_075_top_gives_the_header_the_blank_line_and_so_many_lines(store, lines):
    dialogue = store.open(TALL)
    body = b"".join(b"%d\r\n" % n for n in range(1, 1 + min(lines, 5)))
    assert dialogue.ask(f"TOP 1 {lines}").octets == HEAD + body
    dialogue.quit()


def test_075_a_line_count_beyond_all_measure_gives_all(server):
    dialogue = server.open(TALL)
    answer = dialogue.ask("TOP 1 2147483647")
    assert answer.octets == TALL


@pytest.mark.parametrize(
    "line", ["TOP", "TOP 1", "TOP 1 ", "TOP 1 -1", "TOP 1 x", "TOP x 1", "TOP 1 1 1", "TOP 1 1.5"]
)
def test_076_top_needs_two_numbers(server, line):
    dialogue = server.open(MAIL)
    assert not dialogue.say(line).ok
    assert dialogue.stat()[0] == 1


def test_077_a_deleted_message_cannot_be_read(store):
    dialogue = store.open(MAIL, MAIL)
    assert dialogue.say("DELE 1").ok
    for command in ("RETR 1", "TOP 1 0"):
        assert not dialogue.say(command).ok
    assert dialogue.retrieve(2) == MAIL
    dialogue.say("RSET")
    assert dialogue.retrieve(1) == MAIL
    dialogue.quit()


ODD = [
    (b"Subject: only\r\n", b"Subject: only\r\n"),
    (b"Subject: only\r\nX: y", b"Subject: only\r\nX: y\r\n"),
    (b"\r\nbody\r\nmore\r\n", b"\r\n"),
    (b"no field\r\nat all\r\n", b"no field\r\nat all\r\n"),
    (b"A: b\r\n\r\n\r\nbody\r\n", b"A: b\r\n\r\n"),
    (b"A: b\r\n \r\nC: d\r\n\r\nbody\r\n", b"A: b\r\n \r\nC: d\r\n\r\n"),
]


@pytest.mark.parametrize(("octets", "header"), ODD)
def test_078_the_first_blank_line_ends_the_header_whatever_stands_there(store, octets, header):
    dialogue = store.open(octets)
    assert dialogue.ask("TOP 1 0").octets == header
    assert dialogue.ask("TOP 1 99").octets == dialogue.retrieve(1)
    dialogue.quit()


@pytest.mark.parametrize("sample", AWKWARD, ids=str)
def test_078_top_splits_where_retr_does(gateway, sample):
    dialogue = gateway(sample.octets).enter()
    whole = dialogue.retrieve(1)
    head, blank, body = whole.partition(b"\r\n\r\n")
    if whole.startswith(b"\r\n"):
        head, blank, body = b"", b"\r\n", whole[2:]
    assert dialogue.ask("TOP 1 0").octets == head + blank
    line, end, _ = body.partition(b"\r\n")
    assert dialogue.ask("TOP 1 1").octets == head + blank + line + end
    assert dialogue.ask("TOP 1 100000000").octets == whole


def test_079_top_neither_marks_nor_moves(shelves):
    drop = shelves.fill(MAIL)
    dialogue = shelves.enter(drop)
    dialogue.ask("TOP 1 99")
    dialogue.quit()
    assert "S" not in shelves.files(drop)[0].name.partition(":2,")[2]
    assert shelves.left(drop) == 1


@pytest.mark.parametrize("error", [None, OSError(5, "Input/output error")], ids=["short", "EIO"])
@pytest.mark.parametrize("good", [0, 100, 300_000])
@pytest.mark.parametrize("command", ["RETR 2", "TOP 2 99999"])
def test_080_what_breaks_off_has_no_end_that_looks_like_one(gateway, command, good, error):
    """Octets that were promised and cannot be read: -ERR before the first, a cut after it."""
    octets = (b"Subject: cut\r\n\r\n" + b"x" * 76 + b"\r\n") * 10_000
    cut = Cut(octets[:good], len(octets), error)
    shelf = Shelf(MAIL, cut, MAIL)
    running = gateway(shelf)
    dialogue = running.enter()
    dialogue.say("DELE 1")
    dialogue.send(command.encode() + b"\r\nQUIT\r\n")
    answer = dialogue.status()
    if answer.ok:
        assert b"\r\n.\r\n" not in dialogue.rest()
        assert list(shelf.messages.values())[1] is cut
        assert running.enter().stat()[0] == 3
    else:
        assert answer.code == "SYS/TEMP"


def test_080_a_file_that_is_cut_while_it_is_sent_has_no_end_either(disk_store):
    large = b"Subject: cut\r\n\r\n" + (b"x" * 76 + b"\r\n") * 400_000
    drop = disk_store.fill(MAIL, large)
    dialogue = disk_store.enter(drop)
    dialogue.send(b"RETR 2\r\nQUIT\r\n")
    assert dialogue.status().ok
    disk_store.truncate(drop, 2, 1000)
    said = dialogue.rest()
    assert b"\r\n.\r\n" not in said
    assert len(said) < len(large)
    dialogue.drop()
    assert disk_store.enter(drop).stat()[0] == 2
