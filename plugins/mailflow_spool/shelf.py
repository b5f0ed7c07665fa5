"""A drop as a human looks at it: its messages, without a session of its own.

Rule of the file: nothing is locked; what a client deletes meanwhile is gone.
"""

from __future__ import annotations

from collections.abc import Iterator

from mailflow.errors import GoneError
from mailflow.mail import Octets
from mailflow.record import NamedTuple
from mailflow.typed import TYPE_CHECKING
from mailflow_spool.wire import IN_INDEX, Place, Stored, from_wire

if TYPE_CHECKING:
    from mailflow.mail import Content
    from mailflow_spool.index import Transaction
    from mailflow_spool.store import Store

AT_ONCE = 500


class Message(NamedTuple):
    """A message of a drop; `store` is where its octets are."""

    store: Store
    drop: int
    number: int
    uidl: str
    size: int
    arrived: float
    sender: str | None
    file: int

    @property
    def content(self) -> Content:
        """Raises GoneError, UnavailableError."""
        place = self._place()
        if place.file == IN_INDEX:
            octets = self.store.index.read(
                lambda tx: tx.execute(
                    "SELECT octets FROM bodies WHERE id = ?", (place.start,)
                ).fetchone()
            )
            if octets is not None:
                return Octets(from_wire(octets[0]))
        return Stored(self.size, self._opened)

    def _opened(self) -> tuple[int, Place]:
        place = self._place()
        return self.store.bodies.open(place.file)[0], place

    def _place(self) -> Place:
        row = self.store.index.read(
            lambda tx: tx.execute(
                "SELECT file, start, octets, size, crc FROM messages"
                " WHERE drop_id = ? AND number = ?", (self.drop, self.number),
            ).fetchone()
        )  # fmt: skip
        if row is None:
            raise GoneError(f"{self.uidl} was deleted meanwhile")
        return Place(*row)


def messages(store: Store, drop: int) -> Iterator[Message]:
    """All that a drop has now, in order."""
    last = 0
    while True:

        def ask(tx: Transaction, after: int = last) -> list[tuple[object, ...]]:
            return tx.execute(
                "SELECT number, uidl, size, arrived, sender, file FROM messages"
                " WHERE drop_id = ? AND number > ? ORDER BY number LIMIT ?",
                (drop, after, AT_ONCE),
            ).fetchall()

        rows = store.index.read(ask)
        for row in rows:
            message = Message(store, drop, *row)  # type: ignore[arg-type]
            last = message.number
            yield message
        if len(rows) < AT_ONCE:
            return


def find(store: Store, drop: int, uidl: str) -> Message:
    """The message of that UIDL, or of that number. Raises GoneError."""
    row = store.index.read(
        lambda tx: tx.execute(
            "SELECT number, uidl, size, arrived, sender, file FROM messages"
            " WHERE drop_id = ? AND (uidl = ? OR CAST(number AS TEXT) = ?)"
            " ORDER BY uidl = ? DESC LIMIT 1", (drop, uidl, uidl, uidl),
        ).fetchone()
    )  # fmt: skip
    if row is None:
        raise GoneError(f"there is no message {uidl!a}")
    return Message(store, drop, *row)
