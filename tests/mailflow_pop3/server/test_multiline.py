"""Multi-line replies: every octet of a message arrives, and the end is where it is said.

Each runs over every store: what differs between them is how lines end on the disk.
"""

from __future__ import annotations

import pytest

from mailflow.testing.corpus import AWKWARD, stored

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
    dialogue = store.open(*[sample.octets for sample in AWKWARD])
    sizes = dialogue.listing()
    for number, sample in enumerate(AWKWARD, 1):
        got = dialogue.retrieve(number)
        assert got == served(sample.octets), sample.name
        assert sizes[number] == b"%d" % len(got), sample.name
    dialogue.quit()
