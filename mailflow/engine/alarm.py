"""The alarm about a source that has failed, or been silent, for too long.

Rule of the file: it is told once, in the log and to the reactors, until the source works
again; a restart in between does not tell it twice.
"""

from __future__ import annotations

import time

from mailflow.engine import reaction
from mailflow.engine.context import Ledger
from mailflow.engine.journal import plans
from mailflow.errors import UnavailableError
from mailflow.kinds import Trouble
from mailflow.typed import TYPE_CHECKING
from mailflow.verdicts import Stop

if TYPE_CHECKING:
    from mailflow.engine.flow import Flow
    from mailflow.engine.journal import SourceState
    from mailflow.engine.pipeline import FetchStep

KEY = "serve.alarm"
"""What it is remembered by, among what the step of that name remembers."""

SKEW = 300.0
"""Seconds by which what was written down may be ahead of the clock, and both be right."""

KEEP = 90 * 86400.0
"""How long it is remembered that an alarm was raised about a source nobody mends."""


class Alarm:
    """Whether there is one about a source, since when, and who was told."""

    def __init__(self, flow: Flow, step: FetchStep) -> None:
        self._flow = flow
        self._step = step
        self._key = ""
        self._since = 0.0

    @property
    def since(self) -> float | None:
        """When it was raised, in seconds since the epoch."""
        return self._since or None

    def look(self, source: str, state: SourceState, started: float) -> None:
        """Raise it, or take it back. `started` is when `serve` began to ask that source."""
        if f"{KEY} {source}" != self._key:
            self._key = f"{KEY} {source}"
            self._since = float(self._recall() or 0.0)
        worked, now = state.worked_at or 0.0, time.time()
        self._since = min(self._since, now)  # the clock was ahead then
        if worked > now + SKEW:
            worked = started
        if self._since and worked > self._since:
            self._end(source)
        elif not self._since:
            silent = now - (worked if state.failures and worked else max(worked, started))
            patience = self._step.alarm_after + (0.0 if state.failures else self._step.every)
            if silent > patience:
                self._raise(source, state, silent, now)

    def _recall(self) -> str | None:
        flow, step, key = self._flow, self._step.name, self._key
        now = time.time()
        return flow.journal.read(
            lambda tx: plans.recall_shared(tx, flow.pipeline.name, step, key, now)
        )

    def _raise(self, source: str, state: SourceState, silent: float, now: float) -> None:
        said = state.error if state.failures else "no session has come to its end"
        text = f"{source} has not worked for {span(silent)}: {said}"
        self._flow.log.error("alarm", step=self._step.name, error=text)
        trouble = Trouble(
            stage="alarm", step=self._step.name, error=UnavailableError(text),
            attempt=max(1, state.failures), age=silent,
        )  # fmt: skip
        ledger = Ledger(self._flow, "", now=now)
        answer = reaction.ask(self._flow, trouble, ledger)
        self._note(ledger, f"{now:.3f}")
        self._since = now
        self._flow.event("source.alarm", step=self._step.name, source=source, error=text)
        if isinstance(answer, Stop):
            self._flow.halt.set()

    def _end(self, source: str) -> None:
        self._note(Ledger(self._flow, "", now=time.time()), "")
        self._since = 0.0
        self._flow.log.warning("alarm ended: it works again", step=self._step.name, source=source)
        self._flow.event("source.mended", step=self._step.name, source=source)

    def _note(self, ledger: Ledger, value: str) -> None:
        ledger.remember_shared(self._step.name, self._key, value, KEEP)
        flow = self._flow
        flow.journal.commit(
            lambda tx: plans.settle_effects(
                tx, flow.pipeline.name, "", ledger.effects(), ledger.now
            )
        )


def span(seconds: float) -> str:
    """A duration in its largest unit, as an operator says it."""
    for unit, size in (("days", 86400), ("hours", 3600), ("minutes", 60)):
        if seconds >= 2 * size:
            return f"{seconds / size:.0f} {unit}"
    return f"{seconds:.0f} s"
