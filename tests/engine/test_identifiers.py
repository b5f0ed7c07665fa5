"""The ids of mails: sorted by arrival, unique whatever the clock does."""

from __future__ import annotations

import time
from concurrent.futures import ThreadPoolExecutor

import pytest

from mailflow.engine.context import new_id


def test_f29_ids_stay_unique_and_in_order_when_the_clock_jumps(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("mailflow.engine.context._last", 0)
    hour = 3600 * 10**9
    start = time.time_ns()
    ids = []
    for now in (start, start - hour, start + 2 * hour, start):
        monkeypatch.setattr(time, "time_ns", lambda now=now: now)
        ids += [new_id() for _ in range(5_000)]
    assert len(set(ids)) == len(ids)
    assert ids == sorted(ids)


def test_threads_never_make_one_id_twice(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("mailflow.engine.context._last", 0)
    now = time.time_ns()
    monkeypatch.setattr(time, "time_ns", lambda: now)
    with ThreadPoolExecutor(8) as pool:
        ids = list(pool.map(lambda _: new_id(), range(20_000)))
    assert len(set(ids)) == len(ids)


def test_an_id_is_a_word_of_sixteen_that_a_file_name_may_hold() -> None:
    assert set(new_id()) <= set("0123456789abcdefghijklmnopqrstuv")
    assert len(new_id()) == 16
