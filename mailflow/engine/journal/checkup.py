"""A journal looked at from end to end: is it whole, and does all in it belong together?

Rule of the file: nothing is written (SQLite itself may leave its empty log beside a
journal that was read), and what another process changes meanwhile is no fault.
"""

from __future__ import annotations

import os
import sqlite3
import stat
from collections.abc import Iterator, Mapping
from contextlib import closing
from urllib.parse import quote

from mailflow.engine.journal import owners
from mailflow.engine.journal.schema import APPLICATION, MIGRATIONS, newer
from mailflow.record import NamedTuple

FAULTS_AT_MOST = 20
"""Of what SQLite finds, so many lines."""

RESTORE = "; restore a backup of it"

TABLES = frozenset({"seen", "source", "mail", "body", "copy", "delivery", "memory", "story"})


class Finding(NamedTuple):
    """One thing that was found. A `fault` is one that mail may be lost by; others are
    put right by the next run."""

    text: str
    fault: bool = True


class Checkup(NamedTuple):
    """What is in a journal, and what is wrong with it. `counts`: words and numbers."""

    path: str
    findings: tuple[Finding, ...]
    counts: Mapping[str, int]

    @property
    def sound(self) -> bool:
        return not any(finding.fault for finding in self.findings)


def look(path: str) -> Checkup:
    """Check one journal; whatever is wrong with it is a finding, no error."""
    if not os.path.isfile(path):
        text = "is not there" if not os.path.lexists(path) else "is no regular file"
        return Checkup(path, (Finding(text),), {})
    try:
        with closing(reader(path)) as connection:
            return _look(path, connection)
    except sqlite3.Error as error:
        return Checkup(path, (_broken(error),), {})


def reader(path: str) -> sqlite3.Connection:
    """A connection that cannot write, in a transaction: it sees one moment. Raises
    sqlite3.Error."""
    name = f"file:{quote(path)}?mode=ro"
    connection = sqlite3.connect(name, uri=True, isolation_level=None, timeout=60.0)
    try:
        _begin(connection)
    except sqlite3.OperationalError as error:
        connection.close()
        if error.sqlite_errorcode & 0xFF != sqlite3.SQLITE_CANTOPEN:
            raise
        # No log can be made beside it, so nobody writes there either.
        connection = sqlite3.connect(f"{name}&immutable=1", uri=True, isolation_level=None)
        _begin(connection)
    return connection


def _begin(connection: sqlite3.Connection) -> None:
    connection.execute("BEGIN")
    connection.execute("SELECT count(*) FROM sqlite_master").fetchone()


def _broken(error: sqlite3.Error) -> Finding:
    return Finding(f"is damaged or no journal: {error}{RESTORE}")


def _look(path: str, tx: sqlite3.Connection) -> Checkup:
    foreign = _foreign(tx)
    if foreign is not None:
        return Checkup(path, (foreign,), {})
    findings: list[Finding] = []
    counts: dict[str, int] = {}
    try:
        findings += _damage(tx)
        findings += _strangers(tx)
        findings += _lacking(tx)
        findings += _bodies(path, tx)
        counts = count(tx)
    except sqlite3.Error as error:
        findings.append(_broken(error))
    findings += _age(tx)
    findings += _beside(path, tx)
    return Checkup(path, tuple(dict.fromkeys(findings)), counts)


def _ask(tx: sqlite3.Connection, question: str) -> int:
    return int(tx.execute(question).fetchone()[0])


def _foreign(tx: sqlite3.Connection) -> Finding | None:
    if _ask(tx, "PRAGMA application_id") != APPLICATION:
        if not _ask(tx, "SELECT count(*) FROM sqlite_master"):
            return Finding("is empty: no journal yet, or none any more")
        return Finding("is another program's database, and no journal")
    version = _ask(tx, "PRAGMA user_version")
    if version > len(MIGRATIONS):
        return Finding(newer(version))
    return None


def _age(tx: sqlite3.Connection) -> Iterator[Finding]:
    version = _ask(tx, "PRAGMA user_version")
    if version < len(MIGRATIONS):
        yield Finding(f"has schema {version}; the next run makes it {len(MIGRATIONS)}", False)


def _damage(tx: sqlite3.Connection) -> Iterator[Finding]:
    for (line,) in tx.execute(f"PRAGMA integrity_check({FAULTS_AT_MOST})").fetchall():
        if line != "ok":
            said = " ".join(str(line).split())
            yield Finding(f"is damaged: {said}{RESTORE}")


def _strangers(tx: sqlite3.Connection) -> Iterator[Finding]:
    """Tables that are not ours, or rows of mails that are not there."""
    named = {
        row[0]
        for row in tx.execute("SELECT name FROM sqlite_master WHERE type = 'table'").fetchall()
        if not row[0].startswith("sqlite_")
    }
    for name in sorted(TABLES - named):
        yield Finding(f"has no table `{name}`{RESTORE}")
    for name in sorted(named - TABLES):
        yield Finding(f"has a table `{name}` that is not ours", False)
    for table in ("body", "copy", "delivery", "story"):
        orphans = _ask(
            tx,
            f"SELECT count(*) FROM {table} t WHERE t.mail != ''"
            " AND NOT EXISTS (SELECT 1 FROM mail m WHERE m.id = t.mail)",
        )
        if orphans:
            yield Finding(f"has rows of no mail that is there in `{table}`: {orphans}")


_LACKING = (
    (
        "has been accepted and has no body",
        (
            "SELECT id FROM mail WHERE state = 'accepted'"
            " AND NOT EXISTS (SELECT 1 FROM body b WHERE b.mail = mail.id AND b.copy = 0)"
        ),
    ),
    (
        "waits or is held, and its body is gone",
        (
            "SELECT DISTINCT c.mail FROM copy c JOIN mail m ON m.id = c.mail"
            " WHERE m.state = 'planned' AND (c.state != 'planned' OR EXISTS ("
            "  SELECT 1 FROM delivery d WHERE d.mail = c.mail AND d.copy = c.copy"
            "  AND d.state NOT IN ('sent', 'failed', 'dropped')))"
            " AND NOT EXISTS (SELECT 1 FROM body b WHERE b.mail = c.mail AND b.copy = c.body)"
        ),
    ),
    (
        "has deliveries of a copy that is gone",
        (
            "SELECT DISTINCT d.mail FROM delivery d JOIN mail m ON m.id = d.mail"
            " WHERE m.state = 'planned' AND d.state NOT IN ('sent', 'failed', 'dropped')"
            " AND NOT EXISTS (SELECT 1 FROM copy c WHERE c.mail = d.mail AND c.copy = d.copy)"
        ),
    ),
    (
        "has a body of another length than it was stored with",
        "SELECT DISTINCT mail FROM body WHERE file IS NULL AND length(data) IS NOT size",
    ),
)
"""What a mail may lack, and the query for those that do."""


def _lacking(tx: sqlite3.Connection) -> Iterator[Finding]:
    for what, query in _LACKING:
        for (mail,) in tx.execute(f"{query} ORDER BY 1 LIMIT {FAULTS_AT_MOST}").fetchall():
            yield Finding(f"mail {mail} {what}")


def _bodies(path: str, tx: sqlite3.Connection) -> Iterator[Finding]:
    """Files that are not there, or not as long as they were."""
    suspects = []
    rows = tx.execute("SELECT mail, copy, size, file FROM body WHERE file IS NOT NULL").fetchall()
    for mail, copy, size, file in rows:
        full = os.path.join(path + ".d", file)
        try:
            found: int | None = os.stat(full).st_size
        except OSError:
            found = None
        if found != size:
            suspects.append((mail, copy, full, found, size))
    if not suspects:
        return
    with closing(reader(path)) as later:  # a mail that has ended since took its file along
        for mail, copy, full, found, size in suspects:
            row = later.execute(
                "SELECT 1 FROM body WHERE mail = ? AND copy = ?", (mail, copy)
            ).fetchone()
            if row:
                what = "is gone" if found is None else f"has {found} octets, not {size}"
                yield Finding(f"{full}, the body of mail {mail}, {what}")


def _beside(path: str, tx: sqlite3.Connection) -> Iterator[Finding]:
    """Files that nobody needs, and who may read."""
    root = path + ".d"
    named = _named(tx)
    left = 0
    for owner in _listed(root):
        if owner == owners.GUARD or owners.is_alive(root, owner):
            continue
        left += sum(
            1
            for name in _listed(os.path.join(root, owner))
            if name != owners.LOCK and f"{owner}/{name}" not in named
        )
    if left:
        yield Finding(f"has files of no mail in {root}, which the next run removes: {left}", False)
    directory, name = os.path.split(path)
    for part in sorted(_listed(directory)):
        if part.startswith(f"{name}.part-") and part.count("-") == name.count("-") + 1:
            yield Finding(f"has {part} beside it, of a restore that was cut; remove it", False)
    if stat.S_IMODE(os.stat(path).st_mode) & 0o077:
        yield Finding("can be read by other users; chmod 600 it", False)


def _named(tx: sqlite3.Connection) -> set[str]:
    try:
        rows = tx.execute("SELECT file FROM body WHERE file IS NOT NULL").fetchall()
    except sqlite3.Error:
        return set()
    return {row[0] for row in rows}


def _listed(directory: str) -> list[str]:
    try:
        return os.listdir(directory)
    except OSError:
        return []


def count(tx: sqlite3.Connection) -> dict[str, int]:
    """How much there is of what, such as {"mails done": 3, "deliveries due": 1}."""
    counts: dict[str, int] = {}
    for what, table in (("mails", "mail"), ("deliveries", "delivery")):
        rows = tx.execute(f"SELECT state, count(*) FROM {table} GROUP BY state ORDER BY state")
        counts |= {f"{what} {state}": number for state, number in rows.fetchall()}
    held = _ask(tx, "SELECT count(*) FROM copy WHERE state != 'planned'")
    counts |= {"copies waiting or held": held} if held else {}
    counts["octets of bodies"] = _ask(tx, "SELECT coalesce(sum(size), 0) FROM body")
    counts["messages seen"] = _ask(tx, "SELECT count(*) FROM seen")
    return counts
