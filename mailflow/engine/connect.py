"""Each server of a pipeline, asked what it offers: for `check --connect`.

Rule of the file: nothing is changed at a server, and none is waited for longer than
LONGEST.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator
from tempfile import TemporaryDirectory

from mailflow.engine.flow import PLUGIN_FAULTS, as_error
from mailflow.errors import PluginError, UnavailableError
from mailflow.halt import Halt
from mailflow.kinds import Runtime
from mailflow.log import get_logger
from mailflow.typed import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from mailflow.engine.pipeline import DistributeStep, FetchStep, Pipeline

LONGEST = 30.0
"""Seconds for all that one server is asked."""


def servers(pipeline: Pipeline) -> Iterator[tuple[str, FetchStep | DistributeStep]]:
    """The steps that can say what their server offers, with the table they stand under."""
    for table, steps in (("fetch", pipeline.fetch), ("distribute", pipeline.distribute)):
        for step in steps:
            if callable(getattr(step.component, "offers", None)):
                yield table, step


def ask(
    pipeline: Pipeline, step: FetchStep | DistributeStep, longest: float = LONGEST
) -> list[str]:
    """What the server of a step offers, a line for each fact. Raises MailflowError."""
    halt = Halt()
    late = threading.Timer(longest, halt.set)
    late.daemon = True
    late.start()
    try:
        with TemporaryDirectory(prefix="mailflow-") as scratch:
            log = get_logger(pipeline=pipeline.name, step=step.name)
            runtime = Runtime(step.name, pipeline.name, halt, log, scratch, pipeline.base)
            return _asked(step.component(step.options, runtime), step.use)
    except PLUGIN_FAULTS as error:
        if halt.is_set():
            raise UnavailableError(f"no answer within {longest:g} s") from None
        raise as_error(error, f"step {step.name}") from error
    finally:
        late.cancel()
        late.join()
        halt.close()


def _asked(component: Any, use: str) -> list[str]:
    with component as entered:
        facts = list(entered.offers())
    if not all(isinstance(fact, str) for fact in facts):
        raise PluginError(f"{use} says what is no text about its server")
    return facts
