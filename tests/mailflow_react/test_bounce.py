"""`react.bounce`: who hears of a failure, what the notification says, and who never does."""

from __future__ import annotations

from email import message_from_bytes
from email.message import Message
from email.policy import default
from typing import Any

import pytest

from mailflow.errors import (
    BadMailError,
    ConfigError,
    LoginError,
    MailflowError,
    RefusedError,
    UnavailableError,
)
from mailflow.kinds import Trouble
from mailflow.mail import Envelope, Mail, read
from mailflow.testing.engine import Desk, mail
from mailflow.verdicts import FAILED, LATER, Bounce, Discard, Hold, Reject, Report
from mailflow_react.bounce import BounceReactor

DAY = 86400.0
TEXT = (
    "Received: from a by b\nFrom: Ann <ann@example.org>\nTo: bob@example.net\n"
    "Subject: =?utf-8?q?Gr=C3=BC=C3=9Fe?=\nMessage-ID: <1@example.org>\n\nsecret body\n"
)
REFUSED = RefusedError("mx.example.net: no such user", code="5.1.1")
PASSING = UnavailableError("mx.example.net: try later")


def reactor(**table: object) -> Any:
    return BounceReactor(
        BounceReactor.options.read({"from": "Mail <daemon@example.org>", **table}),  # type: ignore[arg-type]
        Desk().runtime,
    )


def failed(
    one: Mail | None = None, *, error: MailflowError = REFUSED, age: float = 60.0,
    recipients: tuple[str, ...] = ("bob@example.net",), reports: tuple[Report, ...] = (),
) -> Trouble:  # fmt: skip
    one = one or mail(TEXT, sender="ann@example.org", to=["bob@example.net", "cat@example.net"])
    return Trouble("distribute", "smtp", error, one, recipients, 1, age, None, reports)


def refused(one: Mail, reason: str = "eve@x.org is not a member") -> Trouble:
    return Trouble("verdict", "list.post", RefusedError(reason), one, one.envelope.recipients,
                   verdict=Reject(reason))  # fmt: skip


def told(trouble: Trouble, **table: object) -> tuple[Mail, Message]:
    """The notification, and as a mail program reads it."""
    desk = Desk()
    assert isinstance(desk.react(reactor(**table), trouble), Bounce)
    ((notice, _),) = desk.sent
    return notice, message_from_bytes(read(notice.content), policy=default)


def untold(trouble: Trouble) -> object:
    """What the reactor answers where it tells nobody."""
    desk = Desk()
    answer = desk.react(reactor(), trouble)
    assert desk.sent == []
    return answer


# The notification


def test_the_sender_is_told_from_the_null_sender() -> None:
    notice, message = told(failed())
    assert notice.envelope == Envelope("", ("ann@example.org",))
    assert message["To"] == "ann@example.org"
    assert message["From"] == "Mail <daemon@example.org>"
    assert message["Auto-Submitted"] == "auto-replied"
    assert message["In-Reply-To"] == message["References"] == "<1@example.org>"
    assert message["Date"]
    assert message["Message-ID"].endswith("@example.org>")
    assert "notice" in notice.notes


def test_it_is_a_report_of_three_parts(tmp_path: Any) -> None:
    """RFC 3464: words, fields for programs, the header of the mail; not its body."""
    notice, message = told(failed())
    assert message.get_content_type() == "multipart/report"
    assert message.get_param("report-type") == "delivery-status"
    types = [part.get_content_type() for part in message.iter_parts()]  # type: ignore[attr-defined]
    assert types == ["text/plain", "message/delivery-status", "text/rfc822-headers"]
    octets = read(notice.content)
    assert b"secret body" not in octets
    assert b"\n" not in octets.replace(b"\r\n", b"")
    assert octets.isascii()
    assert max(len(line) for line in octets.split(b"\r\n")) <= 998


def parts(message: Message) -> tuple[str, list[Message], str]:
    words, status, header = message.iter_parts()  # type: ignore[attr-defined]
    texts = [part.get_content().replace("\r\n", "\n") for part in (words, header)]
    return texts[0], status.get_payload(), texts[1]


def test_each_recipient_has_its_fields() -> None:
    reports = (
        Report("bob@example.net", FAILED, "5.1.1", "550 no\r\n such user", "mx.example.net"),
        Report("cat@example.net", FAILED, "", "554 no", ""),
    )
    one = failed(recipients=("bob@example.net", "cat@example.net"), reports=reports)
    words, (about, bob, cat), header = parts(told(one)[1])
    assert about["Reporting-MTA"] == "dns; example.org"
    assert "2001" in about["Arrival-Date"]
    assert bob["Final-Recipient"] == "rfc822; bob@example.net"
    assert bob["Action"] == "failed"
    assert bob["Status"] == "5.1.1"
    assert bob["Remote-MTA"] == "dns; mx.example.net"
    assert bob["Diagnostic-Code"] == "smtp; 550 no such user"
    assert cat["Final-Recipient"] == "rfc822; cat@example.net"
    assert cat["Status"] == "5.1.1"
    assert "Remote-MTA" not in cat
    assert "mx.example.net said: 550 no such user" in words
    assert "cat@example.net\n        554 no" in words
    assert header.startswith("Received: from a by b\nFrom: Ann")
    assert "=?utf-8?q?Gr=C3=BC=C3=9Fe?=" in header


def test_one_address_of_several_on_a_refused_post_is_not_given_away() -> None:
    words = parts(told(failed())[1])[0]
    assert "cat@example.net" not in words


def test_pml_30_a_mail_to_a_mailbox_names_whom_it_was_for() -> None:
    """A Maildir reports recipient ""; the mail says where it was delivered."""
    text = "Delivered-To: bob@example.net\n" + TEXT
    one = mail(text, sender="ann@example.org")
    trouble = failed(one, recipients=("",), reports=(Report("", FAILED, "5.2.2", "full"),))
    _, (_, bob), _ = parts(told(trouble)[1])
    assert bob["Final-Recipient"] == "rfc822; bob@example.net"
    assert bob["Status"] == "5.2.2"


@pytest.mark.parametrize("code", ["5", "5.1.1\r\nX: y", "999", "abc"])
def test_d18_a_status_code_that_is_none_is_not_repeated(code: str) -> None:
    reports = (Report("bob@example.net", FAILED, code, "no", "mx\r\nX-Evil: 1"),)
    error = RefusedError("no", code=code)
    _, (_, bob), _ = parts(told(failed(error=error, reports=reports))[1])
    assert bob["Status"] == "5.0.0"
    assert "X-Evil" not in bob


def test_d18_nothing_of_the_mail_gets_into_the_header_of_the_notification() -> None:
    text = "Message-ID: <a b@x>\r\n\tBcc: eve@x.org\nSubject: =?utf-8?q?a=0D=0ABcc:_b?=\n\n"
    _, message = told(failed(mail(text, sender="ann@example.org", to=["a@x.org", "b@x.org"])))
    assert "Bcc" not in message
    assert "In-Reply-To" not in message
    assert message["Subject"] == "Your mail could not be delivered"


def test_d18_an_encoded_word_of_others_is_not_written_decoded() -> None:
    word = "=?utf-8?q?x=0d=0aX-Evil=3a_1?="
    reports = (Report("bob@example.net", FAILED, "5.1.1", f"550 {word} no", f"mx {word}"),)
    one = mail(f"Message-ID: <{word}@x.org>\n\n", sender=f"{word}@x.org", to=[f"{word}@y.org"])
    notice, message = told(failed(one, reports=reports))
    assert b"\r\nX-Evil" not in read(notice.content)
    assert notice.envelope.recipients == (f"{word}@x.org",)
    assert len(parts(message)[1]) == 2


def test_a_huge_or_broken_header_is_given_back_in_part() -> None:
    huge = b"".join(b"X-%d: %s\r\n" % (number, b"x" * 2000) for number in range(400))
    octets = b"Subject: caf\xe9 \0 \r x\r\n" + huge + b"\r\nbody"
    one = mail(octets, sender="ann@example.org", to=["a@x.org", "b@x.org"])
    notice, message = told(failed(one))
    assert notice.content.size < 200_000
    header = parts(message)[2]
    assert header.startswith("Subject: caf\ufffd")
    assert "X-1: xxx" in header


@pytest.mark.parametrize(
    "sender", ['"a b"@x.org', '"a\\"b"@x.org', "a@[192.0.2.1]", "a..b@x.org", ".a@x.org", "%!@x",
               "x" * 300 + "@x.org", '"a@b"@x.org', "a=b?@x.org"],
)  # fmt: skip
def test_a_sender_with_an_odd_address_is_told(sender: str) -> None:
    notice, message = told(failed(mail(TEXT, sender=sender, to=["a@x.org", "b@x.org"])))
    assert notice.envelope.recipients == (sender,)
    assert message["Subject"] == "Your mail could not be delivered"


def test_a_sender_beyond_ascii_is_told_in_utf_8() -> None:
    one = mail(TEXT, sender="jürgen@example.org", to=["a@x.org", "b@x.org"])
    notice, _ = told(failed(one))
    assert notice.envelope.recipients == ("jürgen@example.org",)
    assert "To: <jürgen@example.org>".encode() in read(notice.content)


def test_via_names_the_step_that_sends_it() -> None:
    desk = Desk()
    desk.react(reactor(via="smarthost"), failed())
    assert [via for _, via in desk.sent] == ["smarthost"]


# When


def test_what_may_pass_is_given_up_only_when_its_time_is_over() -> None:
    reports = (Report("bob@example.net", LATER, "4.2.0", "later", "mx"),)
    assert untold(failed(error=PASSING, age=5 * DAY - 1, reports=reports)) is None
    _, (_, bob), _ = parts(told(failed(error=PASSING, age=5 * DAY, reports=reports))[1])
    assert bob["Status"] == "4.2.0"
    told(failed(error=PASSING, age=2 * DAY), **{"for": "1d"})


@pytest.mark.parametrize(
    "error", [LoginError("smtp: user red refused"), ConfigError("x"), BadMailError("x")]
)
def test_a_fault_on_our_side_is_not_at_once_a_bounce_nor_told_in_detail(
    error: MailflowError,
) -> None:
    assert untold(failed(error=error)) is None
    words, (_, bob), _ = parts(told(failed(error=error, age=6 * DAY))[1])
    assert "it could not be delivered for 6 days" in words
    assert "refused" not in words
    assert bob["Status"] == "4.4.7"


@pytest.mark.parametrize("stage", ["fetch", "process", "unrouted"])
def test_other_stages_are_left_to_others(stage: str) -> None:
    one = None if stage == "fetch" else mail(TEXT, sender="ann@example.org")
    assert untold(Trouble(stage, "x", REFUSED, one)) is None


@pytest.mark.parametrize("verdict", [Hold("x"), Discard("x")])
def test_a_verdict_that_is_no_refusal_is_left_to_others(verdict: Any) -> None:
    one = mail(TEXT, sender="ann@example.org")
    assert untold(Trouble("verdict", "x", REFUSED, one, verdict=verdict)) is None


def test_pml_09_the_author_of_a_refused_post_hears_the_reason() -> None:
    one = mail(TEXT, sender="eve@x.org", to=["red@example.org"])
    notice, message = told(refused(one))
    assert notice.envelope.recipients == ("eve@x.org",)
    words, (_, red), _ = parts(message)
    assert "eve@x.org is not a member" in words
    assert "red@example.org" in words
    assert message["Subject"] == "Your mail was not accepted"
    assert (red["Status"], red["Final-Recipient"]) == ("5.7.1", "rfc822; red@example.org")


def test_from_a_mailbox_the_return_path_says_whom_to_tell() -> None:
    notice, message = told(refused(mail("Return-Path: <eve@x.org>\n" + TEXT)))
    assert notice.envelope.recipients == ("eve@x.org",)
    assert parts(message)[1][1]["Final-Recipient"] == "rfc822; bob@example.net"


# Never


@pytest.mark.parametrize("sender", [None, ""])
def test_d20_the_null_and_the_unknown_sender_are_never_told(sender: str | None) -> None:
    """And a mail that nobody can be told of is not given up."""
    one = mail(TEXT, sender=sender, to=["a@x.org", "b@x.org"])
    assert untold(failed(one)) is None
    assert isinstance(untold(refused(one)), Bounce)


@pytest.mark.parametrize(
    "field",
    [
        "Auto-Submitted: auto-replied",
        "Content-Type: multipart/report",
        "X-Autoreply: yes",
    ],
)
def test_l3_an_automatic_answer_is_never_answered(field: str) -> None:
    one = mail(f"{field}\n{TEXT}", sender="ann@example.org", to=["a@x.org", "b@x.org"])
    assert untold(failed(one)) is None
    answer = untold(refused(one))
    assert isinstance(answer, Bounce)
    assert "nobody is told" in answer.reason


@pytest.mark.parametrize("field", ["Auto-Submitted: auto-generated", "Precedence: bulk",
                                   "Precedence: list", "List-Id: <x.org>"])  # fmt: skip
def test_l3_a_refusal_is_not_told_to_programs_and_lists_but_a_failure_is(field: str) -> None:
    one = mail(f"{field}\n{TEXT}", sender="owner-x@x.org", to=["a@x.org", "b@x.org"])
    assert isinstance(untold(refused(one)), Bounce)
    told(failed(one))


@pytest.mark.parametrize(
    "sender", ["red@example.org", "Daemon@example.org", "old@example.org", "not an address"]
)
def test_l1_a_lists_own_address_is_never_told(sender: str) -> None:
    one = mail("Delivered-To: old@example.org\n" + TEXT, sender=sender, to=["red@example.org"])
    assert isinstance(untold(refused(one)), Bounce)
    assert untold(failed(one, recipients=("red@example.org",))) is None


POSTED = {"list": "Red <red@example.org>", "list_name": "red"}


def test_l10_a_dead_member_costs_that_member_the_post_and_nobody_is_told() -> None:
    to = [f"m{number}@x.org" for number in range(10)]
    one = mail(TEXT, sender="red@example.org", to=to, notes=POSTED)
    answer = untold(failed(one, recipients=("m3@x.org", "m4@x.org")))
    assert isinstance(answer, Bounce)
    assert "no such user" in answer.reason


def test_l10_a_post_that_every_member_is_refused_is_kept_for_a_human() -> None:
    one = mail(TEXT, sender="red@example.org", to=["a@x.org", "b@x.org"], notes=POSTED)
    assert untold(failed(one, recipients=("a@x.org", "b@x.org"))) is None
    assert untold(failed(one, recipients=("a@x.org",), error=PASSING, age=9 * DAY)) is None


def test_a_notice_that_fails_makes_no_notice() -> None:
    one = mail(TEXT, sender="ann@example.org", to=["a@x.org", "b@x.org"], notes={"notice": "x"})
    assert isinstance(untold(failed(one)), Bounce)


def test_a_notification_that_comes_to_a_list_is_dropped_there() -> None:
    """What we send is what our own guards know."""
    from mailflow.automatic import answer

    notice, _ = told(failed())
    assert answer(notice)
    assert answer(notice.replace(envelope=Envelope(None, ())))


@pytest.mark.parametrize("value", ["daemon", "a@x.org\r\nBcc: b@x.org", ""])
def test_d18_from_must_be_an_address(value: str) -> None:
    with pytest.raises(ConfigError, match="from: expected"):
        reactor(**{"from": value})
