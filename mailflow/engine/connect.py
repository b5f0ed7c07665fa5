"""Each server of a pipeline, asked what it offers: for `check --connect`.

Rule of the file: nothing is changed at a server, and none is waited for longer than
LONGEST.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator
from tempfile import TemporaryDirectory

from mailflow.accounts.book import is_glob
from mailflow.engine.flow import PLUGIN_FAULTS, as_error
from mailflow.errors import PluginError, UnavailableError
from mailflow.halt import Halt
from mailflow.kinds import Credentials, Runtime
from mailflow.log import get_logger
from mailflow.typed import TYPE_CHECKING, Any
from mailflow.values import counted

if TYPE_CHECKING:
    from mailflow.engine.pipeline import DistributeStep, FetchStep, MaildropStep, Pipeline
    from mailflow.options import Options

    Step = FetchStep | DistributeStep | MaildropStep

LONGEST = 30.0
"""Seconds for all that one server is asked."""

SILENCE = 2 / 3
"""The part of it after which a silence is the server's fault."""


def servers(pipeline: Pipeline) -> Iterator[tuple[str, Step]]:
    """The steps that can say what their server offers, with the table they stand under; and the
    live maildrops that need nothing of a client to be entered."""
    for table, steps in (("fetch", pipeline.fetch), ("distribute", pipeline.distribute)):
        for step in steps:
            if callable(getattr(step.component, "offers", None)):
                yield table, step
    for drop in pipeline.maildrop:
        if _is_live(drop) and not _why_not(drop):
            yield "maildrop", drop


def left_out(pipeline: Pipeline) -> Iterator[tuple[MaildropStep, str]]:
    """The live maildrops that nobody can enter from here, each with the reason."""
    for drop in pipeline.maildrop:
        if _is_live(drop) and (reason := _why_not(drop)):
            yield drop, reason


def _is_live(drop: MaildropStep) -> bool:
    return getattr(drop.component, "passthrough", False)


def _why_not(drop: MaildropStep) -> str:
    """Why a live maildrop cannot be entered without a client, "" where it can."""
    if drop.login == "passthrough":
        return "only a client has its password"
    return "its name stands for many" if is_glob(drop.name) else ""


def ask(pipeline: Pipeline, step: Step, facts: list[str], longest: float = LONGEST) -> None:
    """What the server of a step offers, a line for each, joins `facts` as it is known: what came
    before a failure says how far it went. Raises MailflowError."""
    halt = Halt()
    late = threading.Timer(longest, halt.set)
    late.daemon = True
    late.start()
    try:
        with TemporaryDirectory(prefix="mailflow-") as scratch:
            log = get_logger(pipeline=pipeline.name, step=step.name)
            runtime = Runtime(step.name, pipeline.name, halt, log, scratch, pipeline.base)
            _asked(step.component(_hasty(step.options, longest), runtime), step, facts)
    except PLUGIN_FAULTS as error:
        if halt.is_set():
            raise UnavailableError(f"no answer within {longest:g} s") from None
        raise as_error(error, f"step {step.name}") from error
    finally:
        late.cancel()
        late.join()
        halt.close()


def _hasty(options: Options, longest: float) -> Options:
    """A server that keeps silent is told by its step's own error, which names it and says why."""
    if "timeout" not in options.declared():
        return options
    soon = min(vars(options).get("timeout", longest), longest * SILENCE)
    return type(options)({**vars(options), "timeout": soon})


def _asked(component: Any, step: Step, facts: list[str]) -> None:
    if getattr(component, "passthrough", False):
        facts.append(_entered(component, step.name))
        return
    with component as entered:
        for fact in entered.offers():
            if not isinstance(fact, str):
                raise PluginError(f"{step.use} says what is no text about its server")
            facts.append(fact)


def _entered(maildrop: Any, login: str) -> str:
    """As a client's session enters it, its password here being right."""
    if callable(count := getattr(maildrop, "messages", None)):
        number = count(login)
    else:
        drop = maildrop.login(Credentials(login, checked=True))
        try:
            number = len(drop.items())
        finally:
            drop.close()
    return f"can be entered; it has {counted(number, 'message')}"
