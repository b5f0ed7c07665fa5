"""How a Maildir is opened from one session to the next, and how much that takes."""

from __future__ import annotations

import errno
import os
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mailflow.column import Column
from mailflow.errors import (
    MailflowError,
    UnavailableError,
)
from mailflow.halt import Halt
from mailflow.kinds import Credentials, Runtime
from mailflow_maildir import ledger, maildrop, opened, stored
from mailflow_maildir.maildrop import MaildirDrop, MaildirDropOptions

from .conftest import LIST, Drop, read_all, rest

# From one session to the next


def test_120_an_unchanged_maildir_is_not_looked_at_again(
    drop: Drop, monkeypatch: pytest.MonkeyPatch
) -> None:
    drop.add("new/1")
    rest(drop)
    maildrop = drop.maildrop()

    def keys() -> list[str]:
        session = maildrop.login(Credentials("ann", checked=True))
        found = [item.key for item in session.items()]
        session.close()
        return found

    keys()
    with monkeypatch.context() as patch:
        patch.setattr("mailflow_maildir.taking.glance", None)
        assert keys() == ["1"]
    drop.add("new/2")
    assert keys() == ["1", "2"]
    (drop.path / "new" / "1").rename(drop.path / "cur" / "1:2,S")
    (drop.path / "new" / "2").unlink()
    assert keys() == ["1"]


def test_a_change_in_the_same_tick_of_the_clock_is_seen(drop: Drop) -> None:
    """The times of a directory tell two changes apart only once some time is between them."""
    maildrop = drop.maildrop()
    for number in range(20):
        drop.add(f"new/{number:02}")
        for place in ("new", "cur"):
            now = time.time_ns()
            os.utime(drop.path / place, ns=(now, now - now % 4_000_000))
        session = maildrop.login(Credentials("ann", checked=True))
        assert len(session.items()) == number + 1
        session.close()


def test_a_message_that_could_not_be_read_is_served_once_it_can(
    drop: Drop, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Though its directory does not change for that."""
    drop.add("new/1")
    rest(drop)
    maildrop = drop.maildrop()

    def keys() -> list[str]:
        session = maildrop.login(Credentials("ann", checked=True))
        found = [item.key for item in session.items()]
        session.close()
        return found

    def refused(*_: object) -> None:
        raise PermissionError(errno.EACCES, os.strerror(errno.EACCES))

    with monkeypatch.context() as patch:
        patch.setattr("mailflow_maildir.taking.open_message", refused)
        assert keys() == []
    assert keys() == ["1"]


def test_058_what_a_reader_renames_during_the_login_is_not_missed(
    drop: Drop, monkeypatch: pytest.MonkeyPatch
) -> None:
    """readdir(3) may leave out a file that gets another name meanwhile."""
    for name in ("cur/1:2,", "cur/2:2,"):
        drop.add(name)
    before = drop.listed()
    rest(drop)
    real = os.scandir
    renamed: list[str] = []

    class Blind:
        """Does not show the one that is renamed while it looks."""

        def __init__(self, path: str) -> None:
            self._entries = real(path)
            self._hide = path.endswith("/cur") and not renamed

        def __enter__(self) -> Iterator[os.DirEntry[str]]:
            if self._hide:
                renamed.append("1")
                (drop.path / "cur" / "1:2,").rename(drop.path / "cur" / "1:2,S")
            return (each for each in self._entries if not self._hide or each.name[0] != "1")

        def __exit__(self, *_: object) -> None:
            self._entries.close()

    monkeypatch.setattr(os, "scandir", Blind)
    assert drop.listed() == before
    assert renamed


def test_what_lies_there_is_told_without_a_login(tmp_path: Path, drop: Drop) -> None:
    drop.add("new/1,S=5,W=8", b"a\n\nb\n")
    drop.add("new/2", b"a\n\nb\n")
    assert list(drop.maildrop().standing()) == [("", 2, 13)]
    session = drop.enter()
    assert list(drop.maildrop().standing()) == [("", 2, 16)]
    session.close()
    for name, path in (("*", "{login}"), ("drop", "missing")):
        options = MaildirDropOptions.read({"path": f"{tmp_path}/{path}"})
        log: Any = drop.log
        maildrop = MaildirDrop(options, Runtime(name, "test", drop.halt, log, "/nonexistent"))
        assert list(maildrop.standing()) == []


def test_what_is_kept_in_memory_is_bounded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("mailflow_maildir.maildrop.KEPT", 10)
    base = Drop(tmp_path / "0")
    maildrop = base.maildrop(path=f"{tmp_path}/{{login}}")
    for number in range(8):
        each = base if not number else Drop(tmp_path / str(number))
        for name in range(3):
            each.add(f"new/{name}")
        rest(each)
        for _ in range(2):
            maildrop.login(Credentials(str(number), checked=True)).close()
    assert len(maildrop._kept) == 2
    assert maildrop._count == 8


def test_058_messages_are_in_the_order_in_which_they_came_to_be_known(drop: Drop) -> None:
    for name in ("new/2", "cur/1:2,S", "new/3"):
        drop.add(name)
    assert list(drop.listed()) == ["1", "2", "3"]
    drop.add("new/0")
    assert list(drop.listed()) == ["1", "2", "3", "0"]


def test_a_stopped_engine_ends_a_long_login(drop: Drop) -> None:
    drop.add("new/1")
    drop.halt.set()
    with pytest.raises(UnavailableError, match="stopped"):
        drop.enter()
    drop.halt = Halt()
    drop.listed()


@given(st.lists(st.text(st.characters(exclude_characters="\n"), max_size=5)))
def test_a_column_is_the_texts_that_it_was_made_of(texts: list[str]) -> None:
    texts = [text.encode("utf-8", "replace").decode() for text in texts]
    column = Column(texts)
    assert list(column) == texts
    assert [column[number] for number in range(len(column))] == texts
    assert column[1:3] == texts[1:3]
    assert column[::-1] == texts[::-1]
    for near in range(len(texts)):
        for text in texts:
            assert texts[column.number(text, near)] == text
    with pytest.raises(KeyError):
        column.number("\x00 no such text")
    with pytest.raises(IndexError):
        column[len(texts)]


@given(st.binary(max_size=300))
def test_whatever_is_in_the_list_no_message_is_lost(octets: bytes) -> None:
    import tempfile

    with tempfile.TemporaryDirectory() as directory:
        drop = Drop(Path(directory) / "Maildir")
        for name in "ab":
            drop.add(f"new/{name}")
        before = set(drop.listed())
        with (drop.path / LIST).open("ab") as file:
            file.write(octets)
        try:
            assert {read_all(drop, key) for key in drop.listed()} == {
                b"Subject: x\r\n\r\nhello\r\n"
            }
            assert before <= set(drop.listed())
        except MailflowError as error:
            pytest.fail(error.text)
        finally:
            drop.halt.close()


def test_what_is_not_in_memory_is_not_read_in_the_event_loop(
    drop: Drop, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Neither what is large, what lies about its size, nor what is on another machine."""
    for name, data in (
        ("1", b"x\n.\n"),
        ("2", b"x" * stored.AT_HAND + b"\n"),
        ("3,W=9", b"12345\n"),
    ):
        drop.add(f"new/{name}", data)
    monkeypatch.setattr(ledger, "is_near", lambda file: True)
    monkeypatch.setattr(opened, "held", lambda file, size: os.pread(file, size, 0))
    session = drop.enter()
    assert session.prompt
    assert [session.wire(key) for key in "123"] == [b"+OK\r\nx\r\n..\r\n.\r\n", None, None]
    monkeypatch.setattr(opened, "held", lambda file, size: None)
    assert session.wire("1") is None
    session.close()
    monkeypatch.setattr(ledger, "is_near", lambda file: False)
    session = drop.enter()
    assert not session.prompt
    assert session.wire("1") is None
    session.close()


def test_the_system_is_asked_what_it_has_in_memory(drop: Drop) -> None:
    file = drop.add("new/1", b"hello\n")
    descriptor = os.open(file, os.O_RDONLY)
    try:
        assert stored.held(descriptor, 6) in (b"hello\n", None)
        assert stored.held(descriptor, 7) is None
        if stored.is_near(descriptor):
            assert os.pread(descriptor, 6, 0) == stored.held(descriptor, 6)
    finally:
        os.close(descriptor)


def test_a_drop_that_was_small_and_near_is_opened_in_the_event_loop(
    drop: Drop, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(maildrop, "SMALL", 1)
    monkeypatch.setattr(ledger, "is_near", lambda file: True)
    served, ann = drop.maildrop(), Credentials("ann", checked=True)
    drop.add("new/1")
    assert not served.prompt("ann")  # it is not known yet
    served.login(ann).close()
    assert served.prompt("ann")
    drop.add("new/2")
    served.login(ann).close()
    assert not served.prompt("ann")


def test_a_drop_of_another_machine_is_never_opened_in_the_event_loop(
    drop: Drop, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ledger, "is_near", lambda file: False)
    served = drop.maildrop()
    served.login(Credentials("ann", checked=True)).close()
    assert not served.prompt("ann")
