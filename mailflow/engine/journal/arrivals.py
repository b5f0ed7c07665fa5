"""What was seen at the sources, and the way of a mail into the journal (commit A).

Rule of the file: each function is one part of one transaction.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterable, Mapping, Sequence

from mailflow.engine.journal import bodies
from mailflow.engine.journal.database import Transaction
from mailflow.log import mask
from mailflow.mail import Envelope, Mail
from mailflow.record import NamedTuple
from mailflow.typed import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from mailflow.kinds import Item

MISSING_SECONDS = 30 * 86400.0
"""A key is forgotten when complete listings have lacked it for this long."""

TOGETHER = 500
"""So many keys are looked up in one statement."""

_KNOWN = (
    "SELECT key, state, why, at, digest, missing FROM seen"
    " WHERE pipeline = ? AND step = ? AND source = ?"
)


class Lane(NamedTuple):
    """One source of one fetch step of one pipeline."""

    pipeline: str
    step: str
    source: str


class Known(NamedTuple):
    """What the journal knows of a key: `state` done, settled or passed, `at` since when;
    `missing`, since when listings lack it."""

    state: str
    why: str
    at: float
    digest: bytes | None
    missing: float | None


class SourceState(NamedTuple):
    """How a source fares; times are seconds since the epoch."""

    failures: int = 0
    next_try: float = 0.0
    failed_at: float | None = None
    worked_at: float | None = None
    mark: str = ""
    error: str = ""


class Arrival(NamedTuple):
    """A mail as it came, with what identifies it at its source."""

    mail: Mail
    lane: Lane
    key: str
    digest: bytes | None
    at: float
    resumed: bool = False
    crashes: int = 0


def known(
    tx: Transaction, lane: Lane, listed: Mapping[str, Item], *, whole: bool = False
) -> dict[str, Known]:
    """Of the keys that are listed, of those that the last listing had, and of those under
    which a mail may be that is listed under another one by now. What else has gone is many
    times as much as a mailbox holds, and stays where it is; `whole` has it, too."""
    rows = tx.execute(
        _KNOWN if whole
        else f"{_KNOWN} AND (missing IS NULL OR state = 'done' AND digest IS NOT NULL)",
        lane,
    )  # fmt: skip
    found = _found(rows, listed)
    if found or tx.execute(f"{_KNOWN} LIMIT 1", lane).fetchone():
        unknown = {key: item for key, item in listed.items() if key not in found}
        found.update(known_of(tx, lane, unknown))
    return found


def known_of(tx: Transaction, lane: Lane, listed: Mapping[str, Item]) -> dict[str, Known]:
    """Of these keys alone."""
    found: dict[str, Known] = {}
    keys = list(listed)
    for start in range(0, len(keys), TOGETHER):
        asked = keys[start : start + TOGETHER]
        marks = ",".join("?" * len(asked))
        rows = tx.execute(f"{_KNOWN} AND key IN ({marks})", (*lane, *asked))
        found.update(_found(rows, listed))
    return found


def _found(rows: Iterable[tuple[Any, ...]], listed: Mapping[str, Item]) -> dict[str, Known]:
    """By key; what is the same in many of a large mailbox is in memory once."""
    found: dict[str, Known] = {}
    for key, state, why, at, digest, missing in rows:
        own = listed[key].key if key in listed else key
        found[own] = Known(sys.intern(state), sys.intern(why), at, digest, missing)
    return found


def unsettled(tx: Transaction, lane: Lane, before: float) -> list[str]:
    """Keys that are ours since `before` at the latest, and that the source was not told of."""
    rows = tx.execute(
        "SELECT key FROM seen WHERE pipeline = ? AND step = ? AND source = ?"
        " AND state = 'done' AND missing IS NULL AND at <= ?",
        (*lane, before),
    )
    return [key for (key,) in rows]


def source_state(tx: Transaction, lane: Lane) -> SourceState:
    row = tx.execute(
        "SELECT failures, next_try, failed_at, worked_at, mark, error FROM source"
        " WHERE pipeline = ? AND step = ? AND source = ?",
        lane,
    ).fetchone()
    return SourceState(*row) if row else SourceState()


def source_worked(tx: Transaction, lane: Lane, mark: str, now: float) -> None:
    tx.execute(
        "INSERT INTO source (pipeline, step, source, worked_at, mark) VALUES (?, ?, ?, ?, ?)"
        " ON CONFLICT DO UPDATE SET failures = 0, next_try = 0, error = '',"
        " worked_at = ?, mark = ?",
        (*lane, now, mark, now, mark),
    )


def source_failed(tx: Transaction, lane: Lane, error: str, next_try: float, now: float) -> None:
    tx.execute(
        "INSERT INTO source (pipeline, step, source, failures, next_try, failed_at, error)"
        " VALUES (?, ?, ?, 1, ?, ?, ?) ON CONFLICT DO UPDATE SET"
        " failures = failures + 1, next_try = ?, failed_at = ?, error = ?",
        (*lane, next_try, now, said(error), next_try, now, said(error)),
    )


def pass_by(tx: Transaction, lane: Lane, keys: Iterable[str], why: str, now: float) -> None:
    """Note keys that are not wanted; they are never settled."""
    tx.executemany(
        "INSERT OR REPLACE INTO seen (pipeline, step, source, key, state, why, at)"
        " VALUES (?, ?, ?, ?, 'passed', ?, ?)",
        [(*lane, key, why, now) for key in keys],
    )


def settle(tx: Transaction, lane: Lane, keys: Iterable[str]) -> None:
    """The source was told, and has confirmed: these keys are expected to vanish."""
    tx.executemany(
        "UPDATE seen SET state = 'settled'"
        " WHERE pipeline = ? AND step = ? AND source = ? AND key = ?",
        [(*lane, key) for key in keys],
    )


def rebind(tx: Transaction, lane: Lane, pairs: Iterable[tuple[str, str]]) -> None:
    """(old, new): the source has renamed a message."""
    tx.executemany(
        "UPDATE OR REPLACE seen SET key = ?, missing = NULL"
        " WHERE pipeline = ? AND step = ? AND source = ? AND key = ?",
        [(new, *lane, old) for old, new in pairs],
    )


def note_missing(
    tx: Transaction, lane: Lane, missing: Iterable[str], back: Iterable[str], now: float
) -> None:
    """After a complete listing: these keys are missing from now on, those are there again."""
    here = "pipeline = ? AND step = ? AND source = ?"
    tx.executemany(
        f"UPDATE seen SET missing = ? WHERE {here} AND key = ?",
        [(at, *lane, key) for at, keys in ((now, missing), (None, back)) for key in keys],
    )
    tx.execute(f"DELETE FROM seen WHERE {here} AND missing < ?", (*lane, now - MISSING_SECONDS))


def forget(tx: Transaction, lane: Lane, over: Callable[[str], bool]) -> None:
    """Keys that name nothing any more, and may name other messages in time."""
    rows = tx.execute("SELECT key FROM seen WHERE pipeline = ? AND step = ? AND source = ?", lane)
    tx.executemany(
        "DELETE FROM seen WHERE pipeline = ? AND step = ? AND source = ? AND key = ?",
        [(*lane, key) for (key,) in rows.fetchall() if over(key)],
    )


def accept(
    tx: Transaction, owner: str, arrivals: Sequence[tuple[Arrival, bodies.Body]], opened: str | None
) -> None:
    """Commit A, the common way: body, mail and seen at once. An intent becomes such a mail."""
    _insert(tx, owner, [arrival for arrival, _ in arrivals], "accepted", opened)
    for arrival, body in arrivals:
        bodies.insert(tx, arrival.mail.id, 0, body)
    if opened is None:
        _see(tx, [arrival for arrival, _ in arrivals])


def intend(tx: Transaction, owner: str, arrivals: Sequence[Arrival], opened: str | None) -> None:
    """Commit A, deliver-first: only what a restart must know to look for a copy."""
    _insert(tx, owner, arrivals, "intent", opened)


def fulfil(
    tx: Transaction,
    arrivals: Sequence[Arrival],
    deliveries: Sequence[tuple[str, int, str, str]],
    now: float,
    *,
    opened: bool,
) -> None:
    """Deliver-first is done: rows (mail, copy, step, text) are sent, the keys are seen."""
    tx.executemany(
        "UPDATE mail SET state = 'done', owner = NULL, working = 0, crashes = 0, ended = ?"
        " WHERE id = ?",
        [(now, arrival.mail.id) for arrival in arrivals],
    )
    tx.executemany(
        "INSERT OR REPLACE INTO delivery (mail, copy, step, recipient, state, due, attempt, at,"
        " text) VALUES (?, ?, ?, '', 'sent', 0, 1, ?, ?)",
        [(mail, copy, step, now, plain(text)) for mail, copy, step, text in deliveries],
    )
    if not opened:
        _see(tx, arrivals)


class Intent(NamedTuple):
    """A delivery that a crash has cut, of the message that this digest tells."""

    mail: str
    crashes: int
    digest: bytes | None


def intents(tx: Transaction, lane: Lane) -> dict[str, Intent]:
    """Those of a source, by key."""
    rows = tx.execute(
        "SELECT key, id, crashes, digest FROM mail INDEXED BY mail_unfinished WHERE state != 'done'"
        " AND state = 'intent' AND pipeline = ? AND step = ? AND source = ? AND open IS NULL",
        lane,
    )
    return {key: Intent(*rest) for key, *rest in rows.fetchall()}


def stale_intents(tx: Transaction, before: float) -> list[str]:
    """Mails of hook processes that died so long ago that no mail system tries again."""
    rows = tx.execute(
        "SELECT id FROM mail INDEXED BY mail_open WHERE open IS NOT NULL AND state = 'intent'"
        " AND owner IS NULL AND arrived < ?",
        (before,),
    )
    return [row[0] for row in rows.fetchall()]


def abandon_intents(tx: Transaction, ids: Iterable[str], why: str, now: float) -> None:
    """Nothing can be done about them any more: their messages are gone, or not wanted."""
    rows = [(now, mail) for mail in ids]
    tx.executemany(
        "UPDATE mail SET state = 'done', owner = NULL, open = NULL, working = 0, ended = ?"
        " WHERE id = ?",
        rows,
    )
    tx.executemany(
        "INSERT INTO story (mail, at, step, what, text) VALUES (?, ?, '', 'abandoned', ?)",
        [(mail, now, why) for _, mail in rows],
    )


class Opened(NamedTuple):
    """A mail of a hook process that gave no exit status yet."""

    mail: str
    state: str
    process: str
    crashes: int


def opened(tx: Transaction, lane: Lane, key: str) -> list[Opened]:
    rows = tx.execute(
        "SELECT id, state, open, crashes FROM mail WHERE open IS NOT NULL AND pipeline = ?"
        " AND step = ? AND key = ? AND source = ? ORDER BY id",
        (lane.pipeline, lane.step, key, lane.source),
    )
    return [Opened(*row) for row in rows.fetchall()]


def reopen(tx: Transaction, before: Opened, owner: str) -> Opened | None:
    """The MTA has tried again after a crash: this process answers for the mail now.
    None where another process was faster."""
    row = tx.execute(
        "UPDATE mail SET open = ? WHERE id = ? AND open = ? RETURNING id, state, open, crashes",
        (owner, before.mail, before.process),
    ).fetchone()
    return Opened(*row) if row else None


def close(tx: Transaction, mail: str) -> None:
    """The exit status is about to be given."""
    tx.execute("UPDATE mail SET open = NULL WHERE id = ?", (mail,))


def _insert(
    tx: Transaction, owner: str, arrivals: Sequence[Arrival], state: str, opened: str | None
) -> None:
    tx.executemany(
        "INSERT INTO mail (id, pipeline, step, source, key, digest, sender, recipients, notes,"
        " size, arrived, state, owner, open, working) VALUES (?,?,?,?,?,?,?,?,?,?,?,?,?,?,1)"
        " ON CONFLICT DO UPDATE SET state = excluded.state, owner = excluded.owner,"
        " open = excluded.open, working = 1",
        [
            (
                a.mail.id, *a.lane, a.key, a.digest, reverse_path(a.mail),
                joined(a.mail.envelope.recipients), pack(a.mail.notes),
                a.mail.content.size, a.at, state, owner, opened,
            )
            for a in arrivals
        ],
    )  # fmt: skip


def _see(tx: Transaction, arrivals: Iterable[Arrival]) -> None:
    tx.executemany(
        "INSERT OR REPLACE INTO seen (pipeline, step, source, key, digest, state, at)"
        " VALUES (?, ?, ?, ?, ?, 'done', ?)",
        [(*a.lane, a.key, a.digest, a.at) for a in arrivals],
    )


def plain(text: str) -> str:
    """Text as SQLite takes it: octets that are no text (surrogates) become escapes."""
    try:
        text.encode()
    except UnicodeEncodeError:
        return text.encode("utf-8", "backslashreplace").decode()
    return text


def said(text: str) -> str:
    """Words for a human, as SQLite takes them, without a secret that a server repeated:
    a command that shows them later knows no secrets to mask."""
    return plain(mask(text))


def reverse_path(mail: Mail) -> str | None:
    """The reverse-path as SQLite takes it."""
    found = mail.envelope.sender
    return None if found is None else plain(found)


def joined(recipients: Iterable[str]) -> str:
    """Recipients as one text, a line each, whatever is in them."""
    return "\n".join([plain(to).replace("\n", "\\n") for to in recipients])


def pack(notes: Mapping[str, str]) -> str:
    """Notes as one text; "" for none."""
    if not notes:
        return ""
    import json

    return json.dumps(dict(notes))


def unpack(text: str) -> dict[str, str]:
    """Notes from one text."""
    if not text:
        return {}
    import json

    notes: dict[str, str] = json.loads(text)
    return notes


def envelope(sender: str | None, recipients: str) -> Envelope:
    """An envelope from its two columns."""
    return Envelope(sender, tuple(recipients.split("\n")) if recipients else ())
