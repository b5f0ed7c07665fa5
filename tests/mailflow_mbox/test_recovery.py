"""A change of an mbox that was cut is made whole by whoever locks it next."""

from __future__ import annotations

import os
from collections.abc import Callable

import pytest

from mailflow.query import Query
from mailflow.verdicts import SENT, Fate, Report
from mailflow_mbox import redo

from .conftest import LINE, Box, make

BIG = b"Subject: big\r\n\r\n" + b"0123456789\r\n" * 1000


@pytest.fixture
def cut(box: Box, monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
    """Do something whose last writes to the mbox never come, from octet `after` on."""

    class Cut(BaseException):
        pass

    def run(act: Callable[[], object], after: int) -> None:
        left = [after]
        real = os.pwrite

        def pwrite(descriptor: int, data: bytes, offset: int) -> int:
            if os.readlink(f"/proc/self/fd/{descriptor}") != str(box.path):
                return real(descriptor, data, offset)
            taken = min(left[0], len(data))
            if taken:
                left[0] -= real(descriptor, data[:taken], offset)
            if not left[0]:
                raise Cut
            return taken

        with monkeypatch.context() as patch:
            patch.setattr(os, "pwrite", pwrite)
            with pytest.raises(Cut):
                act()

    return run


@pytest.mark.parametrize("after", [0, 1, 20, 60, 9000])
def test_d04_a_mail_that_was_cut_is_there_once_when_it_comes_again(
    box: Box, cut: Callable[..., None], after: int
) -> None:
    box.deliver(make(1))
    cut(lambda: box.deliver(make(2, BIG), make(3)), after)
    assert box.deliver(make(2, BIG), make(3), make(4)) == [Report("", SENT)] * 3
    whole = [BIG.replace(b"\r\n", b"\n")]
    assert box.bodies() == [
        b"Subject: 1\n\n1\n",
        *whole,
        b"Subject: 3\n\n3\n",
        b"Subject: 4\n\n4\n",
    ]
    assert box.others() == []


def test_d04_another_mail_that_comes_first_makes_it_whole(
    box: Box, cut: Callable[..., None]
) -> None:
    cut(lambda: box.deliver(make(1, BIG)), 500)
    box.deliver(make(2), finish=False)
    box.deliver(make(1, BIG))
    assert box.bodies() == [BIG.replace(b"\r\n", b"\n"), b"Subject: 2\n\n2\n"]


def test_d04_a_fetcher_never_reads_half_a_mail(box: Box, cut: Callable[..., None]) -> None:
    cut(lambda: box.deliver(make(1, BIG)), 500)
    [item] = box.items()
    assert item.size == len(BIG)


def test_d05_what_a_power_cut_leaves_as_nuls_is_written_over(
    box: Box, cut: Callable[..., None]
) -> None:
    cut(lambda: box.deliver(make(1, BIG)), 500)
    with box.path.open("ab") as file:
        file.write(bytes(3000))
    box.deliver(make(1, BIG))
    assert box.bodies() == [BIG.replace(b"\r\n", b"\n")]


def test_what_another_program_appended_behind_a_cut_is_not_lost(
    box: Box, cut: Callable[..., None]
) -> None:
    cut(lambda: box.deliver(make(1), make(2)), 60)
    other = b"From b@x.org Thu Jan  1 00:00:00 2026\nSubject: other\n\nx\n\n"
    with box.path.open("ab") as file:
        file.write(b"\n\n" + other)
    box.deliver(make(1), make(2))
    assert other in box.path.read_bytes()
    bodies = box.bodies()
    assert bodies.count(b"Subject: 1\n\n1\n") == bodies.count(b"Subject: 2\n\n2\n") == 1


def test_what_a_reader_has_rewritten_since_is_found_in_its_new_place(
    box: Box, monkeypatch: pytest.MonkeyPatch
) -> None:
    box.deliver(make(1))
    with monkeypatch.context() as patch:
        patch.setattr(redo, "DONE", redo.PENDING)  # whole, but the last word of the log is lost
        box.deliver(make(2), make(3), finish=False)
    whole = box.path.read_bytes().replace(b"Subject: 1", b"Status: RO\nSubject: 1")
    box.path.write_bytes(whole.replace(b"Subject: 3", b"Status: O\nSubject: 3"))
    box.deliver(make(2), make(3))
    assert len(box.bodies()) == 3


def settle_first(box: Box) -> None:
    with box.fetcher() as fetcher:
        item, *_ = fetcher.listing(Query.always)
        fetcher.settle(item.key, Fate.DONE)


ONE, TWO, THREE = (b"Subject: %d\n\n" % n + b"x%d\n" % n * 200 for n in (1, 2, 3))


@pytest.mark.parametrize("after", [0, 1, 300, 1000])
@pytest.mark.parametrize("appended", [b"", LINE + b"Subject: new\n\nnew\n\n"])
def test_d04_a_deletion_that_was_cut_is_made_whole_and_loses_nothing(
    box: Box, cut: Callable[..., None], after: int, appended: bytes
) -> None:
    box.write(ONE, TWO, THREE)
    cut(lambda: settle_first(box), after)
    with box.path.open("ab") as file:
        file.write(appended)
    box.items()
    left = b"".join(LINE + message + b"\n" for message in (TWO, THREE)) + appended
    assert box.path.read_bytes() == left
    assert box.others() == []


def test_d04_a_deletion_that_was_done_is_not_done_again(
    box: Box, monkeypatch: pytest.MonkeyPatch
) -> None:
    box.write(ONE, TWO, THREE)
    with monkeypatch.context() as patch:
        patch.setattr(redo, "DONE", redo.PENDING)  # the last word of the log is lost
        settle_first(box)
    left = box.path.read_bytes()
    more = LINE + b"Subject: new\n\n" + b"new\n" * 1000 + b"\n"
    with box.path.open("ab") as file:
        file.write(more)
    box.items()
    assert box.path.read_bytes() == left + more
