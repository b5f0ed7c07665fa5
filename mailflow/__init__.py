"""mailflow: mail from where it arrives to where it should be.

What a plugin may use. Names are imported when they are first asked for, so that
importing mailflow costs nothing.
"""

from __future__ import annotations

TYPE_CHECKING = False  # it would have to be imported

if TYPE_CHECKING:
    from mailflow.errors import (
        BadMailError,
        ConfigError,
        CrowdedError,
        GoneError,
        InUseError,
        JournalError,
        LoginError,
        MailflowError,
        PeerError,
        PluginError,
        RefusedError,
        UnavailableError,
    )
    from mailflow.hooks import hookimpl
    from mailflow.kinds import (
        Context,
        Credentials,
        Distributor,
        Fetched,
        Fetcher,
        Host,
        Item,
        Maildrop,
        Missed,
        OpenDrop,
        Processor,
        Reactor,
        Runtime,
        Service,
        Ticket,
        Trouble,
        WirePart,
    )
    from mailflow.mail import Content, Envelope, Header, Mail, OctetFile, Octets
    from mailflow.mailboxes.opening import mailbox
    from mailflow.opening import open
    from mailflow.options import Options
    from mailflow.query import Query
    from mailflow.running import describe, journal_between, run, serve
    from mailflow.verdicts import (
        FAILED,
        LATER,
        SENT,
        Bounce,
        Discard,
        Fate,
        Hold,
        Reject,
        Report,
        Retry,
        Stop,
    )

__version__ = "0.1.0"

_HOMES = {
    "errors": (
        "BadMailError ConfigError CrowdedError GoneError InUseError JournalError LoginError"
        " MailflowError PeerError PluginError RefusedError UnavailableError"
    ),
    "hooks": "hookimpl",
    "kinds": (
        "Context Credentials Distributor Fetched Fetcher Host Item Maildrop Missed OpenDrop"
        " Processor Reactor Runtime Service Ticket Trouble WirePart"
    ),
    "mail": "Content Envelope Header Mail OctetFile Octets",
    "mailboxes.opening": "mailbox",
    "opening": "open",
    "options": "Options",
    "query": "Query",
    "running": "describe journal_between run serve",
    "verdicts": "FAILED LATER SENT Bounce Discard Fate Hold Reject Report Retry Stop",
}
_HOME_OF = {name: home for home, names in _HOMES.items() for name in names.split()}

__all__ = [
    "FAILED", "LATER", "SENT", "BadMailError", "Bounce", "ConfigError", "Content", "Context",
    "Credentials", "CrowdedError", "Discard", "Distributor", "Envelope", "Fate", "Fetched",
    "Fetcher", "GoneError", "Header", "Hold", "Host", "InUseError", "Item", "JournalError",
    "LoginError", "Mail", "Maildrop", "MailflowError", "Missed", "OctetFile", "Octets",
    "OpenDrop", "Options", "PeerError", "PluginError", "Processor", "Query", "Reactor",
    "RefusedError", "Reject", "Report", "Retry", "Runtime", "Service", "Stop", "Ticket",
    "Trouble", "UnavailableError", "WirePart", "describe", "hookimpl", "journal_between",
    "mailbox", "open", "run", "serve",
]  # fmt: skip


def __getattr__(name: str) -> object:
    home = _HOME_OF.get(name)
    if home is None:
        raise AttributeError(f"module 'mailflow' has no attribute {name!r}")
    from importlib import import_module

    value: object = getattr(import_module(f"mailflow.{home}"), name)
    globals()[name] = value
    return value
