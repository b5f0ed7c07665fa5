"""Programs as destinations: procmail, maildrop, dovecot-lda, sendmail, a script of yours."""

from __future__ import annotations

from mailflow.hooks import hookimpl
from mailflow.typed import TYPE_CHECKING

if TYPE_CHECKING:
    from mailflow.hooks import Register


@hookimpl
def mailflow_register(register: Register) -> None:
    from mailflow_command.distributor import CommandDistributor, EachCommandDistributor

    register.distributor(CommandDistributor)
    register.distributor(EachCommandDistributor, "each")
