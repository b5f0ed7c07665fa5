"""The suite of a fetcher that is told when mail comes, beside that of every fetcher.

    class TestPigeonFetcher(PushFetcherContract):
        component = PigeonFetcher

        @pytest.fixture
        def source(self, tmp_path):
            return Loft(tmp_path / "loft")      # a Source

Rule of the file: one object lives through many sessions, and mail that comes between two
of them, or while one ends, is told in the next.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager

from mailflow.kinds import PushFetcher
from mailflow.query import Query
from mailflow.testing.contracts.component import Stage, lasting, nothing_left
from mailflow.testing.contracts.fetcher import SOON, FetcherContract, Source, message
from mailflow.verdicts import Fate

LONG = 6 * SOON
"""Seconds that a wait is given which is to end long before."""

MEANWHILE = 0.2
"""Seconds after which something happens: by then a wait has begun."""


class PushFetcherContract(FetcherContract):
    """Give `component`, and a fixture `source`: a Source without mail."""

    def test_a_message_that_comes_ends_the_wait(self, stage: Stage, source: Source) -> None:
        source.put(message(1))
        fetcher = _listed(stage)
        with _meanwhile(source, message(2)):
            told: list[bool] = []
            assert lasting(lambda: told.append(_wait(fetcher, LONG))) < SOON
        assert told == [True]

    def test_the_session_that_waited_fetches_what_came(self, stage: Stage, source: Source) -> None:
        fetcher = _listed(stage)
        with _meanwhile(source, message(1)), fetcher:
            assert fetcher.wait(LONG)
            keys = [item.key for item in fetcher.listing(Query.always)]
            assert len(list(fetcher.retrieve(keys))) == 1

    def test_what_came_between_two_sessions_is_not_waited_for(
        self, stage: Stage, source: Source
    ) -> None:
        fetcher = _listed(stage)
        source.put(message(1))
        assert lasting(lambda: _wait(fetcher, LONG)) < SOON

    def test_what_came_after_the_listing_of_a_session_that_settled_is_not_waited_for(
        self, stage: Stage, source: Source, three: list[bytes]
    ) -> None:
        fetcher: PushFetcher = stage.make()
        with fetcher:
            keys = [item.key for item in fetcher.listing(Query.always)]
            list(fetcher.retrieve(keys))
            source.put(message(4))
            for key in keys:
                fetcher.settle(key, Fate.DONE)
        assert _wait(fetcher, SOON)
        with fetcher:
            assert len(list(fetcher.listing(Query.always))) == 1

    def test_where_nothing_comes_it_waits_no_longer_than_it_was_told(
        self, stage: Stage, source: Source, three: list[bytes]
    ) -> None:
        """What it has listed, and what it has itself deleted, is nothing new."""
        fetcher: PushFetcher = stage.make()
        with fetcher:
            keys = [item.key for item in fetcher.listing(Query.always)]
            list(fetcher.retrieve(keys))
            fetcher.settle(keys[0], Fate.DONE)
        with fetcher:
            assert not fetcher.wait(0.05)
            assert not fetcher.wait(0)

    def test_without_a_listing_what_is_there_is_nothing_new(
        self, stage: Stage, three: list[bytes]
    ) -> None:
        assert not _wait(stage.make(), 0.05)

    def test_a_stopped_engine_ends_the_wait(self, stage: Stage, source: Source) -> None:
        fetcher = _listed(stage)
        timer = threading.Timer(MEANWHILE, stage.halt.set)
        timer.start()
        told: list[bool] = []
        assert lasting(lambda: told.append(_wait(fetcher, LONG))) < SOON
        assert told == [False]

    def test_a_wait_leaves_nothing_open(self, stage: Stage, source: Source) -> None:
        _wait(_listed(stage), 0.01)
        with nothing_left():
            _wait(_listed(stage), 0.01)


def _listed(stage: Stage) -> PushFetcher:
    """A fetcher that has listed in a session, which has ended."""
    fetcher: PushFetcher = stage.make()
    with fetcher:
        list(fetcher.listing(Query.always))
    return fetcher


def _wait(fetcher: PushFetcher, seconds: float) -> bool:
    with fetcher:
        return fetcher.wait(seconds)


@contextmanager
def _meanwhile(source: Source, octets: bytes) -> Iterator[None]:
    timer = threading.Timer(MEANWHILE, source.put, [octets])
    timer.start()
    try:
        yield
    finally:
        timer.join()
