"""What a visit writes down, and when the next one believes it."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mailflow.query import Query
from mailflow_imap.keys import Place, place_of
from mailflow_imap.mark import RUNS, SKEW, WEEK, Left, Mark, asked_for

NOW = 1_800_000_000.0
LEFT = Left(7, 100, 12345)


@given(st.text(min_size=1), st.integers(0, 2**32 - 1), st.integers(1, 2**32 - 1))
def test_a_key_says_the_place_whatever_the_folder_is_called(
    folder: str, validity: int, uid: int
) -> None:
    place = Place(folder, validity, uid)
    assert place_of(place.key) == place


@pytest.mark.parametrize("key", ["", "INBOX", "1;2", ";1;2", "INBOX;x;2", "INBOX;1;", "INBOX;-1;2"])
def test_what_is_no_key_names_no_place(key: str) -> None:
    assert place_of(key) is None


def test_a_mark_says_again_what_was_written() -> None:
    mark = Mark(NOW, "question", {"Entwürfe;1": LEFT, "INBOX": LEFT.keeping([3, 4, 9])})
    text = mark.write()
    assert Mark.read(text) == mark
    assert text.isprintable()


@pytest.mark.parametrize(
    "text",
    [
        "", "x", "7", "[]", "null", '[1,2,"x"]', '[2,5,"x",{}]', '[1,5,"x",[]]', '[1,5,6,{}]',
        '[1,5,"x",{"INBOX":[1,2]}]', '[1,5,"x",{"INBOX":[1,0,0,[]]}]',
        '[1,5,"x",{"INBOX":[1,2,0,[[0,1]]]}]', '[1,5,"x",{"INBOX":[1e999,2,0,[]]}]',
        '[1,5,"x",{"INBOX":[1,99999999999,0,[]]}]', "[" * 100_000,
    ],
)  # fmt: skip
def test_what_is_no_mark_of_this_form_says_nothing(text: str) -> None:
    assert Mark.read(text) == Mark()


def test_what_came_since_and_what_is_still_wanted_is_asked_for() -> None:
    left = LEFT.keeping([5, 6, 7, 99, 100, 200])
    assert left.open == ((5, 7), (99, 99))
    assert [uid for uid in (4, 5, 7, 8, 98, 99, 100, 200) if left.wants(uid)] == [
        5, 7, 99, 100, 200,
    ]  # fmt: skip


def test_of_too_many_runs_all_from_the_first_on_is_asked_for() -> None:
    left = Left(7, 10 * RUNS).keeping(range(3, 10 * RUNS, 2))
    assert left == Left(7, 3)


def test_a_mark_holds_for_the_same_question_and_a_week() -> None:
    mark = Mark(NOW, "question", {"INBOX": LEFT})
    assert mark.holds("question", NOW + 60)
    assert mark.holds("question", NOW + WEEK - 1)
    assert mark.holds("question", NOW - SKEW)
    assert not mark.holds("question", NOW + WEEK)
    assert not mark.holds("question", NOW - SKEW - 1), "a clock was set back"
    assert not mark.holds("another", NOW)
    assert not Mark(NOW, "question").holds("question", NOW), "it knows no folder"


def test_another_where_or_max_size_is_another_question() -> None:
    where, other = Query("size < 2MB"), Query("size < 3MB")
    assert asked_for(where, None) == asked_for(Query("size < 2 MB"), None)
    assert len({asked_for(where, None), asked_for(other, None), asked_for(where, 5)}) == 3
