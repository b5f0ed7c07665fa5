"""mbox: many mails in one file, as /var/mail and archives have them."""

from __future__ import annotations

from mailflow.hooks import hookimpl
from mailflow.typed import TYPE_CHECKING

if TYPE_CHECKING:
    from mailflow.hooks import Register


@hookimpl
def mailflow_register(register: Register) -> None:
    register.distributor("mailflow_mbox.distributor:MboxDistributor")
    register.fetcher("mailflow_mbox.fetcher:MboxFetcher")
