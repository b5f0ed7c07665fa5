"""A pipeline at work: its file, its journal, and its components, made once.

Rule of the file: what several parts of the engine need of one pipeline is here,
and nothing that moves mail.
"""

from __future__ import annotations

import threading
import time

from mailflow.errors import ConfigError, MailflowError, PluginError
from mailflow.kinds import Runtime
from mailflow.typed import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from mailflow.engine.config import DistributeStep, Pipeline, ReactStep
    from mailflow.engine.journal import Database
    from mailflow.engine.registry import Registry
    from mailflow.halt import Halt
    from mailflow.kinds import Processor, Reactor
    from mailflow.log import Logger


class Meter:
    """What has arrived so far: octets on the wire, and whole messages (any thread)."""

    def __init__(self) -> None:
        self.octets = 0
        self.messages = 0

    def receive(self, octets: int) -> None:
        self.octets += octets


FORGET_SECONDS = 600.0
"""How long what a reactor wrote is kept in memory at least, for its commit to be done."""

PLUGIN_FAULTS = (Exception, SystemExit)
"""Whatever a plugin may raise: a library that ends the program must not end ours."""


class Flow:
    """One pipeline and what it is made of. `statuses` are those of what went wrong;
    `broken` is what makes it impossible to go on.

    `reacting` is held while a reactor is asked; `shared` is what reactors wrote last,
    (step, key) -> (when, value).
    """

    def __init__(
        self,
        pipeline: Pipeline,
        journal: Database,
        registry: Registry,
        halt: Halt,
        log: Logger,
        meter: Meter | None = None,
    ) -> None:
        self.pipeline = pipeline
        self.journal = journal
        self.registry = registry
        self.halt = halt
        self.log = log.bind(pipeline=pipeline.name)
        self.meter = meter or Meter()
        self.processors: list[tuple[Any, Processor]] = [
            (step, self.make(step)) for step in pipeline.process
        ]
        self.reactors: list[tuple[ReactStep, Reactor]] = [
            (step, self.make(step)) for step in pipeline.react
        ]
        self.reacting = threading.Lock()
        self.shared: dict[tuple[str, str], tuple[float, str]] = {}
        self._lock = threading.Lock()
        self._in_work: dict[str, int] = {}
        self.statuses: list[int] = []
        self.broken: MailflowError | None = None

    def make(self, step: Any, halt: Halt | None = None) -> Any:
        """The component of a step; `halt` where another than the pipeline's ends its waits."""
        runtime = Runtime(
            name=step.name,
            pipeline=self.pipeline.name,
            halt=halt or self.halt,
            log=self.log.bind(step=step.name),
            scratch=self.journal.owner.directory,
            base=self.pipeline.base,
            progress=self.meter.receive,
            sent_before=lambda seconds: self._sent_before(step.name, seconds),
        )
        try:
            return step.component(step.options, runtime)
        except MailflowError:
            raise
        except PLUGIN_FAULTS as error:
            raise PluginError(f"{step.use} cannot be made: {describe(error)}") from error

    def _sent_before(self, step: str, seconds: float) -> list[float]:
        from mailflow.engine.journal.queue import sent_since

        now = time.time()
        pipeline = self.pipeline.name
        times = self.journal.read(lambda tx: sent_since(tx, pipeline, step, now - seconds))
        return [max(0.0, now - at) for at in times]

    @property
    def deliver_first(self) -> bool:
        """Whether mail may be delivered before its body is journalled: every distributor
        repeatable, every processor pure."""
        return not why_common_way(self.pipeline)

    def sender(self, via: str | None) -> DistributeStep:
        """The distributor for a notice: that name, else the first that sends."""
        for step in self.pipeline.distribute:
            if step.name == via or (via is None and step.component.sends):
                return step
        wanted = f"named {via!r}" if via else "that sends"
        raise ConfigError(f"{self.pipeline.path}: a notice needs a [[distribute]] {wanted}")

    def distributor(self, name: str) -> DistributeStep | None:
        for step in self.pipeline.distribute:
            if step.name == name:
                return step
        return None

    def take(self, mail: str, jobs: int) -> None:
        """So many jobs of a mail are in this process's hands."""
        with self._lock:
            self._in_work[mail] = self._in_work.get(mail, 0) + jobs

    def in_work(self, mail: str) -> int:
        """How many jobs of a mail are in this process's hands."""
        with self._lock:
            return self._in_work.get(mail, 0)

    def give_back(self, mail: str) -> bool:
        """One job is through; whether it was the last of its mail."""
        with self._lock:
            self._in_work[mail] -= 1
            if self._in_work[mail]:
                return False
            del self._in_work[mail]
            return True

    def failed(self, error: MailflowError) -> None:
        """Something went wrong that the exit status should tell. The error itself is not
        kept: its traceback holds the mail."""
        if error.exit_code not in self.statuses:
            self.statuses.append(error.exit_code)

    def give_up(self, error: MailflowError) -> None:
        """Nothing can be done in this pipeline any more: it ends, and says why."""
        self.failed(error)
        self.broken = self.broken or error.with_traceback(None)
        self.halt.set()

    def forget(self) -> None:
        """Drop what is surely in the journal by now."""
        before = time.time() - FORGET_SECONDS
        with self.reacting:
            for key in [key for key, (at, _) in list(self.shared.items()) if at < before]:
                del self.shared[key]

    def event(self, name: str, **facts: object) -> None:
        """Tell the listeners; costs nothing where there are none."""
        self.registry.event(name, pipeline=self.pipeline.name, **facts)


def why_common_way(pipeline: Pipeline) -> str:
    """Why mail is journalled before it is delivered; "" where it need not be."""
    for step in pipeline.process:
        if not step.component.pure:
            return f"process.{step.name} may say another thing when asked again"
    for each in pipeline.distribute:
        if not each.component.repeatable:
            return f"distribute.{each.name} cannot be repeated without a second copy"
        if each.component.per_recipient:
            return f"distribute.{each.name} answers for each recipient"
    return ""


def end(flow: Flow, step: str, distributor: Any, error: BaseException | None) -> None:
    """End a distributor's session; what it raises then changes no report."""
    try:
        if error is None:
            distributor.__exit__(None, None, None)
        else:
            distributor.__exit__(type(error), error, error.__traceback__)
    except PLUGIN_FAULTS as again:  # all reports are in already
        say = flow.log.warning if error is None else flow.log.debug
        say("a session did not end in order", step=step, error=describe(again))


def finish(flow: Flow, step: str, distributor: Any, keys: list[str]) -> None:
    """Tell a distributor that wants to know which tickets are final."""
    tell = getattr(distributor, "finish", None)
    if tell is None or not keys:
        return
    try:
        tell(keys)
    except PLUGIN_FAULTS as error:  # it tidies, no more
        flow.log.warning("not tidied up", step=step, error=describe(error))


def describe(error: BaseException) -> str:
    """One line for an exception that is not ours."""
    text = " ".join(str(error).split())
    return f"{type(error).__name__}: {text}" if text else type(error).__name__


def as_error(error: BaseException, doing: str) -> MailflowError:
    """Any exception as one of ours; a plugin's own becomes a PluginError."""
    if isinstance(error, MailflowError):
        return error
    if isinstance(error, OSError):
        from mailflow.errors import from_os

        return from_os(error, doing)
    if isinstance(error, MemoryError):
        from mailflow.errors import UnavailableError

        return UnavailableError(f"{doing}: out of memory")
    if isinstance(error, RuntimeError) and "start new thread" in str(error):
        from mailflow.errors import UnavailableError

        return UnavailableError(f"{doing}: no more threads may be started here")
    if isinstance(error, ImportError) and "Too many open files" in str(error):
        from mailflow.errors import UnavailableError

        return UnavailableError(f"{doing}: too many open files")
    return PluginError(f"{doing}: {describe(error)}")
