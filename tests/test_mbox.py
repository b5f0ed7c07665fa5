"""The mbox format: From_ lines, and quoting that can be taken back."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mailflow.mbox import from_line, quote, sender_of, unquote

lines = st.lists(
    st.sampled_from([b"From ", b">From x", b">>From ", b"\n", b"\n\n", b"a", b" From ", b"From:"]),
    max_size=30,
).map(b"".join)


def cut(data: bytes, sizes: list[int]) -> list[bytes]:
    pieces = []
    for size in sizes:
        pieces.append(data[:size])
        data = data[size:]
    return [*pieces, data]


@given(lines, st.lists(st.integers(0, 7), max_size=30))
def test_quoting_can_be_taken_back_wherever_the_octets_are_cut(
    data: bytes, sizes: list[int]
) -> None:
    quoted = b"".join(quote(cut(data, sizes)))
    assert quoted == b"".join(quote([data]))
    assert not any(line.startswith(b"From ") for line in quoted.split(b"\n"))
    assert b"".join(unquote(cut(quoted, sizes))) == data


def test_a_line_of_any_length_is_quoted_at_its_beginning_only() -> None:
    pieces = [b"From ", *[b"x" * 50_000] * 4, b"From \nFrom y", b"\n"]
    assert b"".join(quote(pieces)) == b">From " + b"x" * 200_000 + b"From \n>From y\n"


@pytest.mark.parametrize(
    ("sender", "line"),
    [
        ("ann@example.org", b"From ann@example.org Thu Jan  1 00:00:00 1970\n"),
        ("", b"From MAILER-DAEMON Thu Jan  1 00:00:00 1970\n"),
        (None, b"From MAILER-DAEMON Thu Jan  1 00:00:00 1970\n"),
        ('"a b\n"@x.org', b'From "a-b-"@x.org Thu Jan  1 00:00:00 1970\n'),
    ],
)
def test_d18_a_from_line_is_one_line_of_so_many_words(sender: str | None, line: bytes) -> None:
    assert from_line(sender, 0.0) == line


@pytest.mark.parametrize(
    ("line", "sender"),
    [
        (b"From ann@example.org Thu Jan  1 00:00:00 1970\n", "ann@example.org"),
        (b"From MAILER-DAEMON Thu Jan  1 00:00:00 1970\n", ""),
        (b"From <> Thu Jan  1 00:00:00 1970\n", ""),
        (b"From - Thu Jan  1 00:00:00 1970\n", None),
        (b"From \x1b@x Thu Jan  1 00:00:00 1970\n", None),
        (b"From \n", None),
    ],
)
def test_a_from_line_tells_the_sender(line: bytes, sender: str | None) -> None:
    assert sender_of(line) == sender
