"""Which fields of the query language can be known at which step.

Rule of the file: a field that nothing can know there is told at check, not met by an
expression that never holds.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from mailflow.query import Query
from mailflow.query.tree import FIELDS, LISTING_ONLY


def unknowable(query: Query, table: str, component: type[Any]) -> Iterator[tuple[str, str]]:
    """(field, why nothing knows it) for a query under [[table]].

    A fetcher names in `knows` the fields that its listing tells, other than size and
    created.
    """
    knows = getattr(component, "knows", ()) if table == "fetch" else ()
    for name in sorted(query.fields):
        reach = FIELDS[name].reach
        if reach == "trouble" and table != "react":
            yield name, "is known to [[react]] only"
        elif name == "note" and table == "fetch":
            yield name, "is not known yet: no step has noted anything"
        elif name in LISTING_ONLY and name not in knows:
            if table == "fetch":
                yield name, "is not known: this source does not tell it"
            else:
                yield name, "is known to [[fetch]] only: a mailbox tells it, no mail does"
