"""How things stand, for `status`: the sources, what waits at each step, what lies where.

Rule of the file: each function is one query.
"""

from __future__ import annotations

import os

from mailflow.record import NamedTuple
from mailflow.typed import TYPE_CHECKING

if TYPE_CHECKING:
    from mailflow.engine.journal.database import Transaction


class SourceStanding(NamedTuple):
    """One source: when it last worked and failed, and how many of its messages are known.

    `failures` are those in a row; it rests until `next_try`. Times are seconds since the
    epoch.
    """

    pipeline: str
    step: str
    source: str
    known: int
    worked_at: float | None
    failed_at: float | None
    failures: int
    next_try: float
    error: str


class StepStanding(NamedTuple):
    """What waits at one step: `due` to be tried at `next_try` at the earliest (deliveries,
    or mails), `held` for a human, in `doubt` after a crash; `oldest` arrived then."""

    pipeline: str
    step: str
    due: int
    held: int
    doubt: int
    next_try: float | None
    oldest: float


def sources(tx: Transaction) -> list[SourceStanding]:
    rows = tx.execute(
        "SELECT s.pipeline, s.step, s.source, coalesce(k.known, 0), s.worked_at, s.failed_at,"
        " s.failures, s.next_try, s.error FROM source s LEFT JOIN"
        " (SELECT pipeline, step, source, count(*) AS known FROM seen GROUP BY 1, 2, 3) k"
        " USING (pipeline, step, source) ORDER BY 1, 2, 3"
    )
    return [SourceStanding(*row) for row in rows.fetchall()]


def steps(tx: Transaction) -> list[StepStanding]:
    """Every step at which something waits; "" is what no step has seen yet."""
    rows = tx.execute(
        "WITH waiting (pipeline, step, state, due, arrived) AS ("
        " SELECT pipeline, '', 'due', 0, arrived FROM mail WHERE state IN ('accepted', 'intent')"
        " AND state != 'done'"
        " UNION ALL"
        " SELECT m.pipeline, c.step, c.state, c.due, m.arrived FROM copy c"
        " JOIN mail m ON m.id = c.mail WHERE c.state != 'planned'"
        " UNION ALL"
        " SELECT m.pipeline, d.step, d.state, d.due, m.arrived"
        " FROM delivery d INDEXED BY delivery_due JOIN mail m ON m.id = d.mail"
        " WHERE d.state NOT IN ('sent', 'failed', 'dropped'))"
        " SELECT pipeline, step, sum(state IN ('due', 'waiting')), sum(state = 'held'),"
        " sum(state IN ('sending', 'doubt')),"
        " min(CASE WHEN state IN ('due', 'waiting') THEN due END), min(arrived)"
        " FROM waiting GROUP BY 1, 2 ORDER BY 1, 2"
    )
    return [StepStanding(*row) for row in rows.fetchall()]


def octets_in_files(tx: Transaction) -> int:
    """What the bodies take up that are kept beside the journal's file."""
    query = "SELECT coalesce(sum(size), 0) FROM body WHERE file IS NOT NULL"
    found: int = tx.execute(query).fetchone()[0]
    return found


def file_octets(path: str) -> int:
    """What the journal's own file takes up on the disk."""
    return sum(
        os.path.getsize(path + suffix) for suffix in ("", "-wal") if os.path.exists(path + suffix)
    )
