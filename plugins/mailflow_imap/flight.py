"""Messages that come before a client asks for them.

Rule of the file: what has come is kept until it is asked for or dropped; what did not come is
told to whoever waits for it, and to nobody else.
"""

from __future__ import annotations

from collections import deque

from mailflow.errors import MailflowError
from mailflow.kept import drop
from mailflow.typed import TYPE_CHECKING
from mailflow_imap.answers import Body

if TYPE_CHECKING:
    from mailflow_imap.answers import Bodies


class Flight:
    """Messages, or their beginnings, that were asked for together; those that come before they
    are wanted are kept. One behind the other may be under way."""

    def __init__(self) -> None:
        self._flying: deque[tuple[Bodies, dict[int, int]]] = deque()
        self._here: dict[int, Body] = {}
        self._last = -2

    def in_turn(self, index: int) -> bool:
        """Whether that message is behind the one that was asked for before."""
        last, self._last = self._last, index
        return index == last + 1

    @property
    def alone(self) -> bool:
        """Whether what is asked for now is one flight at most."""
        return len(self._flying) < 2

    @property
    def coming(self) -> int:
        """How many messages are still to come."""
        return sum(len(coming) for _, coming in self._flying)

    @property
    def end(self) -> int:
        """The index behind the last one that was asked for and has not come; 0 for none."""
        return max(self._flying[-1][1].values(), default=-1) + 1 if self._flying else 0

    def begin(self, bodies: Bodies, coming: dict[int, int]) -> None:
        """Another one; `coming` is the index of each UID. Of old ones no more is wanted."""
        self.drop()
        self.add(bodies, coming)

    def add(self, bodies: Bodies, coming: dict[int, int]) -> None:
        """Another one, behind those that are under way."""
        self._flying.append((bodies, coming))

    def drop(self) -> None:
        for bodies, _ in self._flying:
            bodies.abandon()
        self._flying.clear()
        for body in self._here.values():
            drop(body.content)
        self._here.clear()

    def here(self, index: int) -> Body | None:
        return self._here.pop(index, None)

    def put_back(self, index: int, body: Body) -> None:
        self._here[index] = body

    def at_hand(self, index: int) -> Body | None:
        """That message, if it has arrived. What did not come is told by `wait`."""
        while index not in self._here and (found := self._flight(index)) is not None:
            bodies, coming = found
            each = bodies.at_hand()
            if each is None:
                break
            number = coming.pop(each.uid)
            if isinstance(each, Body):
                self._here[number] = each
        return self.here(index)

    def wait(self, index: int) -> Body | None:
        """That message, if it is on its way. Raises GoneError, and what ends a session."""
        while index not in self._here and (found := self._flight(index)) is not None:
            bodies, coming = found
            try:
                each = next(iter(bodies), None)
            except MailflowError:
                coming.clear()
                raise
            if each is None:
                coming.clear()
                break
            number = coming.pop(each.uid)
            if isinstance(each, Body):
                self._here[number] = each
            elif number == index:
                raise each.error
        return self.here(index)

    def _flight(self, index: int) -> tuple[Bodies, dict[int, int]] | None:
        """The one that this message comes with; those that have come are forgotten."""
        while self._flying and not self._flying[0][1]:
            self._flying.popleft()
        return next((each for each in self._flying if index in each[1].values()), None)
