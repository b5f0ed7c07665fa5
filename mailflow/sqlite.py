"""SQLite files that many processes share: WAL, waiting for one's turn, and what went wrong.

Rule of the file: nobody waits longer than BUSY_SECONDS, and whoever waits looks often:
SQLite's own waits grow to 0.1 s, for which a file stands idle while fifty wait for it.
"""

from __future__ import annotations

import os
import sqlite3
import time

BUSY_SECONDS = 60.0

LOOK_SECONDS = 0.005
"""Between two looks whether a file is free to be written."""


def write_ahead(connection: sqlite3.Connection) -> None:
    """Switch a new file to WAL. SQLite does not wait for others that do the same. Raises
    sqlite3.Error."""
    until = time.monotonic() + BUSY_SECONDS
    while connection.execute("PRAGMA journal_mode").fetchone()[0] != "wal":
        try:
            connection.execute("PRAGMA journal_mode = WAL")
        except sqlite3.OperationalError as error:
            if not _is_busy(error) or time.monotonic() > until:
                raise
            time.sleep(0.01)


def begin(connection: sqlite3.Connection) -> None:
    """Have the file for this connection alone to write, as soon as others let it. Raises
    sqlite3.Error."""
    until = time.monotonic() + BUSY_SECONDS
    connection.execute("PRAGMA busy_timeout = 0")
    try:
        while True:
            try:
                connection.execute("BEGIN IMMEDIATE")
            except sqlite3.OperationalError as error:
                if not _is_busy(error) or time.monotonic() > until:
                    raise
                time.sleep(LOOK_SECONDS)
            else:
                return
    finally:
        connection.execute(f"PRAGMA busy_timeout = {int(BUSY_SECONDS * 1000)}")


def statements(script: str) -> list[str]:
    """The statements of a script, which executescript() would not run in a transaction."""
    found, current = [], ""
    for line in script.splitlines():
        current += line + "\n"
        if sqlite3.complete_statement(current):
            found.append(current)
            current = ""
    return found


def identity(path: str) -> tuple[int, int] | None:
    """Which file that is, as (device, inode); None where it cannot be seen."""
    try:
        found = os.stat(path)
    except OSError:
        return None
    return found.st_dev, found.st_ino


_LOOKERS = {"journal": "mailflow journal check", "spool": "mailflow spool verify"}
"""By the kind of file, the command that looks it over."""


def complaint(what: str, path: str, error: sqlite3.Error) -> str:
    """What SQLite complains of, as the one line a user can act on; `what` is the kind of
    file, such as "journal"."""
    code = getattr(error, "sqlite_errorname", "") or ""
    if code.startswith("SQLITE_FULL"):
        return f"the disk of the {what} {path} is full; make room"
    if code.startswith(("SQLITE_CORRUPT", "SQLITE_NOTADB")):
        more = f"; `{_LOOKERS[what]}` says more" if what in _LOOKERS else ""
        return f"{path} is damaged or no {what}; nothing was changed in it{more}"
    if code.startswith("SQLITE_BUSY"):
        return f"the {what} {path} is kept locked by another process"
    if code.startswith(("SQLITE_READONLY", "SQLITE_CANTOPEN")) and (owner := _stranger(path)):
        return (
            f"the {what} {path} belongs to {owner}, as whom mailflow was run before;"
            f" run as root: chown -R {os.geteuid()} {path}*"
        )
    if code.startswith("SQLITE_READONLY"):
        return f"the {what} {path} cannot be written: it is read-only"
    if code.startswith("SQLITE_CANTOPEN"):
        if os.path.isfile(path) and not os.access(os.path.dirname(path), os.W_OK):
            return f"the {what} {path} cannot be written: its directory is read-only"
        why = "it is a directory" if os.path.isdir(path) else "may you read its directory?"
        return f"the {what} {path} cannot be opened: {why}"
    return f"the {what} {path} fails: {error}"


def _stranger(path: str) -> str:
    """Whose a file is, or one beside it, that we may not write; "" where they are ours."""
    for each in (path, f"{path}-wal", f"{path}-shm"):
        try:
            owner = os.stat(each).st_uid
        except OSError:
            continue
        if owner != os.geteuid() and not os.access(each, os.R_OK | os.W_OK):
            return "root" if owner == 0 else f"another user (uid {owner})"
    return ""


def _is_busy(error: sqlite3.OperationalError) -> bool:
    return error.sqlite_errorcode & 0xFF == sqlite3.SQLITE_BUSY
