"""The journal's tables, as numbered migrations.

Rule of the file: a migration that has been released is never edited; a new one
is appended. `PRAGMA user_version` counts those applied.
"""

from __future__ import annotations

APPLICATION = 0x6D666C77
"""PRAGMA application_id of a journal: "mflw"."""

MIGRATIONS = (
    f"""
    PRAGMA application_id = {APPLICATION};
    -- What was fetched: one row per key of a source. state: done, settled (the
    -- source has confirmed what `on_done` says), passed (`where` refused it under the
    -- hash in `why`, or `start = "new"` passed it by).
    CREATE TABLE seen (
        pipeline TEXT NOT NULL, step TEXT NOT NULL, source TEXT NOT NULL, key TEXT NOT NULL,
        digest BLOB, state TEXT NOT NULL, why TEXT NOT NULL DEFAULT '', at REAL NOT NULL,
        missing REAL,
        PRIMARY KEY (pipeline, step, source, key)
    ) WITHOUT ROWID;

    -- How a source fares, so that a refused login is not hammered by cron.
    CREATE TABLE source (
        pipeline TEXT NOT NULL, step TEXT NOT NULL, source TEXT NOT NULL,
        failures INTEGER NOT NULL DEFAULT 0, next_try REAL NOT NULL DEFAULT 0,
        failed_at REAL, worked_at REAL, mark TEXT NOT NULL DEFAULT '',
        error TEXT NOT NULL DEFAULT '',
        PRIMARY KEY (pipeline, step, source)
    ) WITHOUT ROWID;

    -- One mail. state: intent (the source still has it, deliveries may have begun),
    -- accepted (its body is here), planned, done. owner: the process at work on it.
    -- working: in work right now; crashes: how often a process died over it.
    -- open: the hook process that has not yet given its exit status for it.
    CREATE TABLE mail (
        id TEXT PRIMARY KEY, pipeline TEXT NOT NULL, step TEXT NOT NULL, source TEXT NOT NULL,
        key TEXT NOT NULL, digest BLOB, sender TEXT, recipients TEXT NOT NULL DEFAULT '',
        notes TEXT NOT NULL DEFAULT '', size INTEGER NOT NULL, arrived REAL NOT NULL,
        state TEXT NOT NULL, owner TEXT, open TEXT, notice INTEGER NOT NULL DEFAULT 0,
        working INTEGER NOT NULL DEFAULT 0, crashes INTEGER NOT NULL DEFAULT 0,
        ended REAL
    ) WITHOUT ROWID;
    CREATE INDEX mail_unfinished ON mail (pipeline, state) WHERE state != 'done';
    CREATE INDEX mail_owned ON mail (owner) WHERE owner IS NOT NULL;
    CREATE INDEX mail_open ON mail (pipeline, step, key) WHERE open IS NOT NULL;
    CREATE INDEX mail_ended ON mail (ended) WHERE ended IS NOT NULL;

    -- Octets: in the row, or in a file of the journal's directory. copy 0 is the mail
    -- as it came; others are contents that share nothing with it.
    CREATE TABLE body (
        mail TEXT NOT NULL, copy INTEGER NOT NULL, size INTEGER NOT NULL, data BLOB, file TEXT,
        PRIMARY KEY (mail, copy)
    );

    -- A mail as it left the processors, or where it waits among them. state: planned,
    -- held, waiting. step: the processor it waits at. head: a new header section in
    -- front of body number `body` from octet `offset` on; NULL is that body as it is.
    CREATE TABLE copy (
        mail TEXT NOT NULL, copy INTEGER NOT NULL, state TEXT NOT NULL,
        sender TEXT, recipients TEXT NOT NULL, notes TEXT NOT NULL,
        head BLOB, body INTEGER NOT NULL, offset INTEGER NOT NULL,
        step TEXT NOT NULL DEFAULT '', reason TEXT NOT NULL DEFAULT '',
        due REAL NOT NULL DEFAULT 0, attempt INTEGER NOT NULL DEFAULT 0,
        approved INTEGER NOT NULL DEFAULT 0,
        PRIMARY KEY (mail, copy)
    ) WITHOUT ROWID;
    CREATE INDEX copy_waiting ON copy (state, due) WHERE state != 'planned';

    -- One delivery. state: due, sending (commit C: perhaps taken), doubt, held, and the
    -- final ones sent, failed, dropped. recipient is '' where a mail has one delivery.
    CREATE TABLE delivery (
        mail TEXT NOT NULL, copy INTEGER NOT NULL, step TEXT NOT NULL, recipient TEXT NOT NULL,
        state TEXT NOT NULL, due REAL NOT NULL, attempt INTEGER NOT NULL DEFAULT 0,
        doubt INTEGER NOT NULL DEFAULT 0, at REAL NOT NULL,
        code TEXT NOT NULL DEFAULT '', text TEXT NOT NULL DEFAULT '',
        remote TEXT NOT NULL DEFAULT '',
        PRIMARY KEY (mail, copy, step, recipient)
    ) WITHOUT ROWID;
    CREATE INDEX delivery_due ON delivery (state, due)
        WHERE state NOT IN ('sent', 'failed', 'dropped');

    -- The steps' own lasting key-value space. mail: who wrote it, '' for a reactor. at:
    -- greater than in any older row of that key, whatever the clock says.
    CREATE TABLE memory (
        pipeline TEXT NOT NULL, step TEXT NOT NULL, key TEXT NOT NULL, mail TEXT NOT NULL,
        value TEXT NOT NULL, expires REAL, at REAL NOT NULL DEFAULT 0,
        PRIMARY KEY (pipeline, step, key, mail)
    ) WITHOUT ROWID;
    CREATE INDEX memory_expires ON memory (expires) WHERE expires IS NOT NULL;

    -- What happened to a mail, in words, for `trace`.
    CREATE TABLE story (
        mail TEXT NOT NULL, at REAL NOT NULL, step TEXT NOT NULL, what TEXT NOT NULL,
        text TEXT NOT NULL
    );
    CREATE INDEX story_mail ON story (mail);
    """,
)


def newer(version: int) -> str:
    """What is wrong with a journal whose schema has this number, which we do not know."""
    return (
        f"was written by a newer mailflow; use that one (its schema is {version},"
        f" and {len(MIGRATIONS)} is the newest here)"
    )
