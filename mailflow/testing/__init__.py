"""The kit for who writes a plugin: contract suites, servers, faults, kills, awkward mail.

    from mailflow.testing import AWKWARD, FetcherContract, Source, Trip

Install it with `pip install 'mailflow[testing]'`. Names are imported when they are first
asked for: only the contract suites need pytest, only TLS needs cryptography. What
stands in __all__ is public; what else is in this package is for the tests of mailflow.
"""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from mailflow.testing.contracts import (
        ComponentContract,
        Destination,
        DistributorContract,
        FetcherContract,
        MailboxContract,
        MaildropContract,
        MailServiceContract,
        ProcessorContract,
        PushFetcherContract,
        ReactorContract,
        RefusingDestination,
        RefusingDistributorContract,
        RemoteDestination,
        RemoteDistributorContract,
        RemoteFetcherContract,
        RemoteSource,
        ServiceContract,
        Source,
        Stage,
        StayingFetcherContract,
        Taken,
        WireMaildropContract,
        nothing_left,
    )
    from mailflow.testing.corpus import AWKWARD, Large, Sample
    from mailflow.testing.crash import (
        Session,
        Strike,
        Trip,
        killed_at_random,
        killed_before_each_step,
        undisturbed,
    )
    from mailflow.testing.engine import Desk, mail
    from mailflow.testing.gateway import Gateway
    from mailflow.testing.imap import ImapFaults, ImapServer
    from mailflow.testing.kill import KILL, Outcome, Step, watch
    from mailflow.testing.oauth2 import OAuth2Server
    from mailflow.testing.pop3 import Faults, Pop3Server
    from mailflow.testing.power import Disk
    from mailflow.testing.proxy import Fault, Proxy
    from mailflow.testing.smtp import CUT, RESET, STALL, SmtpSink
    from mailflow.testing.tls import Authority, Certificate

_HOMES = {
    "contracts": (
        "ComponentContract Destination DistributorContract FetcherContract MailServiceContract"
        " MailboxContract MaildropContract ProcessorContract PushFetcherContract ReactorContract"
        " RefusingDestination RefusingDistributorContract RemoteDestination"
        " RemoteDistributorContract RemoteFetcherContract RemoteSource ServiceContract Source"
        " Stage StayingFetcherContract Taken WireMaildropContract nothing_left"
    ),
    "corpus": "AWKWARD Large Sample",
    "crash": "Session Strike Trip killed_at_random killed_before_each_step undisturbed",
    "engine": "Desk mail",
    "gateway": "Gateway",
    "imap": "ImapFaults ImapServer",
    "kill": "KILL Outcome Step watch",
    "oauth2": "OAuth2Server",
    "pop3": "Faults Pop3Server",
    "power": "Disk",
    "proxy": "Fault Proxy",
    "smtp": "CUT RESET STALL SmtpSink",
    "tls": "Authority Certificate",
}
_HOME_OF = {name: home for home, names in _HOMES.items() for name in names.split()}

__all__ = [
    "AWKWARD", "CUT", "KILL", "RESET", "STALL", "Authority", "Certificate",
    "ComponentContract", "Desk", "Destination", "Disk", "DistributorContract", "Fault",
    "Faults", "FetcherContract", "Gateway", "ImapFaults", "ImapServer", "Large",
    "MailServiceContract", "MailboxContract", "MaildropContract", "OAuth2Server", "Outcome",
    "Pop3Server", "ProcessorContract", "Proxy", "PushFetcherContract", "ReactorContract",
    "RefusingDestination", "RefusingDistributorContract",
    "RemoteDestination", "RemoteDistributorContract", "RemoteFetcherContract",
    "RemoteSource", "Sample", "ServiceContract", "Session", "SmtpSink", "Source", "Stage",
    "StayingFetcherContract", "Step", "Strike", "Taken", "Trip", "WireMaildropContract",
    "killed_at_random", "killed_before_each_step", "mail", "nothing_left", "undisturbed", "watch",
]  # fmt: skip


def __getattr__(name: str) -> object:
    if name not in _HOME_OF:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from importlib import import_module

    value = getattr(import_module(f"{__name__}.{_HOME_OF[name]}"), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
