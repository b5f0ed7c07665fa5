"""Webmail as a destination: the suite of distributors, into the form of the test bed."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from mailflow.testing.contracts import RemoteDistributorContract
from mailflow_webmail.distributor import WebmailDistributor

from .webmail_forms import PASSWORD, Bed, running


@pytest.fixture(scope="module")
def bed(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Bed]:
    with running(tmp_path_factory.mktemp("forms")) as bed:
        yield bed


class TestWebmail(RemoteDistributorContract):
    component = WebmailDistributor
    secrets = (PASSWORD,)

    @pytest.fixture
    def destination(self, bed: Bed) -> Iterator[Bed]:
        yield bed
        bed.clear()
