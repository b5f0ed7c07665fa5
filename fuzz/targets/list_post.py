"""A post to a list: a verdict, or the list's own header over the octets of the author."""

from __future__ import annotations

import time
from types import SimpleNamespace
from typing import Any

from mailflow.addresses import same
from mailflow.halt import Halt
from mailflow.kinds import Runtime
from mailflow.lines import to_crlf
from mailflow.log import Logger, clean
from mailflow.mail import Envelope, Header, Mail, Octets, head, read
from mailflow_list.dress import OF_A_LIST, PRIVATE
from mailflow_list.post import Post

PACKAGES = ["mailflow_list"]
WORDS = [
    b"From: ann@example.org\n", b"To: red@lists.example.org\n", b"Subject: ", b"Subject: [Red] ",
    b"=?utf-8?q?=5BRed=5D?=", b"Message-ID: <", b"List-Id: <red.lists.example.org>\n", b"X-Loop: ",
    b"Received: from a for <red@lists.example.org>; x\n", b"Auto-Submitted: auto-replied\n",
    b"Authentication-Results: mx.example.org; dmarc=pass\n", b"Sender: ", b"Reply-To: ", b"Bcc: ",
    b"Precedence: bulk\n", b"unsubscribe", b"\n\n", b"\n ", b"\r", b"\0", b"\xff", b"(", b")", b'"',
    b"\\", b"<mailto:red@lists.example.org>", b"Resent-Bcc: ", b"Return-Path: <>\n",
]  # fmt: skip
SEEDS = [
    b"From: Ann <ann@example.org>\nTo: red@lists.example.org\nSubject: =?utf-8?q?=C3=A9?= x\n"
    b"Message-ID: <1@x>\nBcc: eve@example.org\nReply-To: a@b\n\nhello\n",
    b"From x@y Mon Jan  1 00:00:00 2026\nFrom: ann@example.org, bob@example.org\n"
    b"Sender: bob@example.org\n"
    b"Delivered-To: red@lists.example.org\nAuthentication-Results: mx.example.org (a);dmarc=pass\n"
    b"Subject: unsubscribe red@lists.example.org\n\n",
]
MEMBERS = ["ann@example.org", "Bob <bob@example.org>", "red@lists.example.org"]
ALIKE = {"address": "Red \u2014 <red@lists.example.org>", "members": MEMBERS, "max_size": "1k"}
TABLES: list[dict[str, Any]] = [
    {**ALIKE, "prefix": "[Red]", "reply_to": "list", "posting": {"others": "accept"}},
    {**ALIKE, "prefix": "[R\u00e9d]", "reply_to": "author", "authserv": "mx.example.org",
     "unaddressed": "accept", "automatic": "accept"},
]  # fmt: skip
LOG: Any = SimpleNamespace(warning=lambda *_, **__: None, info=lambda *_, **__: None)


class Kept(dict[str, str]):
    """A memory that is empty at first."""

    def set(self, key: str, value: str, seconds: float) -> None:
        self[key] = value


def lists() -> list[Post]:
    runtime = Runtime("list", "fuzz", Halt(), Logger(), "")
    return [Post(Post.options.read(table), runtime) for table in TABLES]


LISTS = lists()


def one(data: bytes) -> None:
    approved, octets = data[:1] == b"!", to_crlf(data.removeprefix(b"!"))
    for post in LISTS:
        mail = Mail("1", Envelope("ann@example.org", ("red@lists.example.org",)), Octets(octets))
        context: Any = SimpleNamespace(
            name="list", pipeline="fuzz", memory=Kept(), log=LOG, approved=approved,
            now=time.time(), send=None, new=None,
        )  # fmt: skip
        for made in post.process(mail, context):
            if isinstance(made, Mail):
                look(mail, made)
            else:
                reason = getattr(made, "reason", "x")
                assert clean(reason) == reason, reason  # nothing that a terminal would obey


def look(before: Mail, after: Mail) -> None:
    section = head(after.content)
    header = Header(section)
    for name in PRIVATE:
        assert name not in header, name
    assert header.get_all("Sender") == [SENDER]
    for name in OF_A_LIST:
        assert len(header.get_all(name)) <= 1, name
    assert header.get_all("List-Id")[0].endswith("<red.lists.example.org>")
    body = read(before.content)[len(head(before.content)) :]
    assert read(after.content)[len(section) :].removeprefix(b"\r\n") == body.removeprefix(b"\r\n")
    assert after.envelope.sender == "red@lists.example.org"
    assert {same(each) for each in after.envelope.recipients} <= {
        "ann@example.org",
        "bob@example.org",
    }


SENDER = str(LISTS[0]._lists[0].mailbox)
