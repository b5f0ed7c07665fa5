"""`react.hold`: keep the mail in the queue until a human decides."""

from __future__ import annotations

from mailflow.options import Options, Text
from mailflow.typed import TYPE_CHECKING, ClassVar
from mailflow.verdicts import Hold

if TYPE_CHECKING:
    from mailflow.kinds import Context, Runtime, Trouble


class HoldOptions(Options):
    """What the queue says of it."""

    reason = Text.optional("Why, for whoever looks at the queue; by default what went wrong.")


class HoldReactor:
    """Holds each mail in trouble, until a human decides."""

    options: ClassVar[type[Options]] = HoldOptions

    def __init__(self, options: HoldOptions, runtime: Runtime) -> None:
        self._reason = options.reason

    def react(self, trouble: Trouble, context: Context) -> Hold | None:
        """None for a source, which has no mail to be held."""
        if trouble.stage == "fetch":
            return None
        return Hold(self._reason or trouble.error.text)
