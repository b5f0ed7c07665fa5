"""The mailbox by hand on a webmail, from Python; its contract is kept in tests/contracts, with a
real Roundcube."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

import mailflow
from mailflow.errors import BadMailError, GoneError, PeerError, RefusedError, UnavailableError
from mailflow.mail import Content
from mailflow.mailboxes import Database
from mailflow.testing.webmail import TestBed
from mailflow_webmail.account.session import Row, Session
from mailflow_webmail.errors import ThrottledError
from mailflow_webmail.finding import uid_of


def post(subject: str) -> bytes:
    return f"From: Ann <ann@example.org>\r\nSubject: {subject}\r\n\r\nhello\r\n".encode()


@pytest.fixture(scope="module")
def running() -> Iterator[TestBed]:
    with TestBed(["INBOX", "Grüße"]) as bed:
        yield bed


@pytest.fixture
def bed(running: TestBed) -> Iterator[TestBed]:
    yield running
    running.quiet()
    for folder in ("INBOX", "Grüße"):
        running.delete(folder, *running.uids(folder))


@pytest.fixture
def box(bed: TestBed, tmp_path: Path) -> Iterator[Database]:
    file = tmp_path / "defaults.toml"
    file.write_text(
        f'[account.page]\nuse = "webmail"\nsite = "testbed"\nurl = "{bed.url}"\n'
        f'user = "{bed.user}"\npassword = {{ command = ["echo", "{bed.password}"] }}\n'
    )
    with mailflow.mailbox("page", file=str(file)) as box:
        yield box


def test_pwm_01_a_webmail_is_used_as_any_mailbox_from_python(bed: TestBed, box: Database) -> None:
    bed.put("INBOX", post("one"), post("two"))
    bed.put("Grüße", post("three"))
    assert box.tables == ["inbox", "grüße", "sent", "trash"]
    rows = list(box.inbox(box.inbox.subject == "two").select("email"))
    assert [row.email for row in rows] == [post("two")]
    assert rows[0].delete() == 1
    assert bed.messages("INBOX") == [post("one")]
    assert [row.subject for row in box["Grüße"]().select()] == ["three"]


def test_one_log_in_serves_all_calls(bed: TestBed, box: Database) -> None:
    bed.put("INBOX", post("one"))
    bed.forget()
    for _ in range(3):
        assert box.inbox().count() == 1
    assert (bed.asked("login"), bed.asked("list")) == (2, 3)


def test_a_message_that_came_meanwhile_is_not_deleted_with_those_that_were_meant(
    bed: TestBed, box: Database
) -> None:
    bed.put("INBOX", post("one"), post("two"))
    chosen = box.inbox.rows([row.id for row in box.inbox().select("uid")])
    bed.put("INBOX", post("late"))
    assert chosen.delete() == 2
    assert bed.messages("INBOX") == [post("late")]


def test_a_deletion_that_was_not_done_is_told(bed: TestBed, box: Database) -> None:
    bed.put("INBOX", post("one"))
    bed.trouble("stubborn")
    with pytest.raises((UnavailableError, PeerError, RefusedError)):
        box.inbox().delete()
    assert bed.messages("INBOX") == [post("one")]


def test_an_outage_in_the_middle_of_a_list_is_told(bed: TestBed, box: Database) -> None:
    """A message that cannot be read is shown without its header; many are the webmail's fault."""
    bed.put("INBOX", *(post(str(number)) for number in range(9)))
    bed.trouble("blank", after=4)
    with pytest.raises(UnavailableError):
        list(box.inbox().select("subject"))


def test_what_messages_lack_for_themselves_keeps_none_of_the_others(
    bed: TestBed, box: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    bed.put("INBOX", *(post(str(number)) for number in range(5)))
    raw = Session.raw
    large = bed.uids("INBOX")[1:]

    def read(self: Session, row: Row) -> Content:
        if row["id"] in large:
            raise BadMailError("over max_size")
        return raw(self, row)

    monkeypatch.setattr(Session, "raw", read)
    *unread, subject = sorted(row.subject for row in box.inbox().select("subject"))
    assert unread == [""] * 4
    assert subject


def test_a_webmail_that_asks_to_be_left_alone_is(
    bed: TestBed, box: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    bed.put("INBOX", *(post(str(number)) for number in range(9)))
    asked: list[Row] = []

    def read(self: Session, row: Row) -> Content:
        asked.append(row)
        raise ThrottledError("slower", delay=60.0)

    monkeypatch.setattr(Session, "raw", read)
    with pytest.raises(ThrottledError):
        list(box.inbox().select("subject"))
    assert len(asked) <= 4, "more than were on their way"


def test_a_folder_that_is_not_there_is_told(box: Database) -> None:
    with pytest.raises(GoneError, match="there is no folder 'Lists'"):
        box.folder("Lists")().count()


@pytest.mark.parametrize(("id_", "uid"), [("1", 1), ("4294967295", 4294967295), ("17", 17)])
def test_a_number_that_the_webmail_has_is_the_uid(id_: str, uid: int) -> None:
    assert uid_of(id_) == uid


@pytest.mark.parametrize("id_", ["0", "4294967296", "007", "1" * 5000, "9fa1", "٣", "", "1.2"])
def test_what_is_no_uid_has_one_made_of_it(id_: str) -> None:
    made = uid_of(id_)
    assert 0 < made < 1 << 32
    assert made == uid_of(id_)
    assert str(made) != id_


def test_two_messages_whose_numbers_are_alike_have_none(
    bed: TestBed, box: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Neither is taken for the other."""
    bed.put("INBOX", post("one"), post("two"))
    monkeypatch.setattr("mailflow_webmail.finding.uid_of", lambda id_: 7)
    assert [row.uid for row in box.inbox().select("uid")] == [None, None]
    assert box.inbox(box.inbox.uid == 7).delete() == 0
    assert len(bed.messages("INBOX")) == 2
