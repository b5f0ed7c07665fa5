"""What a visit writes down for the next, which folders are meant, which pages would show news."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mailflow_webmail.choice import chosen
from mailflow_webmail.mark import ANCHORS, DAY, Left, Mark, anchors, first_page, page_of, said

IDS = st.text(min_size=1, max_size=8)
LEFT = st.builds(
    Left,
    said=st.text(max_size=16),
    checked=st.integers(0, 2**40).map(float),
    anchors=st.dictionaries(IDS, st.text(max_size=16), max_size=4),
    seen=st.frozensets(IDS, max_size=4),
    large=st.frozensets(IDS, max_size=4),
    most=st.integers(0, 2**40),
    first=st.text(max_size=16),
    whole=st.integers(0, 2**40).map(float),
    asked=st.text(max_size=16),
)

JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
)


@given(st.dictionaries(st.text(max_size=8), LEFT, max_size=3).map(Mark))
def test_a_mark_is_read_back_as_it_was_written(mark: Mark) -> None:
    assert Mark.read(mark.write()) == mark


@given(st.text() | JSON.map(json.dumps) | JSON.map(lambda each: json.dumps([1, {"x": each}])))
def test_what_is_no_mark_says_nothing(text: str) -> None:
    assert isinstance(Mark.read(text), Mark)
    assert Mark.read(text + "x").folders == {}


def row(id_: str, page: int = 0, **facts: str) -> dict[str, str]:
    return {"id": id_, "@page": f"1.{page}", **facts}


def test_pages_say_the_same_as_long_as_what_they_say_for_good_is_the_same() -> None:
    rows = [row("2", subject="x", size="9", date="today"), row("1")]
    assert said(rows) == said([{**rows[0], "date": "Friday", "seen": "1"}, rows[1]])
    for change in ({"id": "3"}, {"subject": "y"}, {"size": "8"}, {"from": "Ben"}):
        assert said(rows) != said([{**rows[0], **change}, rows[1]])


@pytest.mark.parametrize(
    "rows",
    [
        [row("3"), row("2"), row("1")],
        [row("1"), row("2"), row("3", 1)],
        [row("c"), row("b"), row("a", 1)],
        [row("3"), row("1"), row("2", 1)],
        [],
    ],
    ids=["one page", "oldest first", "no numbers", "in no order", "empty"],
)
def test_a_first_page_that_would_not_show_what_has_come_stands_for_nothing(
    rows: list[dict[str, str]],
) -> None:
    assert first_page(rows) == ""


def test_a_first_page_stands_for_itself_and_for_how_many_there_are() -> None:
    rows = [row("9.a"), row("8.b"), row("7.c", 1)]
    assert first_page(rows) == page_of(rows[:2], 3)
    assert first_page(rows) != page_of(rows[:2], 4)
    assert first_page([*rows, row("6.d", 1)]) != first_page(rows)


def test_a_glance_is_enough_for_a_day_and_the_same_question() -> None:
    left = Left(first="x", whole=1000.0, asked="all")
    assert left.may_glance("all", 1000 + DAY / 2)
    assert not left.may_glance("all", 1000 + DAY * 2)
    assert not left.may_glance("all", -DAY), "the clock was ahead"
    assert not left.may_glance("size < 1k", 1001)
    assert not left._replace(first="").may_glance("all", 1001)


def test_anchors_are_of_both_ends() -> None:
    rows = [row(str(number)) for number in range(10)]
    known = {str(number): f"d{number}" for number in range(1, 9)}
    assert list(anchors(known, rows)) == ["1", "2", "7", "8"]
    assert len(anchors(known, rows)) == ANCHORS
    assert anchors({"77": "gone"}, rows) == {}


FOLDERS = [
    {"id": "INBOX", "name": "Posteingang"}, {"id": "Entw&APw-rfe", "name": "Entwürfe"},
    {"id": "Lists.red", "name": "red"}, {"id": "Junk"},
]  # fmt: skip


@pytest.mark.parametrize(
    ("patterns", "ids"),
    [
        (["INBOX"], ["INBOX"]),
        (["Entwürfe", "Posteingang", "INBOX"], ["Entw&APw-rfe", "INBOX"]),
        (["r*"], ["Lists.red"]),
        (["*", "!Junk", "!Entw*"], ["INBOX", "Lists.red"]),
        (["!Posteingang"], ["Entw&APw-rfe", "Lists.red", "Junk"]),
        (["Hidden"], ["Hidden"]),
        (["no*"], []),
    ],
)
def test_folders_are_meant_by_id_by_name_or_by_pattern(patterns: list[str], ids: list[str]) -> None:
    assert [folder.id for folder in chosen(patterns, FOLDERS)] == ids
