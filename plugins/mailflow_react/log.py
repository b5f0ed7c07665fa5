"""`react.log`: one line in the log for each trouble; others decide what to do."""

from __future__ import annotations

from mailflow.options import Options
from mailflow.typed import TYPE_CHECKING, ClassVar

if TYPE_CHECKING:
    from mailflow.kinds import Context, Runtime, Trouble


class LogOptions(Options):
    """There is nothing to choose; `when` says which troubles are logged."""


class LogReactor:
    """Writes each trouble to the log as a warning, and decides nothing."""

    options: ClassVar[type[Options]] = LogOptions

    def __init__(self, options: LogOptions, runtime: Runtime) -> None:
        pass

    def react(self, trouble: Trouble, context: Context) -> None:
        mail = {"mail": trouble.mail.id} if trouble.mail is not None else {}
        to = {"recipients": trouble.recipients[:5]} if trouble.recipients else {}
        context.log.warning(
            "trouble", stage=trouble.stage, step=trouble.step, **mail, **to,
            attempt=trouble.attempt, kind=type(trouble.error).__name__, error=trouble.error,
        )  # fmt: skip
