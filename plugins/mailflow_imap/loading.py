"""Messages on their way in: batches of about one size, some of them asked for ahead.

Rule of the file: a message is given when it has arrived whole, and each that was asked for is
given or missed, whatever the server answers.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator, Mapping, Sequence

from mailflow.typed import TYPE_CHECKING
from mailflow_imap.answers import Body, Missing

if TYPE_CHECKING:
    from mailflow_imap.answers import Bodies
    from mailflow_imap.session import Session

AHEAD = 1 << 22
"""Octets of messages that are asked for before those that were asked for earlier are here."""

MOST = 500
"""Messages in a batch, however small they are: between two batches, messages are settled."""

UNKNOWN = 1 << 14
"""Octets of a message whose size the server does not say."""


def batches(
    uids: Sequence[int], sizes: Mapping[int, int | None], octets: int
) -> Iterator[tuple[list[int], int]]:
    """(UIDs, octets) of each batch, in this order; what is larger than a batch is one alone."""
    batch: list[int] = []
    size = 0
    for uid in uids:
        each = sizes.get(uid)
        each = UNKNOWN if each is None else each
        if batch and (size + each > octets or len(batch) == MOST):
            yield batch, size
            batch, size = [], 0
        batch.append(uid)
        size += each
    if batch:
        yield batch, size


def load(
    session: Session,
    uids: Sequence[int],
    sizes: Mapping[int, int | None],
    octets: int,
    most: int | None = None,
) -> Iterator[Body | Missing | None]:
    """The messages of the open folder, none with more octets than `most`, and None after each
    batch: the moment to ask for something else."""
    waiting = deque(batches(uids, sizes, octets))
    flying: deque[tuple[Bodies, list[int], int]] = deque()
    ahead = 0
    try:
        while waiting or flying:
            while waiting and (len(flying) < 2 or ahead < AHEAD):
                batch, size = waiting.popleft()
                flying.append((session.bodies(batch, most=most), batch, size))
                ahead += size
            bodies, batch, size = flying[0]
            yield from _arrived(session, bodies, batch, most)
            flying.popleft()
            ahead -= size
            yield None
    finally:
        for bodies, _, _ in flying:
            bodies.abandon()


def _arrived(
    session: Session, bodies: Bodies, batch: list[int], most: int | None
) -> Iterator[Body | Missing]:
    """What comes of one batch. Where the server refuses it for the sake of one message, each
    that did not come is asked for alone."""
    missing: list[Missing] = []
    for each in bodies:
        if isinstance(each, Missing):
            missing.append(each)
        else:
            yield each
    if not bodies.refused or len(batch) == 1:
        yield from missing
        return
    for lacking in missing:
        alone = session.bodies([lacking.uid], most=most)
        yield from _arrived(session, alone, [lacking.uid], most)
