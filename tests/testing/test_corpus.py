"""The corpus is as odd as its names say, and its large messages take no memory."""

from __future__ import annotations

import tracemalloc

import pytest

from mailflow.mail import head
from mailflow.testing.corpus import AWKWARD, Large

BY_NAME = {sample.name: sample.octets for sample in AWKWARD}


def test_every_sample_has_a_name_and_octets_of_its_own() -> None:
    assert len(BY_NAME) == len({sample.octets for sample in AWKWARD}) == len(AWKWARD)


def test_what_programs_have_broken_on_is_there() -> None:
    everything = b"\n".join(BY_NAME.values())
    for awkward in (b"\0", b"\r\r\n", b"one\rtwo", b"\xff\xfe", b"\r\n.\r\n", b"\nFrom ", b"\x1b["):
        assert awkward in everything
    assert any(not octets.endswith(b"\n") for octets in BY_NAME.values())
    assert any(b"\r\n\r\n" not in octets for octets in BY_NAME.values())
    assert max(map(len, everything.split(b"\n"))) > 10_000


def test_a_sample_is_stored_with_crlf_and_otherwise_as_it_is() -> None:
    for sample in AWKWARD:
        assert sample.stored.replace(b"\r\n", b"\n") == sample.octets.replace(b"\r\n", b"\n")
        assert b"\n" not in sample.stored.replace(b"\r\n", b"")


@pytest.mark.parametrize("size", [1, 100_000, 1_000_000])
def test_a_large_message_is_the_same_read_and_in_pieces(size: int) -> None:
    large = Large(size, "big")
    octets = b"".join(large.pieces())
    assert len(octets) == large.size >= size
    assert b"Subject: big\r\n" in head(large)
    with large.open() as reader:
        assert reader.read() == octets
        reader.seek(large.size // 2 + 7)
        assert reader.read() == octets[large.size // 2 + 7 :]


def test_a_gigabyte_takes_no_memory() -> None:
    large = Large(1 << 30)
    tracemalloc.start()
    with large.open() as reader:
        reader.seek(large.size - 100)
        assert reader.read().endswith(b".\r\n")
    assert tracemalloc.get_traced_memory()[1] < 1 << 20
    tracemalloc.stop()
