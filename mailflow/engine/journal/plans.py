"""From an accepted mail to its deliveries: commits B, C and D, and what is due.

Rule of the file: each function is one part of one transaction.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from mailflow.engine.journal import bodies
from mailflow.engine.journal.arrivals import (
    envelope,
    joined,
    pack,
    plain,
    reverse_path,
    said,
    unpack,
)
from mailflow.errors import JournalError, MailflowError
from mailflow.mail import Mail, Spliced
from mailflow.record import NamedTuple
from mailflow.typed import TYPE_CHECKING

if TYPE_CHECKING:
    from mailflow.engine.journal.database import Database, Transaction
    from mailflow.mail import Content

OPEN = "state NOT IN ('sent', 'failed', 'dropped')"
"""What every look for deliveries that are not final says, so that SQLite takes the index
of those and not the table, where all that was ever sent is."""

CRASHES = 3
"""A mail that was in work in this many crashes is held."""


class ConflictError(MailflowError):
    """Another process wrote what this plan had read: make the plan again."""

    temporary = True


class Copy(NamedTuple):
    """One outcome of processing. `state`: planned, held, or waiting (at `step`, until `due`).

    `deliveries` are (step, recipient); recipient "" where a mail has one delivery.
    """

    number: int
    mail: Mail
    state: str = "planned"
    deliveries: tuple[tuple[str, str], ...] = ()
    step: str = ""
    reason: str = ""
    due: float = 0.0
    attempt: int = 0


class Remembered(NamedTuple):
    """One entry of a step's memory, read or written; `shared`: of no mail in particular."""

    step: str
    key: str
    value: str | None
    expires: float | None = None
    shared: bool = False


class Told(NamedTuple):
    """One sentence of a mail's story."""

    mail: str
    at: float
    step: str
    what: str
    text: str = ""


class Notice(NamedTuple):
    """A mail of our own, to be handed to one distributor."""

    mail: Mail
    deliveries: tuple[tuple[str, str], ...]
    step: str


class Effects(NamedTuple):
    """What processing or reacting leaves behind, besides copies: one commit."""

    reads: Sequence[Remembered] = ()
    writes: Sequence[Remembered] = ()
    notices: Sequence[Notice] = ()
    story: Sequence[Told] = ()


class Job(NamedTuple):
    """Due deliveries of one copy by one distributor."""

    mail: str
    copy: int
    step: str
    recipients: tuple[str, ...]
    attempt: int
    resumed: bool
    doubt: int = 0


class Waiting(NamedTuple):
    """A mail, or a copy of one, that is to be processed (from `step` on)."""

    mail: str
    copy: int | None
    step: str
    attempt: int
    approved: bool


class Claimed(NamedTuple):
    """Mails that this process has taken: what there is to do, and who crashed too often.

    `alone`: it was in a crash, and nothing else is to be in work beside it.
    """

    jobs: Sequence[Job]
    waiting: Sequence[Waiting]
    crashed: Sequence[str]
    alone: bool


class Row(NamedTuple):
    """What became of one delivery."""

    mail: str
    copy: int
    step: str
    recipient: str
    state: str
    due: float
    attempt: int
    doubt: int
    code: str
    text: str
    remote: str


def plan(
    tx: Transaction,
    pipeline: str,
    mail: str,
    original: tuple[int, Content],
    copies: Sequence[tuple[Copy, bodies.Body | None]],
    effects: Effects,
    now: float,
) -> None:
    """Commit B. A copy comes with a body where it shares none with `original`, which
    is (number of the body, content)."""
    settle_effects(tx, pipeline, mail, effects, now)
    for copy, body in copies:
        head, offset, number = None, 0, original[0]
        if body is not None:
            number = _free_body(tx, mail)
            bodies.insert(tx, mail, number, body)
        else:
            shared = bodies.parts(copy.mail.content, original[1])
            head, offset = shared if shared else (None, 0)
        put_copy(tx, copy, head, number, offset)
        tx.executemany(
            "INSERT OR IGNORE INTO delivery (mail, copy, step, recipient, state, due, at)"
            " VALUES (?, ?, ?, ?, 'due', ?, ?)",
            [(mail, copy.number, step, to, now, now) for step, to in copy.deliveries],
        )
    tx.execute("UPDATE mail SET state = 'planned' WHERE id = ?", (mail,))


def put_copy(tx: Transaction, copy: Copy, head: bytes | None, body: int, offset: int) -> None:
    mail = copy.mail
    tx.execute(
        "INSERT OR REPLACE INTO copy (mail, copy, state, sender, recipients, notes, head, body,"
        " offset, step, reason, due, attempt) VALUES (?,?,?,?,?,?,?,?,?,?,?,?,?)",
        (
            mail.id, copy.number, copy.state, reverse_path(mail),
            joined(mail.envelope.recipients), pack(mail.notes), head, body, offset,
            copy.step, said(copy.reason), copy.due, copy.attempt,
        ),
    )  # fmt: skip


def _free_body(tx: Transaction, mail: str) -> int:
    row = tx.execute("SELECT max(copy) FROM body WHERE mail = ?", (mail,)).fetchone()
    return int(row[0] or 0) + 1


def settle_effects(tx: Transaction, pipeline: str, mail: str, effects: Effects, now: float) -> None:
    """Memory, notices and story. Raises ConflictError where a read is true no more."""
    for read in effects.reads:
        if recall(tx, pipeline, read.step, read.key, mail, now) != read.value:
            raise ConflictError("another process has changed what this plan was made from")
    tx.executemany(
        "INSERT OR REPLACE INTO memory (pipeline, step, key, mail, value, expires, at)"
        " SELECT ?1, ?2, ?3, ?4, ?5, ?6, max(?7, coalesce(max(at) + 0.001, 0)) FROM memory"
        " WHERE pipeline = ?1 AND step = ?2 AND key = ?3",
        [
            (pipeline, w.step, w.key, "" if w.shared else mail, w.value, w.expires, now)
            for w in effects.writes
        ],
    )
    for notice in effects.notices:
        _insert_notice(tx, pipeline, notice, now)
    tell(tx, effects.story)


def recall(
    tx: Transaction, pipeline: str, step: str, key: str, mail: str, now: float
) -> str | None:
    """The newest value of a key that another mail has left."""
    row = tx.execute(
        "SELECT value FROM memory WHERE pipeline = ? AND step = ? AND key = ?"
        " AND mail NOT IN ('', ?)"
        " AND (expires IS NULL OR expires > ?) ORDER BY at DESC LIMIT 1",
        (pipeline, step, key, mail, now),
    ).fetchone()
    return row[0] if row else None


def recall_shared(tx: Transaction, pipeline: str, step: str, key: str, now: float) -> str | None:
    """The value of a key that is of no mail in particular."""
    row = tx.execute(
        "SELECT value FROM memory WHERE pipeline = ? AND step = ? AND key = ? AND mail = ''"
        " AND (expires IS NULL OR expires > ?)",
        (pipeline, step, key, now),
    ).fetchone()
    return row[0] if row else None


def tell(tx: Transaction, story: Iterable[Told]) -> None:
    tx.executemany(
        "INSERT INTO story (mail, at, step, what, text) VALUES (?, ?, ?, ?, ?)",
        [(each.mail, each.at, each.step, each.what, said(each.text)) for each in story],
    )


def _insert_notice(tx: Transaction, pipeline: str, notice: Notice, now: float) -> None:
    mail = notice.mail
    tx.execute(
        "INSERT INTO mail (id, pipeline, step, source, key, sender, recipients, notes, size,"
        " arrived, state, notice) VALUES (?, ?, ?, '', '', ?, ?, ?, ?, ?, 'planned', 1)",
        (
            mail.id, pipeline, notice.step, reverse_path(mail),
            joined(mail.envelope.recipients), pack(mail.notes), mail.content.size, now,
        ),
    )  # fmt: skip
    with mail.content.open() as reader:
        bodies.insert(tx, mail.id, 0, bodies.Body(mail.content.size, reader.read(), None))
    put_copy(tx, Copy(0, mail), None, 0, 0)
    tx.executemany(
        "INSERT INTO delivery (mail, copy, step, recipient, state, due, at)"
        " VALUES (?, 0, ?, ?, 'due', ?, ?)",
        [(mail.id, step, to, now, now) for step, to in notice.deliveries],
    )


class Loaded(NamedTuple):
    """A mail from the journal. `body` is the number of the body it is made from."""

    mail: Mail
    arrived: float
    notice: bool
    body: int
    step: str


def load(journal: Database, mail: str, copy: int | None) -> Loaded:
    """A copy of a mail, or the mail as it came (None). Raises JournalError."""

    def query(tx: Transaction) -> Loaded:
        row = tx.execute(
            "SELECT arrived, notice, step, sender, recipients, notes FROM mail WHERE id = ?",
            (mail,),
        ).fetchone()
        if row is None:
            raise JournalError(f"the journal {journal.path} has no mail {mail}")
        arrived, notice, step, sender, recipients, notes = row
        head, body, offset = None, 0, 0
        if copy is not None:
            row = tx.execute(
                "SELECT sender, recipients, notes, head, body, offset FROM copy"
                " WHERE mail = ? AND copy = ?",
                (mail, copy),
            ).fetchone()
            if row is None:
                raise JournalError(f"the journal {journal.path} has no copy {copy} of mail {mail}")
            sender, recipients, notes, head, body, offset = row
        content = bodies.load(journal, tx, mail, body)
        if head is not None:
            content = Spliced(head, content, offset)
        loaded = Mail(mail, envelope(sender, recipients), content, unpack(notes))
        return Loaded(loaded, arrived, bool(notice), body, step)

    return journal.read(query)


_DUE = (
    " FROM mail m INDEXED BY mail_unfinished WHERE m.state != 'done'"
    " AND pipeline = ? AND owner IS NULL AND ("
    "  state = 'accepted' OR state = 'planned' AND ("
    "   EXISTS (SELECT 1 FROM delivery d WHERE d.mail = m.id AND d.state = 'due'"
    "           AND d.due <= ?)"
    "   OR EXISTS (SELECT 1 FROM copy c WHERE c.mail = m.id AND c.state = 'waiting'"
    "           AND c.due <= ?)))"
)


def is_due(tx: Transaction, pipeline: str, now: float) -> bool:
    """Whether `claim` would find anything. Asked often: it looks at what is due and at
    nothing that waits for its time, however much that is."""
    row = tx.execute(
        "SELECT EXISTS (SELECT 1 FROM mail INDEXED BY mail_unfinished WHERE state != 'done'"
        "  AND pipeline = ?1 AND state = 'accepted' AND owner IS NULL)"
        " OR EXISTS (SELECT 1 FROM delivery d INDEXED BY delivery_due JOIN mail m ON m.id = d.mail"
        f"  WHERE d.{OPEN} AND d.state = 'due' AND d.due <= ?2"
        "  AND m.pipeline = ?1 AND m.state = 'planned' AND m.owner IS NULL)"
        " OR EXISTS (SELECT 1 FROM copy c INDEXED BY copy_waiting JOIN mail m ON m.id = c.mail"
        "  WHERE c.state != 'planned' AND c.state = 'waiting' AND c.due <= ?2"
        "  AND m.pipeline = ?1 AND m.state = 'planned' AND m.owner IS NULL)",
        (pipeline, now),
    ).fetchone()
    return bool(row[0])


def claim(tx: Transaction, owner: str, pipeline: str, now: float, limit: int = 500) -> Claimed:
    """Take free mails with something due. One that was in a crash is taken alone."""
    rows = tx.execute(
        f"SELECT id, crashes{_DUE} ORDER BY crashes DESC, id LIMIT ?",
        (pipeline, now, now, limit),
    ).fetchall()
    if rows and rows[0][1]:
        rows = rows[:1]
    tx.executemany(
        "UPDATE mail SET owner = ?, working = 1 WHERE id = ?", [(owner, mail) for mail, _ in rows]
    )
    jobs: list[Job] = []
    waiting: list[Waiting] = []
    crashed = [mail for mail, crashes in rows if crashes >= CRASHES]
    for mail, crashes in rows:
        if crashes < CRASHES:
            jobs += due_jobs(tx, mail, now)
            waiting += _due_waiting(tx, mail, now)
    return Claimed(jobs, waiting, crashed, bool(rows and rows[0][1]))


def claim_one(
    tx: Transaction, owner: str, mail: str, now: float
) -> tuple[list[Job], list[Waiting]]:
    """Take this mail if it is free, and give what is due of it."""
    taken = tx.execute(
        "UPDATE mail SET owner = ?, working = 1 WHERE id = ? AND owner IS NULL AND state != 'done'",
        (owner, mail),
    ).rowcount
    return (due_jobs(tx, mail, now), _due_waiting(tx, mail, now)) if taken else ([], [])


def due_jobs(tx: Transaction, mail: str, now: float, *, resumed: bool = True) -> list[Job]:
    """The due deliveries of a mail, those of one copy and step together."""
    rows = tx.execute(
        "SELECT copy, step, recipient, attempt, doubt FROM delivery"
        " WHERE mail = ? AND state = 'due' AND due <= ? ORDER BY copy, step",
        (mail, now),
    ).fetchall()
    grouped: dict[tuple[int, str], list[tuple[str, int, int]]] = {}
    for copy, step, *rest in rows:
        grouped.setdefault((copy, step), []).append(tuple(rest))
    return [
        Job(
            mail, copy, step, tuple(to for to, _, _ in rows),
            max(attempt for _, attempt, _ in rows) + 1, resumed,
            max(doubt for _, _, doubt in rows),
        )
        for (copy, step), rows in grouped.items()
    ]  # fmt: skip


def _due_waiting(tx: Transaction, mail: str, now: float) -> list[Waiting]:
    state = tx.execute("SELECT state FROM mail WHERE id = ?", (mail,)).fetchone()[0]
    if state == "accepted":
        return [Waiting(mail, None, "", 0, False)]
    rows = tx.execute(
        "SELECT copy, step, attempt, approved FROM copy"
        " WHERE mail = ? AND state = 'waiting' AND due <= ?",
        (mail, now),
    ).fetchall()
    return [Waiting(mail, copy, step, attempt, bool(ok)) for copy, step, attempt, ok in rows]


def send(tx: Transaction, job: Job, recipients: Iterable[str]) -> None:
    """Commit C: from here on these deliveries are in doubt until they are reported."""
    tx.executemany(
        "UPDATE delivery SET state = 'sending'"
        " WHERE mail = ? AND copy = ? AND step = ? AND recipient = ?",
        [(job.mail, job.copy, job.step, recipient) for recipient in recipients],
    )


def report(tx: Transaction, rows: Sequence[Row], now: float, *, where: str = "") -> int:
    """Commit D: what became of deliveries; how many were changed. A mail that gets on is
    not what kills the process: thousands of recipients may outlast three of them."""
    tx.executemany(
        "UPDATE mail SET crashes = 0 WHERE id = ? AND crashes > 0",
        {(r.mail,) for r in rows if r.state == "sent"},
    )
    return tx.executemany(
        "UPDATE delivery SET state = ?, due = ?, attempt = ?, doubt = ?, code = ?, text = ?,"
        f" remote = ?, at = ? WHERE mail = ? AND copy = ? AND step = ? AND recipient = ?{where}",
        [
            (r.state, r.due, r.attempt, r.doubt, plain(r.code), said(r.text), plain(r.remote),
             now, r.mail, r.copy, r.step, r.recipient)
            for r in rows
        ],
    ).rowcount  # fmt: skip


def unpark(tx: Transaction, mail: str, copy: int) -> None:
    """A copy that waited has been processed; its outcomes follow in the same commit."""
    tx.execute("DELETE FROM copy WHERE mail = ? AND copy = ?", (mail, copy))


def next_copy(tx: Transaction, mail: str) -> int:
    """The lowest copy number that was never used."""
    row = tx.execute(
        "SELECT max(n) FROM (SELECT max(copy) n FROM copy WHERE mail = ?1"
        " UNION SELECT max(copy) FROM delivery WHERE mail = ?1)",
        (mail,),
    ).fetchone()
    return 0 if row[0] is None else int(row[0]) + 1


def release(tx: Transaction, mail: str, now: float) -> tuple[bool, list[str]]:
    """This process is through with a mail: (whether it is done, files to remove)."""
    unfinished = tx.execute(
        "SELECT EXISTS (SELECT 1 FROM delivery WHERE mail = ?1"
        "  AND state NOT IN ('sent', 'failed', 'dropped'))"
        " OR EXISTS (SELECT 1 FROM copy WHERE mail = ?1 AND state != 'planned')"
        " OR EXISTS (SELECT 1 FROM mail WHERE id = ?1 AND state IN ('intent', 'accepted'))",
        (mail,),
    ).fetchone()[0]
    if unfinished:
        tx.execute("UPDATE mail SET owner = NULL, working = 0, crashes = 0 WHERE id = ?", (mail,))
        return False, []
    return True, end(tx, mail, now)


def end(tx: Transaction, mail: str, now: float) -> list[str]:
    """All is final: forget the octets, keep the story. Gives the files to remove."""
    tx.execute(
        "UPDATE mail SET state = 'done', owner = NULL, working = 0, crashes = 0, ended = ?"
        " WHERE id = ?",
        (now, mail),
    )
    tx.execute("UPDATE copy SET head = NULL WHERE mail = ? AND head IS NOT NULL", (mail,))
    return bodies.drop(tx, mail)


def let_go(tx: Transaction, owner: str) -> None:
    """An orderly end: what this process still had is free, and no crash."""
    _doubt_sending(tx, owner)
    tx.execute("UPDATE mail SET owner = NULL, working = 0 WHERE owner = ?", (owner,))


def free(tx: Transaction, owner: str) -> None:
    """`owner` has died: its mails are free, what it was sending is in doubt."""
    _doubt_sending(tx, owner)
    tx.execute(
        "UPDATE mail SET owner = NULL, crashes = crashes + working, working = 0 WHERE owner = ?",
        (owner,),
    )


def _doubt_sending(tx: Transaction, owner: str) -> None:
    tx.execute(
        "UPDATE delivery SET state = 'doubt' WHERE state = 'sending'"
        " AND mail IN (SELECT id FROM mail WHERE owner = ?)",
        (owner,),
    )


def hold(tx: Transaction, mail: str, reason: str) -> None:
    """Everything of a mail that is not final waits for a human; an accepted mail as a
    copy that has not met any step."""
    reason = said(reason)
    tx.execute(
        "INSERT INTO copy (mail, copy, state, sender, recipients, notes, body, offset, reason)"
        " SELECT id, 0, 'held', sender, recipients, notes, 0, 0, ? FROM mail"
        " WHERE id = ? AND state = 'accepted'",
        (reason, mail),
    )
    tx.execute("UPDATE copy SET state = 'held', reason = ? WHERE mail = ? AND state = 'waiting'",
               (reason, mail))  # fmt: skip
    tx.execute(
        "UPDATE delivery SET state = 'held', text = ? WHERE mail = ? AND state = 'due'",
        (reason, mail),
    )
    tx.execute(
        "UPDATE mail SET state = 'planned', owner = NULL, working = 0, crashes = 0 WHERE id = ?",
        (mail,),
    )
