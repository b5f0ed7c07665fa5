"""Mail that is too old or too much is removed, and never from under a client."""

from __future__ import annotations

import time
from collections.abc import Callable

import pytest

from mailflow_spool.expire import expire, expired
from mailflow_spool.store import Policy

from .conftest import LARGE, Spool, text

Later = Callable[[float], None]

DAY = 86400
YEAR = 365 * DAY


@pytest.fixture
def later(monkeypatch: pytest.MonkeyPatch) -> Later:
    """Moves the clock on, by so many seconds from now."""
    now = time.time()

    def move(seconds: float) -> None:
        monkeypatch.setattr(time, "time", lambda: now + seconds)

    return move


def test_what_is_older_than_the_pipeline_says_goes_when_it_delivers(
    spool: Spool, later: Later
) -> None:
    spool.fill(text(1), expire="30d")
    later(29 * 86400)
    spool.fill(text(2), expire="30d")
    assert len(spool.messages()) == 2
    later(31 * 86400)
    spool.fill(text(3), expire="30d")
    assert len(spool.messages()) == 3, "the clock was looked at but once"
    later(31 * 86400 + 3600)
    spool.fill(text(4), expire="30d")
    assert spool.messages() == [text(2), text(3), text(4)]


def test_a_clock_that_jumps_years_ahead_and_back_removes_nothing(
    spool: Spool, later: Later
) -> None:
    spool.fill(text(1), expire="30d")
    for seconds in (10 * YEAR, 10 * YEAR + 3000, 3600, 7200, 20 * YEAR, 10800, 14400):
        later(seconds)
        with spool.distributor(expire="30d") as distributor:
            distributor.upkeep()
    assert spool.messages() == [text(1)]
    for seconds in (31 * DAY, 31 * DAY + 3600):
        later(seconds)
        with spool.distributor(expire="30d") as distributor:
            distributor.upkeep()
    assert spool.messages() == []


def test_what_is_beyond_the_octets_that_a_drop_keeps_goes_the_oldest_first(spool: Spool) -> None:
    for number in range(5):
        spool.fill(text(number, 1000), expire_over="2500")
    assert spool.messages() == [text(3, 1000), text(4, 1000)]


def test_a_message_larger_than_all_that_is_kept_goes_alone(spool: Spool) -> None:
    spool.fill(text(1), LARGE, text(2), expire_over="1k")
    assert spool.messages() == [text(1), text(2)]


@pytest.mark.parametrize(
    ("policy", "here", "everywhere"),
    [
        ({}, float("inf"), 5 * DAY),
        ({"expire": "30d"}, 30 * DAY, 5 * DAY),
        ({"expire": "2d"}, 2 * DAY, 2 * DAY),
        ({"expire_over": "1GB"}, 0.0, 0.0),
        ({"expire": "30d", "expire_over": "1GB"}, 0.0, 0.0),
    ],
)
def test_a_drop_says_how_long_mail_is_sure_to_stay(
    spool: Spool, policy: dict[str, str], here: float, everywhere: float
) -> None:
    spool.fill(text(1), drop="bob", expire="5d")
    spool.fill(text(1), **policy)
    drop = spool.login()
    assert drop.retention == here
    drop.close()
    assert spool.maildrop().retention() == everywhere


def test_where_there_is_no_spool_nothing_expires_and_none_is_made(spool: Spool) -> None:
    assert spool.maildrop().retention() == float("inf")
    assert not spool.path.exists()


def test_without_a_word_nothing_expires(spool: Spool, later: Later) -> None:
    spool.fill(text(1))
    later(10 * 365 * 86400)
    spool.fill(text(2))
    assert len(spool.messages()) == 2


def test_another_drop_is_not_touched(spool: Spool, later: Later) -> None:
    spool.fill(text(1), drop="bob")
    spool.fill(text(1), expire="1d")
    later(2 * 86400)
    spool.fill(text(2), expire="1d")
    assert spool.messages("bob") == [text(1)]


def test_a_drop_in_which_a_client_is_stays_as_it_is(spool: Spool) -> None:
    spool.fill(text(1), text(2))
    drop = spool.login()
    assert expire(spool.store, "ann", Policy(most=0)) is None
    assert len(drop.items()) == 2
    drop.close()
    assert [each.why for each in expire(spool.store, "ann", Policy(most=0)) or ()] == ["size"] * 2
    assert spool.messages() == []


def test_what_would_expire_can_be_asked_without_removing_it(spool: Spool, later: Later) -> None:
    spool.fill(text(1), text(2), expire="1d")
    later(2 * 86400)
    assert [each.why for each in expired(spool.store, "ann")] == ["age", "age"]
    assert len(spool.messages()) == 2
    assert expired(spool.store, "nobody") == []


def test_it_goes_in_its_time_also_where_no_mail_comes(spool: Spool, later: Later) -> None:
    spool.fill(text(1), expire="30d")
    spool.fill(text(2), drop="bob")
    for seconds in (31 * DAY, 31 * DAY + 3600):
        later(seconds)
        with spool.distributor(drop="{note:whose}") as distributor:
            distributor.upkeep()
    assert spool.messages() == []
    assert spool.messages("bob") == [text(2)]


def test_what_the_file_says_no_more_removes_nothing(spool: Spool, later: Later) -> None:
    """Who has taken `expire` out of the file keeps all mail, also before more of it comes."""
    spool.fill(text(1), expire="30d")
    for seconds in (31 * DAY, 31 * DAY + 3600):
        later(seconds)
        with spool.distributor() as distributor:
            distributor.upkeep()
    assert spool.messages() == [text(1)]


def test_upkeep_makes_no_spool_where_there_is_none(spool: Spool) -> None:
    with spool.distributor() as distributor:
        distributor.upkeep()
    assert not spool.path.exists()


def test_a_drop_expires_without_any_mail_where_the_engine_asks_for_it(
    spool: Spool, later: Later
) -> None:
    with spool.distributor() as distributor:
        distributor.upkeep()
    assert not spool.path.exists(), "there is nothing to keep up"
    spool.fill(text(1), expire="1d")
    for seconds in (2 * DAY, 2 * DAY + 3600):
        later(seconds)
        with spool.distributor(expire="1d") as distributor:
            distributor.upkeep()
    assert spool.messages() == []
