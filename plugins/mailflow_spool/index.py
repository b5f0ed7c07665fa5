"""The spool's index: which drop has which messages, and where their octets lie (SQLite).

Rule of the file: what a commit has answered is on the disk; a connection that met an error
is never used again, since the disk under it may be another one by now; who has used an index
never makes it anew, since its disk may be back soon.
"""

from __future__ import annotations

import os
import sqlite3
import stat
import threading
from collections.abc import Callable
from contextlib import suppress

from mailflow import disks, sqlite
from mailflow.errors import UnavailableError, from_os
from mailflow.typed import TypeVar

T = TypeVar("T")
Transaction = sqlite3.Connection

APPLICATION = 0x6D667370  # "mfsp"

IDLE = 8
"""So many connections wait for their next use."""

MIGRATIONS = (
    """
    CREATE TABLE drops (
        id INTEGER PRIMARY KEY AUTOINCREMENT,
        name TEXT NOT NULL UNIQUE,
        validity INTEGER NOT NULL,
        next INTEGER NOT NULL DEFAULT 1,
        expire REAL,
        most INTEGER
    );
    CREATE TABLE files (
        id INTEGER PRIMARY KEY,
        octets INTEGER NOT NULL,
        live INTEGER NOT NULL
    );
    CREATE TABLE messages (
        drop_id INTEGER NOT NULL,
        number INTEGER NOT NULL,
        uidl TEXT NOT NULL,
        size INTEGER NOT NULL,
        file INTEGER NOT NULL,
        start INTEGER NOT NULL,
        octets INTEGER NOT NULL,
        crc INTEGER NOT NULL,
        utf8 INTEGER NOT NULL,
        arrived REAL NOT NULL,
        sender TEXT,
        PRIMARY KEY (drop_id, number)
    ) WITHOUT ROWID;
    CREATE UNIQUE INDEX messages_uidl ON messages (drop_id, uidl);
    CREATE INDEX messages_file ON messages (file);
    CREATE TABLE bodies (
        id INTEGER PRIMARY KEY,
        octets BLOB NOT NULL
    );
    CREATE TRIGGER message_gone AFTER DELETE ON messages WHEN old.file != 0 BEGIN
        UPDATE files SET live = live - old.octets WHERE id = old.file;
    END;
    CREATE TRIGGER body_gone AFTER DELETE ON messages WHEN old.file = 0 BEGIN
        DELETE FROM bodies WHERE id = old.start;
    END;
    CREATE TABLE used (
        drop_id INTEGER NOT NULL,
        uidl TEXT NOT NULL,
        PRIMARY KEY (drop_id, uidl)
    ) WITHOUT ROWID;
    CREATE TABLE tickets (
        key TEXT PRIMARY KEY,
        at REAL NOT NULL
    ) WITHOUT ROWID;
    CREATE TABLE facts (
        name TEXT PRIMARY KEY,
        value
    ) WITHOUT ROWID;
    """,
)
"""A message lies in `file`, which is named after that number, from `start` on; where `file`
is 0 its octets are the row `start` of `bodies`. `files`: `octets` it was written with, `live`
those that messages still have. `used`: UIDLs that were not made of a number, which must not
come again. `tickets`: deliveries that the journal may hand in once more."""


class Index:
    """One SQLite file in WAL mode. Shared by all threads of a process; and others' processes
    have their own.

    Raises UnavailableError, from every call, where the file cannot be used.
    """

    def __init__(self, path: str) -> None:
        self.path = path
        self._idle: list[sqlite3.Connection] = []
        self._writing = threading.Lock()
        self._file: tuple[int, int] | None = None
        self._put_back(self._connect())
        disks.used(path)

    def read(self, query: Callable[[Transaction], T]) -> T:
        """Run `query`, which is one statement and fetches all it gives."""
        connection = self._take()
        try:
            result = query(connection)
        except BaseException as error:
            connection.close()
            if isinstance(error, sqlite3.Error):
                self.close()
                raise failure(self.path, error) from None
            raise
        self._put_back(connection)
        return result

    def commit(self, work: Callable[[Transaction], T], *, lasting: bool = True) -> T:
        """Run `work` in a transaction; back once it is on the disk.

        What is not `lasting` may be undone by a power cut, never halved.
        """
        with self._writing:
            connection = self._take()
            try:
                if not lasting:
                    connection.execute("PRAGMA synchronous = NORMAL")
                sqlite.begin(connection)
                result = work(connection)
                connection.execute("COMMIT")
                if not lasting:
                    connection.execute("PRAGMA synchronous = FULL")
            except BaseException as error:
                with suppress(sqlite3.Error):
                    if connection.in_transaction:
                        connection.execute("ROLLBACK")
                connection.close()
                if isinstance(error, sqlite3.Error):
                    self.close()
                    raise failure(self.path, error) from None
                raise
            self._put_back(connection)
        return result

    def close(self) -> None:
        """Close what is idle; whoever still uses a connection ends it himself."""
        while self._idle:
            with suppress(IndexError, sqlite3.Error):
                self._idle.pop().close()

    def _take(self) -> sqlite3.Connection:
        if sqlite.identity(self.path) != self._file:
            self.close()  # another file was put in its place: those open are of the old one
        connection = None
        with suppress(IndexError):
            connection = self._idle.pop()
        return connection or self._connect()

    def _put_back(self, connection: sqlite3.Connection) -> None:
        if len(self._idle) < IDLE:
            self._idle.append(connection)
        else:
            connection.close()

    def _connect(self) -> sqlite3.Connection:
        connection = None
        try:
            look_for(self.path)
            _make_private(self.path)
            connection = sqlite3.connect(
                self.path,
                timeout=sqlite.BUSY_SECONDS,
                isolation_level=None,
                check_same_thread=False,
            )  # fmt: skip
            sqlite.write_ahead(connection)
            connection.execute("PRAGMA synchronous = FULL")
            connection.execute("PRAGMA temp_store = MEMORY")
            _migrate(connection, self.path)
            self._file = sqlite.identity(self.path)
        except BaseException as error:
            if connection is not None:
                connection.close()
            if isinstance(error, sqlite3.Error):
                raise failure(self.path, error) from None
            raise
        return connection


def look_for(path: str) -> None:
    """Raise UnavailableError where this process has used that index, and it is gone."""
    if disks.is_gone(path):
        raise UnavailableError(
            f"the spool {path} is gone; is its disk there? A new one is made after a restart"
        )


def _make_private(path: str) -> None:
    """Make the file where it is missing, 0600 whatever the umask: SQLite gives the files
    beside it the same mode. Raises UnavailableError where another's file, or a link, or a
    device stands there."""
    try:
        with suppress(FileExistsError):
            flags = os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC | os.O_NOFOLLOW
            descriptor = os.open(path, flags, 0o600)
            os.fchmod(descriptor, 0o600)
            os.close(descriptor)
        for name in (path, f"{path}-wal", f"{path}-shm"):
            with suppress(FileNotFoundError):
                status = os.lstat(name)
                if not stat.S_ISREG(status.st_mode) or status.st_nlink > 1:
                    raise UnavailableError(f"{name} is a link or no regular file; remove it")
    except OSError as error:
        raise from_os(error, f"open {path}") from None


def _migrate(connection: sqlite3.Connection, path: str) -> None:
    version = _ask(connection, "PRAGMA user_version")
    if version:
        _check(connection, path, version)
    if version == len(MIGRATIONS):
        return
    sqlite.begin(connection)
    version = _ask(connection, "PRAGMA user_version")
    if not version and _ask(connection, "SELECT count(*) FROM sqlite_master"):
        raise UnavailableError(f"{path} is another program's database, and no spool")
    for number in range(version, len(MIGRATIONS)):
        for statement in sqlite.statements(MIGRATIONS[number]):
            connection.execute(statement)
        connection.execute(f"PRAGMA user_version = {number + 1}")
    connection.execute(f"PRAGMA application_id = {APPLICATION}")
    connection.execute("COMMIT")


def _check(connection: sqlite3.Connection, path: str, version: int) -> None:
    if _ask(connection, "PRAGMA application_id") != APPLICATION:
        raise UnavailableError(f"{path} is another program's database, and no spool")
    if version > len(MIGRATIONS):
        raise UnavailableError(f"{path} was written by a newer mailflow; use that one")


def _ask(connection: sqlite3.Connection, question: str) -> int:
    answer: int = connection.execute(question).fetchone()[0]
    return answer


def failure(path: str, error: sqlite3.Error) -> UnavailableError:
    """What SQLite complains of; `fields["full"]` where the disk is full."""
    full = (getattr(error, "sqlite_errorname", "") or "").startswith("SQLITE_FULL")
    return UnavailableError(sqlite.complaint("spool", path, error), full=full)
