"""mbox: many mails in one file, as /var/mail and archives have them."""

from __future__ import annotations

from mailflow.hooks import hookimpl
from mailflow.typed import TYPE_CHECKING

if TYPE_CHECKING:
    from mailflow.hooks import Register


@hookimpl
def mailflow_register(register: Register) -> None:
    from mailflow_mbox.distributor import MboxDistributor
    from mailflow_mbox.fetcher import MboxFetcher

    register.distributor(MboxDistributor)
    register.fetcher(MboxFetcher)
