"""The spool: a directory of its own, with an index, files of bodies, and locks.

    index.db     which drop has which messages, and the octets of few small ones (SQLite)
    bodies/      the octets of all others, as they go over the wire
    locks/       a file for each drop: whoever has a session there has its lock
    reserve      room on the disk for the deletion of mail where it is full

Rule of the file: a message is there from the commit that names it to the commit that
removes it; a file that no message has any more is gone with it. Names of drops are never
part of a path.
"""

from __future__ import annotations

import fcntl
import os
import stat
import time
from collections.abc import Iterable, Sequence
from contextlib import suppress

from mailflow.durable import flush_directory
from mailflow.errors import InUseError, UnavailableError, from_os
from mailflow.record import NamedTuple
from mailflow_spool import uidl
from mailflow_spool.files import Directory, Writing
from mailflow_spool.index import Index, Transaction, look_for
from mailflow_spool.wire import IN_INDEX, Place

NAME_LIMIT = 255

RESERVE = 512 << 10
"""Octets of the disk that are kept for the index to write that mail is deleted."""

LOST_TICKETS = 60 * 86400.0
"""Seconds after which a ticket that nobody called final is forgotten."""


class New(NamedTuple):
    """A message to be named, which lies in a file, or whose wire form is `octets`: `ticket`
    "" for none. A `uidl` that is given is used as it is."""

    drop: str
    place: Place
    arrived: float
    ticket: str = ""
    sender: str | None = None
    form: str = uidl.DEFAULT
    digest: str = ""
    uidl: str = ""
    octets: bytes = b""


class Policy(NamedTuple):
    """What a drop keeps: mail younger than `expire` seconds, and of that the newest `most`
    octets; None for all."""

    expire: float | None = None
    most: int | None = None


class Drop(NamedTuple):
    """A drop, and what its mail comes to; `oldest` is when the first of it arrived."""

    id: int
    name: str
    validity: int
    policy: Policy
    messages: int
    octets: int
    oldest: float | None


def default_path() -> str:
    """Where the spool is when nobody says. Raises ConfigError where no home is known."""
    from mailflow.directories import state_directory

    return os.path.join(state_directory(), "spool")


def is_name(name: str) -> bool:
    """Whether a drop can be called so."""
    return 0 < len(name) <= NAME_LIMIT and name.isprintable() and name == name.strip()


class Store:
    """One spool, open. Shared by the threads of a process.

    `stuck` are the files that could not be written anew as a whole: something in them is
    damaged. Raises UnavailableError where the directory cannot be had, or is not this user's
    alone.
    """

    def __init__(self, path: str) -> None:
        self.path = path
        self._locks = os.path.join(path, "locks")
        self.bodies = Directory(os.path.join(path, "bodies"))
        self._known: dict[str, int] = {}
        self.stuck: set[int] = set()
        index = os.path.join(path, "index.db")
        look_for(index)
        try:
            _make(path)
            _make(self._locks)
            _make(self.bodies.path)
        except OSError as error:
            raise from_os(error, f"make {path}") from None
        self.index = Index(index)
        self._reserve = os.path.join(path, "reserve")
        _reserve(self._reserve)

    def close(self) -> None:
        self.index.close()

    def drop(self, name: str, *, make: bool = True) -> int | None:
        """The id of a drop; None where there is none and none is to be made."""
        known = self._known.get(name)
        if known is not None:
            return known
        row = self.index.read(
            lambda tx: tx.execute("SELECT id FROM drops WHERE name = ?", (name,)).fetchone()
        )
        if row is None:
            if not make:
                return None
            number = self.index.commit(lambda tx: _drop(tx, name)[0])
        else:
            number = row[0]
        if len(self._known) > 4096:
            self._known.clear()
        self._known[name] = number
        return number

    def forget(self, name: str) -> None:
        """The drop of that name may be another one by now."""
        self._known.pop(name, None)

    def lock(self, number: int, name: str) -> int:
        """A descriptor that has the lock of a drop until it is closed. Raises InUseError."""
        path = f"{self._locks}/{number}"
        try:
            descriptor = locked(path)
        except OSError as error:
            raise from_os(error, f"lock {path}") from None
        if descriptor is None:
            raise InUseError(f"another session has the drop {name!r}")
        return descriptor

    def known(self, keys: Iterable[str]) -> set[str]:
        """Those tickets of which the mail is here, or was until a client deleted it."""
        wanted = list(keys)

        def ask(tx: Transaction) -> set[str]:
            found: set[str] = set()
            for key in wanted:
                found.update(
                    row[0]
                    for row in tx.execute(
                        "SELECT key FROM tickets WHERE key = ?", (key,)
                    ).fetchall()
                )
            return found

        return self.index.read(ask) if wanted else set()

    def take(
        self,
        file: Writing | None,
        news: Sequence[New],
        final: Iterable[str] = (),
        policy: Policy | None = None,
    ) -> list[str]:
        """Name these messages, all of a file, which is flushed first, or of none; gives their
        UIDLs, "" for one whose ticket is known already. With it `final` tickets are forgotten,
        and their drops have that `policy`.

        Where that fails nothing was taken, or a power cut brings all of it back with its
        tickets. Raises UnavailableError. The file is closed whatever happens.
        """
        try:
            if file is not None:
                file.flush()
        except BaseException as error:
            if file is not None:
                file.close(keep=False)
            if isinstance(error, OSError):
                raise from_os(error, f"flush {self.bodies.path}") from error
            raise
        keep = True
        try:
            given = self.index.commit(lambda tx: _take(tx, file, news, list(final), policy))
            keep = any(given)
        finally:
            # Where the commit fails the log of the index may hold it, though it could not be
            # flushed: the sweep of files that nobody names will see.
            if file is not None:
                file.close(keep=keep)
        return given

    def finish(self, keys: Sequence[str]) -> None:
        """Forget these tickets: they are final."""
        self.index.commit(lambda tx: _forget(tx, keys), lasting=False)

    def keep(self, name: str, policy: Policy) -> None:
        """From now on a drop has that policy, where there is such a drop."""
        has = self.index.read(
            lambda tx: tx.execute(
                "SELECT expire, most FROM drops WHERE name = ?", (name,)
            ).fetchone()
        )
        if has is not None and has != policy:
            self.index.commit(
                lambda tx: tx.execute(
                    "UPDATE drops SET expire = ?, most = ? WHERE name = ?", (*policy, name)
                )
            )

    def remove(self, drop: int, numbers: Sequence[int]) -> None:
        """Remove these messages of a drop, all or none, and the files that only they had."""
        try:
            gone = self.index.commit(lambda tx: _remove(tx, drop, numbers))
        except UnavailableError as error:
            if not error.fields.get("full"):
                raise
            with suppress(OSError):
                os.unlink(self._reserve)
            gone = self.index.commit(lambda tx: _remove(tx, drop, numbers))
        for file in gone:
            self.bodies.remove(file)
        _reserve(self._reserve)

    def remove_drop(self, drop: int, name: str) -> None:
        """Remove a drop with all its mail; whoever has its lock may."""

        def work(tx: Transaction) -> list[int]:
            for table in ("messages", "used"):
                tx.execute(f"DELETE FROM {table} WHERE drop_id = ?", (drop,))  # noqa: S608
            tx.execute("DELETE FROM drops WHERE id = ?", (drop,))
            return empty(tx)

        gone = self.index.commit(work)
        self.forget(name)
        for file in gone:
            self.bodies.remove(file)
        with suppress(OSError):
            os.unlink(f"{self._locks}/{drop}")

    def drops(self) -> list[Drop]:
        """Every drop, by name."""
        rows = self.index.read(
            lambda tx: tx.execute(
                "SELECT d.id, d.name, d.validity, d.expire, d.most, count(m.number),"
                " coalesce(sum(m.size), 0), min(m.arrived) FROM drops d"
                " LEFT JOIN messages m ON m.drop_id = d.id GROUP BY d.id ORDER BY d.name"
            ).fetchall()
        )
        return [Drop(row[0], row[1], row[2], Policy(*row[3:5]), *row[5:8]) for row in rows]


def _drop(tx: Transaction, name: str) -> tuple[int, int, int]:
    """(id, validity, next number) of a drop, made where it is missing."""
    row = tx.execute("SELECT id, validity, next FROM drops WHERE name = ?", (name,)).fetchone()
    if row is not None:
        found: tuple[int, int, int] = row
        return found
    last = tx.execute("SELECT value FROM facts WHERE name = 'validity'").fetchone()
    validity = max(int(time.time()), last[0] + 1 if last else 0)
    tx.execute("INSERT OR REPLACE INTO facts VALUES ('validity', ?)", (validity,))
    cursor = tx.execute("INSERT INTO drops (name, validity) VALUES (?, ?)", (name, validity))
    number = cursor.lastrowid
    assert number is not None  # noqa: S101
    return number, validity, 1


def _take(
    tx: Transaction,
    file: Writing | None,
    news: Sequence[New],
    final: list[str],
    policy: Policy | None,
) -> list[str]:
    _forget(tx, final)
    given: list[str] = []
    drops: dict[str, tuple[int, int, int]] = {}
    rows = []
    live = 0
    now = time.time()
    for new in news:
        if new.ticket:
            known = tx.execute("INSERT OR IGNORE INTO tickets VALUES (?, ?)", (new.ticket, now))
            if not known.rowcount:
                given.append("")
                continue
        drop, validity, number = drops.get(new.drop) or _drop(tx, new.drop)
        number, name = _name(tx, drop, validity, number, new)
        drops[new.drop] = (drop, validity, number + 1)
        place = new.place
        if place.file == IN_INDEX:
            body = tx.execute("INSERT INTO bodies (octets) VALUES (?)", (new.octets,))
            place = place._replace(start=body.lastrowid or 0)
        rows.append((drop, number, name, place.size, place.file, place.start, place.octets,
                     place.crc, place.utf8, new.arrived, _text(new.sender)))  # fmt: skip
        live += place.octets
        given.append(name)
    tx.executemany("INSERT INTO messages VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)", rows)
    for drop, _, number in drops.values():
        tx.execute("UPDATE drops SET next = ? WHERE id = ?", (number, drop))
        if policy is not None:
            tx.execute("UPDATE drops SET expire = ?, most = ? WHERE id = ?", (*policy, drop))
    if live and file is not None:
        tx.execute("INSERT INTO files VALUES (?, ?, ?)", (file.number, file.octets, live))
    return given


def _text(sender: str | None) -> str | None:
    """As SQLite can keep it: octets that are no UTF-8 become question marks."""
    return sender and sender.encode("utf-8", "replace").decode("utf-8")


def _name(tx: Transaction, drop: int, validity: int, number: int, new: New) -> tuple[int, str]:
    """(number, UIDL) of a message: the first that none of this drop ever had."""
    name = new.uidl or uidl.written(new.form, number, validity, new.digest)
    plain = not new.uidl and uidl.numbered(new.form)
    base, turn = name, 1
    while _is_used(tx, drop, name):
        turn += 1
        if plain:
            number += 1
            name = uidl.written(new.form, number, validity)
        else:
            name = f"{base[: uidl.MOST - 12]}-{turn}"
    if not plain:
        tx.execute("INSERT INTO used VALUES (?, ?)", (drop, name))
    return number, name


def _is_used(tx: Transaction, drop: int, name: str) -> bool:
    answer: int = tx.execute(
        "SELECT EXISTS (SELECT 1 FROM messages WHERE drop_id = ?1 AND uidl = ?2)"
        " OR EXISTS (SELECT 1 FROM used WHERE drop_id = ?1 AND uidl = ?2)", (drop, name),
    ).fetchone()[0]  # fmt: skip
    return bool(answer)


def _forget(tx: Transaction, keys: Iterable[str]) -> None:
    tx.executemany("DELETE FROM tickets WHERE key = ?", [(key,) for key in keys])


def _remove(tx: Transaction, drop: int, numbers: Sequence[int]) -> list[int]:
    """Remove messages; gives the files that nobody has any more."""
    tx.executemany(
        "DELETE FROM messages WHERE drop_id = ? AND number = ?",
        [(drop, number) for number in numbers],
    )
    return empty(tx)


def empty(tx: Transaction) -> list[int]:
    """Forget the files of which nothing is left; gives their numbers."""
    gone = [row[0] for row in tx.execute("SELECT id FROM files WHERE live <= 0").fetchall()]
    tx.executemany("DELETE FROM files WHERE id = ?", [(each,) for each in gone])
    return gone


def _reserve(path: str) -> None:
    """Keep room on the disk by a file, where it is missing and there is room."""
    flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC | os.O_NOFOLLOW
    try:
        descriptor = os.open(path, flags, 0o600)
    except OSError:
        return
    try:
        os.posix_fallocate(descriptor, 0, RESERVE)
    except (OSError, AttributeError):  # the disk is full, or the system knows no such call
        with suppress(OSError):
            os.unlink(path)
    finally:
        os.close(descriptor)


def fault_of(path: str) -> str:
    """Why a directory cannot be the spool's; "" where it can, or is not there yet."""
    try:
        status = os.stat(path)
    except FileNotFoundError:
        return f"{path} is a link to nothing" if os.path.islink(path) else ""
    except OSError as error:
        return from_os(error, f"read {path}").text
    if not stat.S_ISDIR(status.st_mode):
        return f"{path} is no directory"
    if status.st_uid != os.geteuid():
        return f"{path} belongs to another user (uid {status.st_uid})"
    if status.st_mode & 0o077:
        return f"others can get into {path}: chmod 700 {path}"
    return ""


def locked(path: str) -> int | None:
    """A descriptor that has the lock of a file, made where it is missing; None where another
    has it. Raises OSError, UnavailableError."""
    flags = os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
    descriptor = os.open(path, flags, 0o600)
    try:
        if not stat.S_ISREG(os.fstat(descriptor).st_mode):
            raise UnavailableError(f"{path} is no regular file; remove it")
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(descriptor)
        return None
    except BaseException:
        os.close(descriptor)
        raise
    return descriptor


def _make(path: str) -> None:
    """Make a directory and what is missing above it, lasting, for this user alone; one that
    is there must be ours. Raises OSError, UnavailableError."""
    if os.path.lexists(path):
        if fault := fault_of(path):
            raise UnavailableError(fault)
        return
    above = os.path.dirname(path)
    if not os.path.isdir(above):
        _make(above)
    with suppress(FileExistsError):
        os.mkdir(path, 0o700)
    os.chmod(path, 0o700)
    flush_directory(above)
