"""`mailflow mail` on a webmail, as on any other account; the test bed is the webmail."""

from __future__ import annotations

import json
from collections.abc import Iterator

import pytest

from mailflow.testing.webmail import TestBed

from .command import CANARY, Done, Shop


def post(subject: str, sender: str = "Ann <ann@example.org>") -> bytes:
    date = "Sat, 21 Nov 2026 12:00:00 +0000"
    return f"From: {sender}\r\nDate: {date}\r\nSubject: {subject}\r\n\r\nhello\r\n".encode()


@pytest.fixture(scope="module")
def running() -> Iterator[TestBed]:
    with TestBed(["INBOX", "Lists"], password=CANARY) as bed:
        yield bed


class Office:
    """The command, and an account `page` in the user's defaults.toml."""

    def __init__(self, shop: Shop, bed: TestBed) -> None:
        self.shop = shop
        self.bed = bed
        defaults = shop.home / ".config" / "mailflow" / "defaults.toml"
        defaults.parent.mkdir(parents=True)
        defaults.write_text(
            f'[account.page]\nuse = "webmail"\nsite = "testbed"\nurl = "{bed.url}"\n'
            f'user = "{bed.user}"\npassword = {shop.secret()}\n'
        )

    def __call__(self, *words: str, status: int = 0) -> Done:
        done = self.shop("mail", *words)
        assert done.status == status, done
        return done

    def uids(self) -> dict[str, str]:
        """The UID of each message, by its subject."""
        rows = json.loads(self("list", "page", "--json").out)
        return {row["subject"]: str(row["uid"]) for row in rows}


@pytest.fixture
def office(shop: Shop, running: TestBed) -> Iterator[Office]:
    yield Office(shop, running)
    for folder in ("INBOX", "Lists"):
        running.delete(folder, *running.uids(folder))


def test_pwm_23_messages_are_listed_printed_and_deleted_by_hand(office: Office) -> None:
    office.bed.put("INBOX", *map(post, ("one", "two", "three")))
    lines = office("list", "page").out.splitlines()
    assert lines[0].split() == ["UID", "CREATED", "SIZE", "FLAGS", "FROM", "SUBJECT"]
    assert [line.split()[-1] for line in lines[1:]] == ["three", "two", "one"]
    size = str(len(post("two")))
    assert lines[2].split()[1:4] == ["2026-11-21", "12:00:00", size]
    uid = office.uids()["two"]
    assert office("get", "page", uid).out.encode() == post("two")
    assert office("delete", "page", uid).out == "INBOX: 1 message deleted\n"
    assert office.bed.messages("INBOX") == [post("one"), post("three")]


def test_pwm_23_messages_are_chosen_by_a_query(office: Office) -> None:
    office.bed.put("INBOX", post("gumby"), post("other"))
    office.bed.put("Lists", post("gumby again"))
    where = ("--folder", "*", "--where", 'subject contains "gumby"')
    done = office("delete", "page", *where, "--dry-run")
    assert "INBOX: 1 message would be deleted" in done.out
    assert "Lists: 1 message would be deleted" in done.out
    assert len(office.bed.messages("INBOX")) == 2
    assert json.loads(office("delete", "page", *where, "--json").out)["Lists"] == 1
    assert office.bed.messages("INBOX") == [post("other")]
    assert office.bed.messages("Lists") == []


def test_a_message_is_marked_as_read_and_no_flag_else(office: Office) -> None:
    """Nor is any message by being looked at."""
    office.bed.put("INBOX", *map(post, ("one", "two")))
    office("update", "page", office.uids()["one"], "--set", "seen")
    assert office("count", "page", "--where", "not seen").out == "1\n"
    done = office("update", "page", "--all", "--set", "flagged", status=69)
    assert "marked as read" in done.err
    assert office("list", "page", "--where", "flagged", status=69).err.count("\n") == 1


def test_a_uid_stays_with_its_message_when_others_go(office: Office) -> None:
    office.bed.put("INBOX", *map(post, ("one", "two", "three")))
    before = office.uids()
    office("delete", "page", before.pop("one"))
    assert office.uids() == before


def test_headers_are_read_only_of_those_that_are_shown(office: Office) -> None:
    office.bed.put("INBOX", *(post(str(number)) for number in range(20)))
    office.bed.forget()
    office("list", "page", "--limit", "3")
    assert office.bed.asked("source") == 3
    office.bed.forget()
    office("count", "page", "--where", "size > 0 and not seen")
    assert office.bed.asked("source") == 0, "the list says both"


@pytest.mark.parametrize(("trouble", "status"), [("layout", 76), ("challenge", 77)])
def test_a_page_that_cannot_be_read_is_no_empty_folder(
    office: Office, trouble: str, status: int
) -> None:
    office.bed.put("INBOX", post("one"))
    office.bed.trouble(trouble)
    try:
        done = office("list", "page", status=status)
    finally:
        office.bed.quiet()
    assert done.err.count("\n") == 1
    assert "mailflow testbed" in done.err
