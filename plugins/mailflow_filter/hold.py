"""`filter.hold`: the mail waits in the queue until a human decides."""

from __future__ import annotations

from collections.abc import Iterator

from mailflow.typed import TYPE_CHECKING, ClassVar
from mailflow.verdicts import Hold
from mailflow_filter.reason import ReasonOptions

if TYPE_CHECKING:
    from mailflow.kinds import Context, Runtime
    from mailflow.mail import Mail
    from mailflow.options import Options


class HoldFilter:
    """Holds each mail until a human releases or drops it."""

    options: ClassVar[type[Options]] = ReasonOptions
    pure = True

    def __init__(self, options: ReasonOptions, runtime: Runtime) -> None:
        self._options = options

    def process(self, mail: Mail, context: Context) -> Iterator[Mail | Hold]:
        if context.approved:
            yield mail
        else:
            yield Hold(self._options.said_of(mail, context.name))
