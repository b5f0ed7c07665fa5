"""A journal backed up into one file, and put back.

A backup is a journal whose bodies all lie in its rows. Rule of the file: what is there
is never written over. A backup or a journal appears under its name whole and flushed, or
not at all; what it replaces is kept beside it.
"""

from __future__ import annotations

import fcntl
import os
import shutil
import sqlite3
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager, suppress

from mailflow.durable import flush_directory
from mailflow.engine.journal import checkup, owners, plans
from mailflow.errors import InUseError, JournalError, from_os
from mailflow.record import NamedTuple
from mailflow.sqlite import BUSY_SECONDS
from mailflow.typed import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

PIECE = 1 << 20


class Restored(NamedTuple):
    """What was put back, or would be. `latest`: of when its last entry is, seconds since
    the epoch, None of an empty one. `waiting`: mails in it that are not done. `replaced`:
    where the journal that was there is now, None where none was."""

    latest: float | None
    waiting: int
    replaced: str | None


def backup(journal: str, target: str) -> int:
    """Copy a journal into the file `target`; gives its size in octets.

    A run may be at work on it: the copy is of one moment, and nobody waits for longer
    than it takes to link the files of large bodies. Raises JournalError where the journal
    is not sound, UnavailableError where the target cannot be written.
    """
    _must_be_sound(journal)
    must_not_exist(target)
    try:
        with _kept(journal) as (source, place), _part(target) as part:
            _write(source, place, part)
            os.link(part, target)  # says so where there is one by now
        flush_directory(os.path.dirname(target))
        return os.stat(target).st_size
    except OSError as error:
        raise from_os(error, f"write {target}") from None
    except sqlite3.Error as error:
        raise JournalError(f"{journal} cannot be copied to {target}: {error}") from None


def restore(copy: str, journal: str, *, resume: bool = False, dry: bool = False) -> Restored:
    """Put a backup in the place of a journal, or, `dry`, say what that would do.

    What waits in it is held: it may have been sent since. With `resume` it goes on.
    Raises InUseError where a process works on that journal, JournalError where the backup
    is none or not sound, UnavailableError where a file cannot be written.
    """
    _must_be_sound(copy, "; name another backup")
    aside = None
    try:
        with closing(checkup.reader(copy)) as source, _nobody_at_work(journal):
            if os.path.lexists(journal):
                aside = _free_name(f"{journal}.replaced")
            said = _said(source)._replace(replaced=aside)
            if not dry:
                os.makedirs(os.path.dirname(journal), 0o700, exist_ok=True)
                held = None if resume else _reason(said)
                with _part(journal) as part:
                    _write(source, lambda file: os.path.join(copy + ".d", file), part, held)
                    _replace(part, journal, aside)
            return said
    except OSError as error:
        raise from_os(error, f"write {journal}") from None
    except sqlite3.Error as error:
        raise JournalError(f"{copy} cannot be copied to {journal}: {error}") from None


def _reason(said: Restored) -> str:
    """Why what waits in it is held."""
    if said.latest is None:
        return "restored from a backup"
    since = time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(said.latest))
    return f"restored from a backup of {since}; release it unless it was sent since then"


@contextmanager
def _part(path: str) -> Iterator[str]:
    """A name beside `path`, gone in the end with all that SQLite makes beside it."""
    part = f"{path}.part-{os.urandom(4).hex()}"
    try:
        yield part
    finally:
        for name in (part, *(part + suffix for suffix in ("-journal", "-wal", "-shm"))):
            with suppress(FileNotFoundError):
                os.unlink(name)


def _must_be_sound(path: str, instead: str = checkup.RESTORE) -> None:
    """Raises JournalError with all that is wrong, and what to do `instead`."""
    found = [finding.text for finding in checkup.look(path).findings if finding.fault]
    faults = [text.replace(checkup.RESTORE, instead) for text in found]
    if faults:
        raise JournalError("\n".join(f"{path} {text}" for text in faults))


def must_not_exist(path: str) -> None:
    if os.path.lexists(path):
        raise JournalError(f"{path} is there already; nothing was written")


@contextmanager
def _kept(journal: str) -> Iterator[tuple[sqlite3.Connection, Callable[[str], str]]]:
    """A connection that sees one moment of the journal, and where the body files of that
    moment are: in a directory of our own.

    Nobody can commit while they are linked there; a file goes away only after the commit
    that no longer names it, so all that the moment names are there.
    """
    owner = owners.Owner(journal + ".d")

    def place(file: str) -> str:
        return os.path.join(owner.directory, file.replace("/", "-"))

    try:
        with closing(sqlite3.connect(journal, BUSY_SECONDS, isolation_level=None)) as writer:
            writer.execute("BEGIN IMMEDIATE")
            source = checkup.reader(journal)
            with closing(source):
                for (file,) in source.execute("SELECT file FROM body WHERE file IS NOT NULL"):
                    _link(os.path.join(journal + ".d", file), place(file))
                writer.execute("ROLLBACK")
                yield source, place
    finally:
        for name in os.listdir(owner.directory):
            if name != owners.LOCK:
                os.unlink(os.path.join(owner.directory, name))
        owner.close()


def _link(path: str, new: str) -> None:
    try:
        os.link(path, new)
    except OSError:  # a file system without links
        shutil.copyfile(path, new)


def _write(
    source: sqlite3.Connection, place: Callable[[str], str], part: str, held: str | None = None
) -> None:
    """The database at `part`, for this user alone, with every body in its row, flushed.
    With `held`, all that waits in it is held for that reason."""
    os.close(os.open(part, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600))
    with closing(sqlite3.connect(part, isolation_level=None)) as made:
        source.backup(made)
        made.execute("PRAGMA journal_mode = DELETE")
        made.execute("BEGIN")
        rows = made.execute("SELECT rowid, size, file FROM body WHERE file IS NOT NULL")
        for row, size, file in rows.fetchall():
            made.execute(
                "UPDATE body SET data = zeroblob(?), file = NULL WHERE rowid = ?", (size, row)
            )
            _fill(made, row, place(file))
        if held is not None:
            _hold(made, held)
        made.execute("COMMIT")
    descriptor = os.open(part, os.O_RDONLY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _fill(made: sqlite3.Connection, row: int, path: str) -> None:
    with made.blobopen("body", "data", row) as blob, open(path, "rb") as file:
        while piece := file.read(PIECE):
            blob.write(piece)


def _said(tx: sqlite3.Connection) -> Restored:
    latest = tx.execute(
        "SELECT max(at) FROM (SELECT max(at) AS at FROM story UNION ALL SELECT max(at) FROM seen"
        " UNION ALL SELECT max(at) FROM delivery UNION ALL SELECT max(arrived) FROM mail)"
    ).fetchone()[0]
    waiting = tx.execute("SELECT count(*) FROM mail WHERE state != 'done'").fetchone()[0]
    return Restored(latest, waiting, None)


@contextmanager
def _nobody_at_work(journal: str) -> Iterator[None]:
    """No process works on the journal, and none begins to. Raises InUseError."""
    root = journal + ".d"
    if not os.path.isdir(root):
        yield
        return
    guard = os.open(os.path.join(root, owners.GUARD), os.O_CREAT | os.O_RDWR | os.O_CLOEXEC, 0o600)
    try:
        try:
            fcntl.flock(guard, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            raise InUseError(f"the journal {journal} is in use; try again") from None
        names = [name for name in os.listdir(root) if name != owners.GUARD]
        if any(owners.is_alive(root, name) for name in names):
            raise InUseError(
                f"a process works on the journal {journal}; nothing was changed. Wait for its"
                " end, or stop it, and keep cron from starting another"
            )
        yield
    finally:
        os.close(guard)


def _free_name(name: str) -> str:
    """`name` with the time, and a number where that is taken."""
    name += time.strftime("-%Y%m%d-%H%M%S")
    number, found = 1, name
    while os.path.lexists(found) or os.path.lexists(found + ".d"):
        number += 1
        found = f"{name}-{number}"
    return found


def _hold(made: sqlite3.Connection, why: str) -> None:
    """All that waits is held; what the source still has (an intent) is left to it."""
    now = time.time()
    made.execute("UPDATE delivery SET state = 'due' WHERE state IN ('sending', 'doubt')")
    waiting = made.execute(
        "SELECT id FROM mail m WHERE state = 'accepted' OR state = 'planned' AND ("
        " EXISTS (SELECT 1 FROM delivery d WHERE d.mail = m.id AND d.state = 'due')"
        " OR EXISTS (SELECT 1 FROM copy c WHERE c.mail = m.id AND c.state = 'waiting'))"
    )
    for (mail,) in waiting.fetchall():
        plans.hold(made, mail, why)
        plans.tell(made, [plans.Told(mail, now, "", "held", why)])


def _replace(part: str, journal: str, aside: str | None) -> None:
    """At every instant there is a journal under its name, the old one or the new one."""
    if aside is None:
        os.link(part, journal)
    else:
        _keep(journal, aside)
        os.rename(part, journal)
    flush_directory(os.path.dirname(journal))


def _keep(journal: str, aside: str) -> None:
    """The journal under another name too, with its log and the files of its bodies.

    Its log must not be there any more once another journal has its name: SQLite would
    take it for that one's.
    """
    if checkup.look(journal).sound:  # what is damaged stays as it is, to the last octet
        with closing(sqlite3.connect(journal, BUSY_SECONDS)) as connection:
            connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    _keep_bodies(journal + ".d", aside + ".d")
    for suffix in ("-wal", "-shm"):
        with suppress(FileNotFoundError):
            os.rename(journal + suffix, aside + suffix)
    os.link(journal, aside)
    flush_directory(os.path.dirname(journal))


def _keep_bodies(root: str, aside: str) -> None:
    for owner in os.listdir(root) if os.path.isdir(root) else []:
        directory = os.path.join(root, owner)
        if not os.path.isdir(directory):
            continue
        files = [name for name in os.listdir(directory) if name != owners.LOCK]
        if files:
            kept = os.path.join(aside, owner)
            os.makedirs(kept, 0o700)
            for name in files:
                _link(os.path.join(directory, name), os.path.join(kept, name))
            flush_directory(kept)
    if os.path.isdir(aside):
        flush_directory(aside)
