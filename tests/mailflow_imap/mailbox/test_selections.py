"""The mailbox as a database on a real server: what web2py's IMAP adapter did, and did not."""

from __future__ import annotations

import random
import re
import tracemalloc
from datetime import date
from email.header import Header
from pathlib import Path

import pytest

from mailflow.errors import (
    BadMailError,
    GoneError,
    RefusedError,
)
from mailflow.mailboxes import Database, Row
from mailflow.testing.dovecot import Dovecot
from mailflow_imap.session import Session

from .user import User, post, sent

pytestmark = pytest.mark.interop("dovecot-imapd")


WORDS = (
    "Re:", "re :", "Fwd:", "[list]", "[Fwd:", "]", "(fwd)", "pears", "Äpfel", "äpfel", "zoo", "Zoo",
    "ß", "ss", "  ", "ñandú", "12", "[a] b", "é", "É", "ÅNG", "ång",
)  # fmt: skip


def any_post(draw: random.Random) -> bytes:
    """Subjects and addresses that are easily put into another order."""
    subject = " ".join(draw.choice(WORDS) for _ in range(draw.randint(0, 5)))
    if not subject.isascii():
        subject = Header(subject, "utf-8").encode().replace("\n", "\r\n")
    to = ", ".join(f"<{draw.choice('abcABC')}@x>" for _ in range(draw.randint(1, 3)))
    sender = f"{draw.choice(('ann', 'Zoe', ''))} <{draw.choice(('ann', 'Bob', 'bob'))}@x>"
    head = f"From: {sender}\r\nTo: {to}\r\nSubject: {subject}\r\n\r\n"
    return f"{head}{'x' * draw.randint(0, 9)}\r\n".encode()


class TestSelections:
    def test_dal_14_messages_are_counted_and_none_is_read(
        self, user: User, box: Database, said: list[str]
    ) -> None:
        user.deliver(*(post(f"{number}") for number in range(7)))
        inbox = box.inbox
        assert inbox().count() == 7
        assert inbox(inbox.seen == False).count() == 7  # noqa: E712
        assert inbox("seen").isempty()
        assert sent(said, "UID FETCH") == []

    def test_dal_15_a_selection_has_fields_and_a_slice_newest_first(
        self, user: User, box: Database
    ) -> None:
        user.deliver(*(post(f"{number}") for number in range(7)))
        rows = box.inbox().select("uid", "subject", limit=(2, 4))
        assert [row.as_dict("uid", "subject") for row in rows] == [
            {"uid": 5, "subject": "4"}, {"uid": 4, "subject": "3"},
        ]  # fmt: skip
        assert [row.uid for row in box.inbox().select(limit=2)] == [7, 6]
        assert [row.uid for row in box.inbox().select(limit=(5, 99))] == [2, 1]
        for limit in (-1, (3, 2), (-1, 2)):
            with pytest.raises(ValueError, match="limit"):
                box.inbox().select(limit=limit)

    @pytest.mark.parametrize(
        ("fields", "asked"),
        [
            (("uid", "seen", "size", "created"), set()),
            (("subject",), {"HEADER"}), ((), {"HEADER"}), (("sender", "mime"), {"HEADER"}),
            (("content",), {""}), (("attachments", "subject"), {""}), (("email",), {""}),
        ],
    )  # fmt: skip
    def test_dal_16_no_body_is_read_that_is_not_asked_for(
        self, user: User, box: Database, said: list[str], fields: tuple[str, ...], asked: set[str]
    ) -> None:
        user.deliver(post(), post())
        for row in box.inbox().select(*fields):
            row.as_dict(*fields)
        bodies = [match for line in sent(said, "UID FETCH")
                  for match in re.findall(r"BODY\S*\[(.*?)\]", line)]  # fmt: skip
        assert set(bodies) == asked

    def test_dal_17_looking_opens_read_only_and_marks_nothing(
        self, user: User, box: Database, said: list[str]
    ) -> None:
        user.deliver(post(), post())
        for row in box.inbox().select("content"):
            assert row.content
        assert sent(said, "SELECT") == []
        assert sent(said, "EXAMINE")
        program = user.program()
        program.select("INBOX")
        answer = program.uid("FETCH", "1:*", "(FLAGS)")[1]
        program.logout()
        assert len(answer) == 2
        assert b"\\Seen" not in repr(answer).encode()

    def test_who_wrote_a_message_is_its_sender_and_an_envelope_is_asked_of_nobody(
        self, user: User, box: Database
    ) -> None:
        user.deliver(post())
        inbox = box.inbox
        assert inbox(inbox.sender.contains("Ann")).count() == 1
        assert inbox(inbox.sender == "ben@example.com").count() == 0
        for text in ('sender is "x"', 'seen or note "x" exists'):
            with pytest.raises(ValueError, match="no mailbox says"):
                inbox(text)

    def test_dal_18_an_update_says_how_many_it_was_about(self, user: User, box: Database) -> None:
        user.deliver(*(post(f"{number}") for number in range(4)))
        inbox = box.inbox
        assert inbox(inbox.uid > 2).update(seen=True, answered=True) == 2
        assert inbox(inbox.uid < 4).update(seen=False) == 3
        assert [row.uid for row in inbox("seen").select("uid")] == [4]
        assert [row.uid for row in inbox("answered").select("uid")] == [4, 3]
        assert inbox("uid is 99").update(seen=True) == 0

    def test_dal_19_a_delete_says_how_many_and_they_are_gone(
        self, user: User, box: Database
    ) -> None:
        user.deliver(*(post(f"{number}") for number in range(4)))
        assert box.inbox('subject in ("1", "2")').delete() == 2
        assert user.messages() == [post("0"), post("3")]

    def test_dal_20_what_is_marked_as_deleted_stays(self, user: User, box: Database) -> None:
        user.deliver(post("0"), post("1"))
        assert box.inbox('subject is "0"').update(deleted=True) == 1
        assert box.inbox("deleted").count() == 1
        assert len(user.messages()) == 2

    def test_dal_24_a_processor_sees_each_row_and_a_table_can_be_narrowed_for_good(
        self, user: User, box: Database
    ) -> None:
        user.deliver(*(post(f"{number}") for number in range(4)))
        box.inbox("uid is 2").update(deleted=True)

        def shout(row: Row) -> str:
            return f"{row.uid}!"

        there = box.inbox.only("not deleted")
        assert list(there().select("uid", processor=shout)) == ["4!", "3!", "1!"]
        assert there("uid <= 2").count() == 1
        assert there.only("uid > 1")().delete() == 2
        assert box.inbox().count() == 2

    def test_dal_25_the_five_examples(self, user: User, box: Database) -> None:
        user.deliver(post("Today"), post("Large", body="x" * 7000), post("from mr. Gumby"))
        user.deliver(post("gumby, too"), folder="Archive")
        box.folder("INBOX")('subject is "Large"').first()
        inbox = box.INBOX
        q = inbox.seen == False  # noqa: E712
        q &= inbox.created == date.today()
        q &= inbox.size < 6000
        assert inbox(q).count() == 2
        rows = list(inbox(q).select())
        assert [row.subject for row in rows] == ["from mr. Gumby", "Today"]
        some = inbox(q).select("uid", "subject", limit=(0, 1))
        assert [row.subject for row in some] == ["from mr. Gumby"]
        messages = [row.uid for row in rows]
        assert inbox(inbox.uid.belongs(messages)).update(seen=True) == 2
        assert inbox(q).count() == 0
        deleted = 0
        for table in box:
            for row in table(table.subject.contains("gumby")).select():
                deleted += row.delete()
        assert deleted == 2
        assert box.archive().isempty()

    def test_dal_26_a_key_of_a_folder_that_was_made_anew_means_nothing(
        self, user: User, box: Database
    ) -> None:
        program = user.program()
        program.create("Work")
        user.deliver(post("old"), folder="Work")
        row = box.folder("Work")().one("uid")
        program.rename("Work", "Other")
        program.create("Work")
        user.deliver(post("new"), folder="Work")
        program.logout()
        with user.open() as fresh:
            assert fresh.folder("Work").rows([row.id]).count() == 0
        assert row.delete() == 0
        assert user.messages("Work") == [post("new")]

    def test_dal_26_a_selection_ends_where_its_folder_is_made_anew(
        self, user: User, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr("mailflow_imap.mailbox.CHUNK", 1)
        program = user.program()
        program.create("Work")
        user.deliver(post("1"), post("2"), folder="Work")
        with user.open("&pool=1") as box:
            rows = box.folder("Work")().select()
            assert next(rows).subject == "2"
            box.inbox().count()  # so that it is opened anew
            program.delete("Work")
            program.create("Work")
            user.deliver(post("x"), post("y"), folder="Work")
            with pytest.raises(GoneError, match="made anew"):
                next(rows)
        program.logout()

    def test_dal_27_a_message_too_large_for_memory_is_only_read_in_pieces(self, user: User) -> None:
        user.deliver(post("large", body="x" * 5000))
        with user.open(max_size=4000) as box:
            row = box.inbox().one()
            for name in ("email", "content", "attachments"):
                with pytest.raises(BadMailError, match=r"more than are taken into memory"):
                    row[name]
            assert row.raw.size == row.size > 5000

    def test_dal_27_what_is_ordered_and_cut_is_all_that_is_selected(
        self, user: User, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr("mailflow_imap.mailbox.CHUNK", 3)
        user.deliver(*(post(f"{number}", body="x" * (number * 37 % 11)) for number in range(11)))
        with user.open() as box:
            sizes = [row.size for row in box.inbox().select("size", order="-size")]
            assert sizes == sorted(sizes, reverse=True)
            top = [row.size for row in box.inbox().select("size", order="-size", limit=(2, 9))]
            assert top == sizes[2:9]

    def test_dal_27_what_the_server_sorts_is_in_the_order_that_is_worked_out_here(
        self, user: User, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        draw = random.Random(5256)
        user.deliver(*(any_post(draw) for _ in range(150)))
        orders = ("subject", "-subject", "from", "-from,size", "to", "cc", "subject,-size")
        with user.open() as box:

            def uids() -> dict[str, list[int]]:
                return {each: [row.uid for row in box.inbox().select("uid", order=each)]
                        for each in orders}  # fmt: skip

            by_server = uids()
            offers = Session.offers
            monkeypatch.setattr(
                Session, "offers", lambda self, *names: "SORT" not in names and offers(self, *names)
            )
            assert uids() == by_server

    def test_dal_27_a_size_is_what_the_server_says(self, user: User, box: Database) -> None:
        user.deliver(post(body="one\ntwo\n"))
        row = box.inbox().one("email")
        assert row.size == row.raw.size == len(post(body="one\r\ntwo\r\n"))

    def test_dal_27_inbox_is_the_same_in_any_case(self, user: User, box: Database) -> None:
        user.deliver(post())
        assert [box.folder(name)().count() for name in ("INBOX", "inbox", "Inbox")] == [1, 1, 1]

    def test_dal_26_rows_are_deleted_while_they_are_read_and_none_is_missed(
        self, user: User, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr("mailflow_imap.mailbox.CHUNK", 2)
        user.deliver(*(post(f"{number}") for number in range(7)))
        with user.open() as box:
            deleted = [row.subject for row in box.inbox().select("content") if row.delete()]
        assert deleted == [f"{number}" for number in reversed(range(7))]
        assert user.messages() == []

    def test_dal_31_what_others_have_marked_stays(self, user: User, box: Database) -> None:
        user.deliver(post("0"), post("1"), post("2"))
        program = user.program()
        program.select()
        program.store("1", "+FLAGS", "\\Deleted")
        program.logout()
        assert box.inbox('subject is "1"').delete() == 1
        assert user.messages() == [post("0"), post("2")]

    def test_dal_31_a_server_that_removes_what_others_marked_is_asked_for_nothing(
        self, tmp_path: Path, said: list[str]
    ) -> None:
        with Dovecot(tmp_path, imap=True, without=("UIDPLUS",)) as plain:
            user = User(plain)
            user.deliver(post("0"), post("1"))
            with user.open() as box:
                box.inbox("uid is 1").update(deleted=True)
                with pytest.raises(RefusedError, match="UIDPLUS"):
                    box.inbox("uid is 2").delete()
                assert box.inbox("deleted").count() == 1
            assert len(user.messages()) == 2
        assert not sent(said, "EXPUNGE", "CLOSE", "UID EXPUNGE")

    def test_dal_32_every_command_about_messages_names_them_by_uid(
        self, user: User, said: list[str]
    ) -> None:
        user.deliver(*(post(f"{number}") for number in range(5)))
        with user.open() as box:
            inbox = box.inbox
            list(inbox("not seen").select("content", order="subject"))
            inbox("content contains 'hello'").update(seen=True)
            inbox("uid in (1, 3)").delete()
            inbox().count()
        named = [line.split(" ")[0] for line in said]
        assert {"UID"} <= set(named)
        assert not {"FETCH", "STORE", "SEARCH", "SORT", "COPY", "MOVE", "EXPUNGE"} & set(named)

    def test_dal_33_many_messages_come_in_one_fetch(
        self, user: User, box: Database, said: list[str]
    ) -> None:
        user.deliver(*(post(f"{number}") for number in range(150)))
        assert len(list(box.inbox().select("subject"))) == 150
        assert len(sent(said, "UID FETCH")) == 2, "a listing, and the headers"

    def test_dal_33_memory_does_not_grow_with_the_messages(self, user: User) -> None:
        body = "x" * 20_000
        user.deliver(*(post(f"{number}", body=body) for number in range(1500)))

        def peak(count: int) -> int:
            with user.open() as box:
                tracemalloc.start()
                try:
                    rows = box.inbox().select("email", limit=count)
                    assert sum(len(row.email) > len(body) for row in rows) == count
                    return tracemalloc.get_traced_memory()[1]
                finally:
                    tracemalloc.stop()

        peak(10)  # what is imported once
        assert peak(1500) < peak(500) + (1 << 20)
