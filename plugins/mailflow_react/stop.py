"""`react.stop`: end the run, in order, and leave the rest to the next one."""

from __future__ import annotations

from mailflow.options import Options, Text
from mailflow.typed import TYPE_CHECKING, ClassVar
from mailflow.verdicts import Stop

if TYPE_CHECKING:
    from mailflow.kinds import Context, Runtime, Trouble


class StopOptions(Options):
    """What the log says of it."""

    reason = Text.optional("Why, for the log; by default what went wrong.")


class StopReactor:
    """Ends the run: nothing more is fetched or tried, and what is due stays due.

    A mail in trouble meets the same step again in the next run. The run ends with the
    exit status of what went wrong.
    """

    options: ClassVar[type[Options]] = StopOptions

    def __init__(self, options: StopOptions, runtime: Runtime) -> None:
        self._reason = options.reason

    def react(self, trouble: Trouble, context: Context) -> Stop:
        reason = self._reason or trouble.error.text
        context.log.warning("the run is stopped", stage=trouble.stage, at=trouble.step, why=reason)
        return Stop(reason)
