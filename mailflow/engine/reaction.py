"""What a trouble leads to: the file's reactors in order, then the default.

Rule of the file: an exception inside a reactor is logged and never breaks the run.
"""

from __future__ import annotations

from mailflow.engine.context import Ledger, SharedMemory, StepContext
from mailflow.engine.flow import PLUGIN_FAULTS, Flow, describe
from mailflow.errors import ConfigError, LoginError
from mailflow.typed import TYPE_CHECKING
from mailflow.verdicts import Bounce, Discard, Hold, Reaction, Retry, Stop

if TYPE_CHECKING:
    from mailflow.errors import MailflowError
    from mailflow.kinds import Trouble

RETRY_FOR = 5 * 86400.0
OURS = (LoginError, ConfigError)
"""Faults of this side that say nothing about the mail they stopped."""

BACKOFF = (60.0, 300.0, 1800.0, 7200.0)

AT_ONCE = 10
IN_VAIN = 60.0
"""After so many attempts, so many seconds at least until the next one: a run in which all
is due again at once would never end."""

FETCH_AGAIN = 600.0
"""A source that was only out of reach rests no longer than this; refused logins do."""

LONGEST = 86400.0
"""Seconds for which a server that asks to be left alone is believed."""


def ask(flow: Flow, trouble: Trouble, ledger: Ledger, source: str = "") -> Reaction | None:
    """The first reaction that a reactor of the file gives; None if none does. `source`
    is the name of the [[fetch]] that the mail came by."""
    for step, reactor in flow.reactors:
        mark = ledger.mark()
        try:
            if step.when is not None:
                from mailflow.query import TroubleFacts

                if not step.when.matches(TroubleFacts(trouble, now=ledger.now, source=source)):
                    continue
            context = StepContext(ledger, step.name, memory=SharedMemory(ledger, step.name))
            with flow.reacting:
                reaction = reactor.react(trouble, context)
            if not (reaction is None or _is_sound(reaction)):
                raise TypeError(f"{reaction!r} is no reaction")
        except PLUGIN_FAULTS as error:  # a reactor never breaks the run
            ledger.undo(mark)
            flow.log.error("a reactor failed", step=step.name, error=describe(error))
            continue
        if reaction is not None:
            return reaction
    return None


def decide(flow: Flow, trouble: Trouble, ledger: Ledger, source: str = "") -> Reaction:
    """What is done about a trouble: asked of the reactors, else the default."""
    return ask(flow, trouble, ledger, source) or default(trouble)


def default(trouble: Trouble) -> Reaction:
    """Retry up to five days what may pass; else hold. A login refused or a secret that
    cannot be had is not the mail's fault, and passes once it is mended."""
    if trouble.stage == "fetch":
        again = backoff(trouble.attempt)
        return Retry(again if isinstance(trouble.error, LoginError) else min(again, FETCH_AGAIN))
    ours = trouble.stage == "distribute" and isinstance(trouble.error, OURS)
    if (trouble.error.temporary or ours) and trouble.age < RETRY_FOR:
        return Retry(backoff(trouble.attempt))
    return Hold(trouble.error.text)


def _is_sound(reaction: object) -> bool:
    """Whether it is a reaction that can be written down."""
    if isinstance(reaction, Retry):
        return isinstance(reaction.after, int | float) and reaction.after >= 0
    return isinstance(reaction, Hold | Bounce | Discard | Stop) and isinstance(reaction.reason, str)


def wait(answer: object, attempt: int) -> float:
    """Seconds until the attempt after that number: what a Retry says, else `backoff`."""
    after = answer.after if isinstance(answer, Retry) else backoff(attempt)
    return max(after, IN_VAIN if attempt > AT_ONCE else 0.0)


def asked(error: MailflowError) -> float:
    """The seconds that a server asks to be left alone (`fields["delay"]`), 0 where it does not."""
    delay = error.fields.get("delay")
    return min(float(delay), LONGEST) if isinstance(delay, int | float) and delay > 0 else 0.0


def backoff(attempt: int) -> float:
    """Seconds to wait after the attempt of that number."""
    return BACKOFF[min(max(attempt, 1), len(BACKOFF)) - 1]
