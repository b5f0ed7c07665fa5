"""Mail that is sent by the compose form of the test bed: what arrives, and what goes wrong."""

from __future__ import annotations

import email
import email.policy
import socket
import threading
from collections.abc import Iterator, Sequence
from contextlib import closing
from typing import Any

import pytest

from mailflow.errors import JournalError, MailflowError, UnavailableError
from mailflow.halt import Halt
from mailflow.kinds import Ticket
from mailflow.testing.contracts.component import Stage
from mailflow.testing.contracts.distributor import attempt, deliver, letter, outcomes
from mailflow.testing.http_way import HttpWay
from mailflow.verdicts import FAILED, LATER, SENT
from mailflow_webmail.account.session import opened
from mailflow_webmail.definition.site import find
from mailflow_webmail.distributor import WebmailDistributor
from mailflow_webmail.settings import WebmailOptions
from mailflow_webmail.web.browser import Browser

from ..contracts.webmail_forms import Bed, running
from .web import Asked, Web, ok, to

BOB = "bob@example.org"


@pytest.fixture(scope="module")
def bed(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Bed]:
    with running(tmp_path_factory.mktemp("forms")) as bed:
        yield bed


@pytest.fixture
def destination(bed: Bed) -> Iterator[Bed]:
    yield bed
    bed.clear()


@pytest.fixture
def stage(destination: Bed, tmp_path: Any) -> Iterator[Stage]:
    table = {**destination.table, "loses": [], "drops": [], "timeout": "20s"}
    stage = Stage(WebmailDistributor, table, tmp_path / "stage")
    yield stage
    stage.halt.close()


def post(stage: Stage, octets: bytes, *to: str, resumed: bool = False) -> dict[str, Any]:
    """What is reported for each; `commits` as they came."""
    commits: list[Sequence[str]] = []
    mail = letter(octets).replace(envelope=letter().envelope._replace(sender=None, recipients=to))
    reports = deliver(stage, mail, Ticket("t-1", to, resumed=resumed, commit=commits.append))
    return {"told": outcomes(reports), "text": reports[0].text, "commits": commits}


def failing(stage: Stage) -> tuple[MailflowError, list[Sequence[str]]]:
    """The error that ends it without a report, and what was committed."""
    commits: list[Sequence[str]] = []
    reports, error = attempt(stage, letter(mail()), Ticket("t-1", (BOB,), commit=commits.append))
    assert reports == []
    assert error is not None
    return error, commits


def mail(*fields: str, body: str = "hello\r\n", sender: str = "Ann <ann@example.org>") -> bytes:
    head = (f"From: {sender}", "To: bob@example.org", "Subject: hello", *fields)
    return "".join(f"{line}\r\n" for line in (*head, "", body)).encode()


def test_pwm_36_what_a_form_says_arrives_as_it_was_written(stage: Stage, destination: Bed) -> None:
    octets = mail(
        "Cc: =?utf-8?q?J=C3=B6rg=2C_X?= <cleo@example.org>", "Message-ID: <1@example.org>",
        "In-Reply-To: <0@example.org>", "References: <9@example.org> <0@example.org>",
        "Reply-To: List <red@example.org>", 'Content-Type: multipart/mixed; boundary="b"',
        body='--b\r\n\r\nwhat\r\n--b\r\nContent-Disposition: attachment; filename="gr=.pdf"\r\n'
        "Content-Type: application/pdf\r\nContent-Transfer-Encoding: base64\r\n\r\nJVBERg==\r\n"
        "--b--",
    )  # fmt: skip
    told = post(stage, octets, BOB, "cleo@example.org", "blind@example.org")
    assert set(told["told"].values()) == {SENT}
    (sent,) = destination.octets()
    message = email.message_from_bytes(sent, policy=email.policy.default)
    for name, value in {
        "From": "Ann <ann@example.org>", "To": BOB, "Cc": '"Jörg, X" <cleo@example.org>',
        "Subject": "hello", "Message-ID": "<1@example.org>", "In-Reply-To": "<0@example.org>",
        "References": "<9@example.org> <0@example.org>", "Reply-To": "List <red@example.org>",
        "X-Envelope-To": "bob@example.org, cleo@example.org, blind@example.org",
    }.items():  # fmt: skip
        assert str(message[name]) == value
    assert message.get_body(("plain",)).get_content().strip() == "what"
    (file,) = message.iter_attachments()
    assert (file.get_filename(), file.get_content_type()) == ("gr=.pdf", "application/pdf")
    assert file.get_content() == b"%PDF"
    assert b"blind" not in sent.partition(b"\r\n")[2]


def test_what_would_be_lost_is_refused_before_anything_is_asked(
    stage: Stage, destination: Bed
) -> None:
    destination.bed.forget()
    told = post(stage, mail("List-Id: <red.example.org>"), BOB)
    assert told["told"] == {BOB: FAILED}
    assert 'its field List-Id (drops = ["List-Id"])' in told["text"]
    assert told["commits"] == []
    assert destination.bed.requests == []


def test_what_may_be_lost_is(stage: Stage, destination: Bed) -> None:
    stage.table = {**stage.table, "drops": ["List-*"]}
    assert post(stage, mail("List-Id: <red.example.org>"), BOB)["told"] == {BOB: SENT}
    assert b"List-Id" not in destination.octets()[0]


def test_a_mail_that_is_too_large_is_refused(stage: Stage, destination: Bed) -> None:
    stage.table = {**stage.table, "max_size": "1k"}
    told = post(stage, mail(body="x\r\n" * 1000), BOB)
    assert told["told"] == {BOB: FAILED}
    assert "max_size" in told["text"]


def test_it_is_committed_for_all_whom_the_form_names(stage: Stage, destination: Bed) -> None:
    told = post(stage, mail(), BOB, "blind@example.org")
    assert told["commits"] == [(BOB, "blind@example.org")]


def test_more_blind_recipients_than_a_form_takes_are_sent_in_several(
    stage: Stage, destination: Bed
) -> None:
    stage.table = {**stage.table, "recipients_max": 2, "loses": ["addressees"]}
    to = ("c@example.org", "d@example.org", "e@example.org")
    told = post(stage, mail(), *to)
    assert told["told"] == dict.fromkeys(to, SENT)
    assert told["commits"] == [to[:2], to[2:]]
    assert [set(each.recipients) for each in destination.taken()] == [{*to[:2]}, {*to[2:]}]
    assert all(b"\r\nTo:" not in each for each in destination.octets())


def test_people_whom_to_names_are_not_divided(stage: Stage, destination: Bed) -> None:
    stage.table = {**stage.table, "recipients_max": 1}
    told = post(stage, mail(), BOB, "c@example.org")
    assert set(told["told"].values()) == {FAILED}
    assert "recipients_max" in told["text"]
    assert destination.taken() == []


def test_what_the_webmail_refuses_is_refused_in_its_words(
    stage: Stage, destination: Bed, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("mailflow_webmail.testbed.app.sent", lambda *_: 'no such "user" <b>')
    told = post(stage, mail(), BOB)
    assert told["told"] == {BOB: FAILED}
    assert told["text"].endswith('no such "user" <b>')


def test_an_outage_before_it_is_sent_is_no_doubt(stage: Stage, destination: Bed) -> None:
    destination.bed.trouble("maintenance", at=("compose",))
    error, commits = failing(stage)
    assert error.temporary
    assert commits == []


def test_an_outage_that_the_answer_tells_of_is_no_doubt(stage: Stage, destination: Bed) -> None:
    destination.bed.trouble("maintenance", at=("compose",), after=1)
    told = post(stage, mail(), BOB)
    assert told["told"] == {BOB: LATER}
    assert destination.taken() == []


@pytest.mark.parametrize("trouble", ["throttled", "throttled-page"])
def test_a_webmail_that_is_asked_too_often_has_not_sent_it(
    stage: Stage, destination: Bed, trouble: str
) -> None:
    destination.bed.trouble(trouble, at=("compose",), after=1, seconds=60)
    told = post(stage, mail(), BOB)
    assert told["told"] == {BOB: LATER}
    assert destination.taken() == []


@pytest.mark.parametrize("trouble", ["error", "unavailable"])
def test_an_answer_that_says_nothing_of_the_mail_is_a_doubt(
    stage: Stage, destination: Bed, trouble: str
) -> None:
    destination.bed.trouble(trouble, at=("compose",), after=1)
    error, commits = failing(stage)
    assert error.temporary
    assert commits == [(BOB,)]


def test_a_page_that_does_not_say_it_was_sent_is_a_doubt(
    stage: Stage, destination: Bed, tmp_path: Any
) -> None:
    stage.table = {**stage.table, "site": changed(tmp_path, '"#sent"', '"#other"')}
    error, commits = failing(stage)
    assert error.exit_code == 76
    assert commits == [(BOB,)]
    assert len(destination.taken()) == 1


def test_a_form_without_a_field_is_no_doubt(stage: Stage, destination: Bed, tmp_path: Any) -> None:
    stage.table = {**stage.table, "site": changed(tmp_path, " bcc = ", " blind = ")}
    error, commits = failing(stage)
    assert error.exit_code == 76
    assert "has no field 'blind'" in error.text
    assert commits == []


def test_a_session_that_ends_before_it_is_sent_is_no_doubt(stage: Stage, destination: Bed) -> None:
    destination.bed.meanwhile("compose", 2, destination.bed.log_out_all)
    told = post(stage, mail(), BOB)
    assert told["told"] == {BOB: LATER}
    assert destination.taken() == []


def test_a_form_that_leads_to_another_host_is_no_doubt(stage: Stage, destination: Bed) -> None:
    with HttpWay(destination.bed.url) as way:
        way.rewrite = lambda path, body: body.replace(
            b'action="/compose"', b'action="//x.example/"'
        )
        stage.table = {**stage.table, "url": way.url}
        error, commits = failing(stage)
    assert error.exit_code == 76
    assert commits == []


def test_what_fails_behind_a_redirect_is_a_doubt(halt: Halt) -> None:
    """SqWebMail answers so when it has sent a mail."""
    listener = socket.create_server(("127.0.0.1", 0))

    def answer() -> None:
        client, _ = listener.accept()
        listener.close()
        with client:
            client.recv(1 << 16)
            client.sendall(
                b"HTTP/1.1 303 See Other\r\nLocation: /sent\r\nContent-Length: 0\r\n"
                b"Connection: close\r\n\r\n"
            )

    port = listener.getsockname()[1]
    thread = threading.Thread(target=answer)
    thread.start()
    with (
        closing(Browser(f"http://127.0.0.1:{port}/", halt=halt, timeout=20.0)) as browser,
        pytest.raises(UnavailableError) as caught,
    ):
        browser.page("POST", "send", data=[("to", BOB)])
    thread.join()
    assert caught.value.fields["sent"] is True


LOGIN = "<form id=login method=post action=login><input name=user><input name=pass type=password>"
INSIDE = "<a id=logout></a><form id=session><input name=token value=1></form>"


def form(attributes: str = "") -> str:
    fields = ("from", "to", "cc", "bcc", "subject", "text", "reply-to", "message-id",
              "in-reply-to", "references")  # fmt: skip
    inputs = "".join(f"<input name={name} {attributes}>" for name in fields)
    return f"<form id=compose method=post action=compose><button name=send></button>{inputs}"


def test_a_session_that_ends_behind_a_redirect_is_a_doubt(stage: Stage) -> None:
    """The mail may have been sent before: it would be again."""

    def answer(asked: Asked) -> bytes:
        if asked.target == "/compose":
            return ok(form()) if asked.method == "GET" else to("/list?folder=Sent")
        return ok(INSIDE if asked.method == "POST" else LOGIN)

    with Web(answer) as web:
        stage.table = {**stage.table, "url": web.url}
        error, commits = failing(stage)
    assert "maybe after it was sent" in error.text
    assert commits == [(BOB,)]
    assert [each.method for each in web.asked if each.target == "/compose"] == ["GET", "POST"]


@pytest.mark.parametrize("most", ["&sup2;", "9" * 5000, "-1", "many"])
def test_a_length_that_is_no_number_limits_nothing(stage: Stage, most: str) -> None:
    def answer(asked: Asked) -> bytes:
        if asked.target == "/compose":
            return ok(form(f'maxlength="{most}"')) if asked.method == "GET" else to("/list")
        return ok(INSIDE if asked.method == "POST" else LOGIN)

    with Web(answer) as web:
        stage.table = {**stage.table, "url": web.url}
        _, commits = failing(stage)
    assert commits == [(BOB,)]


def test_it_takes_turns_with_what_fetches_from_the_same_account(
    stage: Stage, destination: Bed, tmp_path: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where a second login ends the first: a list whose only account is there."""
    monkeypatch.setattr("mailflow_webmail.account.entry.IDLE", 0.3)
    site = changed(tmp_path, "shared = true", "shared = false")
    stage.table = {**stage.table, "site": site}
    own = {name: stage.table[name] for name in ("site", "url", "user", "password")}
    fetching = opened(WebmailOptions.read(own), stage.halt, str(tmp_path))
    destination.bed.trouble("usurped")
    try:
        with stage.make() as distributor:
            for _ in range(2):
                assert fetching.listing("INBOX") == []
                (report,) = distributor.distribute(letter(mail()), Ticket("t-1", (BOB,)))
                assert report.outcome is SENT
        assert fetching.listing("INBOX") == []
    finally:
        fetching.close()


def test_a_session_that_ended_meanwhile_is_begun_anew(stage: Stage, destination: Bed) -> None:
    with stage.make() as distributor:
        for _ in range(2):
            (report,) = distributor.distribute(letter(mail()), Ticket("t-1", (BOB,)))
            assert report.outcome is SENT
            destination.bed.log_out_all()
    assert len(destination.taken()) == 2


def test_what_was_sent_is_not_sent_again(stage: Stage, destination: Bed) -> None:
    octets = mail("Message-ID: <1@example.org>")
    post(stage, octets, BOB, "blind@example.org")
    told = post(stage, octets, BOB, "blind@example.org", resumed=True)
    assert set(told["told"].values()) == {SENT}
    assert "found" in told["text"]
    assert told["commits"] == []
    assert len(destination.taken()) == 1


def test_who_got_his_copy_gets_no_other_and_the_rest_theirs(stage: Stage, destination: Bed) -> None:
    """Of a mail in several forms one was cut."""
    stage.table = {**stage.table, "recipients_max": 1, "loses": ["addressees"]}
    octets = mail("Message-ID: <1@example.org>")
    post(stage, octets, "c@example.org")
    told = post(stage, octets, "c@example.org", "d@example.org", resumed=True)
    assert told["told"] == dict.fromkeys(("c@example.org", "d@example.org"), SENT)
    assert told["commits"] == [("d@example.org",)]
    assert [each.recipients for each in destination.taken()] == [
        ("c@example.org",), ("d@example.org",),
    ]  # fmt: skip


def test_several_are_looked_up_in_one_session(stage: Stage, destination: Bed) -> None:
    """What the webmail keeps grows between two looks."""
    with stage.make() as distributor:
        for number in range(3):
            octets = mail(f"Message-ID: <{number}@example.org>")
            ticket = Ticket(f"t-{number}", (BOB,), resumed=True)
            assert outcomes(list(distributor.distribute(letter(octets), ticket))) == {BOB: SENT}
    assert len(destination.taken()) == 3


@pytest.mark.parametrize(
    ("identifier", "to"),
    [("<2@example.org>", (BOB,)), ("", (BOB,))],
    ids=["another-mail", "no-message-id"],
)
def test_what_was_not_sent_is_sent_when_it_is_resumed(
    stage: Stage, destination: Bed, identifier: str, to: tuple[str, ...]
) -> None:
    post(stage, mail("Message-ID: <1@example.org>"), BOB)
    octets = mail(*([f"Message-ID: {identifier}"] if identifier else []))
    told = post(stage, octets, *to, resumed=True)
    assert told["commits"] == [to]
    assert len(destination.taken()) == 2


def test_a_commit_that_fails_is_passed_on_and_nothing_sent(stage: Stage, destination: Bed) -> None:
    def refuse(recipients: object) -> None:
        raise JournalError("disk full")

    with pytest.raises(JournalError):
        deliver(stage, letter(mail()), Ticket("t-1", (BOB,), commit=refuse))
    assert destination.taken() == []


def test_it_says_what_the_webmail_offers(stage: Stage, destination: Bed) -> None:
    with stage.make() as distributor:
        lines = list(distributor.offers())
    assert any("message_id" in line for line in lines)
    assert destination.taken() == []


def test_a_site_that_does_not_say_how_mail_is_sent_is_told_at_once(
    stage: Stage, destination: Bed, tmp_path: Any
) -> None:
    definition = shipped()
    sending = definition[definition.index("[compose]") : definition.index("[logout]")]
    stage.table = {**stage.table, "site": changed(tmp_path, sending, "")}
    with pytest.raises(MailflowError, match="does not say how to `compose`"):
        stage.make().__enter__()


def shipped() -> str:
    with open(find("testbed")) as file:
        return file.read()


def changed(directory: Any, old: str, new: str) -> str:
    """A definition that differs from the shipped one."""
    text = shipped()
    assert text.count(old) == 1
    path = directory / "other.toml"
    path.write_text(text.replace(old, new))
    return str(path)
