"""One source under `serve`: asked at its hour, when it says that mail has come, and when poked.

Rule of the file: whatever a source does, it is asked again; how soon, its failures decide.
"""

from __future__ import annotations

import random
import threading
import time
from contextlib import suppress

from mailflow.engine import reaction
from mailflow.engine.alarm import Alarm
from mailflow.engine.flow import PLUGIN_FAULTS, as_error
from mailflow.engine.intake import Intake, InterruptedSessionError, Tally
from mailflow.engine.journal import SourceState, arrivals
from mailflow.errors import MailflowError
from mailflow.halt import Halt
from mailflow.record import NamedTuple
from mailflow.typed import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable

    from mailflow.engine.flow import Flow
    from mailflow.engine.pipeline import FetchStep, Pipeline
    from mailflow.engine.work import Arrived

JITTER = 0.1
"""`every` and a rest are longer or shorter by up to this share: many that were started
together shall not ask one server together."""

BREAKS = 3
"""After so many failures in a row a source is left alone between its tries, and only the
first and the last of them are told aloud."""

IN_USE = 30.0
"""Seconds until a mailbox is looked at again that another run is at work on."""

LEAST = 1.0
"""Seconds between two sessions with one source, however it calls for them."""


NAP = 30.0
"""Seconds after which a wait looks at the clock: it may have gone on while the machine slept."""

STEP = 60.0
"""By so many seconds more the clock has gone on where the machine has slept, or was set."""

_CLOCK = getattr(time, "CLOCK_BOOTTIME", time.CLOCK_MONOTONIC)


class Doing(NamedTuple):
    """What a source is doing: `state` is starting, fetching, listening (it is told when mail
    comes), waiting, resting (after failures), off (only fetched when asked) or stopped.
    `next_at` is when it is asked next, if that is known, in seconds since the epoch."""

    state: str
    next_at: float | None = None


def asks_by_itself(pipeline: Pipeline, step: FetchStep) -> bool:
    """Whether a source is fetched from without being poked (`offline`, `auto`, `local`)."""
    at_work = {"yes": True, "no": False, "local": pipeline.local, "global": not pipeline.local}
    return at_work[step.auto] and not pipeline.offline


def clock() -> float:
    """Seconds that pass while the machine sleeps, too."""
    return time.clock_gettime(_CLOCK)


def jittered(seconds: float) -> float:
    """About so many seconds."""
    return seconds * (1 + JITTER * (2 * random.random() - 1))  # noqa: S311  # no secret


class Watch:
    """The sessions of one [[fetch]] step, one after another, until the flow is halted."""

    def __init__(self, flow: Flow, step: FetchStep, put: Callable[[Arrived], None]) -> None:
        self.flow = flow
        self.step = step
        self.put = put
        self.by_itself = asks_by_itself(flow.pipeline, step)
        self.pushed = hasattr(step.component, "wait")
        self.stays = hasattr(step.component, "stay")
        self.source = ""
        self.since = time.time()
        self._ahead = self.since - time.monotonic()
        self._log = flow.log.bind(step=step.name)
        self._change = threading.Condition()
        self._poked = False
        self._earliest = 0.0
        self._ended = False
        self._doing = Doing("starting" if self.by_itself else "off")
        self._known = SourceState()
        self._asked = False
        self._alarm = Alarm(flow, step)
        self._intake: Intake | None = None
        self._total = Tally()
        self._fetcher: Any = None
        self._listening: Halt | None = None

    @property
    def doing(self) -> Doing:
        with self._change:
            return self._doing

    @property
    def total(self) -> Tally:
        """What it has fetched since the start."""
        with self._change:
            now = self._intake.tally if self._intake else Tally()
            return Tally(self._total.fetched + now.fetched, self._total.octets + now.octets)

    @property
    def known(self) -> SourceState:
        """What the journal said of the source after the last session."""
        with self._change:
            return self._known

    @property
    def alarm(self) -> float | None:
        """Since when there is an alarm about it, in seconds since the epoch."""
        return self._alarm.since

    def look(self) -> None:
        """Whether it has failed, or been silent, for too long (the line's thread)."""
        if self.by_itself:
            ahead = time.time() - time.monotonic()
            if abs(ahead - self._ahead) > STEP:  # it counts from now: nobody could ask
                self._ahead, self.since = ahead, time.time()
            state = self.known if self._asked else SourceState()
            self._alarm.look(self.source or self.step.name, state, self.since)

    def poke(self) -> None:
        """Fetch now, whatever else was planned (any thread); once more, if it is at it."""
        with self._change:
            self._poked = True
            self._change.notify_all()
            if self._doing.state == "listening" and self._listening is not None:
                self._listening.set()

    def end(self) -> None:
        """The flow is halted: wait for nothing any more (any thread)."""
        with self._change:
            self._ended = True
            self._change.notify_all()
            if self._listening is not None:
                self._listening.set()

    def run(self, *, force: bool = False) -> None:
        """Until the end. `force` is for the first session."""
        due = clock()
        try:
            while self._sleep(due):
                with self._change:
                    force, self._poked = force or self._poked, False
                    self._earliest = clock() + LEAST
                try:
                    wait = self._session(force=force)
                except PLUGIN_FAULTS as error:  # the journal, at the worst moment
                    failure = as_error(error, f"step {self.step.name}")
                    self._log.error("session broke", error=failure.text)
                    self._forget()
                    wait = jittered(IN_USE)
                due = clock() + wait
                force = False
        finally:
            self._forget()
            self._say(Doing("stopped"))

    def _sleep(self, due: float) -> bool:
        """Until it is time, or poked; False at the end."""
        with self._change:
            while not (self._ended or self.flow.halt.is_set()):
                wanted = self._poked or self.by_itself
                at = self._earliest if self._poked else max(due, self._earliest)
                left = at - clock()
                if wanted and left <= 0:
                    break
                self._change.wait(min(left, NAP) if wanted else None)
            return not (self._ended or self.flow.halt.is_set())

    def _say(self, doing: Doing) -> None:
        with self._change:
            self._doing = doing

    def _session(self, *, force: bool) -> float:
        """One session; gives the seconds until the next, 0 where that one waits for mail
        by itself."""
        intake = Intake(self.flow, self.step, self.put)
        before = self._known = self._state(intake)
        if not force and before.failures and time.time() < intake.rests_until(before):
            return self._plan(intake, before)
        intake.quiet = before.failures >= BREAKS
        self._begin(intake)
        if self._fetcher is not None and not (self.pushed and force):
            ahead = self._await if self.pushed else None
            intake.run(force=True, fetcher=self._fetcher, ahead=ahead)
        else:
            self._forget()
            self._make()
            intake.run(force=True, fetcher=self._fetcher)
        self._count(intake)
        after = self._state(intake)
        self._asked = True
        self._tell(before, after)
        if after.failures or intake.in_use:
            self._forget()
        return self._plan(intake, after)

    def _begin(self, intake: Intake) -> None:
        with self._change:
            self._intake = intake
            self._doing = Doing("fetching")

    def _count(self, intake: Intake) -> None:
        with self._change:
            self._intake = None
            now = intake.tally
            self._total = Tally(self._total.fetched + now.fetched, self._total.octets + now.octets)

    def _make(self) -> None:
        """A fetcher of ours where it can wait for mail, or stay logged in: it is entered many
        times, and what it waits for must end when it is poked."""
        if not ((self.pushed or self.stays) and self.by_itself):
            return
        self._listening = Halt() if self.pushed else None
        with suppress(*PLUGIN_FAULTS):  # the intake meets the same, and tells it
            self._fetcher = self.flow.make(self.step, self._listening)
            if self.stays:
                self._fetcher.stay()

    def _forget(self) -> None:
        fetcher, self._fetcher = self._fetcher, None
        if fetcher is not None and self.stays:
            with suppress(*PLUGIN_FAULTS):  # what is over cannot fail any more
                fetcher.close()
        with self._change:
            listening, self._listening = self._listening, None
        if listening is not None:
            listening.close()

    def _await(self, fetcher: Any) -> None:
        """Wait for mail in a session, until the next would be due anyway."""
        due = time.monotonic() + jittered(self.step.every)
        halt = self._listening or self.flow.halt
        self._say(Doing("listening", time.time() + due - time.monotonic()))
        with self._change:
            if self._ended or self._poked:
                halt.set()
        try:
            while not halt.is_set() and (left := due - time.monotonic()) > 0:
                if fetcher.wait(left):
                    break
        except PLUGIN_FAULTS:
            if not halt.is_set():
                raise
        finally:
            self._say(Doing("fetching"))
        if halt.is_set():
            raise InterruptedSessionError

    def _state(self, intake: Intake) -> SourceState:
        """What the journal knows of the source."""
        if not self.source:
            with suppress(*PLUGIN_FAULTS):  # the intake meets the same, and tells it
                self.source = (self._fetcher or self.flow.make(self.step)).source
        lane = intake.lane._replace(source=self.source)
        try:
            return self.flow.journal.read(lambda tx: arrivals.source_state(tx, lane))
        except MailflowError as error:
            self._log.error("the journal fails", error=as_error(error, "read").text)
            return SourceState(failures=1, next_try=time.time() + IN_USE)

    def _plan(self, intake: Intake, state: SourceState) -> float:
        """The seconds until the next session, and what is said of it until then."""
        with self._change:
            self._known = state
        if state.failures:
            spread = 1 + JITTER * random.random()  # noqa: S311  # it guards nothing
            wait = self._rest_of(state) * spread
        elif intake.in_use:
            wait = jittered(IN_USE)
        elif self._fetcher is not None and self.pushed:
            wait = 0.0
        else:
            wait = jittered(self.step.every)
        word = "resting" if state.failures >= BREAKS else "waiting"
        at: float | None = time.time() + wait
        if not self.by_itself:
            word, at = "off", None
        self._say(Doing(word, at))
        return wait

    def _rest_of(self, state: SourceState) -> float:
        """How long a source is left alone that has failed; one that only waits for its file
        to be mended is asked again in case that its server was."""
        if state.next_try <= (state.failed_at or 0.0):
            return reaction.backoff(state.failures)
        return max(LEAST, state.next_try - time.time())

    def _tell(self, before: SourceState, after: SourceState) -> None:
        """Say when it is left alone, and when it works again."""
        log = self._log.bind(source=self.source)
        if before.failures < BREAKS <= after.failures:
            until = time.strftime("%H:%M:%S", time.localtime(after.next_try))
            text = f"until {until}; `mailflow poke {self.step.name}` asks at once"
            log.warning("left alone between tries", text=text, failures=after.failures)
        if before.failures >= BREAKS and not after.failures and after.worked_at:
            log.warning("works again", failures=before.failures)
