"""LMTP (RFC 2033): an answer for each recipient, from a scripted server and a real Dovecot."""

from __future__ import annotations

import os
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest

from mailflow import ConfigError, Envelope, Mail, Octets, Ticket, UnavailableError
from mailflow.testing.dovecot import Dovecot
from mailflow.testing.smtp import CUT, SmtpSink
from mailflow_smtp.distributor import LmtpDistributor
from mailflow_smtp.settings import LmtpOptions

ANN, BOB, CAT = "ann@example.org", "bob@example.org", "cat@example.org"
SENT = ("sent", "2.0.0")

DOVECOT = """
protocols = pop3 lmtp
postmaster_address = postmaster@example.org
service lmtp {{
  unix_listener {socket} {{
    mode = 0666
  }}
  inet_listener lmtp {{
    address = 127.0.0.1
    port = {port}
  }}
}}
plugin {{
  quota = maildir:User quota
  quota_rule = *:storage=1M
}}
protocol lmtp {{
  mail_plugins = quota
}}
"""


@pytest.fixture
def lmtp(runtime):
    """lmtp(**options): an entered distributor, left at the end."""
    entered = []

    def make(**options):
        made = LmtpDistributor(LmtpOptions({"timeout": 10.0, **options}), runtime)
        entered.append(made.__enter__())
        return made

    yield make
    for each in entered:
        each.__exit__(None, None, None)


@pytest.fixture(params=["DATA", "BDAT"])
def server(request):
    offered = ["PIPELINING", "8BITMIME", *(["CHUNKING"] if request.param == "BDAT" else [])]
    with SmtpSink(lmtp=True, extensions=offered) as server:
        yield server


def test_it_says_lhlo_and_each_recipient_has_an_answer_of_his_own(server, lmtp, send):
    server.on(".", "452 4.2.2 his mailbox is full", match="bob*")
    server.on(".", "550 5.2.2 and hers for good", match="cat*")
    result = send(lmtp(host=server.host, port=server.port), ANN, BOB, CAT)
    assert result.outcome(ANN) == SENT
    assert result.outcome(BOB) == ("later", "4.2.2")
    assert result.outcome(CAT) == ("failed", "5.2.2")
    assert server.commands[0].startswith("LHLO ")
    assert server.messages[0].recipients == (ANN,)
    assert server.violations == []


def test_an_unknown_recipient_has_no_second_answer(server, lmtp, send):
    server.on("RCPT", "550 5.1.1 no such user", match="ann*")
    result = send(lmtp(host=server.host, port=server.port), ANN, BOB)
    assert (result.outcome(ANN), result.outcome(BOB)) == (("failed", "5.1.1"), SENT)


def test_d10_answers_before_the_connection_broke_count_and_the_rest_is_in_doubt(server, lmtp, send):
    server.on(".", "250 2.0.0 ok", CUT, match="bob*")
    result = send(lmtp(host=server.host, port=server.port), ANN, BOB, CAT)
    assert (result.outcome(ANN), result.outcome(BOB)) == (SENT, SENT)
    assert isinstance(result.error, UnavailableError)
    assert result.in_doubt == {CAT}


def test_mails_follow_each_other_over_one_connection(server, lmtp, send_many):
    server.on("RCPT", "550 5.1.1 no such user", match="cat*")
    jobs = {"m1": (ANN, BOB), "m2": (CAT,), "m3": (BOB, ANN)}
    group = send_many(lmtp(host=server.host, port=server.port), jobs)
    assert group.reports == {
        "m1": {ANN: SENT, BOB: SENT}, "m2": {CAT: ("failed", "5.1.1")}, "m3": {ANN: SENT, BOB: SENT}
    }  # fmt: skip
    assert len(server.connections) == 1


def test_a_server_that_speaks_smtp_only_is_told_of(sink, lmtp, send):
    sink.on("LHLO", "502 5.5.1 what")
    result = send(lmtp(host=sink.host, port=sink.port), ANN)
    assert "LHLO" in str(result.error)
    assert not any(command.startswith(("HELO", "EHLO")) for command in sink.commands)


@pytest.mark.parametrize("table", [{}, {"host": "localhost", "path": "/run/lmtp"}])
def test_either_a_host_or_a_socket_is_named(table):
    with pytest.raises(ConfigError, match="either `host`, or `path`"):
        LmtpOptions.read(table)


def test_the_port_is_24_and_a_socket_needs_no_tls():
    assert LmtpOptions.read({"host": "mail.example.org"}).port_number == 24
    assert LmtpOptions.read({"host": "mail.example.org"}).protection == "starttls"
    assert LmtpOptions.read({"path": "/run/lmtp"}).protection == "none"


# Against Dovecot


@pytest.fixture(scope="module")
def dovecot(tmp_path_factory) -> Iterator[tuple[Dovecot, str, int]]:
    directory = tmp_path_factory.mktemp("dovecot")
    path = f"/tmp/lmtp-{os.getpid()}.sock"  # short: sockets' paths end at 108 octets
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    with Dovecot(directory, settings=DOVECOT.format(socket=path, port=port)) as server:
        for user in (ANN, BOB, CAT):
            server.add_user(user, "secret")
        yield server, path, port
    Path(path).unlink(missing_ok=True)


interop = [
    pytest.mark.interop("dovecot-pop3d", "dovecot-lmtpd"),
    pytest.mark.skipif(os.geteuid() != 0, reason="only root can start Dovecot's LMTP"),
]


def interop_test(function):
    for mark in interop:
        function = mark(function)
    return function


@interop_test
@pytest.mark.parametrize("way", ["socket", "port"])
@pytest.mark.parametrize("chunking", [True, False])
def test_dovecot_takes_mail_and_answers_for_each(dovecot, lmtp, send, way, chunking):
    server, path, port = dovecot
    where = {"path": path} if way == "socket" else {"host": "127.0.0.1", "port": port}
    before = len(server.messages(ANN))
    data = f"Subject: {way} {chunking}\r\n\r\n.\r\n..two\r\n\xfcber\r\n".encode("latin-1")
    result = send(lmtp(chunking=chunking, **where), ANN, "nobody@example.org", BOB, data=data)
    assert (result.outcome(ANN), result.outcome(BOB)) == (SENT, SENT)
    assert result.outcome("nobody@example.org") == ("failed", "5.1.1")
    wanted = b"\n" + data.replace(b"\r\n", b"\n")
    assert len(server.messages(ANN)) == before + 1
    assert any(mail.endswith(wanted) for mail in server.messages(ANN))


@interop_test
def test_dovecot_takes_a_full_mailbox_from_one_and_not_from_the_others(dovecot, lmtp, send):
    server, path, _ = dovecot
    large = b"Subject: large\r\n\r\n" + b"0123456789abcde\r\n" * 50_000
    smtp = lmtp(path=path)
    assert send(smtp, CAT, data=large).outcome(CAT) == SENT
    before = len(server.messages(ANN))
    result = send(smtp, CAT, ANN, data=large[:500_000])
    assert result.outcome(ANN) == SENT
    assert result.outcome(CAT) in (("later", "4.2.2"), ("failed", "5.2.2"))
    assert len(server.messages(ANN)) == before + 1
    assert len(server.messages(CAT)) == 1


@interop_test
def test_dovecot_takes_a_group_over_one_connection(dovecot, lmtp):
    server, path, _ = dovecot
    before = len(server.messages(BOB))
    jobs = [
        (Mail(f"m{n}", Envelope("red@example.org"), Octets(b"Subject: %d\r\n\r\nx\r\n" % n)),
         Ticket(f"t{n}", (BOB,)))
        for n in range(20)
    ]  # fmt: skip
    reports = [report for _, report in lmtp(path=path).distribute_many(iter(jobs))]
    assert [report.outcome.value for report in reports] == ["sent"] * 20
    assert len(server.messages(BOB)) == before + 20


@interop_test
def test_dovecot_says_what_it_offers(dovecot, lmtp):
    _, path, _ = dovecot
    lines = list(lmtp(path=path).offers())
    assert any("CHUNKING" in line for line in lines)
    assert any(line == "TLS: none" for line in lines)
