"""`react.discard`: give up what is in trouble; nobody is told."""

from __future__ import annotations

from mailflow.options import Options, Text
from mailflow.typed import TYPE_CHECKING, ClassVar
from mailflow.verdicts import Discard

if TYPE_CHECKING:
    from mailflow.kinds import Context, Runtime, Trouble


class DiscardOptions(Options):
    """What the mail's story says of it."""

    reason = Text.optional("Why, for the mail's story; by default what went wrong.")


class DiscardReactor:
    """Gives up each mail in trouble, or its delivery to those it failed for."""

    options: ClassVar[type[Options]] = DiscardOptions

    def __init__(self, options: DiscardOptions, runtime: Runtime) -> None:
        self._reason = options.reason

    def react(self, trouble: Trouble, context: Context) -> Discard | None:
        """None for a source, which has no mail to be given up."""
        if trouble.stage == "fetch":
            return None
        return Discard(self._reason or trouble.error.text)
