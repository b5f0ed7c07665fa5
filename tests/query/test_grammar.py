"""What is an expression, what it means as a tree, and what is said of one that is none."""

from __future__ import annotations

import sys

import pytest

from mailflow.query import Query, QueryError, parse
from mailflow.query.tree import ALWAYS, And, Not, Or
from mailflow.query.tree import Test as Leaf


def fault(text: str) -> QueryError:
    with pytest.raises(QueryError) as raised:
        parse(text)
    return raised.value


@pytest.mark.parametrize(
    ("text", "tree"),
    [
        ("seen", Leaf("seen")),
        ("NOT Seen", Not(Leaf("seen"))),
        ("all", ALWAYS),
        ("size < 6000", Leaf("size", "<", 6000)),
        ("size < 6000 octets", Leaf("size", "<", 6000)),
        ("size <= 2MB", Leaf("size", "<=", 2_000_000)),
        ("size > 2 MiB", Leaf("size", ">", 2 << 20)),
        ("size >= 1.5k", Leaf("size", ">=", 1536)),
        ('subject contains "gumby"', Leaf("subject", "contains", "gumby")),
        ("subject is 'it is \"so\"'", Leaf("subject", "is", 'it is "so"')),
        ('subject not contains "x"', Not(Leaf("subject", "contains", "x"))),
        ('subject is not "x"', Not(Leaf("subject", "is", "x"))),
        ('from starts with "ann@"', Leaf("from", "starts with", "ann@")),
        ('from ends with "@example.org"', Leaf("from", "ends with", "@example.org")),
        ('header "List-Id" exists', Leaf("header", "exists", None, "List-Id")),
        ('has header "List-Id"', Leaf("header", "exists", None, "List-Id")),
        ('header "X-Loop" is "red@x.org"', Leaf("header", "is", "red@x.org", "X-Loop")),
        ('note "folder" is "x"', Leaf("note", "is", "x", "folder")),
        ("has attachment", Leaf("attachment", "exists")),
        ("since 30d", Leaf("created", ">=", "30d")),
        ("since 2 weeks", Leaf("created", ">=", "2w")),
        ("since 36 hours", Leaf("created", ">=", "36h")),
        ("before 2026-1-2", Leaf("created", "<", "2026-01-02")),
        ("on today", Leaf("created", "is", "today")),
        ("created > yesterday", Leaf("created", ">", "yesterday")),
        ("older than 3d", Leaf("age", ">", 259200.0)),
        ("newer than 90 seconds", Leaf("age", "<", 90.0)),
        ("uid in (4, 8)", Leaf("uid", "in", (4, 8))),
        ("uid not in (4)", Not(Leaf("uid", "in", (4,)))),
        ("attempt is 4", Leaf("attempt", "is", 4)),
        ('stage in ("fetch", "verdict")', Leaf("stage", "in", ("fetch", "verdict"))),
        ("error.temporary", Leaf("error.temporary")),
    ],
)
def test_a_test_is_read_as(text: str, tree: object) -> None:
    assert parse(text).tree == tree


def test_and_binds_more_closely_than_or() -> None:
    a, b, c = Leaf("seen"), Leaf("draft"), Leaf("flagged")
    assert parse("seen or draft and flagged").tree == Or((a, And((b, c))))
    assert parse("(seen or draft) and flagged").tree == And((Or((a, b)), c))


def test_not_binds_more_closely_than_and() -> None:
    assert parse("not seen and draft").tree == And((Not(Leaf("seen")), Leaf("draft")))


def test_a_chain_of_or_is_one_node() -> None:
    """DAL-29: a third alternative is an alternative."""
    tree = parse('from is "a@x" or from is "b@x" or (from is "c@x" or seen)').tree
    assert isinstance(tree, Or)
    assert len(tree.terms) == 4


def test_only_quotes_and_backslashes_lose_their_backslash() -> None:
    assert parse(r'subject contains "a\"b\\c\d"').tree == Leaf("subject", "contains", r'a"b\c\d')


def test_a_quoted_text_may_hold_what_looks_like_an_expression() -> None:
    assert parse('subject is ") or seen"').tree == Leaf("subject", "is", ") or seen")


def test_an_error_is_one_line_with_the_column() -> None:
    assert str(fault("seen and siez < 3")) == (
        "there is no field `siez`; did you mean `size`? (at column 10 of 'seen and siez < 3')"
    )


@pytest.mark.parametrize(
    ("text", "column", "reason"),
    [
        ("", 1, "expected an expression, such as `size < 2MB`; found the end"),
        ("siez < 3", 1, "there is no field `siez`; did you mean `size`?"),
        ("seen is true", 6, "`seen` stands alone: `seen` or `not seen`"),
        ('subject = "x"', 9, "`=` is written `is`"),
        ("subject contains gumby", 18, 'expected text in quotes; found `gumby`; write "gumby"'),
        ("size is 3", 6, "expected `<`, `<=`, `>` or `>=` after `size`; found `is`"),
        (
            'stage iss "x"',
            7,
            "expected `is` or `in` after `stage`; found `iss`; did you mean `is`?",
        ),
        ("seen draft", 6, "expected `and`, `or` or the end; found `draft`"),
        ("seen & draft", 6, "expected `and`, `or` or the end; found `&`, which is written `and`"),
        ("(seen", 1, "this `(` is not closed"),
        ("seen)", 5, "this `)` closes nothing"),
        ("(seen draft)", 7, "expected `and`, `or` or `)`; found `draft`"),
        ('subject is "x', 12, "this quote is not closed"),
        ('stage is "fetchh"', 10, '`stage` is never "fetchh"; did you mean `fetch`?'),
        (
            'stage is "x"',
            10,
            '`stage` is never "x"; it is one of fetch, process, verdict, unrouted, distribute, alarm',  # noqa: E501
        ),
        (
            "header exists",
            8,
            'expected the name of the header in quotes, as in `header "X-Loop"`; found `exists`',
        ),
        ('header "a b" exists', 8, "this is no name of a header field"),
        ("before 2026-02-30", 8, "there is no day 2026-02-30"),
        ("before 1969-12-31", 8, "expected a year from 1970 to 9000; found `1969-12-31`"),
        ("uid in ()", 9, "expected a whole number; found `)`"),
        ("uid in (4 8)", 11, "expected `,` or `)`; found `8`"),
        ("age > 3", 7, 'expected a duration such as "30s", "10m", "2h", "14d" or "forever"'),
        ("has uid", 5, "expected `is`, `<`, `<=`, `>`, `>=` or `in` after `uid`; found `uid`"),
        ("seen $", 6, "no expression has '$' here"),
    ],
)
def test_an_error_points_at_a_word_and_says_what_would_be_right(
    text: str, column: int, reason: str
) -> None:
    error = fault(text)
    assert (error.column, error.reason) == (column, reason)


def test_the_caret_marks_the_word() -> None:
    assert fault("not seen and\nsiez < 3").caret == (
        "not seen and siez < 3\n"
        "             ^^^^"
    )  # fmt: skip


def test_g08_an_error_is_one_line_whatever_the_text_holds() -> None:
    error = fault('size < "a\n\x1b[31m\u202eb"')
    assert error.reason == (
        'expected a number with a unit, such as 2MB; found `"a\\n\\x1b[31m\\u202eb"`'
    )
    assert error.caret.splitlines() == ['size < "a  [31m b"', "       " + "^" * 11]


def test_an_unknown_field_that_is_like_none_lists_them_all() -> None:
    assert "; there are uid, folder, answered," in str(fault("qqqq"))


@pytest.mark.parametrize(
    ("text", "meant"),
    [
        ('X-Spam is "yes"', 'header "X-Spam"'),
        ('reply-to contains "x"', 'header "reply-to"'),
        ("auto-submitted", "auto_submitted"),
        ('body contains "x"', "content"),
        ('Text contains "x"', "content"),
        ("date > 2026-01-01", "created"),
        ("received > 3d", "created"),
        ("unread", "not seen"),
        ("unflagged", "not flagged"),
        ("id", "uid"),
        ("attachments", "attachment"),
        ("encoding", "mime"),
        ('author is "a@x.org"', "from"),
        ('Content-Type is "text/html"', "mime"),
        ('return-path is "a@x.org"', "sender"),
    ],
)
def test_a_field_by_another_name_is_known(text: str, meant: str) -> None:
    error = fault(text)
    assert (error.column, error.reason) == (
        1,
        f"there is no field `{text.split(' ')[0]}`; did you mean `{meant}`?",
    )


def test_nesting_is_bounded() -> None:
    assert str(fault("(" * 5000 + "seen")).startswith("nested deeper than 100")
    assert str(fault("not " * 5000 + "seen")).startswith("nested deeper than 100")


def test_a_long_chain_is_no_nesting() -> None:
    assert len(parse(" and ".join(["seen"] * 5000)).tree.terms) == 5000  # type: ignore[union-attr]


def test_a_bad_pattern_is_told_before_it_is_used() -> None:
    assert str(fault('subject matches "(a"')) == (
        "this is no regular expression: missing ): (a (at column 17 of 'subject matches \"(a\"')"
    )


@pytest.mark.parametrize(
    ("pattern", "said"),
    [
        ("(?=a)", "invalid perl operator: (?="),
        ("(a)\\\\1", "invalid escape sequence: \\1"),
        ("(x{1,900}){1,900}", "invalid repetition size: {1,900}"),
        ("." * 100_000, "pattern too large"),
    ],
)
def test_a_pattern_that_would_take_time_or_memory_is_refused(pattern: str, said: str) -> None:
    assert fault(f'subject matches "{pattern}"').reason.startswith(
        f"this is no regular expression: {said}"
    )


def test_matches_without_re2_names_the_command_to_run(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "re2", None)
    assert str(fault('subject matches "never seen before"')).startswith(
        "`matches` needs google-re2: pip install 'mailflow[filters]'"
    )


def test_the_query_knows_its_fields_and_how_far_it_reaches() -> None:
    query = parse('size < 3 and (subject is "x" or not has attachment)')
    assert query.fields == {"size", "subject", "attachment"}
    assert query.reach == "body"
    assert parse("size < 3").reach == "listing"
    assert parse("seen or since 3d").reach == "header"
    assert parse('note "x" exists or has attachment').reach == "mail"
    assert parse("attempt > 3 or seen").reach == "trouble"
    assert Query.always.reach == "listing"


@pytest.mark.parametrize(
    ("text", "final"),
    [
        ('size < 3 and subject is "x" or before 2026-01-01', True),
        ("since 3d", True),
        ("since today", True),
        ("newer than 3d", True),
        ("not older than 3d", True),
        ("not before 3d", True),
        ("older than 3d", False),
        ("before 3d", False),
        ("before today", False),
        ("on yesterday", False),
        ("not since 3d", False),
        ("not newer than 3d", False),
        ('subject is "x" and (size < 3 or older than 3d)', False),
        ("size < 3 or seen", False),
        ("size < 3 and not seen", False),
    ],
)
def test_a_refusal_is_final_unless_a_flag_or_time_may_change_it(text: str, final: bool) -> None:
    assert parse(text).final is final


def test_the_hash_is_of_the_meaning_and_not_of_the_spelling() -> None:
    assert parse("size<2MB").hash == parse("( size < 2000000 octets )").hash
    assert parse("size < 2MB").hash != parse("size <= 2MB").hash
    assert parse("size < 2MB").hash == "f372f2f88483e8dc"


def test_the_text_stays_as_it_was_written() -> None:
    assert parse("not  (seen)").text == "not  (seen)"
    assert str(parse("not  (seen)")) == "not seen"
