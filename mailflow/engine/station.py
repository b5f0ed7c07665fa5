"""A pipeline under `serve`: kept at work until it is stopped, begun anew where it breaks.

Rule of the file: what breaks one pipeline ends neither the program nor another pipeline.
"""

from __future__ import annotations

import threading
import time

from mailflow import disks
from mailflow.engine import places, upkeep
from mailflow.engine.flow import PLUGIN_FAULTS, Flow, as_error
from mailflow.engine.intake import interested
from mailflow.engine.journal import Database
from mailflow.engine.supervisor import Line, leave
from mailflow.engine.watch import Watch
from mailflow.errors import JournalError, MailflowError, UnavailableError
from mailflow.halt import Halt
from mailflow.log import get_logger
from mailflow.typed import TYPE_CHECKING

if TYPE_CHECKING:
    from mailflow.engine.pipeline import FetchStep, Pipeline
    from mailflow.engine.registry import Registry

AGAIN = (1.0, 5.0, 30.0, 120.0)
"""Seconds until a pipeline that broke is begun again; the last one repeats."""

SOUND = 300.0
"""After so many seconds at work, a break is the first one again."""

MEND_SECONDS = 60.0
"""How often is looked whether another process has died with mail in its hands."""

TIDY_SECONDS = 3600.0
"""How often old stories are forgotten."""

IDLE_SECONDS = 60.0
"""How long destinations are kept open for which there was nothing to do."""


class StandingLine(Line):
    """A line that does not end when there is nothing to do."""

    def __init__(self, flow: Flow) -> None:
        super().__init__(flow, force=False)
        self.watches: dict[str, Watch] = {
            step.name: Watch(flow, step, self.inbox.put) for step in interested(flow.pipeline.fetch)
        }
        now = time.monotonic()
        self._mend_at, self._tidy_at = now + MEND_SECONDS, now + TIDY_SECONDS
        self._idle_at, self._seen = now + IDLE_SECONDS, 0

    def _visits(self, step: FetchStep) -> Watch:
        return self.watches[step.name]

    def _halted(self) -> None:
        for watch in self.watches.values():
            watch.end()

    def _stays(self) -> bool:
        halted = self.flow.halt.is_set()
        if halted:
            self._halted()
        return bool(self._open) or not halted

    def _turn(self) -> bool:
        now = time.monotonic()
        journal = self.flow.journal
        if not (journal.is_in_place or self.flow.halt.is_set()):
            raise JournalError(f"the journal {journal.path} was taken away or replaced")
        if now > self._mend_at and not self.flow.halt.is_set():
            self._mend_at = now + MEND_SECONDS
            upkeep.free_the_dead(self.flow.journal)
            self._put_right()
        if now > self._tidy_at:
            self._tidy_at = now + TIDY_SECONDS
            upkeep.tidy(self.flow.journal, self.flow.pipeline.history)
            self.flow.forget()
            self.work.leave()
            upkeep.of_destinations(self.flow)
        if self.flow.meter.messages != self._seen:
            self._seen, self._idle_at = self.flow.meter.messages, now + IDLE_SECONDS
        elif now > self._idle_at:
            self._idle_at = now + IDLE_SECONDS
            self.work.leave()
        for watch in self.watches.values():
            watch.look()
        return super()._turn()


class Station:
    """One pipeline of an installation, in a thread of its own."""

    def __init__(self, pipeline: Pipeline, registry: Registry) -> None:
        self.pipeline = pipeline
        self.registry = registry
        self.state = "starting"
        self.error = ""
        self.line: StandingLine | None = None
        self._log = get_logger(pipeline=pipeline.name)
        self._change = threading.Condition()
        self._halt: Halt | None = None
        self._stopping = False
        self._pokes: set[str] = set()
        self._thread = threading.Thread(target=self._run, name=pipeline.name)

    def start(self) -> None:
        self._thread.start()

    def stop(self) -> None:
        """End in order what is at work; `join` waits for it."""
        with self._change:
            self._stopping = True
            if self._halt is not None:
                self._halt.set()
            self._change.notify_all()
        line = self.line
        if line is not None:
            line.inbox.wake()

    def join(self) -> None:
        self._thread.join()

    def poke(self, source: str, *, dry: bool) -> bool:
        """Whether there is such a source here: then it is fetched from now or, where the
        pipeline is not at work yet, as soon as it is. Raises UnavailableError where it has
        been stopped."""
        names = {f"{self.pipeline.name}/{name}": name for name in self.steps}
        with self._change:
            watches = self.watches
            found = {names.get(source, source)} & set(self.steps)
            found |= {name for name, watch in watches.items() if watch.source == source}
            if found and not self.alive:
                raise UnavailableError(f"pipeline {self.pipeline.name} is stopped: {self.error}")
            if not dry:
                for name in found:
                    if name in watches:
                        watches[name].poke()
                    else:
                        self._pokes.add(name)
        return bool(found)

    @property
    def steps(self) -> list[str]:
        """The names of its sources."""
        return [step.name for step in interested(self.pipeline.fetch)]

    @property
    def alive(self) -> bool:
        return self._thread.is_alive()

    @property
    def watches(self) -> dict[str, Watch]:
        line = self.line
        return {} if line is None else line.watches

    def _run(self) -> None:
        breaks = 0
        while True:
            started = time.monotonic()
            error = self._once()
            if error is None:
                break
            breaks = 0 if time.monotonic() - started > SOUND else breaks
            wait = AGAIN[min(breaks, len(AGAIN) - 1)]
            breaks += 1
            self.state, self.error = "broken", error.text
            self._log.error("pipeline failed", error=error.text, again_in=wait)
            with self._change:
                if self._change.wait_for(lambda: self._stopping, wait):
                    break
        if self._stopping:
            self.state = "stopped"
            return
        self.state, self.error = "stopped", "a reactor has stopped it; `mailflow reload` starts it"
        self._log.error("stopped", reason=self.error)

    def _once(self) -> MailflowError | None:
        """At work until it is to stop; what broke it, if something did."""
        with self._change:
            if self._stopping:
                return None
            self._halt = halt = Halt()
        try:
            return self._at_work(halt)
        except PLUGIN_FAULTS as error:
            return as_error(error, f"pipeline {self.pipeline.name}").with_traceback(None)
        finally:
            with self._change:
                self._halt = None
            halt.close()

    def _at_work(self, halt: Halt) -> MailflowError | None:
        path = self.pipeline.journal
        if disks.is_gone(path):  # all mail that was fetched would be fetched again into a new one
            raise JournalError(
                f"the journal {path} is gone; is its disk there? A new one is made after a restart"
            )
        journal = Database(path)
        disks.used(path)
        try:
            places.remember(journal.path)
            upkeep.free_the_dead(journal)
            upkeep.tidy(journal, self.pipeline.history)
            flow = Flow(self.pipeline, journal, self.registry, halt, get_logger())
            with self._change:
                self.line = StandingLine(flow)
                for name in self._pokes:
                    self.line.watches[name].poke()
                self._pokes.clear()
            self.state, self.error = "running", ""
            self.line.run()
            return flow.broken
        finally:
            self.line = None
            leave(journal)
