"""The journals a command looks into: those of the files named, else all that were used.

Rule of the file: a journal is opened only if it is there; looking makes none.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

from mailflow.engine.journal import Database
from mailflow.errors import ConfigError


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
    """The journals, open. Raises JournalError where one cannot be read."""
    found: list[Database] = []
    try:
        found += [Database(path) for path in paths(files) if os.path.exists(path)]
        yield found
    finally:
        for journal in found:
            journal.close()


def find(journals: Sequence[Database], mail: str) -> tuple[Database, str]:
    """The journal and whole id of the unfinished mail that begins so.

    Raises ConfigError where there is none, or several.
    """
    from mailflow.engine.journal import queue

    found = [
        (journal, each)
        for journal in journals
        for each in journal.read(lambda tx: queue.mails_like(tx, mail))
    ]
    if not found:
        raise ConfigError(f"no mail that waits has an id that begins with {mail!r}")
    if len(found) > 1:
        raise ConfigError(f"the ids of {len(found)} mails begin with {mail!r}; say more of it")
    return found[0]
