"""Names of folders, on the wire and as the user sees them."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mailflow_imap.names import Folder, canonical, decode, encode, matching


@pytest.mark.parametrize(
    ("name", "wire"),
    [
        ("INBOX", "INBOX"),
        ("Entw\u00fcrfe", "Entw&APw-rfe"),
        ("A & B", "A &- B"),
        ("\u53f0\u5317", "&U,BTFw-"),
        ("\U0001f4e7", "&2D3c5w-"),
    ],
)
def test_a_name_goes_over_the_wire_in_modified_utf_7(name: str, wire: str) -> None:
    assert encode(name) == wire
    assert decode(wire.encode()) == name


@given(st.text(st.characters(exclude_categories=["Cs", "Cc"]), min_size=1))
def test_every_name_comes_back(name: str) -> None:
    assert decode(encode(name).encode()) == canonical(name)


@pytest.mark.parametrize("wire", [b"Entw\xc3\xbcrfe", b"50&50", b"&AB", b"A&&B", b"\xff", b"&2EA-"])
def test_what_is_no_modified_utf_7_has_a_name_all_the_same(wire: bytes) -> None:
    assert decode(wire)


def test_the_inbox_has_one_name() -> None:
    assert decode(b"inbox") == canonical("Inbox") == "INBOX"


FOLDERS = [
    Folder(name, "/", frozenset(attributes))
    for name, attributes in [
        ("INBOX", ()),
        ("Lists", {"noselect"}),
        ("Lists/a", ()),
        ("Lists/a/old", ()),
        ("Gesendet", {"sent"}),
        ("a*b", ()),
    ]
]


@pytest.mark.parametrize(
    ("patterns", "names"),
    [
        (["inbox"], ["INBOX"]),
        (["Lists/*"], ["Lists/a", "Lists/a/old"]),
        (["Lists/%"], ["Lists/a"]),
        (["\\Sent", "INBOX"], ["Gesendet", "INBOX"]),
        (["*"], ["INBOX", "Lists/a", "Lists/a/old", "Gesendet", "a*b"]),
        (["a*b"], ["a*b"]),
        (["Lists"], []),
        (["\\Junk"], []),
        (["Lists/a", "Lists/*"], ["Lists/a", "Lists/a/old"]),
        (["L%/%"], ["Lists/a"]),
        (["%"], ["INBOX", "Gesendet", "a*b"]),
        (["*a*", "*old"], ["Lists/a", "Lists/a/old", "a*b"]),
        (["L*a%", "*/old"], ["Lists/a", "Lists/a/old"]),
        (["*x*", "a", "*a*a*a*"], []),
    ],
)
def test_patterns_mean_folders_that_can_be_opened(patterns: list[str], names: list[str]) -> None:
    assert [folder.name for folder in matching(patterns, FOLDERS)] == names


def test_a_name_that_is_made_for_a_pattern_takes_no_longer_than_others() -> None:
    """With a regular expression this takes years."""
    name = "a" * 4096
    [found] = matching(["*a" * 20 + "*b", "*a" * 20], [Folder(name, "/", frozenset())])
    assert found.name == name


def test_without_levels_both_signs_mean_anything() -> None:
    assert matching(["a%c"], [Folder("a/b/c", "", frozenset())])


def test_a_folder_says_what_it_is_for() -> None:
    assert [folder.special for folder in FOLDERS] == ["", "", "", "", "sent", ""]
