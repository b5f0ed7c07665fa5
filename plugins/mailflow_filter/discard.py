"""`filter.discard`: the mail goes nowhere, and nobody is told."""

from __future__ import annotations

from collections.abc import Iterator

from mailflow.typed import TYPE_CHECKING, ClassVar
from mailflow.verdicts import Discard
from mailflow_filter.reason import ReasonOptions

if TYPE_CHECKING:
    from mailflow.kinds import Context, Runtime
    from mailflow.mail import Mail
    from mailflow.options import Options


class DiscardFilter:
    """Throws each mail away: nobody is told."""

    options: ClassVar[type[Options]] = ReasonOptions
    pure = True

    def __init__(self, options: ReasonOptions, runtime: Runtime) -> None:
        self._options = options

    def process(self, mail: Mail, context: Context) -> Iterator[Discard]:
        yield Discard(self._options.said_of(mail, context.name))
