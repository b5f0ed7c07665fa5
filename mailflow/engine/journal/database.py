"""The journal's file: opening it, and group commits.

Rule of the file: one thread at a time writes, for all that queued while the last
commit was being flushed; nobody waits for a timer.
"""

from __future__ import annotations

import errno
import os
import sqlite3
import threading
from collections.abc import Callable
from contextlib import suppress

from mailflow import sqlite
from mailflow.durable import make_directory
from mailflow.engine.journal.owners import Owner
from mailflow.engine.journal.schema import APPLICATION, MIGRATIONS, newer
from mailflow.errors import InUseError, JournalError, MailflowError, UnavailableError, from_os
from mailflow.typed import Any, TypeVar, cast

T = TypeVar("T")
Transaction = sqlite3.Connection

CHECKPOINT_PAGES = 1000
"""Pages of the write-ahead log that are carried over at once."""


_OF_ONE_CALLER = (
    sqlite3.DataError,
    sqlite3.IntegrityError,
    sqlite3.InterfaceError,
    sqlite3.ProgrammingError,
)
"""What a statement is at fault for, and not the file."""


class Database:
    """One SQLite file in WAL mode, every commit flushed. Shared by all threads.

    `path` is the file; beside it `path`.d holds the owners' directories. Raises
    JournalError where the file cannot be opened, is no journal, or is newer than
    this program. `fresh`: it was made just now.
    """

    def __init__(self, path: str, *, checkpoint: int = CHECKPOINT_PAGES) -> None:
        self.path = path
        self.owners = path + ".d"
        try:
            make_directory(os.path.abspath(self.owners))
        except OSError as error:
            raise _no_place(path, error) from None
        self._queue: list[_Commit] = []
        self._door = threading.Lock()
        self._leader = threading.Lock()
        before = sqlite.identity(path)
        try:
            self._connection = _connect(path, checkpoint)
        except sqlite3.Error as error:
            raise _journal_error(path, error) from None
        try:
            self._migrate()
            self.owner = Owner(self.owners)
            self._file = sqlite.identity(path)
            if before not in (None, self._file):
                self.owner.close()
                raise InUseError(f"the journal {path} was replaced just now; try again")
        except BaseException as error:
            self._connection.close()
            if isinstance(error, sqlite3.Error):
                raise _journal_error(path, error) from None
            raise

    @property
    def is_in_place(self) -> bool:
        """Whether the file at `path` is still the one that was opened."""
        return sqlite.identity(self.path) == self._file

    def commit(self, work: Callable[[Transaction], T]) -> T:
        """Run `work` in a transaction; back once it is on the disk.

        What `work` raises undoes its own changes alone. Raises JournalError.
        """
        mine = _Commit(work)
        with self._door:
            self._queue.append(mine)
        with self._leader:
            if not mine.done:
                with self._door:
                    queue, self._queue = self._queue, []
                self._write(queue)
        if mine.error is not None:
            raise mine.error
        return cast("T", mine.result)

    def read(self, query: Callable[[Transaction], T]) -> T:
        """Run `query` outside any transaction; it fetches all it gives."""
        with self._leader:
            try:
                return query(self._connection)
            except sqlite3.Error as error:
                raise _journal_error(self.path, error) from None

    def close(self) -> None:
        """Leave the owner's directory; what is due stays due."""
        with self._leader, suppress(sqlite3.Error):
            self._connection.close()
        self.owner.close()

    def part(self, work: Callable[[Transaction], T]) -> T:
        """The last commit of a process that exits at once: `work` holds from the instant
        that its last octet is written, and nothing is written, flushed or removed after it.

        A power cut may undo it: only what can be done again belongs here. Others see this
        process alive until they see what `work` has changed.
        """

        def last(tx: Transaction) -> T:
            result = work(tx)
            self.owner.close()
            return result

        self._connection.execute("PRAGMA synchronous = NORMAL")
        self._connection.execute("PRAGMA wal_autocheckpoint = 0")
        return self.commit(last)

    def abandon(self) -> None:
        """Leave without tidying the file: for a process that exits at once, and whose
        successor would otherwise make the write-ahead log anew for every message."""
        self.owner.close()

    def _write(self, queue: list[_Commit]) -> None:
        try:
            sqlite.begin(self._connection)
            try:
                for commit in queue:
                    self._step(commit, alone=len(queue) == 1)
                self._connection.execute("COMMIT")
            except BaseException:
                if self._connection.in_transaction:
                    self._connection.execute("ROLLBACK")
                raise
        except sqlite3.Error as error:
            for commit in queue:
                commit.error = _journal_error(self.path, error)
        except BaseException as error:  # noqa: BLE001  # handed to the callers
            for commit in queue:
                commit.error = commit.error or error
        finally:
            for commit in queue:
                commit.done = True

    def _step(self, commit: _Commit, *, alone: bool) -> None:
        if alone:
            commit.result = commit.work(self._connection)
            return
        self._connection.execute("SAVEPOINT step")
        try:
            commit.result = commit.work(self._connection)
        except _OF_ONE_CALLER as error:
            self._connection.execute("ROLLBACK TO step")
            commit.error = _journal_error(self.path, error)
        except sqlite3.Error:
            raise
        except Exception as error:  # noqa: BLE001  # handed to its own caller
            self._connection.execute("ROLLBACK TO step")
            commit.error = error
        self._connection.execute("RELEASE step")

    def _migrate(self) -> None:
        version = self._version()
        self.fresh = version == 0
        if version:
            self._check(version)
        if version == len(MIGRATIONS):
            return
        self._connection.execute("BEGIN IMMEDIATE")
        version = self._version()
        if not version and self._ask("SELECT count(*) FROM sqlite_master"):
            raise JournalError(f"{self.path} is another program's database, and no journal")
        for number in range(version, len(MIGRATIONS)):
            for statement in sqlite.statements(MIGRATIONS[number]):
                self._connection.execute(statement)
            self._connection.execute(f"PRAGMA user_version = {number + 1}")
        self._connection.execute("COMMIT")

    def _check(self, version: int) -> None:
        if self._ask("PRAGMA application_id") != APPLICATION:
            raise JournalError(f"{self.path} is another program's database, and no journal")
        if version > len(MIGRATIONS):
            raise JournalError(f"{self.path} {newer(version)}")

    def _ask(self, question: str) -> int:
        return cast("int", self._connection.execute(question).fetchone()[0])

    def _version(self) -> int:
        return self._ask("PRAGMA user_version")


class _Commit:
    """One caller's work in the queue, and what came of it."""

    __slots__ = ("done", "error", "result", "work")

    def __init__(self, work: Callable[[Transaction], Any]) -> None:
        self.work = work
        self.result: object = None
        self.error: BaseException | None = None
        self.done = False


_UMASK = threading.Lock()
"""Held while the process has a umask of ours: two that change it at once would leave it so."""


def _connect(path: str, checkpoint: int) -> sqlite3.Connection:
    with _UMASK:
        mask = os.umask(0o077)
        try:
            connection = sqlite3.connect(
                path, timeout=sqlite.BUSY_SECONDS, isolation_level=None, check_same_thread=False
            )
            sqlite.write_ahead(connection)
        finally:
            os.umask(mask)
    connection.execute("PRAGMA synchronous = FULL")
    connection.execute("PRAGMA temp_store = MEMORY")
    connection.execute(f"PRAGMA wal_autocheckpoint = {checkpoint}")
    return connection


def _no_place(path: str, error: OSError) -> MailflowError:
    """Why the directory of a journal cannot be made, and what a user without a home does."""
    refused = error.errno in (errno.EACCES, errno.EPERM, errno.EROFS, errno.ENOTDIR)
    hint = "; `journal` in [pipeline] may name another place" if refused else ""
    failure = from_os(error, f"make {error.filename or path} for the journal {path}")
    return UnavailableError(f"{failure.text}{hint}", errno=error.errno)


def _journal_error(path: str, error: sqlite3.Error) -> JournalError:
    return JournalError(sqlite.complaint("journal", path, error))
