"""Deleted mail leaves the disk, and what nobody names goes with it."""

from __future__ import annotations

import fcntl
import os
import time

import pytest

from mailflow.errors import UnavailableError
from mailflow.mail import read
from mailflow_spool import tidy
from mailflow_spool.files import Writing, name_of

from .conftest import LARGE, Spool, text


def octets(spool: Spool) -> int:
    return sum(path.stat().st_size for path in spool.bodies())


def test_a_file_of_which_nothing_is_left_is_gone_with_the_session(spool: Spool) -> None:
    spool.fill(LARGE, LARGE)
    spool.delete()
    assert spool.bodies() == []


def test_deleted_mail_of_the_index_leaves_room_for_other_mail(spool: Spool) -> None:
    spool.fill(text(1, 5000))
    spool.delete()
    (count,) = spool.store.index.read(
        lambda tx: tx.execute("SELECT count(*) FROM bodies").fetchone()
    )
    assert count == 0


def test_what_is_wasted_is_never_more_than_what_is_kept(spool: Spool) -> None:
    """Whichever of the messages go, in whichever order."""
    contents = [LARGE[:-3] + b"%d\r\n" % number for number in range(40)]
    spool.fill(*contents)
    keys = spool.uidls()
    for number in (3, 17, 39, 0, 1, 2, 20, 21, 22, 23, 24, 30, 31, 32, 33, 34, 35, 36, 37, 4, 5, 6):
        spool.delete(keys[number])
        kept = sum(len(each) + 8 for each in spool.messages())
        assert octets(spool) <= 2 * kept
    gone = {3, 17, 39, 0, 1, 2, 20, 21, 22, 23, 24, 30, 31, 32, 33, 34, 35, 36, 37, 4, 5, 6}
    assert spool.messages() == [each for n, each in enumerate(contents) if n not in gone]
    assert spool.uidls() == [key for n, key in enumerate(keys) if n not in gone]
    assert spool.damage() == []


def test_many_small_mails_that_came_one_by_one_go_into_a_file(
    spool: Spool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tidy, "ROWS", 20)
    for number in range(20):
        spool.fill(text(number), drop="ann" if number % 2 else "bob")
    assert len(spool.bodies()) == 1
    assert spool.messages("bob") == [text(number) for number in range(0, 20, 2)]
    assert spool.messages("ann") == [text(number) for number in range(1, 20, 2)]
    drop = spool.login("ann")
    parts = [drop.wire(item.key) for item in drop.items()]
    assert parts[1].offset == parts[0].offset + parts[0].octets  # type: ignore[union-attr]
    drop.close()
    assert spool.damage() == []


def test_a_session_reads_a_small_message_that_went_into_a_file_meanwhile(
    spool: Spool, monkeypatch: pytest.MonkeyPatch
) -> None:
    spool.fill(text(1), text(2))
    drop = spool.login()
    first, second = drop.items()
    assert isinstance(drop.wire(first.key), bytes)
    monkeypatch.setattr(tidy, "ROWS", 1)
    tidy.tidy(spool.store)
    assert read(drop.read(first.key)) == text(1)
    assert read(drop.read(second.key)) == text(2)
    drop.close()


def test_a_message_that_was_deleted_while_its_file_was_written_anew_stays_deleted(
    spool: Spool, monkeypatch: pytest.MonkeyPatch
) -> None:
    contents = [LARGE[:-3] + b"%d\r\n" % number for number in range(5)]
    spool.fill(*contents)
    store = spool.store
    keys = spool.uidls()
    number = store.drop("ann")
    assert number is not None
    monkeypatch.setattr(tidy, "tidy", lambda store, most: 0)
    spool.delete(*keys[:3])
    monkeypatch.undo()
    flush = Writing.flush

    def deleting(writing: Writing) -> None:
        flush(writing)
        monkeypatch.undo()
        monkeypatch.setattr(tidy, "tidy", lambda store, most: 0)
        spool.delete(keys[3])
        monkeypatch.undo()

    monkeypatch.setattr(Writing, "flush", deleting)
    assert tidy.tidy(store) == 1
    assert spool.messages() == contents[4:]
    assert spool.damage() == []


def test_a_damaged_message_is_not_moved_and_holds_up_no_other(spool: Spool) -> None:
    contents = [LARGE[:-3] + b"%d\r\n" % number for number in range(8)]
    spool.fill(*contents)
    (path,) = spool.bodies()
    octets = bytearray(path.read_bytes())
    octets[octets.find(b"6\r\n.\r\n") - 9] ^= 1
    path.write_bytes(octets)
    spool.delete(*spool.uidls()[:6])
    assert spool.messages()[1] == contents[7]
    assert len(spool.bodies()) == 2
    assert len(spool.damage()) == 1
    store = spool.store
    for _ in range(2):
        assert tidy.tidy(store) == 0
    assert len(store.stuck) == 1, "it is read again and again"


def test_a_damaged_message_of_the_index_is_tried_once(
    spool: Spool, monkeypatch: pytest.MonkeyPatch
) -> None:
    spool.fill(text(1), text(2))
    store = spool.store
    store.index.commit(lambda tx: tx.execute("UPDATE messages SET crc = 0"))
    monkeypatch.setattr(tidy, "ROWS", 1)
    calls: list[object] = []
    write = tidy._write
    monkeypatch.setattr(tidy, "_write", lambda *each: calls.append(each) or write(*each))
    for _ in range(2):
        assert tidy.tidy(store) == 0
    assert len(calls) == 1
    assert spool.bodies() == []


def test_what_a_writer_left_that_was_killed_is_swept(spool: Spool) -> None:
    spool.fill(LARGE)
    orphan = spool.path / "bodies" / name_of(77)
    orphan.write_bytes(b"+OK\r\n")
    strange = spool.path / "bodies" / "README"
    strange.write_bytes(b"not ours")
    assert tidy.sweep(spool.store) == [orphan.name]
    assert not orphan.exists()
    assert strange.exists()
    assert spool.messages() == [LARGE]


def test_what_is_being_written_is_not_swept(spool: Spool) -> None:
    store = spool.store
    writing = Writing(store.bodies)
    assert tidy.sweep(spool.store) == []
    writing.close(keep=True)
    assert tidy.sweep(spool.store) == [name_of(writing.number)]


def test_what_was_named_just_now_is_not_swept(
    spool: Spool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its writer named it between the look and the lock."""
    spool.fill(LARGE)
    (path,) = spool.bodies()
    monkeypatch.setattr(tidy, "orphans", lambda store: [(path.name, int(path.name, 16))])
    assert tidy.sweep(spool.store) == []
    assert spool.messages() == [LARGE]


def test_a_session_that_delivers_sweeps_once_a_day(
    spool: Spool, monkeypatch: pytest.MonkeyPatch
) -> None:
    spool.fill(text(1))
    orphan = spool.path / "bodies" / name_of(77)
    orphan.write_bytes(b"+OK\r\n")
    os.chmod(orphan, 0o600)
    spool.fill(text(2))
    assert orphan.exists()
    now = time.time()
    monkeypatch.setattr(time, "time", lambda: now + 86401)
    spool.fill(text(3))
    assert not orphan.exists()


def test_two_do_not_tidy_at_once(spool: Spool) -> None:
    spool.fill(*(LARGE for _ in range(5)))
    keys = spool.uidls()
    held = os.open(spool.path / "locks" / "tidy", os.O_RDWR | os.O_CREAT, 0o600)
    fcntl.flock(held, fcntl.LOCK_EX)
    spool.delete(*keys[:4])
    before = octets(spool)
    assert tidy.tidy(spool.store) == 0
    os.close(held)
    assert tidy.tidy(spool.store) == 1
    assert octets(spool) < before / 4


def test_where_there_is_no_room_to_tidy_the_session_ends_well(
    spool: Spool, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*arguments: object, **named: object) -> int:
        raise UnavailableError("no room")

    spool.fill(*(LARGE for _ in range(5)))
    monkeypatch.setattr(tidy, "_move", refuse)
    spool.delete(*spool.uidls()[:4])
    assert spool.messages() == [LARGE]
