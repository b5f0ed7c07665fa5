"""A journal's backup while others write it, and a restore that is cut at any step."""

from __future__ import annotations

import os
import sqlite3
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from mailflow.engine.journal import Database, bodies
from mailflow.engine.journal.checkup import look
from mailflow.engine.journal.copies import backup, restore
from mailflow.engine.journal.database import Transaction
from mailflow.mail import Octets

LARGE = b"x" * (bodies.ROW_LIMIT + 1)


@pytest.fixture
def journal(tmp_path: Path) -> Iterator[Database]:
    opened = Database(str(tmp_path / "state" / "journal.db"))
    yield opened
    opened.close()


def accept(journal: Database, mail: str, octets: bytes = LARGE) -> None:
    """A mail whose body is a file."""
    body = bodies.store(journal, Octets(octets), mail)

    def work(tx: Transaction) -> None:
        tx.execute(
            "INSERT INTO mail (id, pipeline, step, source, key, size, arrived, state)"
            " VALUES (?, 'red', 'pop3', 's', ?, ?, 0, 'accepted')",
            (mail, mail, len(octets)),
        )
        bodies.insert(tx, mail, 0, body)

    journal.commit(work)


def end(journal: Database, mail: str) -> None:
    """The mail is done: its body goes away."""

    def work(tx: Transaction) -> list[str]:
        tx.execute("UPDATE mail SET state = 'done' WHERE id = ?", (mail,))
        return bodies.drop(tx, mail)

    bodies.remove(journal, journal.commit(work))


def mails(path: str | Path) -> list[str]:
    connection = sqlite3.connect(path)
    try:
        return [row[0] for row in connection.execute("SELECT id FROM mail ORDER BY id")]
    finally:
        connection.close()


def test_a_backup_is_whole_while_mail_comes_and_goes(journal: Database, tmp_path: Path) -> None:
    """C-level: a body that the copied moment names is in it, though its file is gone."""
    stop = threading.Event()

    def traffic() -> None:
        number = 0
        while not stop.is_set():
            accept(journal, f"m{number}")
            if number >= 2:
                end(journal, f"m{number - 2}")
            number += 1

    thread = threading.Thread(target=traffic)
    thread.start()
    try:
        for number in range(8):
            target = tmp_path / f"copy{number}"
            backup(journal.path, str(target))
            found = look(str(target))
            assert (found.findings, found.counts.get("mails accepted", 0) > 3) == ((), False)
    finally:
        stop.set()
        thread.join()


def test_nobody_can_commit_between_the_moment_and_its_files(
    journal: Database, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    accept(journal, "m1")
    link = os.link
    tried: list[str] = []

    def linked(path: str, new: str) -> None:
        if path.endswith("/m1"):
            other = sqlite3.connect(journal.path, timeout=0)
            with pytest.raises(sqlite3.OperationalError, match="locked"):
                other.execute("DELETE FROM mail")
            other.close()
            tried.append(path)
        link(path, new)

    monkeypatch.setattr(os, "link", linked)
    backup(journal.path, str(tmp_path / "copy"))
    assert len(tried) == 1


def test_every_file_of_a_backup_is_flushed_before_it_has_its_name(
    journal: Database, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    accept(journal, "m1")
    done: list[str] = []
    fsync, link = os.fsync, os.link

    def flushed(descriptor: int) -> None:
        done.append(f"flush {os.path.basename(os.readlink(f'/proc/self/fd/{descriptor}'))[:9]}")
        fsync(descriptor)

    def linked(path: str, new: str) -> None:
        done.append(f"link {os.path.basename(new)}")
        link(path, new)

    monkeypatch.setattr(os, "fsync", flushed)
    monkeypatch.setattr(os, "link", linked)
    backup(journal.path, str(tmp_path / "copy"))
    assert done[-3:] == ["flush copy.part", "link copy", f"flush {tmp_path.name[:9]}"]


STEPS = ("link", "rename", "fsync", "makedirs", "unlink")


class CutError(BaseException):
    """The power is gone."""


def cut_at(step: int, monkeypatch: pytest.MonkeyPatch) -> Callable[[], int]:
    """Cut before the step of that number; gives how many there were."""
    count = 0

    def counted(name: str, real: Any) -> Any:
        def call(*args: Any, **kwargs: Any) -> Any:
            nonlocal count
            count += 1
            if count > step:
                raise CutError(name)
            return real(*args, **kwargs)

        return call

    for name in STEPS:
        monkeypatch.setattr(os, name, counted(name, getattr(os, name)))
    return lambda: count


def test_wherever_a_restore_is_cut_one_of_the_two_is_there_and_nothing_is_lost(
    tmp_path: Path,
) -> None:
    step = 0
    while True:
        home = tmp_path / str(step)
        path = str(home / "journal.db")
        journal = Database(path)
        accept(journal, "m1")
        backup(path, str(home / "copy"))
        accept(journal, "m2")
        journal.close()
        with pytest.MonkeyPatch.context() as patch:
            count = cut_at(step, patch)
            try:
                restore(str(home / "copy"), path)
                whole = True
            except CutError:
                whole = False
        assert look(path).sound, f"cut before step {step}"
        there = mails(path)
        assert there in ([["m1", "m2"]] if not whole and there != ["m1"] else [["m1"]])
        if there == ["m1"]:
            (kept,) = (p for p in home.glob("journal.db.replaced-*") if p.suffix != ".d")
            Database(path).close()
            assert (mails(kept), look(str(kept)).sound) == (["m1", "m2"], True)
        if whole:
            break
        step += 1
    assert count() > 8


def test_a_body_that_is_a_file_comes_back(journal: Database, tmp_path: Path) -> None:
    accept(journal, "m1")
    backup(journal.path, str(tmp_path / "copy"))
    other = str(tmp_path / "other" / "journal.db")
    restore(str(tmp_path / "copy"), other)
    opened = Database(other)
    content = opened.read(lambda tx: bodies.load(opened, tx, "m1", 0))
    with content.open() as reader:
        assert reader.read() == LARGE
    opened.close()


def test_a_journal_that_was_kept_aside_can_be_put_back(tmp_path: Path) -> None:
    """Its bodies are files still."""
    path = str(tmp_path / "journal.db")
    journal = Database(path)
    backup(path, str(tmp_path / "copy"))
    accept(journal, "m1")
    journal.close()
    kept = restore(str(tmp_path / "copy"), path).replaced
    assert kept
    assert mails(path) == []
    restore(kept, path)
    assert mails(path) == ["m1"]
    assert look(path).sound


def test_the_log_of_a_damaged_journal_is_not_taken_for_that_of_the_restored(
    tmp_path: Path,
) -> None:
    path = tmp_path / "journal.db"
    journal = Database(str(path))
    accept(journal, "m1")
    backup(str(path), str(tmp_path / "copy"))
    checkpoint = sqlite3.connect(path)
    checkpoint.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    checkpoint.close()
    accept(journal, "m2")
    log = Path(f"{path}-wal").read_bytes()
    journal.close()
    path.write_bytes(b"damaged " * 4096)
    Path(f"{path}-wal").write_bytes(log)
    kept = restore(str(tmp_path / "copy"), str(path)).replaced
    assert (mails(path), look(str(path)).sound) == (["m1"], True)
    assert Path(f"{kept}-wal").read_bytes() == log
