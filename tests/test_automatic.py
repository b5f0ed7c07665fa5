"""mailflow.automatic: what a program sent, by its header and its reverse-path."""

from __future__ import annotations

import pytest

from mailflow.automatic import answer, generated, looks_like_answer
from mailflow.testing.engine import mail

HUMAN = "From: ann@example.org\nTo: red@example.org\nSubject: hello\n"


@pytest.mark.parametrize(
    "field",
    [
        "Auto-Submitted: auto-replied",
        "auto-submitted: AUTO-REPLIED (vacation)",
        "Auto-Submitted: auto-replied; owner-email=x",
        "Auto-Submitted: auto-notified",
        "Return-Path: <>",
        "Content-Type: multipart/report; report-type=delivery-status; boundary=x",
        "Content-Type: Multipart/Report; report-type=disposition-notification",
        "X-Autoreply: yes",
        "X-Autorespond: whatever",
        "X-Failed-Recipients: dead@example.org",
        "Precedence: auto_reply",
    ],
)
def test_l3_an_answer_of_a_program_is_known_by(field: str) -> None:
    one = mail(f"{HUMAN}{field}\n\nbody\n")
    assert answer(one)
    assert generated(one)


@pytest.mark.parametrize("author", ["MAILER-DAEMON@x.org", "Mail Delivery <mailer-daemon@x.org>"])
def test_l3_what_a_mailer_daemon_writes_is_an_answer(author: str) -> None:
    assert answer(mail(f"From: {author}\n\nbody\n"))


def test_l3_the_null_sender_is_a_program() -> None:
    assert answer(mail(HUMAN + "\nbody\n", sender=""))


@pytest.mark.parametrize("field", ["Auto-Submitted: auto-generated", "Precedence: bulk",
                                   "Precedence: Junk"])  # fmt: skip
def test_what_a_program_sends_by_itself_is_no_answer(field: str) -> None:
    one = mail(f"{HUMAN}{field}\n\nbody\n")
    assert not answer(one)
    assert generated(one)


@pytest.mark.parametrize(
    "field",
    [
        "X-Other: 1",
        "Auto-Submitted: no",
        "Precedence: list",
        "Precedence: normal",
        "X-Autoreply: no",
        "Content-Type: multipart/mixed; boundary=report",
        "Return-Path: <ann@example.org>",
    ],
)
def test_what_a_human_wrote_is_not_automatic(field: str) -> None:
    one = mail(f"{HUMAN}{field}\n\nbody\n", sender="ann@example.org")
    assert not answer(one)
    assert not generated(one)
    assert not looks_like_answer(one)


@pytest.mark.parametrize(
    "subject",
    [
        "Out of Office AutoReply: hello",
        "Out of the office: hello",
        "Automatic reply: hello",
        "Auto-Reply: hello",
        "Automatische Antwort: hello",
        "Abwesenheitsnotiz: hello",
        "=?utf-8?q?R=C3=A9ponse_automatique?= : hello",
    ],
)
def test_l3_a_subject_that_reads_like_an_answer_is_for_a_human_to_look_at(subject: str) -> None:
    one = mail(f"From: a@x.org\nSubject: {subject}\n\nbody\n")
    assert looks_like_answer(one)
    assert not answer(one)


@pytest.mark.parametrize("subject", ["Re: Out of office", "The automatic reply we sent", ""])
def test_a_subject_that_only_speaks_of_it_is_not(subject: str) -> None:
    assert not looks_like_answer(mail(f"Subject: {subject}\n\nbody\n"))
