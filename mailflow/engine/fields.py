"""Which fields of the query language can be known at which step.

Rule of the file: what can never hold there is told at check, not met by an
expression that is silently never true.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

from mailflow.query import Query
from mailflow.query.tree import FIELDS, LISTING_ONLY, Test, tests
from mailflow.typed import Any
from mailflow.values import instead


def unknowable(
    query: Query, table: str, component: type[Any], names: Mapping[str, Sequence[str]]
) -> Iterator[str]:
    """Why a query under [[table]] can never hold, one sentence for each reason.

    A fetcher tells in `knows` the fields that its listing has, other than size and
    created. `names` are the names of all steps by table.
    """
    knows = getattr(component, "knows", ()) if table == "fetch" else ()
    for name in sorted(query.fields):
        reason = _reason(name, table, knows)
        if reason:
            yield f"`{name}` {reason}"
    for test in tests(query.tree):
        yield from _strangers(test, names)


def _reason(name: str, table: str, knows: Sequence[str]) -> str:
    if FIELDS[name].reach == "trouble" and table != "react":
        return "is known to [[react]] only"
    if table == "fetch" and name == "note":
        return "is not known yet: no step has noted anything"
    if table == "fetch" and name == "source":
        return "is this step itself"
    if name not in LISTING_ONLY or name in knows:
        return ""
    if table == "fetch":
        return "is not known: this source does not tell it"
    return "is known to [[fetch]] only: a mailbox tells it, a mail does not"


def _strangers(test: Test, names: Mapping[str, Sequence[str]]) -> Iterator[str]:
    """Steps that a test names and the file does not have."""
    if test.field not in ("source", "step") or test.verb not in ("is", "in"):
        return
    tables = ("fetch",) if test.field == "source" else tuple(names)
    known = [name for table in tables for name in names[table]]
    for value in test.value if isinstance(test.value, tuple) else (test.value,):
        if isinstance(value, str) and value.casefold() not in map(str.casefold, known):
            kind = "[[fetch]]" if test.field == "source" else "step"
            hint = instead(value, known)
            yield f'no {kind} has the name "{value}"{hint}'
