"""What every run puts right before it begins: the dead, what is in doubt, what is old.

Rule of the file: each function is one part of one transaction, or one query. It is a
room of its own since a hook, which starts for every message, does none of this.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from mailflow.engine.journal.plans import OPEN, Job, Row, report
from mailflow.typed import TYPE_CHECKING

if TYPE_CHECKING:
    from mailflow.engine.journal.database import Transaction

SKEW = 300.0
"""Seconds by which the clocks of two writers may differ, and both be right."""


def owners(tx: Transaction) -> list[str]:
    return [
        row[0]
        for row in tx.execute("SELECT DISTINCT owner FROM mail WHERE owner IS NOT NULL").fetchall()
    ]


def doubts(tx: Transaction, pipeline: str) -> list[Job]:
    """Deliveries that a crash has left in doubt; `doubt` counts those before."""
    rows = tx.execute(
        "SELECT d.mail, d.copy, d.step, d.recipient, d.attempt, d.doubt FROM delivery d"
        f" JOIN mail m ON m.id = d.mail WHERE d.{OPEN} AND d.state = 'doubt' AND m.pipeline = ?"
        " AND m.owner IS NULL",
        (pipeline,),
    ).fetchall()
    return [Job(m, c, s, (r,), attempt, True, doubt) for m, c, s, r, attempt, doubt in rows]


def orphans(tx: Transaction, pipeline: str, steps: Mapping[str, object]) -> list[Job]:
    """Due deliveries of distributors that the file no longer names."""
    rows = tx.execute(
        "SELECT d.mail, d.copy, d.step, d.recipient, d.attempt, d.doubt FROM delivery d"
        f" JOIN mail m ON m.id = d.mail WHERE d.{OPEN} AND d.state = 'due' AND m.pipeline = ?"
        " AND m.owner IS NULL"
        " AND d.step NOT IN (SELECT value FROM json_each(?))",
        (pipeline, "[" + ",".join(f'"{_quoted(step)}"' for step in steps) + "]"),
    ).fetchall()
    return [Job(m, c, s, (r,), attempt, True, doubt) for m, c, s, r, attempt, doubt in rows]


def _quoted(text: str) -> str:
    return text.replace("\\", "\\\\").replace('"', '\\"')


def amend(tx: Transaction, rows: Sequence[Row], now: float, was: str) -> int:
    """As `report`, for those that are still what they were, of mails nobody has in hand."""
    free = "EXISTS (SELECT 1 FROM mail m WHERE m.id = delivery.mail AND m.owner IS NULL)"
    return report(tx, rows, now, where=f" AND state = '{was}' AND {free}")


def forget(tx: Transaction, before: float, now: float) -> None:
    """Drop the stories of mails that ended before that time, and expired memory."""
    ended = "(SELECT id FROM mail WHERE ended < ?)"
    for table in ("delivery", "copy", "story"):
        tx.execute(f"DELETE FROM {table} WHERE mail IN {ended}", (before,))
    tx.execute("DELETE FROM mail WHERE ended < ?", (before,))
    tx.execute("DELETE FROM memory WHERE expires < ?", (now,))


def mend_times(tx: Transaction, now: float) -> None:
    """What a clock that was ahead has written counts from now on: it would wait for years.

    A clock that is right again shows by what was written after it.
    """
    ahead = now + SKEW
    tx.execute("UPDATE mail SET arrived = ? WHERE state != 'done' AND arrived > ?", (now, ahead))
    tx.execute(
        f"UPDATE delivery SET due = ?1 WHERE {OPEN} AND state = 'due' AND due > ?1 AND at > ?2",
        (now, ahead),
    )
    tx.execute(
        "UPDATE copy SET due = ?1 WHERE state != 'planned' AND state = 'waiting' AND due > ?1"
        " AND EXISTS (SELECT 1 FROM story s WHERE s.mail = copy.mail AND s.at > ?2)",
        (now, ahead),
    )
    tx.execute("UPDATE source SET next_try = 0 WHERE failed_at > ?", (ahead,))
    row = tx.execute("SELECT max(worked_at), max(failed_at) FROM source").fetchone()
    if any(at is not None and at > ahead for at in row):  # `seen` has no index on times
        tx.execute("UPDATE seen SET at = ? WHERE at > ?", (now, ahead))


def files(tx: Transaction) -> set[str]:
    """Every file that a body names."""
    return {row[0] for row in tx.execute("SELECT file FROM body WHERE file IS NOT NULL")}
