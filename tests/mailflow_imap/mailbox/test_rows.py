"""What a message is made of: the fields of a row, and those of one that is inserted."""

from __future__ import annotations

import re
from datetime import UTC, datetime

import pytest

from mailflow.errors import (
    GoneError,
)
from mailflow.lines import to_crlf
from mailflow.mail import read
from mailflow.mailboxes import Database

from .user import User, post, sent

pytestmark = pytest.mark.interop("dovecot-imapd")


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
