"""CRLF lines and dot-stuffing, against a line-by-line reading of the RFCs."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from mailflow.lines import crlf_pieces, lf_pieces, stuff, to_crlf, to_lf, unstuff

octets = st.lists(st.sampled_from([b"\r\n", b"\n", b"\r", b".", b"a", b"\0\xff"]), max_size=30).map(
    b"".join
)
crlf_lines = st.lists(
    st.lists(st.sampled_from([b".", b"a", b"\xff"]), max_size=4).map(b"".join), max_size=8
).map(lambda lines: b"".join(line + b"\r\n" for line in lines))


def by_line(data, change):
    return b"\r\n".join(change(line) for line in data.split(b"\r\n"))


@given(octets)
def test_to_crlf_leaves_no_bare_lf_and_changes_nothing_else(data):
    whole = to_crlf(data)
    assert whole.count(b"\n") == whole.count(b"\r\n")
    assert whole.replace(b"\r\n", b"\n") == data.replace(b"\r\n", b"\n")


@given(octets)
def test_to_crlf_of_crlf_is_the_same(data):
    assert to_crlf(to_crlf(data)) == to_crlf(data)


@given(st.lists(octets, max_size=6))
def test_octets_in_pieces_are_changed_as_if_they_were_whole(pieces):
    assert b"".join(crlf_pieces(pieces)) == to_crlf(b"".join(pieces))
    assert b"".join(lf_pieces(pieces)) == to_lf(b"".join(pieces))


def test_a_bare_cr_stays():
    assert to_crlf(b"a\rb\r\r\nc\n") == b"a\rb\r\r\nc\r\n"


def test_to_lf_keeps_a_bare_cr():
    assert to_lf(b"a\rb\r\r\nc\r\n") == b"a\rb\r\nc\n"


@given(crlf_lines)
def test_stuffing_doubles_the_first_dot_of_each_line(data):
    assert stuff(data) == by_line(data, lambda line: b"." + line if line[:1] == b"." else line)


@given(octets)
def test_stuffed_octets_hold_no_terminator(data):
    assert b"\r\n.\r\n" not in b"\r\n" + stuff(data)


@given(octets)
def test_unstuff_takes_back_stuff(data):
    assert unstuff(stuff(data)) == data


@given(crlf_lines)
def test_a_dot_that_was_not_doubled_is_taken_all_the_same(data):
    assert unstuff(data) == by_line(data, lambda line: line.removeprefix(b"."))
