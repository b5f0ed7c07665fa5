"""Mail that is too old, or too much: what a drop's policy removes.

Rule of the file: nothing is removed from a drop in which a client has a session, and nothing
by itself for its age on the word of one look at the clock, which may have jumped.
"""

from __future__ import annotations

import os
import time
from collections.abc import Sequence

from mailflow.errors import InUseError
from mailflow.record import NamedTuple
from mailflow.typed import TYPE_CHECKING

if TYPE_CHECKING:
    from mailflow_spool.index import Transaction
    from mailflow_spool.store import Policy, Store


SETTLED = 3600.0
"""Seconds between two looks at the clock of which the later is believed what the earlier said."""


class Old(NamedTuple):
    """A message that a policy removes, and why: "age" or "size"."""

    number: int
    uidl: str
    size: int
    arrived: float
    why: str


def look_at_clock(store: Store) -> float:
    """The time by which mail may be removed for its age without a human's word: that of a look
    SETTLED seconds before the last one or more, 0 where there was none. So a clock that is
    years ahead for less than that removes nothing."""
    now = time.time()
    before, last = _looks(store)
    if now < last:  # it was ahead, or is behind
        before, last = min(before, now), now
    elif now - last >= SETTLED:
        before, last = last, now
    else:
        return before
    rows = [("clock.before", before), ("clock.last", last)]
    store.index.commit(
        lambda tx: tx.executemany("INSERT OR REPLACE INTO facts VALUES (?, ?)", rows),
        lasting=False,
    )
    return before


def _looks(store: Store) -> tuple[float, float]:
    """When was looked at the clock, SETTLED seconds apart; 0 for never."""
    facts = store.index.read(
        lambda tx: tx.execute("SELECT name, value FROM facts WHERE name LIKE 'clock.%'").fetchall()
    )
    there = dict(facts)
    return there.get("clock.before", 0.0), there.get("clock.last", 0.0)


def expired(
    store: Store, name: str, policy: Policy | None = None, now: float | None = None
) -> list[Old]:
    """What the drop's policy, or this one, removes now; oldest first."""
    now = time.time() if now is None else now

    def ask(tx: Transaction) -> list[Old]:
        row = tx.execute("SELECT id, expire, most FROM drops WHERE name = ?", (name,)).fetchone()
        if row is None:
            return []
        drop, age, most = row if policy is None else (row[0], *policy)
        if age is None and most is None:
            return []
        found, kept = [], 0
        rows = tx.execute(
            "SELECT number, uidl, size, arrived FROM messages WHERE drop_id = ?"
            " ORDER BY number DESC", (drop,),
        )  # fmt: skip
        for number, uidl, size, arrived in rows:
            if age is not None and arrived < now - age:
                found.append(Old(number, uidl, size, arrived, "age"))
            elif most is not None and size > most:  # it goes alone: nobody empties a drop so
                found.append(Old(number, uidl, size, arrived, "size"))
            elif most is not None and kept + size > most:
                found.append(Old(number, uidl, size, arrived, "size"))
                kept = most  # what is older goes too
            else:
                kept += size
        return found[::-1]

    return store.index.read(ask)


def expire(
    store: Store, name: str, policy: Policy | None = None, now: float | None = None
) -> Sequence[Old] | None:
    """Remove what `expired` finds; gives it, None where a client has the drop."""
    if not expired(store, name, policy, now):
        return ()
    drop = store.drop(name, make=False)
    if drop is None:
        return ()
    try:
        lock = store.lock(drop, name)
    except InUseError:
        return None
    try:
        found = expired(store, name, policy, now)
        store.remove(drop, [each.number for each in found])
        return found
    finally:
        os.close(lock)


def expire_all(store: Store, names: Sequence[str]) -> None:
    """Remove by itself what the policies of these drops say, as far as the clock is believed."""
    ages = store.index.read(
        lambda tx: tx.execute("SELECT 1 FROM drops WHERE expire IS NOT NULL LIMIT 1").fetchone()
    )
    now = look_at_clock(store) if ages else 0.0
    for name in names:
        expire(store, name, now=now)
