"""Against a real Postfix: the port for mail to its own, submission, and TLS throughout."""

from __future__ import annotations

import os
import socket
from collections.abc import Iterator

import pytest

from mailflow import LoginError
from mailflow.testing.postfix import Postfix
from mailflow_smtp.verp import DEFAULT, Verp

pytestmark = [
    pytest.mark.interop("postfix", "dovecot-pop3d"),
    pytest.mark.skipif(os.geteuid() != 0, reason="only root can start Postfix"),
]

ANN, BOB, CAT, JO = "ann@example.org", "bob@example.org", "cat@example.org", "jürgen@example.org"
MEMBERS = [f"member{number}@members.example.org" for number in range(40)]
SECRET = "canary-9902"
VECTORS = [
    b"\n.\n", b"\n.\r\n", b"\r\n.\n", b"\r.\r", b"\r\n.\r", b"\r.\n", b"\r.\r\n", b"\n.\r",
    b"\r\r.\r\r", b"\r\n\r.\r\n", b"\r\n.\r\n",
]  # fmt: skip


@pytest.fixture(scope="module")
def postfix(tmp_path_factory) -> Iterator[Postfix]:
    with Postfix(
        tmp_path_factory.mktemp("postfix"),
        [ANN, BOB, CAT, JO, *MEMBERS],
        users={"red": SECRET},
        size_limit=20_000_000,
        settings="smtpd_recipient_limit = 15\nsmtpd_forbid_bare_newline = no\n"
        "smtpd_authorized_verp_clients = 127.0.0.1\n",
    ) as postfix:
        yield postfix


@pytest.fixture
def arrived(postfix):
    """arrived(address): the mails that came to it during this test."""
    postfix.settle()
    before = {address: len(postfix.messages(address)) for address in postfix.addresses}

    def look(address: str, count: int = 1) -> list[bytes]:
        return postfix.messages(address, before[address] + count)[before[address] :]

    return look


def test_a_mail_arrives_octet_for_octet(postfix, distributor, send, arrived):
    data = b"Subject: x\r\n\r\n.\r\n..two\r\n.end\r\n\r\n\xfcber\r\n"
    result = send(distributor(postfix), ANN, BOB, data=data)
    assert {report.outcome.value for report in result.reports} == {"sent"}
    for address in (ANN, BOB):
        (mail,) = arrived(address)
        assert mail.endswith(b"\n" + data.replace(b"\r\n", b"\n"))
        assert b"Return-Path: <red@example.org>" in mail


def test_d09_the_unknown_fail_and_the_others_get_it(postfix, distributor, send, arrived):
    result = send(distributor(postfix), "nobody@example.org", ANN, "ann@elsewhere.example")
    assert result.outcome("nobody@example.org") == ("failed", "5.1.1")
    assert result.outcome("ann@elsewhere.example")[1] == "5.7.1"
    assert result.outcome(ANN) == ("sent", "2.0.0")
    assert len(arrived(ANN)) == 1


def test_unknown_to_the_last_nobody_gets_it_and_the_next_mail_goes(postfix, distributor, send):
    smtp = distributor(postfix)
    result = send(smtp, "nobody@example.org")
    assert (result.outcome("nobody@example.org"), result.error) == (("failed", "5.1.1"), None)
    assert send(smtp, ANN).outcome(ANN) == ("sent", "2.0.0")


def test_recipients_over_its_limit_go_in_further_transactions(postfix, distributor, send, arrived):
    result = send(distributor(postfix, chunking=False), *MEMBERS)
    assert [report.recipient for report in result.reports] == MEMBERS
    assert {report.outcome.value for report in result.reports} == {"sent"}
    assert [len(group) for group in result.commits] == [15, 15, 10]
    assert all(len(arrived(member)) == 1 for member in MEMBERS)


def test_d20_the_null_sender_passes(postfix, distributor, send, arrived):
    send(distributor(postfix), ANN, sender="")
    assert b"Return-Path: <>" in arrived(ANN)[0]


def test_d14_a_mail_over_its_size_is_refused_up_front(postfix, distributor, send):
    result = send(distributor(postfix), ANN, data=b"Subject: x\r\n\r\n" + b"x\r\n" * 7_000_000)
    assert result.outcome(ANN) == ("failed", "5.3.4")


def test_a_large_mail_arrives_whole(postfix, distributor, send, arrived):
    data = b"Subject: x\r\n\r\n" + b"".join(b"line %d\r\n" % number for number in range(10**6))
    result = send(distributor(postfix), CAT, data=data)
    assert result.outcome(CAT) == ("sent", "2.0.0")
    assert arrived(CAT)[0].endswith(data.replace(b"\r\n", b"\n"))


def test_foreign_addresses_arrive(postfix, distributor, send, arrived):
    result = send(distributor(postfix), JO, ANN)
    assert {report.outcome.value for report in result.reports} == {"sent"}
    assert len(arrived(JO)) == 1


@pytest.mark.parametrize("vector", VECTORS, ids=repr)
def test_d15_it_sees_one_mail(postfix, distributor, send, arrived, vector):
    smuggled = b"MAIL FROM:<a@b>\r\nRCPT TO:<bob@example.org>\r\nDATA\r\nevil\r\n.\r\n"
    data = b"Subject: x\r\n\r\nfirst" + vector + smuggled
    assert send(distributor(postfix), ANN, data=data).outcome(ANN) == ("sent", "2.0.0")
    assert arrived(ANN)[0].endswith(b"evil\n.\n")
    send(distributor(postfix), BOB)  # what was smuggled would have come before it
    assert len(arrived(BOB)) == 1


def test_d15_it_can_be_smuggled_to_so_that_the_test_above_means_something(postfix, arrived):
    with socket.create_connection((postfix.host, postfix.port)) as sock:
        sock.sendall(
            b"EHLO x\r\nMAIL FROM:<a@b>\r\nRCPT TO:<ann@example.org>\r\nDATA\r\nx\n.\n"
            b"MAIL FROM:<a@b>\r\nRCPT TO:<bob@example.org>\r\nDATA\r\nevil\r\n.\r\nQUIT\r\n"
        )
        while sock.recv(4096):
            pass
    assert arrived(BOB)[0].endswith(b"evil\n")


@pytest.mark.parametrize("mechanism", ["PLAIN", "LOGIN"])
def test_submission_takes_a_mail_after_starttls_and_a_login(
    postfix, distributor, send, arrived, mechanism
):
    smtp = distributor(
        host="localhost", port=postfix.submission_port, tls="starttls", ca_file=postfix.ca_file,
        user="red", password=SECRET, auth=(mechanism,),
    )  # fmt: skip
    for _ in range(2):
        assert send(smtp, ANN).outcome(ANN) == ("sent", "2.0.0")
    assert len(arrived(ANN, 2)) == 2


def test_implicit_tls_takes_a_mail_after_a_login(postfix, distributor, send, arrived):
    smtp = distributor(
        host="localhost", port=postfix.smtps_port, tls="implicit", ca_file=postfix.ca_file,
        user="red", password=SECRET,
    )  # fmt: skip
    assert send(smtp, ANN, BOB).outcome(BOB) == ("sent", "2.0.0")
    assert len(arrived(BOB)) == 1


def test_a_wrong_password_is_a_login_error(postfix, distributor, send, log):
    smtp = distributor(
        host="localhost", port=postfix.submission_port, tls="starttls", ca_file=postfix.ca_file,
        user="red", password="wrong-4711",
    )  # fmt: skip
    result = send(smtp, ANN)
    assert isinstance(result.error, LoginError)
    assert "535 5.7.8" in result.error.text
    assert "wrong-4711" not in f"{result.error} {log.lines}"


def test_submission_without_a_login_does_not_cost_the_mail(postfix, distributor, send):
    result = send(distributor(host="127.0.0.1", port=postfix.submission_port), ANN)
    assert isinstance(result.error, LoginError)
    assert (result.outcome(ANN), result.in_doubt) == (("later", "5.7.0"), set())


def test_d19_a_certificate_of_an_unknown_authority_gets_no_secret(postfix, distributor, send):
    smtp = distributor(
        host="localhost", port=postfix.submission_port, tls="starttls",
        user="red", password=SECRET,
    )  # fmt: skip
    result = send(smtp, ANN)
    assert isinstance(result.error, LoginError)
    assert "certificate" in result.error.text


# Chunking, VERP, DSN, a group: as Postfix has them


THREE = {"m1": (ANN,), "m2": ("nobody@example.org", BOB), "m3": (CAT,)}


@pytest.mark.parametrize("chunking", [True, False])
def test_a_group_goes_over_one_connection(postfix, distributor, send_many, arrived, chunking):
    logged = postfix.log.count(": connect from")
    group = send_many(distributor(postfix, chunking=chunking), THREE)
    assert group.error is None
    assert group.reports == {
        "m1": {ANN: ("sent", "2.0.0")},
        "m2": {"nobody@example.org": ("failed", "5.1.1"), BOB: ("sent", "2.0.0")},
        "m3": {CAT: ("sent", "2.0.0")},
    }
    assert b"Subject: m2\n" in arrived(BOB)[0]
    assert postfix.log.count(": connect from") == logged + 1


def test_d17_it_takes_the_next_mail_after_content_that_nobody_wanted(
    postfix, distributor, send_many, arrived
):
    jobs = {"m1": ("nobody@example.org",), "m2": ("none@example.org",), "m3": (ANN,)}
    group = send_many(distributor(postfix), jobs)
    assert group.reports["m1"] == {"nobody@example.org": ("failed", "5.1.1")}
    assert group.reports["m2"] == {"none@example.org": ("failed", "5.1.1")}
    assert group.reports["m3"] == {ANN: ("sent", "2.0.0")}
    assert len(arrived(ANN)) == 1


def test_the_senders_it_makes_are_those_made_here(postfix, distributor, send, arrived):
    for recipients in ((ANN, BOB), (ANN,)):
        smtp = distributor(postfix, verp=Verp(DEFAULT))
        result = send(smtp, *recipients, sender="red-bounces@example.com")
        assert {report.outcome.value for report in result.reports} == {"sent"}
    whole, single = arrived(ANN, 2)
    wanted = b"Return-Path: <red-bounces+ann=example.org@example.com>"
    assert wanted in whole
    assert wanted in single
    assert b"Return-Path: <red-bounces+bob=example.org@example.com>" in arrived(BOB)[0]


def test_it_tells_of_success_where_it_is_asked_to(postfix, distributor, send, arrived):
    smtp = distributor(postfix, dsn_notify=("success",), dsn_return="headers")
    assert send(smtp, ANN, sender=BOB).outcome(ANN) == ("sent", "2.0.0")
    (notice,) = arrived(BOB)
    assert b"Original-Envelope-Id: m1" in notice
    assert b"Original-Recipient: rfc822;ann@example.org" in notice


def test_it_says_what_it_offers_and_is_sent_nothing(postfix, distributor):
    certified = {"ca_file": postfix.ca_file, "host": "localhost"}
    smtp = distributor(
        postfix, port=postfix.submission_port, tls="starttls", user="red", password=SECRET,
        **certified,
    )  # fmt: skip
    text = "\n".join(smtp.offers())
    assert "TLS: TLSv1." in text
    assert "largest message: 20000000 octets" in text
    assert "CHUNKING" in text
    assert "logged in by PLAIN" in text
    assert SECRET not in text
