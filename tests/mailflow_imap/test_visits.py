"""Visit after visit through the engine: what a mailbox does between two of them makes nothing
come twice, loses nothing, and has nothing removed that is not here."""

from __future__ import annotations

import email
import sqlite3
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

import mailflow
from mailflow.testing.imap import ImapServer
from mailflow.testing.imap_link import NO_FAULTS, Faults
from mailflow_imap import mark

from .conftest import SECRET

KEPT = {"keep": "forever"}
GONE = {"keep": "0d", "on_done": "delete"}


def message(subject: str, *, named: bool = True) -> bytes:
    name = f"Message-ID: <{subject}@example.org>\r\n" if named else ""
    return f"Subject: {subject}\r\n{name}\r\nhello\r\n".encode()


class Source:
    """A mailbox in memory, and a pipeline from there to a Maildir."""

    def __init__(self, server: ImapServer, home: Path) -> None:
        self.server = server
        self.home = home

    def deliver(self, *subjects: str, folder: str = "INBOX") -> None:
        for subject in subjects:
            self.server.deliver("red", message(subject), folder)

    def run(self, **options: object) -> int:
        return mailflow.run(
            {
                "pipeline": {"name": "ann", "journal": str(self.home / "journal.db")},
                "fetch": [
                    {
                        "use": "imap", "host": self.server.host, "port": self.server.port,
                        "tls": "none", "user": "red", "password": SECRET, "timeout": "5s",
                        **options,
                    }
                ],
                "distribute": [{"use": "maildir", "path": str(self.home / "Maildir")}],
            },
            now=True,
        )  # fmt: skip

    @property
    def come(self) -> list[str]:
        """The subjects of what has come so far, sorted."""
        files = (self.home / "Maildir").glob("new/*")
        return sorted(str(email.message_from_bytes(file.read_bytes())["Subject"]) for file in files)

    def left(self, folder: str = "INBOX") -> list[str]:
        there = self.server.messages("red", folder)
        return [str(email.message_from_bytes(each)["Subject"]) for each in there]


@pytest.fixture
def source(tmp_path: Path) -> Iterator[Source]:
    with ImapServer({"red": SECRET}) as server:
        yield Source(server, tmp_path)


@pytest.mark.parametrize("folders", [["INBOX"], ["INBOX", "Work"]])
def test_f14_a_uid_that_is_used_again_is_another_message(
    source: Source, folders: list[str]
) -> None:
    """As after a restored backup that kept its UIDVALIDITY."""
    source.deliver("1", "2", "3", "4")
    source.deliver("w", folder="Work")
    source.run(folders=folders, **GONE)
    inbox = source.server.folder("red")
    inbox.uid_next = 3
    source.deliver("3b")
    source.run(folders=folders, **GONE)
    assert "3b" in source.come
    source.deliver("5")
    source.run(folders=folders, **GONE)
    assert source.come == sorted(["1", "2", "3", "3b", "4", "5", *(["w"] if folders[1:] else [])])
    assert source.left() == []


@pytest.mark.parametrize("options", [KEPT, {"keep": "0d", "on_done": "keep"}])
def test_f14_equal_messages_are_each_known_when_a_folder_is_made_anew(
    source: Source, options: dict[str, object]
) -> None:
    source.deliver("1", "1", "2")
    source.run(**options)
    source.server.renumber("red")
    source.run(**options)
    assert source.come == ["1", "1", "2"]


@pytest.mark.parametrize("options", [KEPT, {"keep": "0d", "on_done": "keep"}])
def test_f14_what_has_no_message_id_is_known_by_all_of_it(
    source: Source, options: dict[str, object]
) -> None:
    source.server.deliver("red", message("1", named=False))
    source.run(**options)
    source.server.renumber("red")
    source.run(**options)
    assert source.come == ["1"]


def test_f14_a_folder_that_cannot_be_opened_makes_nothing_come_twice_from_another(
    source: Source,
) -> None:
    source.deliver("1", "2")
    source.run(folders=["INBOX", "Nowhere"], **KEPT)
    source.server.renumber("red")
    source.run(folders=["INBOX", "Nowhere"], **KEPT)
    assert source.come == ["1", "2"]


def test_what_a_limit_left_in_a_folder_comes_though_that_was_shut_for_a_visit(
    source: Source,
) -> None:
    source.deliver("1")
    source.deliver("w1", "w2", "w3", folder="Work")
    options = {"folders": ["INBOX", "Work"], **KEPT}
    source.run(limit=2, **options)
    source.deliver("2")
    source.server.faults = Faults(answers={'EXAMINE "Work"': b"<tag> NO not now\r\n"})
    assert source.run(**options) == 0
    assert source.come == ["1", "2", "w1"]
    source.server.faults = NO_FAULTS
    source.run(**options)
    assert source.come == ["1", "2", "w1", "w2", "w3"]


def test_f14_what_is_not_meant_as_a_folder_is_made_anew_is_still_known_later(
    source: Source,
) -> None:
    source.deliver("1", "2")
    options = {"where": "not flagged", **KEPT}
    source.run(**options)
    inbox = source.server.folder("red")
    inbox.messages[0].flags.add("\\Flagged")
    source.server.renumber("red")
    source.run(**options)
    inbox.messages[0].flags.discard("\\Flagged")
    source.run(**options)
    assert source.come == ["1", "2"]


def test_what_was_there_at_the_start_is_not_wanted_though_it_is_meant_later(
    source: Source,
) -> None:
    source.deliver("1", "2")
    options = {"where": "flagged", "start": "new", **KEPT}
    source.run(**options)
    source.server.folder("red").messages[0].flags.add("\\Flagged")
    source.server.deliver("red", message("3"), "INBOX", "\\Flagged")
    source.run(**options)
    assert source.come == ["3"]


def test_what_was_there_at_the_start_is_not_wanted_when_the_folder_is_made_anew(
    source: Source,
) -> None:
    source.deliver("1", "2")
    options = {"start": "new", **KEPT}
    source.run(**options)
    source.server.renumber("red")
    source.server.folder("red").add(message("3"), date=time.time() + 60)
    source.run(**options)
    assert source.come == ["3"]


def test_what_is_over_max_size_for_a_while_is_not_forgotten(source: Source) -> None:
    source.server.deliver("red", message("1") + b"x" * 5000)
    source.run(**KEPT)
    source.run(max_size=1000, **KEPT)
    with sqlite3.connect(source.home / "journal.db") as journal:
        assert journal.execute("SELECT state, missing FROM seen").fetchall() == [("done", None)]


def test_one_folder_that_is_shut_makes_no_source_rest(source: Source) -> None:
    options = {"folders": ["INBOX", "Work"], **KEPT}
    source.deliver("1")
    source.deliver("w", folder="Work")
    source.run(**options)
    source.deliver("w2", folder="Work")
    source.server.faults = Faults(answers={'EXAMINE "Work"': b"<tag> NO not now\r\n"})
    assert source.run(**options) == 0


@pytest.mark.parametrize("named", [True, False])
def test_f14_a_uid_of_what_was_removed_is_of_another_message_when_it_is_listed_again(
    source: Source, monkeypatch: pytest.MonkeyPatch, *, named: bool
) -> None:
    """After a restored backup that has got more new messages than it had lost."""
    source.server.deliver("red", message("1", named=named))
    source.run(**GONE)
    inbox = source.server.folder("red")
    inbox.uid_next = 1
    for subject in ("2", "3"):
        source.server.deliver("red", message(subject, named=named))
    source.run(**GONE)
    assert source.left() == ["2"], "nobody can tell"
    monkeypatch.setattr(mark, "WEEK", -9.0)
    source.run(**GONE)
    assert source.come == ["1", "2", "3"]
    assert source.left() == []


@pytest.mark.parametrize("named", [True, False])
def test_what_was_removed_and_is_there_again_is_removed_again_and_comes_once(
    source: Source, monkeypatch: pytest.MonkeyPatch, *, named: bool
) -> None:
    source.server.deliver("red", message("1", named=named))
    before = list(source.server.folder("red").messages)
    source.run(**GONE)
    source.server.folder("red").messages = before
    monkeypatch.setattr(mark, "WEEK", -9.0)
    source.run(**GONE)
    assert source.come == ["1"]
    assert source.left() == []


@pytest.mark.parametrize("named", [True, False])
@pytest.mark.parametrize("options", [KEPT, {"keep": "0d", "on_done": "keep"}])
def test_f14_what_a_limit_leaves_when_a_folder_is_made_anew_is_known_later(
    source: Source, options: dict[str, object], *, named: bool
) -> None:
    for subject in ("1", "2", "3"):
        source.server.deliver("red", message(subject, named=named))
    source.run(**options)
    source.server.renumber("red")
    source.deliver("4")
    for _ in range(5):
        source.run(limit=1, **options)
    assert source.come == ["1", "2", "3", "4"]


def test_f14_what_was_removed_and_comes_back_in_a_folder_made_anew_is_known(
    source: Source, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As after a restored backup."""
    source.deliver("1", "2")
    before = list(source.server.folder("red").messages)
    source.run(**GONE)
    monkeypatch.setattr(mark, "WEEK", -9.0)
    source.run(**GONE)
    source.server.folder("red").messages = before
    source.server.renumber("red")
    source.deliver("3")
    source.run(**GONE)
    assert source.come == ["1", "2", "3"]
    assert source.left() == []


@pytest.mark.parametrize("named", [True, False])
def test_an_equal_message_is_another_one_where_a_cut_session_has_removed_the_first(
    source: Source, *, named: bool
) -> None:
    source.server.deliver("red", message("1", named=named))
    source.run(**GONE)
    with sqlite3.connect(source.home / "journal.db") as journal:  # as if it had not been noted
        journal.execute("UPDATE seen SET state = 'done'")
        journal.execute("DELETE FROM source")
    source.server.deliver("red", message("1", named=named))
    source.run(**GONE)
    assert source.come == ["1", "1"]
    assert source.left() == []
