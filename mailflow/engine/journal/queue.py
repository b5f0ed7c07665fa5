"""What the commands show and change: mails that wait, and the story of each.

Rule of the file: each function is one part of one transaction, or one query.
"""

from __future__ import annotations

from mailflow.engine.journal.arrivals import unpack
from mailflow.record import NamedTuple
from mailflow.typed import TYPE_CHECKING

if TYPE_CHECKING:
    from mailflow.engine.journal.database import Transaction


class Entry(NamedTuple):
    """One mail's wait: at a processing step (copy), or for one distributor's deliveries.

    `state`: accepted, waiting, held, due, sending or doubt. `due` is when it is tried
    again; `recipients` are those that wait.
    """

    mail: str
    pipeline: str
    state: str
    step: str
    sender: str | None
    recipients: tuple[str, ...]
    arrived: float
    due: float
    attempt: int
    reason: str
    busy: bool


class Chapter(NamedTuple):
    """One line of a mail's story."""

    at: float
    step: str
    what: str
    text: str


class Story(NamedTuple):
    """A mail and all that is known of it, in the order in which it happened."""

    mail: str
    pipeline: str
    step: str
    source: str
    state: str
    sender: str | None
    recipients: tuple[str, ...]
    notes: dict[str, str]
    size: int
    arrived: float
    ended: float | None
    chapters: tuple[Chapter, ...]


def entries(tx: Transaction, pipeline: str | None = None) -> list[Entry]:
    """All that is not final, oldest mail first."""
    rows = tx.execute(
        "SELECT id, pipeline, state, '', sender, recipients, arrived, 0, crashes, '',"
        " owner IS NOT NULL FROM mail WHERE state IN ('accepted', 'intent') AND state != 'done'"
        " UNION ALL"
        " SELECT m.id, m.pipeline, c.state, c.step, c.sender, c.recipients, m.arrived, c.due,"
        " c.attempt, c.reason, m.owner IS NOT NULL FROM copy c JOIN mail m ON m.id = c.mail"
        " WHERE c.state != 'planned'"
        " UNION ALL"
        " SELECT m.id, m.pipeline, d.state, d.step, m.sender, group_concat(d.recipient, char(10)),"
        " m.arrived, min(d.due), max(d.attempt), max(d.text), m.owner IS NOT NULL"
        " FROM delivery d INDEXED BY delivery_due JOIN mail m ON m.id = d.mail"
        " WHERE d.state NOT IN ('sent', 'failed', 'dropped')"
        " GROUP BY d.mail, d.copy, d.step, d.state",
    ).fetchall()
    found = [
        Entry(
            mail, name, state, step, sender, _lines(to), arrived, due, attempt, reason, bool(busy)
        )
        for mail, name, state, step, sender, to, arrived, due, attempt, reason, busy in rows
        if pipeline in (None, name)
    ]
    return sorted(found, key=lambda entry: (entry.mail, entry.step))


def story(tx: Transaction, mail: str) -> Story | None:
    """All of a mail; None where there is no such one."""
    row = tx.execute(
        "SELECT id, pipeline, step, source, state, sender, recipients, notes, size, arrived, ended"
        " FROM mail WHERE id = ?",
        (mail,),
    ).fetchone()
    if row is None:
        return None
    identity, pipeline, step, source, state, sender, to, notes, size, arrived, ended = row
    chapters = [
        *_arrival(tx, identity, step, source, arrived),
        *(Chapter(*each) for each in tx.execute(
            "SELECT at, step, what, text FROM story WHERE mail = ? ORDER BY rowid", (identity,)
        )),
        *_copies(tx, identity),
        *_deliveries(tx, identity),
    ]  # fmt: skip
    chapters.sort(key=lambda chapter: chapter.at)
    return Story(
        identity, pipeline, step, source, state, sender, _lines(to), unpack(notes), size, arrived,
        ended, tuple(chapters),
    )  # fmt: skip


def stories(tx: Transaction) -> list[Story]:
    """Every mail's story, oldest first, as long as `history` keeps them."""
    mails = [row[0] for row in tx.execute("SELECT id FROM mail ORDER BY id").fetchall()]
    return [found for mail in mails if (found := story(tx, mail)) is not None]


def _arrival(tx: Transaction, mail: str, step: str, source: str, arrived: float) -> list[Chapter]:
    notice = tx.execute("SELECT notice FROM mail WHERE id = ?", (mail,)).fetchone()[0]
    if notice:
        return [Chapter(arrived, step, "written", "a notice of our own")]
    return [Chapter(arrived, step, "arrived", f"from {source}")]


def _copies(tx: Transaction, mail: str) -> list[Chapter]:
    rows = tx.execute(
        "SELECT m.arrived, c.step, c.state, c.reason FROM copy c JOIN mail m ON m.id = c.mail"
        " WHERE c.mail = ? AND c.state != 'planned'",
        (mail,),
    )
    return [Chapter(at, step, state, reason) for at, step, state, reason in rows]


def _deliveries(tx: Transaction, mail: str) -> list[Chapter]:
    rows = tx.execute(
        "SELECT at, step, state, recipient, text FROM delivery WHERE mail = ?"
        " ORDER BY at, step, recipient",
        (mail,),
    )
    return [
        Chapter(at, step, state, " ".join(part for part in (to, text) if part))
        for at, step, state, to, text in rows
    ]


def mails_like(tx: Transaction, mail: str, *, ended: bool = False) -> list[str]:
    """The ids of mails that begin so and are not done; with `ended`, of those too."""
    rows = tx.execute(
        "SELECT id FROM mail WHERE id >= ? AND id < ? AND (state != 'done' OR ?)",
        (mail, mail + "~", ended),
    )
    return [row[0] for row in rows.fetchall()]


def is_busy(tx: Transaction, mail: str) -> bool:
    """Whether a process has the mail in its hands."""
    row = tx.execute("SELECT owner FROM mail WHERE id = ?", (mail,)).fetchone()
    return bool(row and row[0])


def retry(tx: Transaction, mail: str, now: float) -> int:
    """Make what waits for its time due now; how much that was."""
    deliveries = tx.execute(
        "UPDATE delivery SET due = ? WHERE mail = ? AND state = 'due' AND due > ?", (now, mail, now)
    ).rowcount
    copies = tx.execute(
        "UPDATE copy SET due = ? WHERE mail = ? AND state = 'waiting' AND due > ?", (now, mail, now)
    ).rowcount
    return deliveries + copies


def retry_all(tx: Transaction, pipeline: str, now: float) -> None:
    """Make all due now that waits for its time in a pipeline and is in nobody's hands."""
    free = "mail IN (SELECT id FROM mail WHERE pipeline = ? AND state != 'done' AND owner IS NULL)"
    for table, state in (("delivery", "due"), ("copy", "waiting")):
        tx.execute(
            f"UPDATE {table} SET due = ? WHERE state = ? AND due > ? AND {free}",
            (now, state, now, pipeline),
        )


def release(tx: Transaction, mail: str, now: float, step: str | None = None) -> int:
    """Let what is held go on: deliveries are tried again, a copy meets the step that
    held it once more, approved. With a `step`, only what is held there."""
    deliveries = tx.execute(
        "UPDATE delivery SET state = 'due', due = ?, doubt = 0 WHERE mail = ?"
        " AND state IN ('held', 'doubt') AND step = ifnull(?, step)",
        (now, mail, step),
    ).rowcount
    copies = tx.execute(
        "UPDATE copy SET state = 'waiting', due = ?, attempt = 0, approved = 1"
        " WHERE mail = ? AND state = 'held' AND step = ifnull(?, step)",
        (now, mail, step),
    ).rowcount
    return deliveries + copies


def drop(tx: Transaction, mail: str, now: float, step: str | None = None) -> int:
    """Give up all of a mail that is not final; with a `step`, only what is held there."""
    if step is not None:
        return _drop_held(tx, mail, now, step)
    deliveries = tx.execute(
        "UPDATE delivery SET state = 'dropped', at = ? WHERE mail = ?"
        " AND state NOT IN ('sent', 'failed', 'dropped')",
        (now, mail),
    ).rowcount
    copies = tx.execute("DELETE FROM copy WHERE mail = ? AND state != 'planned'", (mail,)).rowcount
    accepted = tx.execute(
        "UPDATE mail SET state = 'planned' WHERE id = ? AND state = 'accepted'", (mail,)
    ).rowcount
    return deliveries + copies + accepted


def _drop_held(tx: Transaction, mail: str, now: float, step: str) -> int:
    deliveries = tx.execute(
        "UPDATE delivery SET state = 'dropped', at = ? WHERE mail = ?"
        " AND state IN ('held', 'doubt') AND step = ?",
        (now, mail, step),
    ).rowcount
    copies = tx.execute(
        "DELETE FROM copy WHERE mail = ? AND state = 'held' AND step = ?", (mail, step)
    ).rowcount
    return deliveries + copies


def tell(tx: Transaction, mail: str, at: float, what: str) -> None:
    """Note what a human has done."""
    tx.execute(
        "INSERT INTO story (mail, at, step, what, text) VALUES (?, ?, '', ?, 'by hand')",
        (mail, at, what),
    )


def _lines(text: str | None) -> tuple[str, ...]:
    return tuple(line for line in (text or "").split("\n") if line)


def sent_since(tx: Transaction, pipeline: str, step: str, since: float) -> list[float]:
    """When a step has sent what it sent after that time: once for each answer it was given,
    which is what it answers for (a transaction), whoever shared it."""
    rows = tx.execute(
        "SELECT max(d.at) FROM delivery d JOIN mail m ON m.id = d.mail"
        " WHERE d.step = ? AND d.state = 'sent' AND d.at > ? AND m.pipeline = ?"
        " GROUP BY d.mail, d.copy, d.text",
        (step, since, pipeline),
    ).fetchall()
    return sorted(at for (at,) in rows)
