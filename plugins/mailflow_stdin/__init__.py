"""stdin: the one message that a mail system or procmail hands to `mailflow hook`."""

from __future__ import annotations

from mailflow.hooks import hookimpl
from mailflow.typed import TYPE_CHECKING

if TYPE_CHECKING:
    from mailflow.hooks import Register


@hookimpl
def mailflow_register(register: Register) -> None:
    from mailflow_stdin.fetcher import StdinFetcher

    register.fetcher(StdinFetcher)
