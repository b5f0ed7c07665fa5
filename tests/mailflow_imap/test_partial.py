"""A message that is read where it lies, whatever the server says of its size."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from mailflow.errors import UnavailableError
from mailflow.mail import read
from mailflow_imap.partial import PIECE, Partial

LINES = b"".join(b"%06d %s\r\n" % (number, b"x" * 90) for number in range(8000))


class Server:
    """Gives pieces of `octets`; `asked` are the spans."""

    def __init__(self, octets: bytes) -> None:
        self.octets = octets
        self.asked: list[tuple[int, int]] = []
        self.waited: list[int] = []

    def __call__(self, offset: int, octets: int) -> Callable[[], bytes]:
        self.asked.append((offset, octets))

        def wait() -> bytes:
            self.waited.append(offset)
            return self.octets[offset : offset + octets]

        return wait


@pytest.mark.parametrize("error", [-PIECE, -3, -1, 0, 1, 7, PIECE, 3 * PIECE])
@pytest.mark.parametrize("size", [1, 100, PIECE - 1, PIECE, PIECE + 1, 2 * PIECE, len(LINES)])
def test_f05_it_is_whole_whatever_size_was_said(size: int, error: int) -> None:
    server = Server(LINES[:size])
    found: list[int] = []
    content = Partial(server, max(0, size + error), at_end=found.append)
    assert read(content) == LINES[:size]
    assert content.size == size
    ended = LINES[:size].endswith(b"\n")
    assert found == [size if ended else size + 2]


@pytest.mark.parametrize("error", [-PIECE, -1, 0, 1, PIECE])
def test_its_size_is_found_out_without_reading_it(error: int) -> None:
    server = Server(LINES)
    content = Partial(server, len(LINES) + error)
    assert content.size == len(LINES)
    if error in (0, -1):
        assert len(server.asked) <= 2
    assert read(content) == LINES


def test_it_can_be_read_from_anywhere_and_again() -> None:
    content = Partial(Server(LINES), len(LINES))
    with content.open() as one, content.open() as other:
        assert one.read(10) == LINES[:10]
        other.seek(500_000)
        assert other.read(10) == LINES[500_000:500_010]
        assert one.read() == LINES[10:]
        other.seek(-10, 2)
        assert other.read() == LINES[-10:]
        other.seek(5)
        assert other.read(5) == LINES[5:10]


def test_the_next_piece_is_on_its_way_while_one_is_read() -> None:
    server = Server(LINES)
    with Partial(server, len(LINES)).open() as file:
        for number in range(1, len(LINES) // PIECE + 1):
            file.read(PIECE)
            assert [offset for offset, _ in server.asked][:number] == server.waited[:number]
            assert server.asked[number] == (number * PIECE, PIECE)


def test_of_a_beginning_no_more_is_asked_for_than_is_read() -> None:
    server = Server(LINES)
    content = Partial(server, len(LINES), first=1000, begin=LINES[:1000])
    with content.open() as file:
        assert file.read(900) == LINES[:900]
    assert server.asked == []
    assert read(content) == LINES


def test_line_ends_without_cr_count_as_they_will_be_sent() -> None:
    octets = LINES.replace(b"\r\n", b"\n")
    found: list[int] = []
    assert read(Partial(Server(octets), len(octets), at_end=found.append)) == octets
    assert found == [len(LINES)]


def test_a_line_end_that_is_cut_in_two_is_one() -> None:
    octets = b"x" * (PIECE - 1) + b"\r\n" + b"y\r\n"
    found: list[int] = []
    assert read(Partial(Server(octets), len(octets), at_end=found.append)) == octets
    assert found == [len(octets)]


def test_a_failure_is_that_of_the_reader_and_can_be_mended() -> None:
    server = Server(LINES)
    broken = True

    def fetch(offset: int, octets: int) -> Callable[[], bytes]:
        def wait() -> bytes:
            if broken and offset:
                raise UnavailableError("lost")
            return server(offset, octets)()

        return wait

    content = Partial(fetch, len(LINES))
    with content.open() as file:
        assert file.read(PIECE) == LINES[:PIECE]
        with pytest.raises(UnavailableError):
            file.read(PIECE)
    broken = False
    assert read(content) == LINES
