"""What `on_done` says, done at the webmail for messages that the journal answers for.

Rule of the file: only rows of the last listing of this session are removed, a whole batch of one
folder together, and what is removed is gone from a listing made after that.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

from mailflow.errors import MailflowError
from mailflow.typed import TYPE_CHECKING

if TYPE_CHECKING:
    from mailflow_webmail.account.session import Row, Session

BATCH = 500
"""So many messages are removed at once, while others are still to come: each time costs a
listing of the folder."""


class Settling:
    """What is to be done, by folder. `once` says something that one session says once."""

    def __init__(self, on_done: str, once: Callable[..., None]) -> None:
        self._on_done = on_done
        self._once = once
        self._due: dict[str, set[str]] = {}
        self.seen: dict[str, set[str]] = {}
        """Ids that are marked as seen there, by folder."""

    def add(self, folder: str, id_: str) -> None:
        """The journal answers for this one; to say so again changes nothing."""
        if self._on_done != "keep" and id_ not in self.seen.get(folder, ()):
            self._due.setdefault(folder, set()).add(id_)

    @property
    def count(self) -> int:
        return sum(map(len, self._due.values()))

    @property
    def folders(self) -> list[str]:
        """Those in which something is due."""
        return list(self._due)

    def do(self, session: Session, folder: str, rows: Mapping[str, Row]) -> list[str]:
        """What is due in a folder, of which `rows`, by their ids, are there; gives the ids with
        which it is done. Raises what time may mend, so that it is done in the next session; what
        is refused for good is told."""
        due = self._due.pop(folder, set())
        meant = [id_ for id_ in rows if id_ in due]
        if not meant:
            return []
        try:
            session.remove([rows[id_] for id_ in meant], self._on_done)
        except MailflowError as error:
            if error.temporary:
                raise
            self._once("on_done is not done", folder=folder, error=error.text)
            return []
        if self._on_done == "seen":
            self.seen.setdefault(folder, set()).update(meant)
        return meant
