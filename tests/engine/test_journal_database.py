"""The journal's file: group commits, opening, and every way in which a disk says no."""

from __future__ import annotations

import os
import resource
import signal
import sqlite3
import stat
import subprocess
import sys
import tempfile
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from mailflow import sqlite
from mailflow.engine.journal import Database, database
from mailflow.engine.journal.database import Transaction
from mailflow.engine.journal.schema import MIGRATIONS
from mailflow.errors import JournalError, MailflowError, UnavailableError


@pytest.fixture
def path(tmp_path: Path) -> str:
    return str(tmp_path / "state" / "journal.db")


@pytest.fixture
def journal(path: str) -> Iterator[Database]:
    opened = Database(path)
    yield opened
    opened.close()


def tell(what: str) -> Callable[[Transaction], None]:
    """Write one row."""

    def work(tx: Transaction) -> None:
        tx.execute("INSERT INTO story (mail, at, step, what, text) VALUES ('', 0, '', ?, '')",
                   (what,))  # fmt: skip

    return work


def told(path: str) -> list[str]:
    connection = sqlite3.connect(path)
    try:
        return [row[0] for row in connection.execute("SELECT what FROM story ORDER BY rowid")]
    finally:
        connection.close()


def test_a_commit_is_there_for_other_processes_when_it_comes_back(journal: Database) -> None:
    journal.commit(tell("one"))
    assert told(journal.path) == ["one"]


def test_a_commit_gives_what_its_work_gives(journal: Database) -> None:
    assert journal.commit(lambda tx: tx.execute("SELECT 6 * 7").fetchone()[0]) == 42


def test_what_a_work_raises_undoes_it_and_reaches_its_caller(journal: Database) -> None:
    def work(tx: Transaction) -> None:
        tell("never")(tx)
        raise KeyError("mine")

    with pytest.raises(KeyError, match="mine"):
        journal.commit(work)
    assert told(journal.path) == []
    journal.commit(tell("after"))
    assert told(journal.path) == ["after"]


class Crowd:
    """Commits of many threads that meet: all queue while the first is being written."""

    def __init__(self, journal: Database) -> None:
        self.journal = journal
        self.results: dict[str, object] = {}
        self._threads: list[threading.Thread] = []
        self._go_on = threading.Event()
        started = threading.Event()

        def first(tx: Transaction) -> None:
            started.set()
            assert self._go_on.wait(10)

        self._start("first", first)
        assert started.wait(10)

    def commit(self, name: str, work: Callable[[Transaction], object]) -> None:
        self._start(name, work)

    def _start(self, name: str, work: Callable[[Transaction], object]) -> None:
        def run() -> None:
            try:
                self.results[name] = self.journal.commit(work)
            except Exception as error:
                self.results[name] = error

        thread = threading.Thread(target=run)
        self._threads.append(thread)
        thread.start()

    def end(self) -> dict[str, object]:
        deadline = threading.Event()
        while len(self.journal._queue) < len(self._threads) - 1:
            deadline.wait(0.001)
        self._go_on.set()
        for thread in self._threads:
            thread.join()
        return self.results


def test_writers_that_wait_share_one_transaction(journal: Database) -> None:
    begun: list[str] = []
    journal._connection.set_trace_callback(
        lambda statement: begun.append(statement) if statement.startswith("COMMIT") else None
    )
    crowd = Crowd(journal)
    for number in range(20):
        crowd.commit(f"t{number}", tell(str(number)))
    crowd.end()
    assert len(begun) == 2
    assert sorted(told(journal.path), key=int) == [str(number) for number in range(20)]


@pytest.mark.parametrize(
    ("fault", "kind"),
    [
        (lambda tx: 1 / 0, ZeroDivisionError),
        (lambda tx: tx.execute("INSERT INTO story (mail) VALUES (NULL)"), JournalError),
        (lambda tx: tx.execute("INSERT INTO story VALUES (?, 0, '', '', '')", (object(),)),
         JournalError),
        (lambda tx: tx.execute("INSERT INTO story VALUES (?, 0, '', '', '')", ("\udce9",)),
         UnicodeEncodeError),
    ],
)  # fmt: skip
def test_one_that_fails_harms_only_its_caller(
    journal: Database, fault: Callable[[Transaction], object], kind: type[Exception]
) -> None:
    def bad(tx: Transaction) -> None:
        tell("never")(tx)
        fault(tx)

    crowd = Crowd(journal)
    crowd.commit("before", tell("before"))
    crowd.commit("bad", bad)
    crowd.commit("after", tell("after"))
    results = crowd.end()
    assert isinstance(results["bad"], kind)
    assert results["before"] is results["after"] is None
    assert sorted(told(journal.path)) == ["after", "before"]


def test_readers_see_no_half_of_a_commit_and_keep_nobody_waiting(journal: Database) -> None:
    other = sqlite3.connect(journal.path)
    seen: list[int] = []

    def work(tx: Transaction) -> None:
        tell("a")(tx)
        seen.append(other.execute("SELECT count(*) FROM story").fetchone()[0])
        tell("b")(tx)

    journal.commit(work)
    assert seen == [0]
    assert other.execute("SELECT count(*) FROM story").fetchone() == (2,)
    other.close()


def test_every_commit_is_flushed(journal: Database) -> None:
    assert journal.read(lambda tx: tx.execute("PRAGMA synchronous").fetchone()[0]) == 2  # FULL
    assert journal.read(lambda tx: tx.execute("PRAGMA journal_mode").fetchone()[0]) == "wal"


def test_c07_what_it_makes_is_its_owners_alone_whatever_the_umask(path: str) -> None:
    before = os.umask(0)
    try:
        journal = Database(path)
        journal.commit(tell("one"))
        try:
            modes = {
                str(entry.relative_to(Path(path).parent)): stat.S_IMODE(entry.stat().st_mode)
                for entry in [*Path(path).parent.rglob("*"), Path(path).parent]
            }
        finally:
            journal.close()
    finally:
        assert os.umask(before) == 0
    assert modes
    assert {name: oct(mode) for name, mode in modes.items() if mode & 0o077} == {}


class TestOpening:
    def test_a_new_file_has_every_migration(self, journal: Database) -> None:
        assert journal.fresh
        assert journal.read(lambda tx: tx.execute("PRAGMA user_version").fetchone()) == (
            len(MIGRATIONS),
        )

    def test_an_older_journal_is_brought_up_to_date_and_keeps_its_rows(
        self, path: str, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        old = Database(path)
        old.commit(tell("kept"))
        old.close()
        added = "ALTER TABLE source ADD COLUMN colour TEXT;\nCREATE TABLE next (n INTEGER);"
        monkeypatch.setattr(database, "MIGRATIONS", (*MIGRATIONS, added))
        new = Database(path)
        assert not new.fresh
        assert new.read(lambda tx: tx.execute("SELECT count(*) FROM next").fetchone()) == (0,)
        assert new.read(lambda tx: tx.execute("PRAGMA user_version").fetchone()) == (
            len(MIGRATIONS) + 1,
        )
        new.close()
        assert told(path) == ["kept"]

    def test_a_migration_that_fails_leaves_the_journal_as_it_was(
        self, path: str, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        old = Database(path)
        old.commit(tell("kept"))
        old.close()
        with monkeypatch.context() as patch:
            wrong = "CREATE TABLE next (n INTEGER);\nCREATE TABLE mail (n INTEGER);"
            patch.setattr(database, "MIGRATIONS", (*MIGRATIONS, wrong))
            with pytest.raises(JournalError):
                Database(path)
        again = Database(path)
        with pytest.raises(JournalError, match="no such table: next"):
            again.read(lambda tx: tx.execute("SELECT * FROM next").fetchall())
        again.close()
        assert told(path) == ["kept"]

    def test_a_journal_of_a_newer_program_is_left_alone(self, path: str) -> None:
        Database(path).close()
        connection = sqlite3.connect(path)
        connection.execute(f"PRAGMA user_version = {len(MIGRATIONS) + 1}")
        connection.close()
        with pytest.raises(JournalError, match="written by a newer mailflow"):
            Database(path)

    @pytest.mark.parametrize("version", [0, 1, 99])
    def test_another_programs_database_is_left_alone(self, tmp_path: Path, version: int) -> None:
        path = tmp_path / "theirs.db"
        connection = sqlite3.connect(path)
        connection.execute("CREATE TABLE theirs (n INTEGER)")
        connection.execute(f"PRAGMA user_version = {version}")
        connection.close()
        with pytest.raises(JournalError, match="another program's database"):
            Database(str(path))
        connection = sqlite3.connect(path)
        assert connection.execute("SELECT name FROM sqlite_master").fetchall() == [("theirs",)]
        connection.close()

    @pytest.mark.parametrize(
        "octets", [b"From: ann\n" * 500, b"SQLite format 3\0" + b"\xff" * 8000]
    )
    def test_a_file_that_is_no_journal_is_left_alone(self, tmp_path: Path, octets: bytes) -> None:
        path = tmp_path / "letter"
        path.write_bytes(octets)
        with pytest.raises(JournalError, match="damaged or no journal; nothing was changed"):
            Database(str(path))
        assert path.read_bytes() == octets

    def test_a_damaged_journal_says_so_in_one_line(self, path: str) -> None:
        journal = Database(path)
        for number in range(300):
            journal.commit(tell("x" * 200 + str(number)))
        journal.close()
        octets = bytearray(Path(path).read_bytes())
        octets[4096:-4096] = b"\xa5" * (len(octets) - 8192)
        Path(path).write_bytes(octets)
        with pytest.raises(JournalError) as caught:
            Database(path).read(lambda tx: tx.execute("SELECT * FROM story").fetchall())
        assert "damaged" in caught.value.text
        assert "\n" not in caught.value.text

    def test_a_directory_is_no_journal(self, tmp_path: Path) -> None:
        with pytest.raises(JournalError) as caught:
            Database(str(tmp_path))
        assert str(tmp_path) in caught.value.text

    def test_a_directory_that_cannot_be_made_is_one_line(self, tmp_path: Path) -> None:
        (tmp_path / "file").write_text("")
        said = "Not a directory; `journal` in .pipeline. may name another place$"
        with pytest.raises(UnavailableError, match=said):
            Database(str(tmp_path / "file" / "journal.db"))

    def test_one_that_cannot_be_opened_leaves_no_descriptor_behind(self, path: str) -> None:
        Database(path).close()
        connection = sqlite3.connect(path)
        connection.execute("PRAGMA user_version = 99")
        connection.close()
        before = os.listdir("/proc/self/fd")
        for _ in range(3):
            with pytest.raises(JournalError):
                Database(path)
        assert os.listdir("/proc/self/fd") == before

    def test_many_processes_may_make_it_at_once(self, path: str) -> None:
        program = (
            "import sys; from mailflow.engine.journal import Database;"
            "sys.stdin.read(1); j = Database(sys.argv[1]);"
            "j.commit(lambda tx: tx.execute("
            "\"INSERT INTO story VALUES ('', 0, '', 'x', '')\")); j.abandon()"
        )
        children = [
            subprocess.Popen(
                [sys.executable, "-c", program, path], stdin=subprocess.PIPE, stderr=subprocess.PIPE
            )
            for _ in range(12)
        ]
        for child in children:
            assert child.stdin is not None
            child.stdin.write(b"!")
            child.stdin.flush()
        errors = [child.communicate()[1] for child in children]
        assert errors == [b""] * 12
        assert told(path) == ["x"] * 12

    def test_two_that_switch_it_to_wal_at_once_wait_for_each_other(self) -> None:
        """SQLite refuses one of them at once, whatever its time-out."""

        class Meeting:
            mode = "delete"
            refusals = 2

            def execute(self, statement: str) -> Meeting:
                if "=" in statement and self.refusals:
                    self.refusals -= 1
                    error = sqlite3.OperationalError("database is locked")
                    error.sqlite_errorcode = sqlite3.SQLITE_BUSY
                    raise error
                self.mode = "wal" if "=" in statement else self.mode
                return self

            def fetchone(self) -> tuple[str]:
                return (self.mode,)

        meeting = Meeting()
        sqlite.write_ahead(meeting)  # type: ignore[arg-type]
        assert (meeting.mode, meeting.refusals) == ("wal", 0)


class TestRefusal:
    def test_a_lock_that_is_kept_is_waited_for_and_then_one_line(
        self, path: str, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        assert sqlite.BUSY_SECONDS == 60
        monkeypatch.setattr(sqlite, "BUSY_SECONDS", 0.2)
        journal = Database(path)
        other = sqlite3.connect(path, isolation_level=None)
        other.execute("BEGIN IMMEDIATE")
        with pytest.raises(JournalError, match="kept locked by another process"):
            journal.commit(tell("one"))
        other.execute("ROLLBACK")
        other.close()
        journal.commit(tell("two"))
        journal.close()
        assert told(path) == ["two"]

    def test_a_lock_of_others_is_looked_at_often_and_had_when_it_is_free(
        self, path: str, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        journal = Database(path)
        other = sqlite3.connect(path, isolation_level=None, check_same_thread=False)
        other.execute("BEGIN IMMEDIATE")
        slept: list[float] = []

        def sleep(seconds: float) -> None:
            slept.append(seconds)
            if len(slept) == 3:
                other.execute("ROLLBACK")

        monkeypatch.setattr(sqlite.time, "sleep", sleep)
        journal.commit(tell("one"))
        patience = journal.read(lambda tx: tx.execute("PRAGMA busy_timeout").fetchone()[0])
        other.close()
        journal.close()
        assert slept == [sqlite.LOOK_SECONDS] * 3
        assert patience == 1000 * sqlite.BUSY_SECONDS, "readers have SQLite wait for them"
        assert told(path) == ["one"]

    def test_d01_a_full_disk_is_one_line_and_loses_nothing_that_was_committed(
        self, path: str
    ) -> None:
        """RLIMIT_FSIZE stands for the full disk; it needs no root."""

        def fill() -> None:
            signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
            journal = Database(path)
            resource.setrlimit(resource.RLIMIT_FSIZE, (300_000, 300_000))
            count = 0
            try:
                while count < 1000:
                    journal.commit(tell("x" * 5000))
                    count += 1
                    print(count, flush=True)
            except JournalError as error:
                print(error.exit_code, error.temporary, error.text, flush=True)
            print(len(journal.read(lambda tx: tx.execute("SELECT * FROM story").fetchall())))

        *counts, text, seen = _in_a_child(fill)
        assert counts
        assert text.startswith("74 True ")
        assert path in text
        assert int(seen) == int(counts[-1])
        Database(path).close()
        assert len(told(path)) == int(counts[-1])

    @pytest.mark.skipif(os.geteuid() != 0, reason="mounts a tmpfs: needs root")
    def test_d01_a_full_file_system_says_make_room(self, tmp_path: Path) -> None:
        with _tmpfs(tmp_path / "small", "size=512k") as small:
            path = str(small / "journal.db")
            journal = Database(path)
            with pytest.raises(JournalError, match="is full; make room"):
                _fill(journal)
            count = len(told(path))
            assert count > 10
            journal.close()
            assert len(told(path)) == count

    @pytest.mark.skipif(os.geteuid() != 0, reason="mounts a tmpfs: needs root")
    def test_d01_a_read_only_file_system_is_one_line(self, tmp_path: Path) -> None:
        with _tmpfs(tmp_path / "small", "size=4m") as small:
            path = str(small / "journal.db")
            journal = Database(path)
            journal.commit(tell("one"))
            journal.close()
            subprocess.run(["mount", "-o", "remount,ro", str(small)], check=True)
            with pytest.raises(MailflowError) as caught:
                Database(path)
            assert "ead-only" in caught.value.text
            assert caught.value.exit_code in (74, 75)
            assert "\n" not in caught.value.text

    def test_a_journal_that_may_only_be_read_is_one_line(self) -> None:
        def look() -> None:
            if os.geteuid() == 0:
                os.chown(directory, 65534, 65534)
                os.setuid(65534)  # root may write whatever it may read
            path = os.path.join(directory, "journal.db")
            Database(path).close()
            os.chmod(path, 0o400)
            try:
                Database(path).commit(tell("one"))
            except MailflowError as error:
                print(f"{error.exit_code} {error.text.replace(path, 'PATH')}")

        with tempfile.TemporaryDirectory() as directory:
            assert _in_a_child(look) == ["74 the journal PATH cannot be written: it is read-only"]

    @pytest.mark.skipif(os.geteuid() != 0, reason="only root can leave a journal of root's")
    def test_one_that_root_has_left_is_told_with_what_to_run(self) -> None:
        def look() -> None:
            path = os.path.join(directory, "journal.db")
            Database(path).close()
            os.chown(directory, 65534, 65534)
            os.chown(path + ".d", 65534, 65534)
            os.setuid(65534)
            try:
                Database(path).commit(tell("one"))
            except MailflowError as error:
                print(f"{error.exit_code} {error.text.replace(path, 'PATH')}")

        with tempfile.TemporaryDirectory() as directory:
            (line,) = _in_a_child(look)
            assert line == (
                "74 the journal PATH belongs to root, as whom mailflow was run before;"
                " run as root: chown -R 65534 PATH*"
            )


def _fill(journal: Database) -> None:
    for number in range(1000):
        journal.commit(tell(f"{number:5000}"))


def _in_a_child(work: Callable[[], None]) -> list[str]:
    """The lines that `work` prints in a process of its own."""
    reader, writer = os.pipe()
    child = os.fork()
    if not child:
        try:
            os.close(reader)
            os.dup2(writer, 1)
            sys.stdout = os.fdopen(1, "w")
            work()
            sys.stdout.flush()
        finally:
            os._exit(0)
    os.close(writer)
    with os.fdopen(reader) as output:
        lines = output.read().splitlines()
    os.waitpid(child, 0)
    return lines


class _tmpfs:  # noqa: N801
    def __init__(self, path: Path, options: str) -> None:
        self.path, self.options = path, options

    def __enter__(self) -> Path:
        self.path.mkdir()
        subprocess.run(["mount", "-t", "tmpfs", "-o", self.options, "none", self.path], check=True)
        return self.path

    def __exit__(self, *_: object) -> None:
        subprocess.run(["umount", "-l", self.path], check=True)


def test_journals_opened_at_once_leave_the_umask_as_it_was(tmp_path: Path) -> None:
    before = os.umask(0o022)
    try:
        for _ in range(5):
            threads = [
                threading.Thread(target=lambda n=n: Database(str(tmp_path / f"{n}.db")).close())
                for n in range(8)
            ]
            for thread in threads:
                thread.start()
            for thread in threads:
                thread.join()
        assert os.umask(0o022) == 0o022
    finally:
        os.umask(before)
