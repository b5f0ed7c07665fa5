"""Contract suites: what a component of each kind must do, as tests that a plugin runs.

    from mailflow.testing.contracts import FetcherContract, Source

    class TestPigeonFetcher(FetcherContract):
        component = PigeonFetcher

        @pytest.fixture
        def source(self, tmp_path):
            return LoftSource(tmp_path / "loft")

Rule of the package: each test checks one promise of mailflow.kinds, on the real
component; a suite of ours and one of a third party are the same. It needs pytest:
`pip install 'mailflow[testing]'`.
"""

from __future__ import annotations

from mailflow.testing.contracts.component import ComponentContract, Stage, nothing_left
from mailflow.testing.contracts.distributor import (
    Destination,
    DistributorContract,
    RefusingDestination,
    RefusingDistributorContract,
    RemoteDestination,
    RemoteDistributorContract,
    Taken,
)
from mailflow.testing.contracts.fetcher import (
    FetcherContract,
    RemoteFetcherContract,
    RemoteSource,
    Source,
)
from mailflow.testing.contracts.mailbox import MailboxContract
from mailflow.testing.contracts.maildrop import MaildropContract, WireMaildropContract
from mailflow.testing.contracts.processor import ProcessorContract
from mailflow.testing.contracts.push import PushFetcherContract
from mailflow.testing.contracts.reactor import ReactorContract
from mailflow.testing.contracts.service import MailServiceContract, ServiceContract
from mailflow.testing.contracts.staying import StayingFetcherContract

__all__ = [
    "ComponentContract", "Destination", "DistributorContract", "FetcherContract",
    "MailServiceContract", "MailboxContract", "MaildropContract", "ProcessorContract",
    "PushFetcherContract", "ReactorContract", "RefusingDestination", "RefusingDistributorContract",
    "RemoteDestination", "RemoteDistributorContract", "RemoteFetcherContract",
    "RemoteSource", "ServiceContract", "Source", "Stage", "StayingFetcherContract", "Taken",
    "WireMaildropContract", "nothing_left",
]  # fmt: skip
