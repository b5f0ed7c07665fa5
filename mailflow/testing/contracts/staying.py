"""The suite of a fetcher that stays logged in, beside that of every fetcher.

    class TestPigeonFetcher(StayingFetcherContract):
        component = PigeonFetcher

        @pytest.fixture
        def source(self, tmp_path):
            return Loft(tmp_path / "loft")      # a Source

Rule of the file: one object lives through many sessions, as under `mailflow serve`; each is as
good as one of its own, and what stays open between them ends with `close`.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager, suppress

from mailflow.kinds import StayingFetcher
from mailflow.mail import read
from mailflow.query import Query
from mailflow.testing.contracts.component import Stage, lasting, nothing_left
from mailflow.testing.contracts.fetcher import SOON, FetcherContract, Source, message
from mailflow.verdicts import Fate


class StayingFetcherContract(FetcherContract):
    """Give `component`, and a fixture `source`: a Source without mail."""

    def test_each_session_sees_what_has_come_and_does_what_is_settled(
        self, stage: Stage, source: Source
    ) -> None:
        with _staying(stage) as fetcher:
            for number in range(3):
                source.put(message(number))
                assert _taken(fetcher) == [source.expected(message(number))]
                assert source.messages() == []

    def test_the_mark_of_a_session_is_for_the_next(
        self, stage: Stage, source: Source, three: list[bytes]
    ) -> None:
        with _staying(stage) as fetcher:
            with fetcher:
                list(fetcher.listing(Query.always))
            source.put(message(4))
            with fetcher:
                keys = [item.key for item in fetcher.listing(Query.always, fetcher.mark)]
                got = [read(each.content) for each in fetcher.retrieve(keys)]  # type: ignore[union-attr]
        assert source.expected(message(4)) in got

    def test_a_session_that_failed_spoils_none_that_follows(
        self, stage: Stage, source: Source, three: list[bytes]
    ) -> None:
        with _staying(stage) as fetcher:
            with suppress(ZeroDivisionError), fetcher:
                keys = [item.key for item in fetcher.listing(Query.always)]
                for _ in fetcher.retrieve(keys):
                    raise ZeroDivisionError
            assert sorted(_taken(fetcher)) == sorted(map(source.expected, three))

    def test_close_leaves_nothing_open(self, stage: Stage, three: list[bytes]) -> None:
        with _staying(stage) as fetcher:
            _taken(fetcher)
        with nothing_left(), _staying(stage) as fetcher:
            _taken(fetcher)

    def test_to_close_what_was_never_entered_or_is_closed_does_nothing(self, stage: Stage) -> None:
        fetcher: StayingFetcher = stage.make()
        fetcher.stay()
        for _ in range(2):
            fetcher.close()

    def test_a_stopped_engine_waits_for_no_farewell(self, stage: Stage, three: list[bytes]) -> None:
        with _staying(stage) as fetcher:
            _taken(fetcher)
            stage.halt.set()
            assert lasting(fetcher.close) < SOON


@contextmanager
def _staying(stage: Stage) -> Iterator[StayingFetcher]:
    """A fetcher that is told that it will be entered again, and in the end that it will not."""
    fetcher: StayingFetcher = stage.make()
    fetcher.stay()
    try:
        yield fetcher
    finally:
        fetcher.close()


def _taken(fetcher: StayingFetcher) -> list[bytes]:
    """A session that takes all that is there, and settles it."""
    got = []
    with fetcher:
        keys = [item.key for item in fetcher.listing(Query.always)]
        for each in fetcher.retrieve(keys):
            got.append(read(each.content))  # type: ignore[union-attr]
            fetcher.settle(each.key, Fate.DONE)
    return got
