"""Reactors: what a failure means for the mail, and who hears of it."""

from __future__ import annotations

from mailflow.hooks import hookimpl
from mailflow.typed import TYPE_CHECKING

if TYPE_CHECKING:
    from mailflow.hooks import Register


@hookimpl
def mailflow_register(register: Register) -> None:
    from mailflow_react.bounce import BounceReactor
    from mailflow_react.command import CommandReactor
    from mailflow_react.discard import DiscardReactor
    from mailflow_react.hold import HoldReactor
    from mailflow_react.log import LogReactor
    from mailflow_react.notify import NotifyReactor
    from mailflow_react.retry import RetryReactor
    from mailflow_react.stop import StopReactor

    register.reactor(BounceReactor, "bounce")
    register.reactor(CommandReactor, "command")
    register.reactor(DiscardReactor, "discard")
    register.reactor(HoldReactor, "hold")
    register.reactor(LogReactor, "log")
    register.reactor(NotifyReactor, "notify")
    register.reactor(RetryReactor, "retry")
    register.reactor(StopReactor, "stop")
