"""Sets of UIDs as the wire has them."""

from __future__ import annotations

import tracemalloc

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mailflow_imap import uids


@pytest.mark.parametrize(
    ("numbers", "text"),
    [([], []), ([5], ["5"]), ([3, 1, 2], ["1:3"]), ([1, 3, 4, 9], ["1,3:4,9"]), ([7, 7], ["7"])],
)
def test_runs_are_spelled_as_ranges(numbers: list[int], text: list[str]) -> None:
    assert list(uids.sets(numbers)) == text


@given(st.sets(st.integers(1, 400)), st.integers(5, 60))
def test_sets_within_a_limit_name_the_same_messages(numbers: set[int], limit: int) -> None:
    found = list(uids.sets(numbers, limit))
    assert all(len(each) <= limit + 7 for each in found)
    assert sorted(uid for each in found for uid in uids.expand(each, 1000)) == sorted(numbers)


def test_a_range_may_be_written_backwards() -> None:
    assert uids.expand("5:3,9", 10) == [3, 4, 5, 9]


def test_f18_a_range_that_cannot_be_is_not_expanded() -> None:
    with pytest.raises(ValueError, match="more than 100"):
        uids.expand("1:4294967295", 100)


def test_a_set_of_too_many_words_is_not_taken_apart() -> None:
    text = "1," * 200_000 + "1"
    tracemalloc.start()
    try:
        with pytest.raises(ValueError, match="more than 100"):
            uids.expand(text, 100)
        assert tracemalloc.get_traced_memory()[1] < 1 << 20
    finally:
        tracemalloc.stop()


@pytest.mark.parametrize("text", ["1,", "a", "1:*", "0", "1 2", "4294967296", "-1", "1:2:3"])
def test_what_is_no_set_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="no set"):
        uids.parse(text)


@pytest.mark.parametrize("number", [0, -1, 1 << 32])
def test_what_is_no_uid_is_never_asked_for(number: int) -> None:
    with pytest.raises(ValueError, match="no UID"):
        list(uids.sets([number]))
