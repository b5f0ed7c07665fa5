"""Rows and tables over a mailbox of paper: what they ask it for, and what they make of it."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

import mailflow
from mailflow.errors import BadMailError, UnavailableError
from mailflow.kinds import Folder, Found, Item
from mailflow.mail import Octets
from mailflow.mailboxes import Row, Table
from mailflow.mailboxes.database import named
from mailflow.query import Query

ITEM = Item("INBOX;1;4", 30, 0.0, frozenset(("\\SEEN", "$Junk")), "INBOX", 4)


class Paper:
    """Gives `octets` as far as it is asked, and writes down what for."""

    def __init__(self, octets: bytes | None) -> None:
        self.octets = octets
        self.asked: list[tuple[Any, str]] = []

    def select(self, folder: str, chosen: Any, *, reach: str, **words: Any) -> Iterator[Found]:
        self.asked.append((chosen, reach))
        given = None if reach == "listing" or self.octets is None else Octets(self.octets)
        yield Found(ITEM, given)


def row(paper: Any, got: str = "listing", most: float = 1000) -> Row:
    (found,) = paper.select("INBOX", None, reach=got)
    paper.asked.clear()
    return Row(paper, "INBOX", found, got, most)


def test_what_the_listing_said_is_asked_of_nobody() -> None:
    paper = Paper(b"Subject: x\r\n\r\n")
    found = row(paper).as_dict("id", "uid", "folder", "size", "flags", "seen", "draft")
    assert found == {
        "id": "INBOX;1;4", "uid": 4, "folder": "INBOX", "size": 30,
        "flags": ["$Junk", "\\SEEN"], "seen": True, "draft": False,
    }  # fmt: skip
    assert paper.asked == []


def test_the_header_is_asked_for_once_and_the_body_once() -> None:
    paper = Paper(b"Subject: x\r\nTo: a\r\n\r\nbody")
    found = row(paper)
    assert [found.subject, found.to, found["header To"], found.mime] == [
        "x", "a", "a", "text/plain",
    ]  # fmt: skip
    assert paper.asked == [(["INBOX;1;4"], "header")]
    assert found.content == [{"mime": "text/plain", "text": "body"}]
    assert found.email.endswith(b"body")
    assert [reach for _, reach in paper.asked] == ["header", "body"]


def test_what_came_at_once_is_asked_for_no_more() -> None:
    paper = Paper(b"Subject: x\r\n\r\nbody")
    found = row(paper, "body")
    assert (found.subject, found.email) == ("x", b"Subject: x\r\n\r\nbody")
    assert paper.asked == []


def test_what_the_server_does_not_give_is_told() -> None:
    with pytest.raises(UnavailableError, match="message 4 of INBOX is there"):
        row(Paper(None)).subject  # noqa: B018


def test_a_message_larger_than_the_listing_said_is_not_taken_into_memory_either() -> None:
    found = row(Paper(b"Subject: x\r\n\r\n" + b"x" * 100), most=50)
    with pytest.raises(BadMailError, match="114"):
        found.content  # noqa: B018
    assert found.raw.size == 114


def test_a_message_that_the_listing_says_is_too_large_is_not_asked_for() -> None:
    paper = Paper(b"Subject: x\r\n\r\nbody")
    found = row(paper, most=20)
    with pytest.raises(BadMailError, match="30"):
        found.email  # noqa: B018
    assert paper.asked == []


def test_a_field_that_there_is_not_is_told_as_python_tells_it() -> None:
    found = row(Paper(b""))
    with pytest.raises(AttributeError, match="colour"):
        found.colour  # noqa: B018
    with pytest.raises(KeyError):
        found["colour"]


def test_names_of_tables_can_be_written_in_python_and_are_unique() -> None:
    folders = [Folder(name) for name in ("INBOX", "a b", "a_b", "A-B", "2026", "Ä/ö", "")]
    tables = named(folders)
    assert list(tables) == ["inbox", "a_b", "a_b_2", "a_b_3", "_2026", "ä_ö", "_"]
    assert all(name.isidentifier() for name in tables)


def test_the_fields_of_a_table_are_those_of_the_query_language() -> None:
    table = Table(Paper(b""), "INBOX", 1000)  # type: ignore[arg-type]
    query = (table.seen == False) & (table.header("X-A") == "b")  # noqa: E712
    assert str(query) == 'not seen and header "X-A" is "b"'
    with pytest.raises(AttributeError, match="colour"):
        table.colour  # noqa: B018


def test_a_mailbox_that_was_not_entered_says_so() -> None:
    box = mailflow.mailbox("imaps://ann@imap.example.org", password="x")
    for use in (lambda: box.inbox, lambda: box.source, lambda: box.folder("INBOX")):
        with pytest.raises(ValueError, match="entered with `with`"):
            use()


@pytest.mark.parametrize("answer", [False, True, 0, [], object()])
def test_what_is_no_query_never_means_all_messages(answer: Any) -> None:
    table = Table(Paper(None), "INBOX", 1000)
    with pytest.raises(TypeError, match="expected a query"):
        table(answer)
    assert table().where == table(None).where == Query.always


def test_what_cannot_be_changed_is_named_as_that() -> None:
    with pytest.raises(ValueError, match="subject cannot be changed; flags are"):
        Table(Paper(None), "INBOX", 1000)().update(subject="x")  # type: ignore[arg-type]
