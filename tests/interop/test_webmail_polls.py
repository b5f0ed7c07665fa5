"""How often a real Roundcube is asked by a source that stays logged in, as under `serve`."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from mailflow.halt import Halt
from mailflow.kinds import Runtime
from mailflow.query import Query
from mailflow.testing.engine import LogDouble
from mailflow.testing.http_way import HttpWay
from mailflow.testing.roundcube import Roundcube
from mailflow_webmail.fetcher import WebmailFetcher

from .webmail_servers import RoundcubeAccount, message

pytestmark = pytest.mark.interop("dovecot-imapd", "roundcube-core")


@pytest.fixture
def way(roundcube: Roundcube) -> Iterator[HttpWay]:
    with HttpWay(roundcube.url) as way:
        yield way


@pytest.mark.parametrize("count", [3, 55], ids=["one page", "two pages"])
def test_a_poll_that_finds_nothing_new_is_one_request_for_a_list(
    roundcube: Roundcube, way: HttpWay, tmp_path: Path, count: int
) -> None:
    account = RoundcubeAccount(roundcube, tmp_path)
    account.deliver(*(message(f"number {number}") for number in range(count)))
    table = account.source(url=way.url)
    del table["use"]
    log: Any = LogDouble()
    halt = Halt()
    options = WebmailFetcher.options.read(table)
    fetcher = WebmailFetcher(options, Runtime("page", "red", halt, log, str(tmp_path)))
    fetcher.stay()

    def listed() -> int:
        way.requests.clear()
        with fetcher:
            return len(list(fetcher.listing(Query.always, fetcher.mark)))

    try:
        assert listed() == count
        listed()
        assert len(way.requests) == 1
        assert "_action=list" in way.requests[0]
        account.deliver(message("new"))
        assert listed() == count + 1
    finally:
        fetcher.close()
        halt.close()
