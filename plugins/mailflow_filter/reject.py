"""`filter.reject`: the mail is refused; the reactors decide who is told."""

from __future__ import annotations

from collections.abc import Iterator

from mailflow.typed import TYPE_CHECKING, ClassVar
from mailflow.verdicts import Reject
from mailflow_filter.reason import ReasonOptions

if TYPE_CHECKING:
    from mailflow.kinds import Context, Runtime
    from mailflow.mail import Mail
    from mailflow.options import Options


class RejectFilter:
    """Rejects each mail that no human has approved: the sender may be told."""

    options: ClassVar[type[Options]] = ReasonOptions
    pure = True

    def __init__(self, options: ReasonOptions, runtime: Runtime) -> None:
        self._options = options

    def process(self, mail: Mail, context: Context) -> Iterator[Mail | Reject]:
        if context.approved:
            yield mail
        else:
            yield Reject(self._options.said_of(mail, context.name))
