"""Services and maildrops made of their steps, and a service kept at work in a thread.

Rule of the file: a service that fails is called again; how soon, its failures decide.
"""

from __future__ import annotations

import os
import threading
import time

from mailflow.accounts import Account, Accounts
from mailflow.engine.flow import PLUGIN_FAULTS, as_error, describe
from mailflow.errors import MailflowError, PluginError
from mailflow.halt import Halt
from mailflow.kinds import Runtime
from mailflow.log import get_logger
from mailflow.typed import TYPE_CHECKING, Any, Protocol

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from socket import socket

    from mailflow.engine.pipeline import MaildropStep, Pipeline, ServeStep
    from mailflow.kinds import Service
    from mailflow.log import Logger

AGAIN = (0.2, 1.0, 5.0, 30.0, 60.0)
"""Seconds until a service that failed is called again; the last one repeats."""

SOUND = 60.0
"""After so many seconds at work, a failure is the first one again."""


class Backoff:
    """How long to wait after each failure of something that is begun again."""

    def __init__(self) -> None:
        self._failures = 0
        self._began = time.monotonic()

    def begin(self) -> None:
        self._began = time.monotonic()

    def failed(self) -> float:
        """Seconds until it is to be begun again."""
        if time.monotonic() - self._began > SOUND:
            self._failures = 0
        wait = AGAIN[min(self._failures, len(AGAIN) - 1)]
        self._failures += 1
        return wait


def make(pipeline: Pipeline, table: str, step: Any, halt: Halt) -> Any:
    """The component of a [maildrop.NAME] or [[serve]]. Raises MailflowError."""
    scratch = os.path.dirname(pipeline.journal)
    runtime = Runtime(
        name=step.name, pipeline=pipeline.name, halt=halt,
        log=get_logger(pipeline=pipeline.name, **{table: step.name}),
        scratch=scratch, base=pipeline.base,
    )  # fmt: skip
    from mailflow.durable import make_directory

    try:
        make_directory(scratch)
        return step.component(step.options, runtime)
    except MailflowError:
        raise
    except PLUGIN_FAULTS as error:
        raise PluginError(f"{step.use} cannot be made: {describe(error)}") from error


class Drops:
    """The maildrops of an installation, made once for each step that stays the same."""

    def __init__(self, halt: Halt) -> None:
        self._halt = halt
        self._made: list[tuple[Pipeline, MaildropStep, Any]] = []
        self.accounts = Accounts(())

    def made(self) -> list[tuple[str, Any]]:
        """Each maildrop, with the login name or glob that it stands under."""
        return [(step.name, drop) for _, step, drop in self._made]

    def load(self, pipelines: Sequence[Pipeline]) -> None:
        """These from now on. Raises MailflowError, and all is as before."""
        from mailflow.engine.sameness import same

        made = []
        for pipeline in pipelines:
            for step in pipeline.maildrop:
                kept = next(
                    (
                        drop
                        for before, other, drop in self._made
                        if before.journal == pipeline.journal
                        and (other.name, other.use) == (step.name, step.use)
                        and same(other.options, step.options)
                    ),
                    None,
                )
                drop = kept if kept is not None else make(pipeline, "maildrop", step, self._halt)
                made.append((pipeline, step, drop))
        self.accounts = Accounts(
            [
                Account(
                    step.name, drop, step.login, step.secret, step.passwords, step.aliases,
                    step.networks,
                )
                for _, step, drop in made
            ],
            before=self.accounts,
            log=get_logger(),
        )  # fmt: skip
        self._made = made


class Around(Protocol):
    """The installation, as far as a service's host asks for it."""

    @property
    def accounts(self) -> Accounts: ...

    def facts(self) -> Mapping[str, object]: ...

    def poke(self, source: str) -> None: ...

    def event(self, name: str, **facts: object) -> None: ...


class Hosted(Protocol):
    """A service that is kept at work, here or in processes of its own."""

    pipeline: Pipeline
    step: ServeStep
    is_ready: threading.Event

    @property
    def error(self) -> str: ...

    @property
    def pids(self) -> tuple[int, ...]: ...

    def reports(self) -> list[Mapping[str, object]]:
        """What the service said last of itself, in each process."""
        ...

    def start(self) -> None: ...

    def stop(self) -> None:
        """Let it end in order; `join` waits for that, and closes."""
        ...

    def join(self) -> None: ...

    def close(self) -> None:
        """Close its sockets: it does not run."""
        ...

    def reload(self) -> None:
        """The accounts may be others now."""
        ...


class ThreadHost:
    """A service in a thread of this process; kinds.Host for it."""

    def __init__(
        self, pipeline: Pipeline, step: ServeStep, service: Service,
        listening: Sequence[socket], around: Around,
    ) -> None:  # fmt: skip
        self.pipeline = pipeline
        self.step = step
        self.service = service
        self.log: Logger = get_logger(pipeline=pipeline.name, serve=step.name)
        self.error = ""
        self.is_ready = threading.Event()
        self._said: Mapping[str, object] = {}
        self._listening = listening
        self._around = around
        self._halt = Halt()
        self._thread = threading.Thread(target=self._run, name=f"{pipeline.name}/{step.name}")

    @property
    def accounts(self) -> Accounts:
        return self._around.accounts

    @property
    def pids(self) -> tuple[int, ...]:
        return ()

    def ready(self) -> None:
        self.error = ""
        self.is_ready.set()

    def report(self, facts: Mapping[str, object]) -> None:
        self._said = dict(facts)

    def reports(self) -> list[Mapping[str, object]]:
        return [self._said]

    def status(self) -> Mapping[str, object]:
        return self._around.facts()

    def poke(self, source: str) -> None:
        self._around.poke(source)

    def start(self) -> None:
        self._thread.start()

    def stop(self) -> None:
        self._halt.set()

    def join(self) -> None:
        self._thread.join()
        self.close()

    def close(self) -> None:
        self._halt.close()
        for each in self._listening:
            each.close()

    def reload(self) -> None:
        """`accounts` is asked for each time."""

    def _run(self) -> None:
        backoff = Backoff()
        while not self._halt.is_set():
            backoff.begin()
            try:
                self.service.serve(self, self._listening, self._halt)
                failure: MailflowError = PluginError(f"{self.step.use} has ended by itself")
            except PLUGIN_FAULTS as error:
                failure = as_error(error, self.step.use)
            if self._halt.is_set():
                return
            self.error = failure.text
            wait = backoff.failed()
            self.log.error("service failed", error=failure.text, again_in=wait)
            self._around.event(
                "service.failed", pipeline=self.pipeline.name, step=self.step.name,
                error=failure.text,
            )  # fmt: skip
            self._halt.wait(wait)
