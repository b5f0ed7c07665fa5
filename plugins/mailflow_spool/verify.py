"""Whether a spool is whole: every damage, in words.

Rule of the file: it reads all there is and changes nothing; what a client or a pipeline does
meanwhile is no damage.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Iterable, Iterator
from zlib import crc32

from mailflow.errors import MailflowError, from_os
from mailflow.record import NamedTuple
from mailflow.typed import TYPE_CHECKING, Any
from mailflow_spool import tidy, uidl
from mailflow_spool.files import oddity, stretch, unclaimed
from mailflow_spool.wire import END, FRAME, HEAD, IN_INDEX, Place, unstuffed_size

if TYPE_CHECKING:
    from mailflow_spool.index import Transaction
    from mailflow_spool.store import Store


class Damage(NamedTuple):
    """Something that is wrong: with a message of a drop, or with a file."""

    what: str
    drop: str = ""
    uidl: str = ""

    def __str__(self) -> str:
        where = f"{self.drop} {self.uidl}: " if self.drop else ""
        return where + self.what


class Message(NamedTuple):
    """A row of the index."""

    drop: int
    name: str
    number: int
    uidl: str
    place: Place


Answer = list[tuple[Any, ...]]


def verify(store: Store) -> Iterator[Damage]:
    """Every damage. Raises UnavailableError where the index itself cannot be read."""
    yield from _of_index(store)
    yield from _of_places(store)
    messages = _messages(store)
    for file in sorted({each.place.file for each in messages}):
        mine = [each for each in messages if each.place.file == file]
        if file == IN_INDEX:
            yield from _of_rows(store, mine)
        else:
            yield from _of_file(store, file, mine)
    yield from _of_directory(store)


def _of_index(store: Store) -> Iterator[Damage]:
    """What SQLite finds, and rows that contradict each other."""
    for (text,) in _ask(store, "PRAGMA integrity_check"):
        if text != "ok":
            yield Damage(f"{store.index.path}: {text}")
    for name, number, next_ in _ask(
        store,
        "SELECT d.name, max(m.number), d.next FROM drops d JOIN messages m ON m.drop_id = d.id"
        " GROUP BY d.id HAVING max(m.number) >= d.next",
    ):
        yield Damage(f"its next number is {next_}, but {number} is taken", name)
    for drop, number in _ask(
        store,
        "SELECT drop_id, number FROM messages WHERE drop_id NOT IN (SELECT id FROM drops)",
    ):
        yield Damage(f"{store.index.path}: message {number} is of drop {drop}, which is missing")
    for file, live, sum_ in _ask(
        store,
        "SELECT f.id, f.live, coalesce(sum(m.octets), 0) AS found FROM files f"
        " LEFT JOIN messages m ON m.file = f.id GROUP BY f.id HAVING found != f.live",
    ):
        path = store.bodies.file(file)
        yield Damage(f"{path}: {live} octets are said to be in use, {sum_} are")
    for (row,) in _ask(
        store,
        "SELECT id FROM bodies WHERE id NOT IN (SELECT start FROM messages WHERE file = 0)",
    ):
        yield Damage(f"{store.index.path}: row {row} of the bodies is no message's")


def _of_places(store: Store) -> Iterator[Damage]:
    """The directory and the files of the index are this user's alone."""
    for name in ("", "bodies", "locks"):
        path = os.path.join(store.path, name)
        status = os.lstat(path)
        if not stat.S_ISDIR(status.st_mode):
            yield Damage(f"{path} is no directory")
        elif status.st_uid != os.geteuid() or status.st_mode & 0o077:
            yield Damage(f"others can get into {path}")
    for name in ("index.db", "index.db-wal", "index.db-shm"):
        path = os.path.join(store.path, name)
        try:
            status = os.lstat(path)
        except FileNotFoundError:
            continue
        fault = oddity(status)
        if fault or status.st_mode & 0o077:
            yield Damage(f"{path} {fault or 'can be read by others'}")


def _messages(store: Store) -> list[Message]:
    rows = _ask(
        store,
        "SELECT m.drop_id, coalesce(d.name, '?'), m.number, m.uidl, m.file, m.start, m.octets,"
        " m.size, m.crc FROM messages m LEFT JOIN drops d ON d.id = m.drop_id"
        " ORDER BY m.file, m.start",
    )
    return [Message(row[0], row[1], row[2], row[3], Place(*row[4:])) for row in rows]


def _of_rows(store: Store, messages: list[Message]) -> Iterator[Damage]:
    for each in messages:
        found = _ask(store, "SELECT octets FROM bodies WHERE id = ?", each.place.start)
        octets = found[0][0] if found else None
        if isinstance(octets, bytes):
            yield from _of_octets(each, [octets])
        elif _is_there(store, each):
            yield Damage("its octets are missing in the index", each.name, each.uidl)


def _of_file(store: Store, file: int, messages: list[Message]) -> Iterator[Damage]:
    path = store.bodies.file(file)
    try:
        descriptor, octets = store.bodies.open(file)
    except MailflowError as error:
        for each in messages:
            if _is_there(store, each):
                yield Damage(f"lost: {error.text}", each.name, each.uidl)
        return
    try:
        if not _ask(store, "SELECT 1 FROM files WHERE id = ?", file) and any(
            _is_there(store, each) for each in messages
        ):
            yield Damage(f"{path} has messages, and the index does not know the file")
        end = 0
        for each in messages:
            place = each.place
            if place.start < end:
                yield Damage(f"it lies over another one in {path}", each.name, each.uidl)
            end = place.start + place.octets
            if end > octets:
                yield Damage(f"{path} ends before it does", each.name, each.uidl)
                continue
            yield from _of_octets(each, stretch(descriptor, place.start, place.octets), path)
    finally:
        os.close(descriptor)


def _of_octets(message: Message, pieces: Iterable[bytes], path: str = "") -> Iterator[Damage]:
    """Whether these are the octets that were once written, and a whole reply to RETR."""
    crc, count, first, last = 0, 0, b"", b""
    place = message.place

    def watched() -> Iterator[bytes]:
        nonlocal crc, count, first, last
        for piece in pieces:
            crc = crc32(piece, crc)
            count += len(piece)
            first = (first + piece)[: len(HEAD)] if len(first) < len(HEAD) else first
            last = (last + piece[-len(END) :])[-len(END) :]
            yield piece

    size = unstuffed_size(watched())
    where = f" in {path}" if path else " in the index"
    named = (message.name, message.uidl)
    if count != place.octets or crc != place.crc:
        yield Damage(f"its octets{where} are not those that were written", *named)
    elif (first, last) != (HEAD, END) or size != place.size or count < FRAME:
        yield Damage(f"it is no whole message{where}, or not of {place.size} octets", *named)
    if not uidl.is_uidl(message.uidl):
        yield Damage("its UIDL is none", *named)


def _of_directory(store: Store) -> Iterator[Damage]:
    """Files that are nobody's."""
    try:
        names = list(store.bodies.numbers())
    except OSError as error:
        raise from_os(error, f"read {store.bodies.path}") from None
    for name, number in sorted(names):
        path = os.path.join(store.bodies.path, name)
        try:
            status = os.lstat(path)
        except FileNotFoundError:
            continue
        if number is None:
            yield Damage(f"{path} is no file of the spool")
        elif fault := oddity(status):
            yield Damage(f"{path} {fault}")
    for name, number in tidy.orphans(store):
        lock = unclaimed(store.bodies, number)
        if lock is None:
            continue
        try:
            if not _ask(store, "SELECT 1 FROM files WHERE id = ?", number):
                octets = os.fstat(lock).st_size
                path = os.path.join(store.bodies.path, name)
                yield Damage(f"{path} is no message's ({octets} octets): `spool expire` removes it")
        finally:
            os.close(lock)


def _is_there(store: Store, message: Message) -> bool:
    """Whether a message is still where the index said a moment ago."""
    place = message.place
    rows = _ask(
        store,
        "SELECT 1 FROM messages WHERE drop_id = ? AND number = ? AND file = ? AND start = ?",
        message.drop, message.number, place.file, place.start,
    )  # fmt: skip
    return bool(rows)


def _ask(store: Store, question: str, *values: object) -> Answer:
    def ask(tx: Transaction) -> Answer:
        return tx.execute(question, values).fetchall()

    return store.index.read(ask)
