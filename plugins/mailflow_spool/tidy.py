"""Deleted mail leaves the disk: files of which little is left are written anew, smaller.

Rule of the file: a message is moved by one commit that says where it lies now, so that
whoever is cut here leaves a file too many and no message too few; sessions that have an old
file open read on in it.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager

from mailflow.errors import MailflowError, from_os
from mailflow.typed import TYPE_CHECKING
from mailflow_spool.files import Writing, stretch, unclaimed
from mailflow_spool.store import LOST_TICKETS, empty, locked
from mailflow_spool.wire import IN_INDEX, Place

if TYPE_CHECKING:
    from mailflow_spool.index import Transaction
    from mailflow_spool.store import Store

ROWS = 256
ROWS_OCTETS = 4 << 20
"""Where so many messages, or so many octets, are rows of the index, they go into a file."""

AT_ONCE = 1000
"""Messages of the index that go into one file."""

SWEEP_SECONDS = 86400.0

Row = tuple[int, int, Place]
Pieces = Callable[[Place], Iterable[bytes]]


def tidy(store: Store, *, most: int | None = None) -> int:
    """Write anew what wastes more than it keeps, `most` files at a time; gives how many.

    Nothing where another does so now.
    """
    with _alone(store) as alone:
        if not alone:
            return 0
        done = int(_rows_to_file(store))
        for file in _wasteful(store):
            if most is not None and done >= most:
                break
            done += _move(store, file)
        if _due(store):
            sweep(store)
        return done


def sweep(store: Store) -> list[str]:
    """Remove files of bodies that nobody names and nobody writes, and tickets that nobody
    called final for so long; gives the files' names."""
    now = time.time()

    def begin(tx: Transaction) -> None:
        # A commit that failed may still stand in the log; this one is written over it.
        tx.execute("INSERT OR REPLACE INTO facts VALUES ('swept', ?)", (now,))
        tx.execute("DELETE FROM tickets WHERE at < ?", (now - LOST_TICKETS,))

    store.index.commit(begin)
    removed = []
    for name, number in orphans(store):
        lock = unclaimed(store.bodies, number)
        if lock is None:
            continue
        try:
            if not _named(store, number):
                store.bodies.remove(number)
                removed.append(name)
        finally:
            os.close(lock)
    return removed


def orphans(store: Store) -> list[tuple[str, int]]:
    """Files that the index does not name: some are being written."""
    try:
        there = [(name, number) for name, number in store.bodies.numbers() if number is not None]
    except OSError as error:
        raise from_os(error, f"read {store.bodies.path}") from None
    known = store.index.read(
        lambda tx: {row[0] for row in tx.execute("SELECT id FROM files").fetchall()}
    )
    return [(name, number) for name, number in there if number not in known]


def _named(store: Store, number: int) -> bool:
    found = store.index.read(
        lambda tx: tx.execute("SELECT 1 FROM files WHERE id = ?", (number,)).fetchone()
    )
    return found is not None


@contextmanager
def _alone(store: Store) -> Iterator[bool]:
    """Whether nobody else tidies this spool meanwhile."""
    path = os.path.join(store.path, "locks", "tidy")
    try:
        descriptor = locked(path)
    except OSError as error:
        raise from_os(error, f"lock {path}") from None
    try:
        yield descriptor is not None
    finally:
        if descriptor is not None:
            os.close(descriptor)


def _due(store: Store) -> bool:
    row = store.index.read(
        lambda tx: tx.execute("SELECT value FROM facts WHERE name = 'swept'").fetchone()
    )
    return row is None or not 0 <= time.time() - row[0] < SWEEP_SECONDS


def _wasteful(store: Store) -> list[int]:
    rows = store.index.read(
        lambda tx: tx.execute(
            "SELECT id FROM files WHERE live * 2 < octets ORDER BY live - octets"
        ).fetchall()
    )
    return [row[0] for row in rows if row[0] not in store.stuck]


def _lying(store: Store, file: int) -> list[Row]:
    """The messages in a file, as they lie there; those of the index drop by drop."""
    rows = store.index.read(
        lambda tx: tx.execute(
            "SELECT drop_id, number, file, start, octets, size, crc FROM messages WHERE file = ?"
            " ORDER BY file, CASE file WHEN 0 THEN drop_id END, CASE file WHEN 0 THEN number END,"
            " start LIMIT ?", (file, AT_ONCE if file == IN_INDEX else -1),
        ).fetchall()
    )  # fmt: skip
    return [(row[0], row[1], Place(*row[2:])) for row in rows]


def _rows_to_file(store: Store) -> bool:
    """Small messages that came one by one go into a file, once they are many."""
    count, octets = store.index.read(
        lambda tx: tx.execute(
            "SELECT count(*), coalesce(sum(length(octets)), 0) FROM bodies"
        ).fetchone()
    )
    if (count < ROWS and octets < ROWS_OCTETS) or IN_INDEX in store.stuck:
        return False

    def pieces(place: Place) -> Iterable[bytes]:
        row = store.index.read(
            lambda tx: tx.execute(
                "SELECT octets FROM bodies WHERE id = ?", (place.start,)
            ).fetchone()
        )
        return row or ()

    return _write(store, IN_INDEX, _lying(store, IN_INDEX), pieces)


def _move(store: Store, file: int) -> bool:
    """Move what is left of a file into a new one. What is damaged stays where it is."""
    try:
        descriptor, _ = store.bodies.open(file)
    except MailflowError:
        store.stuck.add(file)  # `verify` says what is wrong
        return False
    try:
        return _write(
            store, file, _lying(store, file),
            lambda place: stretch(descriptor, place.start, place.octets),
        )  # fmt: skip
    finally:
        os.close(descriptor)


def _write(store: Store, file: int, rows: list[Row], pieces: Pieces) -> bool:
    """Write these messages, which lie in `file`, into a new one; whether any went."""
    moved: list[Row] = []
    try:
        new = Writing(store.bodies)
        try:
            for drop, number, place in rows:
                copied = new.copy(pieces(place), place)
                if copied is not None:
                    moved.append((drop, number, copied))
            if len(moved) < len(rows):
                store.stuck.add(file)
            if moved:
                new.flush()
        except BaseException:
            new.close(keep=False)
            raise
    except OSError as error:
        raise from_os(error, f"write {store.bodies.path}") from None
    if not moved:
        new.close(keep=False)
        return False
    keep = True
    try:
        live, gone = store.index.commit(lambda tx: _renamed(tx, file, new, moved))
        keep = bool(live)
    finally:
        new.close(keep=keep)
    for each in gone:
        store.bodies.remove(each)
    return True


def _renamed(tx: Transaction, file: int, new: Writing, moved: list[Row]) -> tuple[int, list[int]]:
    """(octets that lie in the new file, files that nobody has any more)."""
    live = 0
    for drop, number, place in moved:
        old = tx.execute(
            "SELECT start FROM messages WHERE drop_id = ? AND number = ? AND file = ?",
            (drop, number, file),
        ).fetchone()
        if old is None:
            continue  # deleted meanwhile
        tx.execute(
            "UPDATE messages SET file = ?, start = ? WHERE drop_id = ? AND number = ?",
            (place.file, place.start, drop, number),
        )
        if file == IN_INDEX:
            tx.execute("DELETE FROM bodies WHERE id = ?", old)
        live += place.octets
    tx.execute("UPDATE files SET live = live - ? WHERE id = ?", (live, file))
    if live:
        tx.execute("INSERT INTO files VALUES (?, ?, ?)", (new.number, new.octets, live))
    return live, empty(tx)
