"""The language as Python operators."""

from __future__ import annotations

from datetime import date, datetime

import pytest

from mailflow.query import Query, QueryError, field, parse
from mailflow.query.tree import FIELDS


@pytest.mark.parametrize(
    ("query", "text"),
    [
        ((field.seen == False) & (field.size < 6000), "not seen and size < 6000"),  # noqa: E712
        (field.seen != True, "not seen"),  # noqa: E712
        (field.size >= "2MB", "size >= 2000000"),
        (field.subject.contains('a "gumby"'), 'subject contains "a \\"gumby\\""'),
        (~(field.from_ == "ann@x.org"), 'not from is "ann@x.org"'),
        (field.to.starts_with("a") | field.cc.ends_with("b"), None),
        (field.subject.matches("^a"), 'subject matches "^a"'),
        (field.uid.belongs([4, 8]), "uid in (4, 8)"),
        (field.uid.belongs([]), "not all"),
        (field.created >= date(2026, 1, 2), "created >= 2026-01-02"),
        (field.created < "30d", "created < 30d"),
        (field.age > 86400, "age > 1d"),
        (field.age <= 1.5, "age <= 1.500s"),
        (field.attempt > 4, "attempt > 4"),
        (field.header("X-Loop") == "x", 'header "X-Loop" is "x"'),
        (field.note("folder").exists(), 'note "folder" exists'),
        (field.error_temporary == True, "error.temporary"),  # noqa: E712
        (field.uid != None, "all"),  # noqa: E711
        (field.size == None, "not all"),  # noqa: E711
        (field.subject != None, "subject exists"),  # noqa: E711
        (field.header("X-Loop") == None, 'not header "X-Loop" exists'),  # noqa: E711
    ],
)
def test_it_says_the_same_as_the_text(query: Query, text: str | None) -> None:
    assert query == parse(text or 'to starts with "a" or cc ends with "b"')


@pytest.mark.parametrize(
    "name",
    ["uid", "created", "size", "from_", "to", "cc", "bcc", "subject", "mime", "content",
     "attachment", "answered", "deleted", "draft", "flagged", "recent", "seen"],
)  # fmt: skip
def test_dal07_what_a_row_has_can_be_asked(name: str) -> None:
    asked = getattr(field, name)
    kind = FIELDS[name.rstrip("_")].type
    query = asked.contains("x") if kind in ("text", "address") else None
    if kind == "flag":
        query = asked == True  # noqa: E712
    elif query is None:
        query = asked < ("2026-01-01" if kind == "moment" else 5)
    assert query.fields == {name.rstrip("_")}


def test_a_chain_keeps_its_three_alternatives() -> None:
    query = (field.uid == 1) | (field.uid == 2) | (field.uid == 3)
    assert str(query) == "uid is 1 or uid is 2 or uid is 3"


def test_what_a_field_cannot_be_asked_is_an_error_as_in_the_text() -> None:
    with pytest.raises(QueryError, match="expected `<`, `<=`, `>` or `>=` after `size`"):
        _ = field.size == 3


def test_dal30_a_value_never_becomes_a_second_test() -> None:
    with pytest.raises(ValueError, match="expected one value"):
        _ = field.size < "2MB or seen"
    assert str(field.subject == '" or seen or subject is "') == (
        'subject is "\\" or seen or subject is \\""'
    )


def test_a_time_of_day_is_no_day() -> None:
    with pytest.raises(ValueError, match="`created` is compared with days; found 2026-01-02 15:00"):
        _ = field.created >= datetime(2026, 1, 2, 15, 0)


def test_an_unknown_field_is_an_attribute_error() -> None:
    with pytest.raises(AttributeError, match="there is no field 'sizes'"):
        _ = field.sizes


def test_words_of_python_that_would_lose_a_part_are_refused() -> None:
    with pytest.raises(TypeError, match=r"join queries by &, \| and ~"):
        _ = field.seen == False and field.size < "2MB"  # noqa: E712
    with pytest.raises(TypeError, match=r"join queries by &, \| and ~"):
        _ = "1kB" < field.size < "2MB"
    with pytest.raises(TypeError, match="`seen` is a field and no query"):
        _ = not field.seen
