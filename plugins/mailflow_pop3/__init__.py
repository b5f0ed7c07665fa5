"""POP3 (RFC 1939): the streaming fetcher."""

from __future__ import annotations

from typing import TYPE_CHECKING

from mailflow import hookimpl

if TYPE_CHECKING:
    from mailflow.hooks import Register


@hookimpl
def mailflow_register(register: Register) -> None:
    from mailflow_pop3.fetcher import Pop3Fetcher

    register.fetcher(Pop3Fetcher)
