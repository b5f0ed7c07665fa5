"""Where the octets of mail are kept: small ones in rows, large ones in files.

Rule of the file: a file is whole and flushed, its directory too, before the
transaction that names it.
"""

from __future__ import annotations

import os
import sqlite3
from collections.abc import Iterator
from contextlib import suppress

from mailflow.durable import flush_directory
from mailflow.engine.journal.database import Database
from mailflow.errors import BadMailError, JournalError, from_os
from mailflow.mail import Content, OctetFile, Octets, Spliced, chunks
from mailflow.record import NamedTuple

ROW_LIMIT = 256 << 10
"""Bodies of more octets than this are files."""


class Body(NamedTuple):
    """A stored body, ready to be named by a transaction."""

    size: int
    data: bytes | None
    file: str | None


def store(journal: Database, content: Content, name: str) -> Body:
    """Make `content` last: nothing to do for a row; a file is written and flushed.

    `name` is unique in the journal. A file that lies in this owner's directory
    already is taken over. Raises UnavailableError, or BadMailError where the content
    itself cannot be read.
    """
    if content.size <= ROW_LIMIT:
        return Body(content.size, b"".join(_octets(content)), None)
    path = os.path.join(journal.owner.directory, name)
    try:
        if isinstance(content, OctetFile) and _lies_in(content.path, journal.owner.directory):
            descriptor = os.open(content.path, os.O_RDONLY)
            try:
                os.fsync(descriptor)
            finally:
                os.close(descriptor)
            os.rename(content.path, path)
            content.path = path
        else:
            _write(path, content)
        flush_directory(journal.owner.directory)
        flush_directory(journal.owners)
    except OSError as error:
        raise from_os(error, f"write {path}") from None
    return Body(content.size, None, f"{journal.owner.id}/{name}")


def insert(tx: sqlite3.Connection, mail: str, copy: int, body: Body) -> None:
    tx.execute(
        "INSERT OR REPLACE INTO body (mail, copy, size, data, file) VALUES (?, ?, ?, ?, ?)",
        (mail, copy, *body),
    )


def load(journal: Database, tx: sqlite3.Connection, mail: str, copy: int) -> Content:
    """The content of a body. Raises JournalError where it is gone."""
    row = tx.execute(
        "SELECT size, data, file FROM body WHERE mail = ? AND copy = ?", (mail, copy)
    ).fetchone()
    if row is None:
        raise JournalError(f"the journal {journal.path} has no body of mail {mail}")
    size, data, file = row
    if file is None:
        return Octets(data)
    path = os.path.join(journal.owners, file)
    if not os.path.exists(path):
        raise JournalError(f"the journal {journal.path} has lost {path}, the body of mail {mail}")
    return OctetFile(path, size)


def drop(tx: sqlite3.Connection, mail: str) -> list[str]:
    """Forget the bodies of a mail; gives the files to remove after the commit."""
    rows = tx.execute("SELECT file FROM body WHERE mail = ? AND file IS NOT NULL", (mail,))
    files = [row[0] for row in rows.fetchall()]
    tx.execute("DELETE FROM body WHERE mail = ?", (mail,))
    return files


def discard(journal: Database, content: Content) -> None:
    """Nobody needs these octets any more: remove their file if it is this process's own."""
    if isinstance(content, OctetFile) and _lies_in(content.path, journal.owner.directory):
        with suppress(OSError):
            os.unlink(content.path)


def remove(journal: Database, files: list[str]) -> None:
    """Remove files that no row names any more; what fails is swept later."""
    for file in files:
        path = os.path.join(journal.owners, file)
        try:
            os.unlink(path)
            os.rmdir(os.path.dirname(path))
        except OSError:
            pass  # still in use by its owner, or swept at the next start


def parts(content: Content, original: Content) -> tuple[bytes | None, int] | None:
    """(head, offset) of a content made from `original`; None if it shares nothing."""
    if content is original:
        return None, 0
    if isinstance(content, Spliced) and content.base is original:
        return content.head, content.offset
    return None


def _octets(content: Content) -> Iterator[bytes]:
    try:
        yield from chunks(content)
    except OSError as error:
        reason = from_os(error, "read the octets of a mail").text
        raise BadMailError(reason) from None


def _lies_in(path: str, directory: str) -> bool:
    return os.path.dirname(os.path.abspath(path)) == os.path.abspath(directory)


def _write(path: str, content: Content) -> None:
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
    try:
        for piece in _octets(content):
            view = memoryview(piece)
            while view:
                view = view[os.write(descriptor, view) :]
        os.fsync(descriptor)
    except BaseException:
        os.unlink(path)
        raise
    finally:
        os.close(descriptor)
