"""IMAP4rev1 and rev2 (RFC 3501, RFC 9051): the fetcher, the mailbox by hand, the live maildrop."""

from __future__ import annotations

from mailflow import hookimpl
from mailflow.typed import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable

    from mailflow.hooks import Register
    from mailflow.query import Narrowing, Query


@hookimpl
def mailflow_register(register: Register) -> None:
    """Named as "module:Class": each is imported when a pipeline first asks for it."""
    register.fetcher("mailflow_imap.fetcher:ImapFetcher")
    register.maildrop("mailflow_imap.maildrop:ImapDrop")
    register.mailbox("mailflow_imap.mailbox:ImapMailbox")


@hookimpl
def mailflow_explain(query: Query) -> Iterable[Narrowing]:
    """The SEARCH that it becomes."""
    from mailflow_imap.search import explained

    return explained(query)
