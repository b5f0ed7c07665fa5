"""Maildir: one file for each mail, in directories that any reader may watch."""

from __future__ import annotations

from mailflow.hooks import hookimpl
from mailflow.typed import TYPE_CHECKING

if TYPE_CHECKING:
    from mailflow.hooks import Register


@hookimpl
def mailflow_register(register: Register) -> None:
    from mailflow_maildir.distributor import MaildirDistributor
    from mailflow_maildir.fetcher import MaildirFetcher

    register.distributor(MaildirDistributor)
    register.fetcher(MaildirFetcher)
