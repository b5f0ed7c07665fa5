"""SMTP and LMTP: mail to a server that takes it (RFC 5321, RFC 2033)."""

from __future__ import annotations

from mailflow import hookimpl
from mailflow.typed import TYPE_CHECKING

if TYPE_CHECKING:
    from mailflow.hooks import Register


@hookimpl
def mailflow_register(register: Register) -> None:
    register.distributor("mailflow_smtp.distributor:SmtpDistributor")
    register.distributor("mailflow_smtp.distributor:LmtpDistributor", "lmtp")
