"""In which order messages are selected: RFC 5256's, wherever it is worked out."""

from __future__ import annotations

import pytest

from mailflow.kinds import Item
from mailflow.mail import Header
from mailflow.mailboxes.order import Key, base_subject, folded, ordered, parse, reach, value


def test_an_order_is_one_key_or_several_each_turned_round_by_itself() -> None:
    assert parse("subject, -created") == [Key("subject"), Key("created", True)]
    assert parse("-uid") == [Key("uid", True)]


@pytest.mark.parametrize("text", ["", "colour", "subject,", "+uid", "--uid", "uid size"])
def test_what_is_no_order_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="there is no order by"):
        parse(text)


def test_only_what_a_listing_does_not_say_asks_for_headers() -> None:
    assert reach(parse("uid,-created,size")) == "listing"
    assert reach(parse("size,from")) == "header"


@pytest.mark.parametrize(
    ("subject", "base"),
    [
        ("pears", "pears"), ("Re: pears", "pears"), ("RE : pears", "pears"),
        ("Fwd: re: FW: pears", "pears"), ("[list] pears", "pears"),
        ("[list] Re: [list] pears", "pears"), ("Re[2]: pears", "pears"),
        ("pears (fwd) (fwd) ", "pears"), ("[Fwd: pears]", "pears"),
        ("[fwd: Re: pears (fwd)]", "pears"), ("[list]", "[list]"), ("re:", ""), ("", ""),
        ("[a][b] pears", "pears"), ("Rebate: pears", "Rebate: pears"),
        ("a \t  b", "a b"), ("Re: [a] ", "[a]"),
    ],
)  # fmt: skip
def test_a_subject_is_compared_without_what_answers_and_lists_add(subject: str, base: str) -> None:
    """RFC 5256, 2.1"""
    assert base_subject(subject) == base


def test_a_hostile_subject_takes_no_time() -> None:
    assert len(base_subject("(fwd)" * 100_000 + "x")) <= 1000
    assert base_subject("[" * 100_000)


def test_case_makes_no_difference() -> None:
    assert folded("GRÜSSE x") == folded("grüsse X")
    assert folded("Ångström") == folded("ÅNGSTRÖM")


def test_an_address_is_compared_by_the_first_local_part() -> None:
    header = Header(b"From: Zoe <ann@example.org>, b@example.org\r\nTo: \r\n")
    item = Item("k", uid=1)
    assert value(Key("from"), item, header) == "ANN"
    assert value(Key("to"), item, header) == value(Key("cc"), item, header) == ""


def test_equal_messages_come_by_their_uids_whichever_way_round() -> None:
    rows = [(3, ["a"]), (1, ["b"]), (2, ["a"])]
    assert ordered(rows, [Key("subject")]) == [2, 3, 1]
    assert ordered(rows, [Key("subject", True)]) == [1, 2, 3]
    several = [(1, ["a", 1]), (2, ["b", 1]), (3, ["a", 2])]
    assert ordered(several, [Key("subject"), Key("size", True)]) == [3, 1, 2]
