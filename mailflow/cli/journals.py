"""The journals a command looks into: those of the files named, else all that were used.

Rule of the file: a journal is opened only if it is there; looking makes none.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

from mailflow.engine.journal import Database
from mailflow.errors import JournalError, MailflowError


class NoSuchMailError(MailflowError):
    """What was given names no mail, or several."""

    exit_code = 64


def paths(files: Sequence[str]) -> list[str]:
    """The journals of pipeline files; of all that ran here where none is named."""
    if not files:
        from mailflow.engine.places import journals

        return journals()
    from mailflow.engine.config import load
    from mailflow.engine.registry import Registry

    return list(dict.fromkeys(pipeline.journal for pipeline in load(files, Registry())))


@contextmanager
def opened(files: Sequence[str]) -> Iterator[list[Database]]:
    """The journals, open. Raises JournalError where one cannot be read: at once for those
    of named files, else in the end, since it says nothing about the others."""
    found: list[Database] = []
    faults: list[JournalError] = []
    try:
        for path in paths(files):
            if not os.path.exists(path):
                continue
            try:
                found.append(Database(path))
            except JournalError as error:
                if files:
                    raise
                faults.append(error)
        yield found
    finally:
        for journal in found:
            journal.close()
    if faults:
        raise JournalError("\n".join(error.text for error in faults))


def find(journals: Sequence[Database], mail: str, *, ended: bool = False) -> tuple[Database, str]:
    """The journal and whole id of the mail whose id begins so: one that is not done, or,
    with `ended`, any.

    Raises NoSuchMailError where there is none, or several.
    """
    if not mail:
        raise NoSuchMailError("the id of a mail is empty; `mailflow queue list` shows ids")
    from mailflow.engine.journal import queue

    found = [
        (journal, each)
        for journal in journals
        for each in journal.read(lambda tx: queue.mails_like(tx, mail, ended=ended))
    ]
    if not found:
        which = "no journal here knows a mail whose" if ended else "no mail waits here whose"
        raise NoSuchMailError(f"{which} id begins with {mail!r}")
    if len(found) > 1:
        raise NoSuchMailError(f"the ids of {len(found)} mails begin with {mail!r}; say more of it")
    return found[0]


def way(sender: str | None, recipients: Sequence[str]) -> str:
    """An envelope, in words."""
    if sender is None and not recipients:
        return "none: it came without one, as from a mailbox"
    known = "unknown" if sender is None else f"<{sender}>"
    return f"{known} to {', '.join(recipients) or 'nobody'}"
