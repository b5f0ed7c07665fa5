"""What a visit at a source would fetch and settle: for --dry-run.

Rule of the file: the source is asked what a run would ask before it fetches, and is
told nothing.
"""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator, Sequence

from mailflow.engine.flow import PLUGIN_FAULTS, as_error
from mailflow.engine.intake import Intake
from mailflow.engine.journal import Lane, arrivals, queue
from mailflow.engine.visit import Visit
from mailflow.engine.work import Arrived
from mailflow.record import NamedTuple
from mailflow.typed import TYPE_CHECKING

if TYPE_CHECKING:
    from mailflow.engine.config import FetchStep
    from mailflow.engine.flow import Flow
    from mailflow.kinds import Fetched, Fetcher, Item
    from mailflow.query import Query
    from mailflow.verdicts import Fate


class Preview(NamedTuple):
    """Of one source: what is `wanted` of so many `listed`, and the keys that would be
    `settled` (deleted, as a rule), since they are ours and `keep` is over.

    `reads` says that `where` is decided by what is in a mail, so that some of `wanted`
    may stay after all.
    """

    source: str
    listed: int
    wanted: list[Item]
    settled: list[str]
    reads: bool


def visit(flow: Flow, step: FetchStep) -> Preview:
    """Look at one source. Raises MailflowError where it cannot be looked at."""
    intake = Intake(flow, step, _never)
    try:
        fetcher: Fetcher = flow.make(step)
        lane = Lane(flow.pipeline.name, step.name, fetcher.source)
        state = flow.journal.read(lambda tx: arrivals.source_state(tx, lane))
        with fetcher:
            items = list(fetcher.listing(step.where, state.mark))
            look = _Look(intake, _Silent(fetcher), lane, state, items)  # type: ignore[arg-type]
            look.settle_due()
            keys = set(look.wanted())
            wanted = [item for item in items if item.key in keys]
    except PLUGIN_FAULTS as error:
        raise as_error(error, f"step {step.name}") from error
    reads = step.where.reach not in ("listing", "header")
    return Preview(lane.source, len(items), wanted, intake.settled, reads)


def due(flow: Flow) -> list[queue.Entry]:
    """What a run would take from the journal, oldest first."""
    now = time.time()
    return [
        entry
        for entry in flow.journal.read(lambda tx: queue.entries(tx, flow.pipeline.name))
        if not entry.busy
        and (
            entry.state in ("accepted", "sending", "doubt")
            or (entry.state in ("due", "waiting") and entry.due <= now)
        )
    ]


def _never(arrived: Arrived) -> None:
    raise AssertionError(f"{arrived.arrival.key} was fetched")


class _Look(Visit):
    """A visit that writes nothing."""

    def _pass_by(self, keys: list[str], at: float) -> None:
        """They are looked at alike the next time."""


class _Silent:
    """A fetcher that is asked, and told nothing."""

    def __init__(self, fetcher: Fetcher) -> None:
        self._fetcher = fetcher

    def listing(self, where: Query, mark: str = "") -> Iterable[Item]:
        return self._fetcher.listing(where, mark)

    def heads(self, keys: Sequence[str]) -> Iterator[Fetched]:
        return self._fetcher.heads(keys)

    def settle(self, key: str, fate: Fate) -> None:
        """Nothing: it is counted by who asks for it."""

    def __getattr__(self, name: str) -> object:
        """What it says of its listing."""
        return getattr(self._fetcher, name)
