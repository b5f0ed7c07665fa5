"""Filters: steps that say one thing about every mail that their `when` lets in."""

from __future__ import annotations

from mailflow.hooks import hookimpl
from mailflow.typed import TYPE_CHECKING

if TYPE_CHECKING:
    from mailflow.hooks import Register


@hookimpl
def mailflow_register(register: Register) -> None:
    register.processor("mailflow_filter.command:CommandFilter", "command")
    register.processor("mailflow_filter.discard:DiscardFilter", "discard")
    register.processor("mailflow_filter.hold:HoldFilter", "hold")
    register.processor("mailflow_filter.recipients:RecipientsFilter", "recipients")
    register.processor("mailflow_filter.reject:RejectFilter", "reject")
    register.processor("mailflow_filter.rewrite:RewriteFilter", "rewrite")
    register.processor("mailflow_filter.tag:TagFilter", "tag")
