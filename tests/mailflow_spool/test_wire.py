"""What lies in the spool is what a client gets, and the message can be had from it."""

from __future__ import annotations

import io
import os
import tempfile
from collections.abc import Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mailflow.lines import stuff
from mailflow.mail import Octets
from mailflow.testing.corpus import AWKWARD, Sample, stored
from mailflow_spool import wire
from mailflow_spool.wire import END, HEAD, Pieces, Place, Stored, from_wire, unstuffed_size

lines = st.lists(
    st.sampled_from([b".", b"..", b"\r", b"\r\n", b"x", b"\n", b"\0", b"ab.", b".\r\n"])
).map(b"".join)


class Slow:
    """Content whose reader gives so many octets at a time."""

    def __init__(self, octets: bytes, size: int) -> None:
        self.octets = octets
        self.size = wire.WHOLE + 1  # it is not read in one piece
        self.step = size

    def open(self) -> io.BytesIO:
        step, octets = self.step, self.octets

        class Reader(io.BytesIO):
            def read(self, size: int | None = -1, /) -> bytes:
                return super().read(step)

        return Reader(octets)


def expected(octets: bytes) -> bytes:
    octets = stored(octets)
    return octets if not octets or octets.endswith(b"\r\n") else octets + b"\r\n"


@pytest.mark.parametrize("sample", AWKWARD, ids=lambda sample: sample.name)
def test_every_message_is_a_whole_reply_to_retr(sample: Sample) -> None:
    pieces = Pieces(Octets(sample.stored))
    whole = b"".join(pieces)
    assert whole == HEAD + stuff(expected(sample.octets)) + END
    assert from_wire(whole) == expected(sample.octets)
    assert pieces.size == len(expected(sample.octets))


@given(lines, st.integers(1, 7))
def test_it_is_the_same_in_pieces_cut_anywhere(octets: bytes, step: int) -> None:
    pieces = Pieces(Slow(octets, step))
    # An empty message has no last line that would lack its end.
    wanted = expected(octets) or b"\r\n"
    assert b"".join(pieces) == HEAD + stuff(wanted) + END
    assert pieces.size == len(wanted)


@given(lines, st.lists(st.integers(0, 30)), st.integers(1, 9))
def test_a_large_message_is_read_as_it_was(octets: bytes, seeks: Sequence[int], chunk: int) -> None:
    wanted = expected(octets)
    before = b"another message"
    reply = HEAD + stuff(wanted) + END
    size, piece = wire.WHOLE, wire.CHUNK
    wire.WHOLE, wire.CHUNK = -1, chunk  # all are large
    try:
        with tempfile.TemporaryFile() as file:
            file.write(before + reply + b"and one more")
            file.flush()
            place = Place(1, len(before), len(reply), len(wanted), 0)
            content = Stored(len(wanted), lambda: (os.dup(file.fileno()), place))
            with content.open() as reader:
                assert reader.read() == wanted
            with content.open() as reader:
                for offset in seeks:
                    reader.seek(offset)
                    assert reader.read(5) == wanted[offset : offset + 5]
    finally:
        wire.WHOLE, wire.CHUNK = size, piece


@given(lines, st.integers(1, 9))
def test_the_size_is_known_from_the_wire_form_alone(octets: bytes, step: int) -> None:
    wanted = expected(octets)
    reply = HEAD + stuff(wanted) + END
    cut = [reply[start : start + step] for start in range(0, len(reply), step)]
    assert unstuffed_size(cut) == len(wanted)


@pytest.mark.parametrize(
    ("octets", "has"),
    [
        (b"Subject: plain\r\n\r\nGr\xc3\xbc\xc3\x9fe\r\n", False),
        (b"Subject: Gr\xc3\xbc\xc3\x9fe\r\n\r\nplain\r\n", True),
        (b"Subject: latin-1 \xfc\r\n\r\n", False),
        (b"Subject: no end \xc3\xbc", True),
        (b"", False),
    ],
)
def test_it_is_known_whether_a_header_has_utf_8(octets: bytes, has: bool) -> None:
    pieces = Pieces(Octets(octets))
    list(pieces)
    assert pieces.utf8 is has
