"""What of a query a server decides, and what is left to ask here.

Rule of the file: a server may only narrow; what it leaves open is a query, too.
"""

from __future__ import annotations

from mailflow.query import Query
from mailflow.record import NamedTuple


class Narrowing(NamedTuple):
    """How one sort of server is asked. `command` is in the words of its protocol, "" where
    nothing is asked since nothing can be meant; `rest` is what must still hold of each
    message it finds, None where its answer is the answer."""

    server: str
    command: str
    rest: Query | None
