"""The mailbox as a database on a real server: what web2py's IMAP adapter did, and did not."""

from __future__ import annotations

import imaplib
import os
import random
import re
import socket
import threading
import tracemalloc
from collections.abc import Iterator
from datetime import UTC, date, datetime
from email.header import Header
from pathlib import Path

import pytest

import mailflow
from mailflow.errors import (
    BadMailError,
    ConfigError,
    GoneError,
    RefusedError,
    UnavailableError,
)
from mailflow.lines import to_crlf
from mailflow.mail import read
from mailflow.mailboxes import Database, Row
from mailflow.mailboxes.opening import Account
from mailflow.net import Wire
from mailflow.testing.dovecot import Dovecot
from mailflow_imap.session import Session

SECRET = "canary-8d31-secret"

pytestmark = pytest.mark.interop("dovecot-imapd")


def post(subject: str = "Hello", *fields: str, body: str = "hello\r\n") -> bytes:
    head = ["From: Ann <ann@example.org>", "To: Ben <ben@example.com>", f"Subject: {subject}"]
    return "".join(f"{line}\r\n" for line in (*head, *fields)).encode() + b"\r\n" + body.encode()


class User:
    """A new mailbox of `dovecot`."""

    def __init__(self, dovecot: Dovecot) -> None:
        self.dovecot = dovecot
        self.name = f"u{os.urandom(6).hex()}"
        dovecot.add_user(self.name, SECRET)

    @property
    def url(self) -> str:
        return f"imap://{self.name}@127.0.0.1:{self.dovecot.imap_port}?tls=none&timeout=20s"

    def deliver(self, *messages: bytes, folder: str = "INBOX") -> None:
        self.dovecot.deliver(self.name, *messages, folder=folder)

    def messages(self, folder: str = "INBOX") -> list[bytes]:
        return self.dovecot.messages(self.name, folder)

    def open(self, more: str = "", **words: object) -> Database:
        return mailflow.mailbox(self.url + more, password=SECRET, **words)  # type: ignore[arg-type]

    def program(self) -> imaplib.IMAP4:
        """Another mail program."""
        session = imaplib.IMAP4("127.0.0.1", self.dovecot.imap_port, timeout=20)
        session.login(self.name, SECRET)
        return session


@pytest.fixture(scope="module")
def dovecot(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Dovecot]:
    with Dovecot(tmp_path_factory.mktemp("dovecot"), imap=True) as dovecot:
        yield dovecot


@pytest.fixture
def user(dovecot: Dovecot) -> User:
    return User(dovecot)


@pytest.fixture
def box(user: User) -> Iterator[Database]:
    with user.open() as box:
        yield box


@pytest.fixture
def said(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Each command that is sent from now on, without its tag."""
    lines: list[str] = []
    write = Wire.write

    def tapped(self: Wire, data: bytes) -> None:
        lines.extend(
            line.partition(" ")[2] for line in data.decode("latin-1").split("\r\n") if line
        )
        write(self, data)

    monkeypatch.setattr(Wire, "write", tapped)
    return lines


def sent(said: list[str], *keywords: str) -> list[str]:
    return [line for line in said if line.startswith(keywords)]


class TestOpening:
    def test_dal_01_a_url_names_the_server_the_user_and_the_protection(self, user: User) -> None:
        user.deliver(post())
        trust = f"ca_file={user.dovecot.ca_file}&timeout=20s"
        for url in (
            f"imaps://{user.name}@localhost:{user.dovecot.imaps_port}?{trust}",
            f"imap://{user.name}@localhost:{user.dovecot.imap_port}?{trust}",
        ):
            with mailflow.mailbox(url, password=SECRET) as box:
                assert box.folder("INBOX")().count() == 1

    def test_dal_01_imap_is_starttls_and_imaps_is_tls_from_the_first_octet(self) -> None:
        found = {
            scheme: Account.find(f"{scheme}://ann@imap.example.org", password=SECRET).options
            for scheme in ("imap", "imaps")
        }
        assert {scheme: (each.protection, each.number) for scheme, each in found.items()} == {
            "imap": ("starttls", 143),
            "imaps": ("implicit", 993),
        }

    def test_dal_01_a_password_in_a_url_is_refused_and_not_repeated(self) -> None:
        with pytest.raises(ConfigError, match="a password in a URL is seen by others") as caught:
            mailflow.mailbox(f"imaps://ann:{SECRET}@imap.example.org")
        assert SECRET not in caught.value.text

    def test_dal_01_a_token_takes_the_place_of_the_password(self, tmp_path: Path) -> None:
        file = tmp_path / "x.toml"
        file.write_text(
            '[account.work]\nuse = "imap"\nhost = "imap.example.org"\nuser = "ann"\n'
            'token = { command = ["oauth-token", "work"] }\n'
        )
        options = Account.find("work", file=str(file)).options
        assert options.ways == ("oauthbearer", "xoauth2")

    def test_dal_03_an_ipv6_host_stands_in_brackets(self) -> None:
        with socket.create_server(("::1", 0), family=socket.AF_INET6) as server:
            server.settimeout(20)
            port = server.getsockname()[1]

            def greet() -> None:
                with server.accept()[0] as client:
                    client.sendall(b"* BYE come back\r\n")

            thread = threading.Thread(target=greet)
            thread.start()
            try:
                url = f"imap://ann@[::1]:{port}?tls=none"
                with (
                    pytest.raises(UnavailableError, match="come back"),
                    mailflow.mailbox(url, password=SECRET) as box,
                ):
                    box.folders()
            finally:
                thread.join()


class TestPool:
    def test_dal_02_a_connection_that_has_died_is_replaced(
        self, user: User, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        user.deliver(post())
        wires: list[Wire] = []
        connect = Wire.connect

        def connected(*words: object, **named: object) -> Wire:
            wires.append(connect(*words, **named))  # type: ignore[arg-type]
            return wires[-1]

        monkeypatch.setattr(Wire, "connect", connected)
        with user.open() as box:
            inbox = box.folder("INBOX")
            assert inbox().count() == inbox().count() == 1
            assert len(wires) == 1, "a connection that works is used again"
            wires[0]._sock.shutdown(socket.SHUT_RDWR)
            assert inbox().count() == 1
            assert len(wires) == 2

    def test_dal_02_no_more_connections_are_kept_than_are_wanted(
        self, user: User, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        user.deliver(post())
        made: list[object] = []
        connect = Wire.connect

        def connected(*words: object, **named: object) -> Wire:
            made.append(1)
            return connect(*words, **named)  # type: ignore[arg-type]

        monkeypatch.setattr(Wire, "connect", connected)
        with user.open("&pool=3") as box:
            inbox = box.folder("INBOX")
            threads = [threading.Thread(target=lambda: inbox().count()) for _ in range(12)]
            for thread in threads:
                thread.start()
            for thread in threads:
                thread.join()
        assert 1 <= len(made) <= 3

    def test_a_selection_needs_no_connection_while_its_rows_are_looked_at(self, user: User) -> None:
        user.deliver(*(post(f"{number}") for number in range(5)))
        with user.open("&pool=1") as box:
            inbox = box.folder("INBOX")
            assert [inbox().count() for _ in inbox().select("email")] == [5] * 5


class TestTables:
    def test_dal_04_each_folder_that_can_be_opened_is_a_table(
        self, user: User, box: Database
    ) -> None:
        program = user.program()
        for folder in ("Lists.Red", '"Entw&APw-rfe 2"', "9.lives"):
            assert program.create(folder)[0] == "OK"
        program.logout()
        tables = box.define_tables()
        assert {"inbox": "INBOX", "lists_red": "Lists.Red", "entwürfe_2": "Entwürfe 2"}.items() <= (
            tables.items()
        )
        assert tables["_9_lives"] == "9.lives"
        assert "Lists" not in tables.values(), r"\Noselect"

    def test_dal_04_no_two_folders_have_one_name(self, user: User, box: Database) -> None:
        program = user.program()
        program.create("a-b")
        program.create("a_b")
        program.logout()
        folders = box.mailboxes
        assert {folders["a_b"], folders["a_b_2"]} == {"a-b", "a_b"}

    def test_dal_05_tables_that_are_named_once_for_all_need_no_list(
        self, user: User, said: list[str]
    ) -> None:
        user.deliver(post())
        with user.open(tables={"post": "INBOX"}) as box:
            assert box.mailboxes == {"post": "INBOX"}
            assert box.post().count() == 1
            assert box.define_tables({"trash": "Trash"}) == {"trash": "Trash"}
            assert box.tables == ["trash"]
        assert sent(said, "LIST") == []

    def test_dal_06_a_table_knows_its_folder_and_the_box_its_tables(self, box: Database) -> None:
        assert box.inbox.mailbox == box["INBOX"].mailbox == box.INBOX.mailbox == "INBOX"
        assert box.mailboxes["sent"] == "Sent"
        assert "inbox" in box.tables
        assert [table.mailbox for table in box] == list(box.mailboxes.values())
        with pytest.raises(AttributeError, match="nowhere"):
            box.nowhere  # noqa: B018
        with pytest.raises(KeyError):
            box["nowhere"]


MIXED = (
    b"From: =?utf-8?q?J=C3=BCrgen?= <j@example.org>\r\nTo: a@example.org\r\nTo: b@example.org\r\n"
    b"Cc: =?iso-8859-1?q?=C4nne?= <c@example.org>\r\nBcc: d@example.org\r\n"
    b"Subject: =?utf-8?b?R3LDvMOfZQ==?= an alle\r\nMIME-Version: 1.0\r\n"
    b'Content-Type: multipart/mixed; boundary="x"; charset=utf-8\r\n\r\n'
    b'--x\r\nContent-Type: multipart/alternative; boundary="y"\r\n\r\n'
    b"--y\r\nContent-Type: text/plain; charset=iso-8859-1\r\n"
    b"Content-Transfer-Encoding: quoted-printable\r\n\r\nGr=FC=DFe\r\n"
    b"--y\r\nContent-Type: text/html; charset=utf-8\r\nContent-Transfer-Encoding: base64\r\n\r\n"
    b"PGI+R3LDvMOfZTwvYj4=\r\n--y--\r\n"
    b"--x\r\nContent-Type: text/csv; charset=utf-8; name*=utf-8''%C3%BC.csv\r\n"
    b"Content-Disposition: attachment\r\n\r\na,b\r\n"
    b"--x\r\nContent-Type: image/png\r\nContent-Transfer-Encoding: base64\r\n"
    b"Content-Disposition: inline; filename==?utf-8?q?=C3=A4.png?=\r\n\r\niVBORw==\r\n--x--\r\n"
)


class TestRows:
    def test_dal_07_a_row_has_every_field(self, user: User, box: Database) -> None:
        user.deliver(MIXED)
        box.inbox().update(flagged=True)
        row = box.inbox().one("email")
        assert re.fullmatch(rf"INBOX;\d+;{row.uid}", row.id)
        assert (row.uid, row.folder, row.size) == (1, "INBOX", len(MIXED))
        assert abs((row.created - datetime.now(UTC)).total_seconds()) < 3600
        assert row.sender == row["from"] == "Jürgen <j@example.org>"
        assert (row.to, row.cc) == ("a@example.org, b@example.org", "Änne <c@example.org>")
        assert (row.bcc, row.subject) == ("d@example.org", "Grüße an alle")
        assert (row.mime, row.encoding) == ("multipart/mixed", "utf-8")
        assert row.email == read(row.raw) == MIXED
        flags = {name: row[name] for name in ("answered", "deleted", "draft", "flagged", "seen")}
        assert flags == {"answered": False, "deleted": False, "draft": False, "flagged": True,
                         "seen": False}  # fmt: skip
        assert isinstance(row.recent, bool)

    def test_dal_08_what_is_no_flag_cannot_be_changed(self, user: User, box: Database) -> None:
        user.deliver(post())
        for name in ("size", "uid", "subject", "created", "recent", "content", "id"):
            with pytest.raises(ValueError, match=f"{name} cannot be changed"):
                box.inbox().update(**{name: True})
        with pytest.raises(ValueError, match="nonsense"):
            box.inbox().update(nonsense=True)
        with pytest.raises(ValueError, match="True or False"):
            box.inbox().update(seen="yes")

    def test_dal_22_texts_and_attachments_are_decoded(self, user: User, box: Database) -> None:
        user.deliver(MIXED)
        row = box.inbox().one()
        assert row.content == [
            {"mime": "text/plain", "text": "Grüße"},
            {"mime": "text/html", "text": "<b>Grüße</b>"},
        ]
        assert row.attachments == [
            {"mime": "text/csv", "filename": "ü.csv", "encoding": "utf-8",
             "disposition": "attachment", "payload": b"a,b"},
            {"mime": "image/png", "filename": "ä.png", "encoding": "",
             "disposition": "inline", "payload": b"\x89PNG"},
        ]  # fmt: skip

    def test_dal_23_encoded_headers_are_shown_decoded(self, user: User, box: Database) -> None:
        user.deliver(MIXED)
        (row,) = box.inbox().select("sender", "cc", "subject", "header Subject")
        assert row.as_dict("sender", "cc", "subject", "header Subject") == {
            "sender": "Jürgen <j@example.org>", "cc": "Änne <c@example.org>",
            "subject": "Grüße an alle", "header Subject": "Grüße an alle",
        }  # fmt: skip

    def test_a_field_that_was_not_asked_for_is_read_when_it_is_looked_at(
        self, user: User, box: Database, said: list[str]
    ) -> None:
        user.deliver(post("One"))
        row = box.inbox().one("uid")
        assert not [line for line in sent(said, "UID FETCH") if "BODY" in line]
        assert row.subject == "One"
        assert row.content[0]["text"] == "hello\r\n"
        assert row.subject == "One"
        assert len([line for line in sent(said, "UID FETCH") if "BODY" in line]) == 2

    def test_what_is_gone_when_it_is_looked_at_is_told(self, user: User, box: Database) -> None:
        user.deliver(post())
        row = box.inbox().one("uid")
        assert box.inbox().delete() == 1
        with pytest.raises(GoneError, match="message 1 of INBOX"):
            row.content  # noqa: B018
        assert row.update(seen=True) == row.delete() == 0

    def test_a_field_that_is_none_is_refused_with_the_nearest(self, box: Database) -> None:
        with pytest.raises(ValueError, match="subject"):
            box.inbox().select("subjct")


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


class TestInserting:
    def test_dal_21_a_message_is_made_of_fields(self, user: User, box: Database) -> None:
        arrived = datetime(2020, 2, 29, 12, 30, tzinfo=UTC)
        key = box.sent.insert(
            sender="Jürgen <j@example.org>", to=["a@example.org", "Änne <b@example.org>"],
            cc="c@example.org", bcc="d@example.org", subject="Grüße an alle",
            content=[{"text": "Grüße"}, {"text": "<b>Grüße</b>", "mime": "text/html"}],
            attachments=[
                {"payload": b"\x00\xff", "filename": "ä.bin", "mime": "application/x-thing"},
                {"payload": "a,b\n", "filename": "t.csv", "mime": "text/csv",
                 "encoding": "utf-8", "disposition": "inline"},
            ],
            seen=True, flagged=True, created=arrived, headers={"X-Class": "good"},
        )  # fmt: skip
        row = box.sent.rows([key]).one("content", "attachments")
        assert row.id == key
        assert row.sender == "Jürgen <j@example.org>"
        assert row.to == "a@example.org, Änne <b@example.org>"
        assert (row.cc, row.bcc, row.subject) == (
            "c@example.org", "d@example.org", "Grüße an alle",
        )  # fmt: skip
        texts = [(each["mime"], each["text"].strip()) for each in row.content]
        assert texts == [("text/plain", "Grüße"), ("text/html", "<b>Grüße</b>")]
        assert row.attachments == [
            {"mime": "application/x-thing", "filename": "ä.bin", "encoding": "",
             "disposition": "attachment", "payload": b"\x00\xff"},
            {"mime": "text/csv", "filename": "t.csv", "encoding": "utf-8",
             "disposition": "inline", "payload": b"a,b\n"},
        ]  # fmt: skip
        assert (row.seen, row.flagged, row.draft) == (True, True, False)
        assert row.created == arrived
        assert row["header X-Class"] == "good"

    def test_dal_21_a_raw_message_is_kept_octet_for_octet(self, user: User, box: Database) -> None:
        raw = b"Subject:  odd   spacing\r\nX:\xe4\r\n\r\n--\xff\r\n.\r\nno end"
        key = box.inbox.insert(email=raw, answered=True, created=1e9)
        row = box.inbox.rows([key]).one("email")
        assert row.email == raw
        assert row.answered
        assert row.created.timestamp() == 1e9
        assert [to_crlf(each) for each in user.messages()] == [raw]

    def test_a_field_cannot_begin_another(self, box: Database) -> None:
        for fields in (
            {"subject": "x\r\nBcc: all@example.org"}, {"to": "a@example.org\nBcc: b@example.org"},
            {"headers": {"X-A": "b\r\n\r\nbody"}}, {"headers": {"X-A: b\r\nY": "z"}},
            {"attachments": [{"payload": b"x", "filename": "x\r\nX-B: c"}]},
            {"attachments": [{"payload": b"x", "mime": "text/x\r\nX-B: c"}]},
        ):  # fmt: skip
            with pytest.raises(ValueError, match=r"."):
                box.inbox.insert(**fields)
        assert box.inbox().isempty()

    def test_what_no_message_is_made_of_is_refused(self, box: Database) -> None:
        with pytest.raises(ValueError, match="subject"):
            box.inbox.insert(subjct="x")
        with pytest.raises(ValueError, match="whole message"):
            box.inbox.insert(email=post(), subject="x")
        with pytest.raises(ValueError, match="recent"):
            box.inbox.insert(subject="x", recent=True)
        with pytest.raises(ValueError, match="payload"):
            box.inbox.insert(attachments=[{"filename": "x"}])
