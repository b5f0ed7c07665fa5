"""Mail that is too old, or too much: what a drop's policy removes.

Rule of the file: nothing is removed from a drop in which a client has a session.
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


class Old(NamedTuple):
    """A message that a policy removes, and why: "age" or "size"."""

    number: int
    uidl: str
    size: int
    arrived: float
    why: str


def expired(store: Store, name: str, policy: Policy | None = None) -> list[Old]:
    """What the drop's policy, or this one, removes now; oldest first."""
    now = time.time()

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
            elif most is not None and kept + size > most:
                found.append(Old(number, uidl, size, arrived, "size"))
                kept = most  # what is older goes too
            else:
                kept += size
        return found[::-1]

    return store.index.read(ask)


def expire(store: Store, name: str, policy: Policy | None = None) -> Sequence[Old] | None:
    """Remove what `expired` finds; gives it, None where a client has the drop."""
    if not expired(store, name, policy):
        return ()
    drop = store.drop(name, make=False)
    if drop is None:
        return ()
    try:
        lock = store.lock(drop, name)
    except InUseError:
        return None
    try:
        found = expired(store, name, policy)
        store.remove(drop, [each.number for each in found])
        return found
    finally:
        os.close(lock)
