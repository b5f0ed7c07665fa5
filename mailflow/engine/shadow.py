"""A journal that is only looked at: for commands that say what would happen.

Rule of the file: nothing is written; where there is no journal yet, an empty one in
memory stands for it, and nobody becomes an owner.
"""

from __future__ import annotations

import os
import shutil
import sqlite3
import tempfile
import threading
from collections.abc import Callable
from contextlib import suppress

from mailflow import sqlite
from mailflow.engine.journal.database import Database, Transaction
from mailflow.engine.journal.owners import Owner
from mailflow.engine.journal.schema import MIGRATIONS
from mailflow.errors import JournalError
from mailflow.typed import NoReturn, TypeVar

T = TypeVar("T")


class Shadow(Database):
    """The journal at `path` as it stands. Raises JournalError where it is none."""

    def __init__(self, path: str) -> None:
        self.path = path
        self.owners = path + ".d"
        self.owner = _Nobody()
        self._leader = threading.Lock()
        there = os.path.exists(path)
        from urllib.parse import quote

        name = f"file:{quote(path)}?mode={_mode(path)}" if there else ":memory:"
        try:
            self._connection = sqlite3.connect(
                name, uri=there, timeout=sqlite.BUSY_SECONDS, isolation_level=None,
                check_same_thread=False,
            )  # fmt: skip
            if there:
                self._connection.execute("PRAGMA query_only = ON")
                self._known()
            else:
                self._migrate()
        except sqlite3.Error as error:
            raise JournalError(sqlite.complaint("journal", path, error)) from None

    def _known(self) -> None:
        """Raise JournalError for a file that is no journal of this version."""
        version = self._version()
        self._check(version)
        if version < len(MIGRATIONS):
            raise JournalError(f"{self.path} is of an older mailflow; the next `run` renews it")

    def commit(self, work: Callable[[Transaction], T]) -> NoReturn:
        raise JournalError(f"{self.path} is only looked at")

    def close(self) -> None:
        with self._leader, suppress(sqlite3.Error):
            self._connection.close()
        self.owner.close()


def _mode(path: str) -> str:
    """Read-only, SQLite carries over no write-ahead log that it finds; but where it finds
    none, it leaves one behind."""
    return "ro" if os.path.exists(path + "-wal") else "rw"


class _Nobody(Owner):
    """An owner without a lock; its directory, made when it is needed, is a passing one."""

    def __init__(self) -> None:
        self.id = ""
        self._made = ""

    @property
    def directory(self) -> str:  # type: ignore[override]
        if not self._made:
            self._made = tempfile.mkdtemp(prefix="mailflow-")
        return self._made

    def close(self) -> None:
        if self._made:
            shutil.rmtree(self._made, ignore_errors=True)
            self._made = ""
