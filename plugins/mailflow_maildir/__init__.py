"""Maildir: one file for each mail, in directories that any reader may watch."""

from __future__ import annotations

from mailflow.hooks import hookimpl
from mailflow.typed import TYPE_CHECKING

if TYPE_CHECKING:
    from mailflow.hooks import Register


@hookimpl
def mailflow_register(register: Register) -> None:
    register.distributor("mailflow_maildir.distributor:MaildirDistributor")
    register.fetcher("mailflow_maildir.fetcher:MaildirFetcher")
    register.maildrop("mailflow_maildir.maildrop:MaildirDrop")
