"""`mailflow query explain`: what an expression asks, and who decides it."""

from __future__ import annotations

import json

from .command import Shop


def test_what_a_server_is_asked_and_what_is_left_are_told(shop: Shop) -> None:
    done = shop("query", "explain", 'not seen and subject contains "gumby"')
    assert done.status == 0
    assert "imap, at Dovecot:\n  UID SEARCH UNSEEN HEADER Subject" in done.out
    assert '  then here: subject contains "gumby"\n' in done.out


def test_what_the_server_decides_alone_leaves_nothing(shop: Shop) -> None:
    done = shop("query", "explain", "size < 6000")
    assert "imap, at any server:\n  UID SEARCH SMALLER 6000\n" in done.out
    assert "then here" not in done.out


def test_what_can_never_be_meant_is_said(shop: Shop) -> None:
    assert "no message can be meant" in shop("query", "explain", "not all").out


def test_programs_get_json(shop: Shop) -> None:
    told = json.loads(shop("query", "explain", "--json", "older than 2d and seen").out)
    assert told["query"] == "age > 2d and seen"
    assert told["reach"] == "header"
    assert told["fields"] == [
        {"name": "age", "type": "span", "reach": "header"},
        {"name": "seen", "type": "flag", "reach": "listing"},
    ]
    (asked,) = told["asked"]
    assert asked["plugin"] == "imap"
    assert asked["command"].endswith(" SEEN")
    assert asked["rest"] == "age > 2d"


def test_what_only_a_reactor_knows_no_server_is_asked(shop: Shop) -> None:
    assert json.loads(shop("query", "explain", "--json", "attempt > 4").out)["asked"] == []


def test_a_fault_is_told_with_its_column(shop: Shop) -> None:
    done = shop("query", "explain", "size < 5 and colour")
    assert done.status == 64
    assert "at column 14" in done.err
