"""Which folders are read."""

from __future__ import annotations

import pytest

from mailflow.errors import RefusedError
from mailflow_imap.choice import FolderPattern, chosen, target_of
from mailflow_imap.names import Folder

FOLDERS = [
    Folder(name, "/", frozenset(attributes.split()))
    for name, attributes in (
        ("INBOX", ""),
        ("[Gmail]", "noselect haschildren"),
        ("[Gmail]/Sent Mail", "sent"),
        ("[Gmail]/Spam", "junk"),
        ("Lists/red", ""),
        ("Lists/blue", ""),
        ("Entwürfe", "drafts"),
        ("gone", "nonexistent"),
    )
]


@pytest.mark.parametrize(
    ("patterns", "names"),
    [
        (["INBOX"], ["INBOX"]),
        (["inbox"], ["INBOX"]),
        (["Lists/*"], ["Lists/red", "Lists/blue"]),
        (["lists/*"], []),
        (["Lists/blue", "Lists/*"], ["Lists/blue", "Lists/red"]),
        (["\\Sent", "\\Junk"], ["[Gmail]/Sent Mail", "[Gmail]/Spam"]),
        (["[Gmail]/S*"], ["[Gmail]/Sent Mail", "[Gmail]/Spam"]),
        (["*", "!\\junk", "!Lists/*"], ["INBOX", "[Gmail]/Sent Mail", "Entwürfe"]),
        (["!*a*", "!Lists/%"], ["INBOX", "Entwürfe"]),
        (["%"], ["INBOX", "Entwürfe"]),
        (["\\Trash"], []),
        (["Hidden/one"], ["Hidden/one"]),
        (["Entwürfe"], ["Entwürfe"]),
    ],
)
def test_folders_are_chosen_by_name_by_pattern_and_by_use(
    patterns: list[str], names: list[str]
) -> None:
    assert chosen(patterns, FOLDERS) == names


def test_what_holds_no_messages_is_not_read() -> None:
    assert {"[Gmail]", "gone"}.isdisjoint(chosen(["*"], FOLDERS))


@pytest.mark.parametrize("word", ["", "!", "\\Spam", "!\\Bin", "a\nb"])
def test_what_can_be_no_folder_is_told_at_check(word: str) -> None:
    with pytest.raises(ValueError, match="expected"):
        FolderPattern("A folder.").convert(word, ".")


def test_the_folder_for_a_use_is_found_under_whatever_name() -> None:
    assert target_of("\\Drafts", ["INBOX"], FOLDERS) == "Entwürfe"
    assert target_of("\\Archive", ["INBOX"], FOLDERS) is None


@pytest.mark.parametrize("name", ["*", "Entw%"])
def test_a_folder_to_move_to_is_one_of_that_name_and_none_like_it(name: str) -> None:
    assert target_of(name, [], FOLDERS) is None


@pytest.mark.parametrize(
    ("name", "pattern"), [("\\Drafts", "Entwürfe"), ("Entwürfe", "\\Drafts"), ("inbox", "*")]
)
def test_what_is_read_is_no_folder_to_move_to(name: str, pattern: str) -> None:
    with pytest.raises(RefusedError, match="would come again"):
        target_of(name, [pattern], FOLDERS)
