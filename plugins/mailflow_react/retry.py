"""`react.retry`: try again, after longer and longer waits, for some days.

Rule of the file: it decides about trying again and nothing else; when it gives up it
says nothing, and the next reactor decides.
"""

from __future__ import annotations

from collections.abc import Iterator

from mailflow.errors import LoginError
from mailflow.options import Duration, Flag, ListOf, Options
from mailflow.typed import TYPE_CHECKING, ClassVar
from mailflow.verdicts import Retry

if TYPE_CHECKING:
    from mailflow.kinds import Context, Runtime, Trouble


class RetryOptions(Options):
    """How long to wait, and for how long in all."""

    after = ListOf(
        "How long to wait before each new attempt; the last one repeats.",
        Duration(""),
        default=(60.0, 300.0, 1800.0, 7200.0),
    )
    for_ = Duration(
        "How long in all, from the mail's arrival or since its source last worked.",
        default=432000.0,
    )
    permanent = Flag("Whether to try again what was refused for good (5xx) as well.", default=False)

    def faults(self) -> Iterator[tuple[str, str]]:
        if not self.after:
            yield "after", 'expected at least one duration, such as ["1m", "5m", "2h"]'


class RetryReactor:
    """Tries again later what may pass."""

    options: ClassVar[type[Options]] = RetryOptions

    def __init__(self, options: RetryOptions, runtime: Runtime) -> None:
        self._options = options

    def react(self, trouble: Trouble, context: Context) -> Retry | None:
        """None for a verdict, which would be the same again, and when the time is over."""
        options = self._options
        if trouble.stage in ("verdict", "unrouted") or trouble.age >= options.for_:
            return None
        if not (options.permanent or may_pass(trouble)):
            return None
        wait = options.after[min(max(trouble.attempt, 1), len(options.after)) - 1]
        return Retry(min(wait, options.for_ - trouble.age))


def may_pass(trouble: Trouble) -> bool:
    """Whether another attempt may go better: a source is asked again in any case, and a
    refused login is not the mail's fault."""
    error = trouble.error
    return error.temporary or trouble.stage == "fetch" or isinstance(error, LoginError)
