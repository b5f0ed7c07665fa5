"""What is asked of an IMAP server for a query, and what is left to ask here."""

from __future__ import annotations

import re
import sys
import time

import pytest

from mailflow.query import Query, parse
from mailflow.query.match import plain
from mailflow.query.tree import Test as Leaf
from mailflow_imap.search import LINE_LIMIT, Search, compiled, trust

NOW = 1767268800.0  # 2026-01-01 12:00:00 UTC


def asked(expression: str, *, texts: bool = True, charset: bool = True) -> Search:
    found = compiled(parse(expression), folder="INBOX", texts=texts, charset=charset, now=NOW)
    assert found is not None
    return found


@pytest.fixture(autouse=True)
def _zone(monkeypatch: pytest.MonkeyPatch) -> object:
    monkeypatch.setenv("TZ", "UTC")
    time.tzset()
    yield
    monkeypatch.undo()
    time.tzset()


@pytest.mark.parametrize(
    ("expression", "words"),
    [
        ("all", "ALL"),
        ("seen", "SEEN"),
        ("not answered and draft", "UNANSWERED DRAFT"),
        ("not (deleted or recent)", "UNDELETED OLD"),
        ("flagged and not flagged", "FLAGGED UNFLAGGED"),
        ("seen and seen", "SEEN"),
        ("uid is 4", "UID 4"),
        ("uid in (9, 4, 8, 9)", "UID 4,8:9"),
        ("uid is not 4", "NOT UID 4"),
        ("uid < 4", "UID 1:3"),
        ("uid <= 4", "UID 1:4"),
        ("uid > 4", "NOT UID 1:4"),
        ("uid >= 4", "NOT UID 1:3"),
        ("uid > 4 and uid < 9", "NOT UID 1:4 UID 1:8"),
        ("uid >= 1", "ALL"),
        ("seen or draft", "OR SEEN DRAFT"),
        ("seen and flagged or draft", "OR (SEEN FLAGGED) DRAFT"),
        ("not (seen and flagged)", "OR UNSEEN UNFLAGGED"),
        ('folder is "inbox" and seen', "SEEN"),
        ('folder is "Sent" or seen', "SEEN"),
        ('folder is "INBOX" or seen', "ALL"),
    ],
)
def test_dal09_dal10_what_a_listing_says_the_server_decides_alone(
    expression: str, words: str
) -> None:
    found = asked(expression)
    assert str(found) == f"UID SEARCH {words}"
    assert found.rest is None


@pytest.mark.parametrize(
    ("expression", "words"),
    [
        ("size < 6000", "SMALLER 6000"),
        ("size <= 6000", "SMALLER 6001"),
        ("size > 6000", "LARGER 6000"),
        ("size >= 6000", "LARGER 5999"),
        ("not size <= 6000", "LARGER 6000"),
        ("size >= 0", "ALL"),
        ("not size < 6000", "LARGER 5999"),
        ("size < 2147483647", "SMALLER 2147483647"),
    ],
)
def test_dal34_sizes_are_compared_with_equality_too(expression: str, words: str) -> None:
    found = asked(expression)
    assert str(found) == f"UID SEARCH {words}"
    assert found.rest is None


@pytest.mark.parametrize(
    ("expression", "words"),
    [
        ("size < 3000000000", "ALL"),
        ("size <= 2147483647", "ALL"),
        ("size > 3000000000", "LARGER 2147483646"),
        ("not size < 3000000000", "LARGER 2147483646"),
    ],
)
def test_a_size_that_not_every_server_can_read_is_compared_here(
    expression: str, words: str
) -> None:
    found = asked(expression)
    assert str(found) == f"UID SEARCH {words}"
    assert found.rest == parse(expression)


@pytest.mark.parametrize(
    ("expression", "words"),
    [
        ('subject contains "gumby"', 'HEADER Subject "gumby"'),
        ('subject contains "  Gumby  Damn-It "', 'HEADER Subject "damn-it" HEADER Subject "gumby"'),
        ('from is "ann@example.org"', 'HEADER From "ann@example.org"'),
        ('to starts with "ann"', 'HEADER To "ann"'),
        ('cc ends with ".org"', 'HEADER Cc ".org"'),
        ('bcc in ("a@b.c", "d@e.f")', 'OR HEADER Bcc "a@b.c" HEADER Bcc "d@e.f"'),
        ('mime contains "text/plain"', 'HEADER Content-Type "plain" HEADER Content-Type "text"'),
        ('list is "red.example.org"', 'HEADER List-Id "red.example.org"'),
        ('header "X-Loop" is "red"', 'HEADER "X-Loop" "red"'),
        ('content contains "gumby"', 'BODY "gumby"'),
        ("has subject", 'HEADER Subject ""'),
        ('subject matches "^a"', 'HEADER Subject ""'),
        ('subject is ""', 'HEADER Subject ""'),
        ("content exists", "ALL"),
        ('not subject contains "gumby"', "ALL"),
        ("has attachment", "ALL"),
        ("auto_submitted", "ALL"),
        ('sender is "a@b.c"', "ALL"),
    ],
)
def test_dal11_texts_are_narrowed_by_their_words_and_asked_again_here(
    expression: str, words: str
) -> None:
    if "matches" in expression:
        pytest.importorskip("re2")
    found = asked(expression)
    assert str(found) == f"UID SEARCH {words}"
    assert found.rest == parse(expression)


def test_a_server_that_may_find_less_is_asked_for_no_text() -> None:
    found = asked('not seen and subject contains "gumby"', texts=False)
    assert str(found) == "UID SEARCH UNSEEN"
    assert str(found.rest) == 'subject contains "gumby"'


@pytest.mark.parametrize(
    ("expression", "words"),
    [
        ("since 2026-01-01", "SINCE 31-Dec-2025"),
        ("before 2026-01-01", "BEFORE 2-Jan-2026"),
        ("created > 2026-01-01", "SINCE 1-Jan-2026"),
        ("created <= 2026-01-01", "BEFORE 3-Jan-2026"),
        ("on 2026-01-01", "SINCE 31-Dec-2025 BEFORE 3-Jan-2026"),
        ("not since 2026-01-01", "BEFORE 2-Jan-2026"),
        ("not on 2026-01-01", "ALL"),
        ("older than 2d", "BEFORE 1-Jan-2026"),
        ("newer than 2d", "SINCE 29-Dec-2025"),
        ("age <= 2d", "SINCE 29-Dec-2025"),
        ("since 1970-01-01", "ALL"),
        ("before 1970-01-01", "BEFORE 2-Jan-1970"),
        ("before 8000-01-01", "ALL"),
        ("since 8000-01-01", "SINCE 1-Jan-2038"),
        ("older than 3000w", "BEFORE 2-Jan-1970"),
    ],
)
def test_dal10_days_are_a_day_wider_since_nobody_knows_the_zone_of_the_server(
    expression: str, words: str
) -> None:
    found = asked(expression)
    assert str(found) == f"UID SEARCH {words}"
    assert found.rest is not None


def test_where_nothing_can_be_meant_nothing_is_asked() -> None:
    for expression in ('folder is "Sent"', "not all", "uid < 1", "size < 0", "uid is 4294967296",
                       'folder is "Sent" and seen or size < 0'):  # fmt: skip
        assert compiled(parse(expression), folder="INBOX", now=NOW) is None


def test_dal12_a_query_of_many_uids_fits_in_a_line() -> None:
    found = asked(f"uid in ({', '.join(str(uid) for uid in range(1, 40000, 3))}, 50000)")
    assert len(str(found)) < LINE_LIMIT
    assert len(str(found).split(",")) == 200
    assert ",50000" in str(found)
    assert found.rest is not None


def test_dal13_expressions_are_joined_as_they_are_written() -> None:
    found = asked("not (seen or size < 9) and (flagged or not draft and uid in (1, 2))")
    assert str(found) == "UID SEARCH UNSEEN LARGER 8 OR FLAGGED (UNDRAFT UID 1:2)"
    assert found.rest is None


def test_dal13_all_records_is_every_message() -> None:
    assert asked("all").words == (b"ALL",)


def test_dal29_or_of_three_has_two_keys_at_each_or() -> None:
    found = asked('from contains "a" or from contains "b" or from contains "c"')
    assert str(found) == 'UID SEARCH OR HEADER From "a" OR HEADER From "b" HEADER From "c"'


def test_dal29_or_of_many_does_not_nest_deeply() -> None:
    words = asked(" or ".join(f"uid is {uid} and seen" for uid in range(1, 65))).words
    runs = "".join("O" if word == b"OR" else "k" for word in words)
    assert len(words) == 63 + 64
    assert max(map(len, runs.split("k"))) == 6


@pytest.mark.parametrize(
    "evil",
    ['x" OR ALL HEADER Subject "', "x) OR (ALL", "{5}", "{5+}", "x\r\nA1 LOGOUT", "a*", "\\", "\0"],
)
def test_dal30_a_value_is_data_however_it_looks(evil: str) -> None:
    found = compiled(Query(Leaf("subject", "is", evil)), texts=True, now=NOW)
    assert found is not None
    keys = [found.words[at : at + 3] for at in range(0, len(found.words), 3)]
    assert all(key[:2] == (b"HEADER", b"Subject") for key in keys)
    assert all(re.fullmatch("[a-z0-9+]*", key[2]) for key in keys if isinstance(key[2], str))
    assert "\n" not in str(found)


def test_dal30_the_name_of_a_header_is_quoted() -> None:
    assert asked('header "X-\\"(a" exists').words == (b"HEADER", 'X-"(a', "")


def test_dal30_letters_beyond_ascii_are_asked_for_in_utf8() -> None:
    found = asked('subject contains "Привет"')
    assert found.charset == "UTF-8"
    assert found.words == (b"HEADER", b"Subject", "привет")


def test_without_a_charset_only_ascii_is_asked_for() -> None:
    found = asked('subject contains "Привет" and from contains "é@example.org"', charset=False)
    assert str(found) == 'UID SEARCH HEADER Subject "" HEADER From "@example.org"'
    assert found.charset == ""


@pytest.mark.parametrize(
    ("expression", "words"),
    [
        ('subject contains "strasse"', ["tra", "e"]),
        ('subject contains "sales"', ["ale"]),
        ('subject is "sales"', ["sales"]),
        ('subject starts with "sales"', ["sale"]),
        ('subject ends with "sales"', ["ales"]),
        ('subject contains "straße"', ["tra", "e"]),
        ('subject contains "a=?utf-8"', [""]),
        ('subject contains "one two three four five"', ["three", "four", "five", "one"]),
    ],
)
def test_only_words_that_stand_in_whatever_folds_to_the_text_are_asked_for(
    expression: str, words: list[str]
) -> None:
    assert [word for word in asked(expression).words if isinstance(word, str)] == words


def test_no_letter_beyond_ascii_but_sharp_s_folds_to_ascii() -> None:
    found = [
        letter for letter in map(chr, range(128, sys.maxunicode + 1))
        if any(each.isascii() for each in plain(letter))
    ]  # fmt: skip
    assert found == ["ß", "ẞ"]


def test_what_is_too_long_for_a_line_is_left_out() -> None:
    many = " or ".join(f'subject is "{"x" * 90}{number}"' for number in range(200))
    found = asked(f"seen and ({many})")
    assert str(found) == "UID SEARCH SEEN"
    assert found.rest == parse(f"seen and ({many})")


def test_what_nests_too_deeply_is_asked_here() -> None:
    deep = "seen"
    for _ in range(30):
        deep = f"(draft or (flagged and {deep}))"
    found = asked(f"answered and {deep}")
    assert len(str(found)) < 500
    assert found.rest is not None


def test_what_the_server_decides_is_not_asked_again() -> None:
    found = asked('seen and size < 5 and (subject is "a" or draft) and age > 1d')
    assert str(found.rest) == '(subject is "a" or draft) and age > 1d'


def test_only_a_server_known_to_find_parts_of_words_is_trusted_with_texts() -> None:
    assert trust({"IMAP4REV1"}, "Dovecot")
    assert not trust({"IMAP4REV1", "SEARCH=FUZZY"}, "Dovecot")
    assert not trust({"IMAP4REV1", "X-GM-EXT-1"}, "GImap")
    assert not trust({"IMAP4REV1"}, "")
