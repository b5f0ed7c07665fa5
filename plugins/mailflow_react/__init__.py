"""Reactors: what a failure means for the mail, and who hears of it."""

from __future__ import annotations

from mailflow.hooks import hookimpl
from mailflow.typed import TYPE_CHECKING

if TYPE_CHECKING:
    from mailflow.hooks import Register


@hookimpl
def mailflow_register(register: Register) -> None:
    register.reactor("mailflow_react.bounce:BounceReactor", "bounce")
    register.reactor("mailflow_react.command:CommandReactor", "command")
    register.reactor("mailflow_react.discard:DiscardReactor", "discard")
    register.reactor("mailflow_react.hold:HoldReactor", "hold")
    register.reactor("mailflow_react.log:LogReactor", "log")
    register.reactor("mailflow_react.notify:NotifyReactor", "notify")
    register.reactor("mailflow_react.retry:RetryReactor", "retry")
    register.reactor("mailflow_react.stop:StopReactor", "stop")
