"""mailflow.addresses: who a field names, and no guess where it can be read in two ways."""

from __future__ import annotations

import time
from email.utils import formataddr

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mailflow.addresses import addresses, reverse_path, same
from mailflow.testing.engine import mail


@pytest.mark.parametrize(
    ("value", "found"),
    [
        ("ann@example.org", ["ann@example.org"]),
        ("Ann <ann@example.org>", ["ann@example.org"]),
        ('"Lee, Ann" <ann@example.org>', ["ann@example.org"]),
        ("ann@example.org (Ann (of the club))", ["ann@example.org"]),
        ("(c) Ann <ann@example.org> (c)", ["ann@example.org"]),
        ("a@x.org, B <b@y.org>,, c@z.org", ["a@x.org", "b@y.org", "c@z.org"]),
        ("a@x.org, a@x.org", ["a@x.org"]),
        ('"ann lee"@example.org', ['"ann lee"@example.org']),
        ("ann@[192.0.2.1]", ["ann@[192.0.2.1]"]),
        ("=?utf-8?q?evil=40x=2Eorg?= <ann@example.org>", ["ann@example.org"]),
        ('"evil@x.org" <ann@example.org>', ["ann@example.org"]),
        ("evil@x.org <ann@example.org>", ["ann@example.org"]),
        (r'"quote \" in it" <ann@example.org>', ["ann@example.org"]),
        (r"(comment \) in it) ann@example.org", ["ann@example.org"]),
        ("jürgen@bücher.example", ["jürgen@bücher.example"]),
        ("", []),
    ],
)
def test_a_clear_field_names_these(value: str, found: list[str]) -> None:
    assert addresses(value) == (tuple(found), True)


@pytest.mark.parametrize(
    ("value", "found"),
    [
        ("Lee, Ann <ann@example.org>", ["ann@example.org"]),
        ("<ann@example.org> evil@x.org", []),
        ("<ann@example.org> <evil@x.org>", []),
        ("ann@example.org evil@x.org", []),
        ("alice@example.org)bob@x.org", []),
        ("ann@example.org@x.org", []),
        ("ann @ example.org", []),
        ("ann@example.org (never closed, evil@x.org", ["ann@example.org"]),
        ('"never closed <ann@example.org>', []),
        ("<ann@example.org", []),
        ("<>", []),
        ("<@relay.org:ann@example.org>", []),
        ("club: a@x.org, b@y.org;", ["a@x.org", "b@y.org"]),
        ("undisclosed-recipients:;", []),
        ("ann", []),
        ("@example.org", []),
        ("ann@", []),
        ("ann@example.org\udcff", []),
        ("ann\0@example.org", []),
    ],
)
def test_an_unclear_field_says_so_and_names_what_is_certain(value: str, found: list[str]) -> None:
    assert addresses(value) == (tuple(found), False)


ATEXT = st.text(st.sampled_from("abcXYZ019.!#$%&'*+/=?^_`{|}~-äß漢"), min_size=1, max_size=20)


@given(st.text(st.characters(exclude_categories=["Cs", "Cc"]), max_size=30), ATEXT, ATEXT)
def test_what_the_standard_library_writes_is_clear(name: str, local: str, domain: str) -> None:
    address = f"{local}@{domain}"
    written = formataddr((name, address)) if address.isascii() else f"<{address}>"
    assert addresses(written) == ((address,), True)


@given(st.text(max_size=100))
def test_no_address_comes_out_that_holds_more_than_one(value: str) -> None:
    for found in addresses(value).found:
        assert not set(found) & set("\r\n\0")
        found.encode()
        assert addresses(found) == ((found,), True)


@pytest.mark.parametrize("piece", ["(", '"', "<", "a,", "(\\", "a@x,", '"a', "<a>", ":", ";"])
def test_a_field_of_a_megabyte_is_read_in_little_time(piece: str) -> None:
    started = time.process_time()
    addresses(piece * (1_000_000 // len(piece)))
    assert time.process_time() - started < 4


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("Ann@Example.ORG", "ann@example.org"),
        ('"ann"@example.org', "ANN@example.org"),
    ],
)
def test_the_same_mailbox_however_it_is_written(one: str, other: str) -> None:
    assert same(one) == same(other)


@pytest.mark.parametrize(
    "other", ["ann@example.com", "anna@example.org", '"a nn"@example.org', "ann@sub.example.org"]
)
def test_another_mailbox_is_not_the_same(other: str) -> None:
    assert same(other) != same("ann@example.org")


def test_the_reverse_path_is_the_envelopes_where_there_is_one() -> None:
    text = "Return-Path: <other@x.org>\n\n"
    assert reverse_path(mail(text, sender="ann@example.org")) == "ann@example.org"
    assert reverse_path(mail(text, sender="")) == ""


@pytest.mark.parametrize(
    ("fields", "path"),
    [
        ("Return-Path: <ann@example.org>\n", "ann@example.org"),
        ("Return-Path: ann@example.org\n", "ann@example.org"),
        ("Return-Path: <>\n", ""),
        ("Return-Path: \n", None),
        ("Return-Path: <a@x.org>\nReturn-Path: <b@y.org>\n", None),
        ("Return-Path: <a@x.org>, <b@y.org>\n", None),
        ("Return-Path: nobody\n", None),
        ("From: ann@example.org\n", None),
    ],
)
def test_the_reverse_path_is_else_the_one_in_return_path(fields: str, path: str | None) -> None:
    assert reverse_path(mail(fields + "\nbody\n")) == path
