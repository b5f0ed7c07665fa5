"""Mail that is sent by the compose forms of real webmails, into a real SMTP server's hands."""

from __future__ import annotations

import email
import email.policy
import os
from collections.abc import Iterator
from email.message import EmailMessage
from pathlib import Path
from typing import Any

import pytest

import mailflow
from mailflow.errors import MailflowError
from mailflow.halt import Halt
from mailflow.kinds import Runtime, Ticket
from mailflow.mail import Envelope, Mail, Octets
from mailflow.testing.engine import LogDouble
from mailflow.testing.http_way import HttpWay
from mailflow.testing.roundcube import SKINS, Roundcube
from mailflow.testing.smtp import SmtpSink
from mailflow.testing.sqwebmail import SqWebMail
from mailflow.verdicts import FAILED, LATER, SENT, Outcome

from .webmail_servers import PASSWORD, RoundcubeAccount, SqWebMailAccount, WebAccount

AT_ROUNDCUBE = pytest.mark.interop(
    "dovecot-imapd", "php-cli", "roundcube-core", "roundcube-sqlite3", "roundcube-skin-larry",
    "roundcube-skin-classic",
)  # fmt: skip

AT_SQWEBMAIL = [
    pytest.mark.interop("sqwebmail", "courier-authlib-userdb", "lighttpd"),
    pytest.mark.skipif(os.geteuid() != 0, reason="only root can start SqWebMail"),
]

BOB, CAT, EVE = "bob@example.org", "cat@example.org", "eve@example.org"

TEXT = (
    "hello \u00e4 \u20ac \U0001f600\r\n> quoted\r\n.dot\r\n\r\n  two  spaces \r\n-- \r\nFrom me\r\n"
)

OCTETS = bytes(range(256)) * 8


@pytest.fixture(scope="module")
def sink() -> Iterator[SmtpSink]:
    with SmtpSink() as sink:
        yield sink


@pytest.fixture
def ann(at_roundcube: RoundcubeAccount, roundcube: Roundcube, sink: SmtpSink) -> RoundcubeAccount:
    """A user of Roundcube, which sends to the sink."""
    clear(sink)
    if roundcube.smtp_port != sink.port:
        roundcube.smtp_port = sink.port
        roundcube.configure()
    return at_roundcube


@pytest.fixture(scope="module")
def sending(sqwebmail: SqWebMail, sink: SmtpSink) -> SqWebMail:
    sqwebmail.sends_to(sink.port)
    return sqwebmail


@pytest.fixture
def ben(sending: SqWebMail, at_sqwebmail: SqWebMailAccount, sink: SmtpSink) -> SqWebMailAccount:
    """A user of SqWebMail, which sends to the sink."""
    clear(sink)
    return at_sqwebmail


def clear(sink: SmtpSink) -> None:
    sink.messages.clear()
    sink._rules.clear()


def written(sender: str, text: str = TEXT, **fields: str) -> EmailMessage:
    """A mail to Bob and, in Cc, to Cat."""
    message = EmailMessage(policy=email.policy.SMTP)
    message["From"] = sender
    message["To"] = f'"Bob, the first" <{BOB}>'
    message["Cc"] = f"Jörg Cat <{CAT}>"
    message["Subject"] = "Grüße, and more"
    for name, value in fields.items():
        message[name.replace("_", "-")] = value
    message.set_content(text.replace("\r\n", "\n"), cte="8bit")
    return message


def with_files(message: EmailMessage) -> EmailMessage:
    message.add_attachment(OCTETS, "application", "octet-stream", filename="naïve file.bin")
    message.add_attachment(b"%PDF-1.4\r\n", "application", "pdf", filename="b.pdf")
    return message


def send(
    account: WebAccount, message: EmailMessage, *to: str, resumed: bool = False, **options: Any
) -> tuple[Outcome, str]:
    """The outcome, which is one for all, and its text."""
    from mailflow_webmail.distributor import WebmailDistributor

    table = {name: value for name, value in account.source(**options).items() if name != "use"}
    halt, log = Halt(), LogDouble()
    runtime = Runtime("webmail", "suite", halt, log, str(account.home))  # type: ignore[arg-type]
    mail = Mail("0", Envelope(None, to), Octets(message.as_bytes()))
    with WebmailDistributor(WebmailDistributor.options.read(table), runtime) as distributor:
        reports = list(distributor.distribute(mail, Ticket("t-1", to, resumed=resumed)))
    halt.close()
    assert [report.recipient for report in reports] == list(to)
    (outcome,) = {report.outcome for report in reports}
    assert PASSWORD not in repr((reports, log.lines))
    return outcome, reports[0].text


def arrived(sink: SmtpSink) -> EmailMessage:
    """The one mail that the sink has taken."""
    (message,) = sink.messages
    return email.message_from_bytes(message.data, policy=email.policy.default)  # type: ignore[return-value]


def said(message: EmailMessage) -> str:
    body = message.get_body(("plain",))
    assert body is not None
    text = str(body.get_content()).replace("\r\n", "\n").rstrip("\n")
    return f"{text}\n".replace("\n", "\r\n")


def files(message: EmailMessage) -> list[tuple[str | None, bytes]]:
    return [
        (each.get_filename(), each.get_payload(decode=True)) for each in message.iter_attachments()
    ]  # type: ignore[misc]


# Roundcube


@AT_ROUNDCUBE
@pytest.mark.parametrize("skin", SKINS)
def test_pwm_36_a_mail_sent_by_roundcubes_form_arrives_as_it_was_written(
    ann: RoundcubeAccount, roundcube: Roundcube, sink: SmtpSink, skin: str
) -> None:
    sender = f"{ann.user}@127.0.0.1"
    message = written(
        sender, Message_ID="<1@example.org>", In_Reply_To="<0@example.org>",
        References="<9@example.org> <0@example.org>", Reply_To=f"Red <{EVE}>",
    )  # fmt: skip
    with roundcube.configured(skin=f"'{skin}'"):
        assert send(ann, with_files(message), BOB, CAT, EVE)[0] is SENT
    made = arrived(sink)
    assert (sink.messages[0].sender, sink.messages[0].recipients) == (sender, (BOB, CAT, EVE))
    for name in ("To", "Cc", "Subject", "Message-ID", "In-Reply-To", "References", "Reply-To"):
        assert str(made[name]) == str(message[name])
    assert sender in made["From"]
    assert made["Bcc"] is None
    assert said(made) == TEXT
    assert files(made) == [("naïve file.bin", OCTETS), ("b.pdf", b"%PDF-1.4\r\n")]


@AT_ROUNDCUBE
def test_the_identity_is_chosen_that_the_mail_is_from(
    ann: RoundcubeAccount, roundcube: Roundcube, sink: SmtpSink
) -> None:
    with ann.session() as session:
        session.log_in()
    roundcube.add_identity(ann.user, "Red, the club", "red@example.org")
    roundcube.add_identity(ann.user, "Redder", "red@example.org")
    roundcube.add_identity(ann.user, "Ann", "ann@example.org")
    assert send(ann, written('"Red, the club" <red@example.org>'), BOB, CAT)[0] is SENT
    assert sink.messages[0].sender == "red@example.org"
    assert str(arrived(sink)["From"]) == '"Red, the club" <red@example.org>'
    assert send(ann, written("Red <red@example.org>"), BOB, CAT)[0] is FAILED
    clear(sink)
    assert send(ann, written("Redder <red@example.org>"), BOB, CAT)[0] is SENT
    assert str(arrived(sink)["From"]) == "Redder <red@example.org>"


@AT_ROUNDCUBE
@pytest.mark.parametrize(
    ("sender", "why"), [("eve@example.org", "it is from eve@example.org"), ("Ann <{}>", '"name"')]
)
def test_mail_from_somebody_else_is_not_sent(
    ann: RoundcubeAccount, sink: SmtpSink, sender: str, why: str
) -> None:
    outcome, text = send(ann, written(sender.format(f"{ann.user}@127.0.0.1")), BOB, CAT)
    assert outcome is FAILED
    assert why in text
    assert sink.messages == []


@AT_ROUNDCUBE
@pytest.mark.parametrize(("reply", "outcome"), [("550 5.1.1 no", FAILED), ("450 4.1.1 no", LATER)])
def test_what_the_mail_server_behind_roundcube_refuses_is_told_in_its_words(
    ann: RoundcubeAccount, sink: SmtpSink, reply: str, outcome: Outcome
) -> None:
    sink.on("RCPT", reply, match=f"{CAT}*")
    found, text = send(ann, written(f"{ann.user}@127.0.0.1"), BOB, CAT)
    assert found is outcome
    assert reply[:3] in text
    assert CAT in text
    assert sink.messages == []


@AT_ROUNDCUBE
def test_a_file_that_roundcube_finds_too_large_is_refused(
    ann: RoundcubeAccount, sink: SmtpSink
) -> None:
    message = written(f"{ann.user}@127.0.0.1")
    message.add_attachment(bytes(3 << 20), "application", "pdf", filename="a.pdf")
    outcome, text = send(ann, message, BOB, CAT)
    assert outcome is FAILED
    assert "exceeds" in text
    assert sink.messages == []


@AT_ROUNDCUBE
def test_what_is_in_doubt_is_looked_up_and_not_sent_twice(
    ann: RoundcubeAccount, roundcube: Roundcube, sink: SmtpSink
) -> None:
    """The answer to the form is lost; in Sent there is the mail, to the same people."""
    message = written(f"{ann.user}@127.0.0.1", Message_ID="<1@example.org>")

    def lose(path: str, body: bytes) -> bytes:
        if b"sent_successfully" in body:
            raise ConnectionResetError
        return body

    with HttpWay(roundcube.url) as way:
        ann.url = way.url
        way.rewrite = lose
        with pytest.raises(MailflowError) as caught:
            send(ann, message, BOB, CAT, EVE)
        assert caught.value.temporary
        assert len(sink.messages) == 1
        assert "found" in send(ann, message, BOB, CAT, EVE, resumed=True)[1]
        assert len(sink.messages) == 1
        way.clear()
        message.replace_header("Message-ID", "<2@example.org>")
        assert send(ann, message, BOB, CAT, resumed=True)[0] is SENT
    assert [each.recipients for each in sink.messages] == [(BOB, CAT, EVE), (BOB, CAT)]


@AT_ROUNDCUBE
def test_what_went_out_is_sent_though_roundcube_cannot_keep_it(
    ann: RoundcubeAccount, sink: SmtpSink
) -> None:
    """It tells of a quota, say, or of a folder out of order, and then that the mail was sent."""
    sent = Path(ann.mail.path(ann.user, "Sent"))
    (sent / "cur").mkdir(parents=True)
    (sent / "new").mkdir()
    (sent / "tmp").touch()
    assert send(ann, written(f"{ann.user}@127.0.0.1"), BOB, CAT)[0] is SENT
    assert len(sink.messages) == 1


@AT_ROUNDCUBE
def test_a_form_that_has_changed_sends_nothing(
    ann: RoundcubeAccount, roundcube: Roundcube, sink: SmtpSink
) -> None:
    with HttpWay(roundcube.url) as way:
        ann.url = way.url
        way.rewrite = lambda path, body: body.replace(b'name="_bcc"', b'name="_blind"')
        with pytest.raises(MailflowError, match="'_bcc'") as caught:
            send(ann, written(f"{ann.user}@127.0.0.1"), BOB, CAT)
    assert caught.value.exit_code == 76
    assert sink.messages == []


@AT_ROUNDCUBE
def test_a_list_needs_nothing_but_a_webmail(
    ann: RoundcubeAccount, roundcube: Roundcube, sink: SmtpSink
) -> None:
    own = f"{ann.user}@example.org"
    with roundcube.configured(mail_domain="'example.org'"):
        assert run_list(ann, own) == 0
    made = arrived(sink)
    assert (sink.messages[0].sender, sink.messages[0].recipients) == (own, (BOB, CAT))
    assert (made["To"], made["Subject"]) == ("undisclosed-recipients:;", "hello")
    assert own in made["From"]
    assert made["Reply-To"] == own
    assert said(made).strip() == "to all"
    assert ann.there() == []


def run_list(account: WebAccount, own: str) -> int:
    """One run of a list of this address, to which Bob has written; its exit status."""
    account.deliver(
        f"From: Ben <{BOB}>\r\nTo: {own}\r\nSubject: hello\r\nMessage-ID: <1@example.org>\r\n\r\n"
        "to all\r\n".encode()
    )
    source = account.source()
    pipeline = {
        "pipeline": {"name": "red", "journal": str(account.home / "journal.db")},
        "fetch": [{**source, "keep": "0d"}],
        "process": [
            {"use": "list.post", "address": own, "members": [BOB, CAT], "reply_to": "list"},
            {"use": "filter.rewrite", "set": {"From": own}},
        ],
        "distribute": [
            {**source, "loses": ["addressees"], "drops": ["List-*", "Precedence", "X-Loop"]}
        ],
    }
    return mailflow.run(pipeline, now=True)


# SqWebMail


class TestSqWebMail:
    pytestmark = AT_SQWEBMAIL

    def test_pwm_36_a_mail_sent_by_its_form_arrives(
        self, ben: SqWebMailAccount, sink: SmtpSink
    ) -> None:
        """Of the text, spaces at the ends of lines are lost: format=flowed has them for itself,
        and puts one before those at the beginning."""
        message = written("Ben <ben@example.org>", Reply_To=f"Red <{EVE}>")
        assert send(ben, with_files(message), BOB, CAT, EVE)[0] is SENT
        made = arrived(sink)
        assert set(sink.messages[0].recipients) == {BOB, CAT, EVE}
        for name in ("From", "To", "Cc", "Subject", "Reply-To"):
            assert str(made[name]) == str(message[name])
        assert [*map(str.strip, said(made).splitlines())] == [*map(str.strip, TEXT.splitlines())]
        assert files(made) == [("naïve file.bin", OCTETS), ("b.pdf", b"%PDF-1.4\r\n")]

    def test_a_mail_without_files_arrives(self, ben: SqWebMailAccount, sink: SmtpSink) -> None:
        assert send(ben, written("ben@example.org"), BOB, CAT)[0] is SENT
        assert list(arrived(sink).iter_attachments()) == []

    def test_a_file_whose_line_ends_would_change_is_refused(
        self, ben: SqWebMailAccount, sink: SmtpSink
    ) -> None:
        message = written("ben@example.org")
        message.add_attachment(b"one\ntwo\n", "text", "csv", filename="a.csv")
        outcome, text = send(ben, message, BOB, CAT)
        assert outcome is FAILED
        assert '"line-ends"' in text
        assert sink.messages == []
        assert send(ben, message, BOB, CAT, loses=["line-ends"])[0] is SENT
        assert files(arrived(sink)) == [("a.csv", b"one\r\ntwo\r\n")]

    def test_what_sendmail_refuses_is_told_in_its_words(
        self, ben: SqWebMailAccount, sink: SmtpSink
    ) -> None:
        sink.on("RCPT", "450 4.1.1 not now")
        outcome, text = send(ben, written("ben@example.org"), BOB, CAT)
        assert outcome is LATER
        assert "450 4.1.1 not now" in text
        assert sink.messages == []

    def test_an_answer_to_a_mail_is_refused_unless_that_may_be_lost(
        self, ben: SqWebMailAccount, sink: SmtpSink
    ) -> None:
        message = written("ben@example.org", In_Reply_To="<0@example.org>")
        outcome, text = send(ben, message, BOB, CAT)
        assert outcome is FAILED
        assert "In-Reply-To" in text
        assert sink.messages == []
        assert send(ben, message, BOB, CAT, drops=["In-Reply-To"])[0] is SENT

    def test_more_recipients_than_a_field_takes_are_sent_in_several_forms(
        self, ben: SqWebMailAccount, sink: SmtpSink
    ) -> None:
        many = [f"member{number}@example.org" for number in range(40)]
        message = written("ben@example.org")
        outcome, text = send(ben, message, *many, loses=["addressees"])
        assert outcome is FAILED
        assert "512 characters" in text
        assert "recipients_max" in text
        found = send(ben, message, *many, loses=["addressees"], recipients_max=20)
        assert found[0] is SENT
        assert [list(each.recipients) for each in sink.messages] == [many[:20], many[20:]]

    def test_a_list_needs_nothing_but_the_one_session_there(
        self, ben: SqWebMailAccount, sink: SmtpSink
    ) -> None:
        """What fetches and what sends take turns, since a second login ends the first."""
        own = f"{ben.user}@example.org"
        assert run_list(ben, own) == 0
        assert set(sink.messages[0].recipients) == {BOB, CAT}
        assert (arrived(sink)["From"], arrived(sink)["To"]) == (own, None)
        assert ben.there() == []
