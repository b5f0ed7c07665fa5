"""Filters: steps that say one thing about every mail that their `when` lets in."""

from __future__ import annotations

from mailflow.hooks import hookimpl
from mailflow.typed import TYPE_CHECKING

if TYPE_CHECKING:
    from mailflow.hooks import Register


@hookimpl
def mailflow_register(register: Register) -> None:
    from mailflow_filter.command import CommandFilter
    from mailflow_filter.discard import DiscardFilter
    from mailflow_filter.hold import HoldFilter
    from mailflow_filter.recipients import RecipientsFilter
    from mailflow_filter.reject import RejectFilter
    from mailflow_filter.rewrite import RewriteFilter
    from mailflow_filter.tag import TagFilter

    register.processor(CommandFilter, "command")
    register.processor(DiscardFilter, "discard")
    register.processor(HoldFilter, "hold")
    register.processor(RecipientsFilter, "recipients")
    register.processor(RejectFilter, "reject")
    register.processor(RewriteFilter, "rewrite")
    register.processor(TagFilter, "tag")
