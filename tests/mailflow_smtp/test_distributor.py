"""Mail to one server, where all goes well."""

from __future__ import annotations

import time

import pytest

from mailflow import BadMailError, Mail, Ticket
from mailflow.testing.smtp import CUT, SmtpSink

ANN, BOB, CAT = "ann@example.org", "bob@example.org", "cat@example.org"
MANY = [f"member{number}@example.org" for number in range(25)]


def test_a_mail_arrives_octet_for_octet(sink, distributor, send):
    data = b"Subject: x\r\n\r\n.\r\n..two\r\n.end\r\n\r\nplain\r\n"
    result = send(distributor(sink), ANN, data=data)
    assert result.outcome(ANN) == ("sent", "2.0.0")
    (message,) = sink.messages
    assert (message.data, message.sender, message.recipients) == (data, "red@example.org", (ANN,))


def test_a_report_says_who_answered_what(sink, distributor, send):
    sink.on(".", "250 2.0.0 Ok: queued as 4711")
    (report,) = send(distributor(sink), ANN).reports
    assert report.text == "250 2.0.0 Ok: queued as 4711"
    assert report.remote == "127.0.0.1"


def test_a_last_line_without_its_end_gets_one(sink, distributor, send):
    send(distributor(sink), ANN, data=b"Subject: x\r\n\r\nno end")
    assert sink.messages[0].data == b"Subject: x\r\n\r\nno end\r\n"


def test_an_empty_mail_is_sent(sink, distributor, send):
    assert send(distributor(sink), ANN, data=b"").outcome(ANN) == ("sent", "2.0.0")
    assert sink.messages[0].data == b""


def test_with_pipelining_two_recipients_cost_three_flights(sink, distributor, send):
    result = send(distributor(sink), ANN, BOB)
    assert [report.recipient for report in result.reports] == [ANN, BOB]
    # EHLO; MAIL, two RCPT and DATA; the content with its dot.
    assert sink.connections[0].flights == 3
    assert sink.violations == []


def test_with_pipelining_a_second_mail_costs_two_flights(sink, distributor, send):
    smtp = distributor(sink)
    send(smtp, ANN, BOB)
    before = sink.connections[0].flights
    send(smtp, ANN, BOB)
    assert sink.connections[0].flights - before == 2


def test_without_pipelining_one_command_is_sent_at_a_time(distributor, send):
    with SmtpSink(extensions=["8BITMIME"]) as sink:
        result = send(distributor(sink), ANN, BOB)
        assert [report.outcome.value for report in result.reports] == ["sent", "sent"]
        assert sink.connections[0].flights == 6
        assert sink.violations == []


def test_without_pipelining_nothing_is_asked_that_cannot_help(distributor, send):
    with SmtpSink(extensions=[]) as sink:
        sink.on("RCPT", "550 5.1.1 no such user")
        smtp = distributor(sink)
        send(smtp, ANN, BOB)
        assert "DATA" not in sink.commands
        sink.on("MAIL", "550 5.1.8 not you")
        send(smtp, ANN, BOB)
        assert [command.split()[0] for command in sink.commands[-2:]] == ["RSET", "MAIL"]


def test_a_server_that_knows_only_helo_is_spoken_to(sink, distributor, send):
    sink.on("EHLO", "502 5.5.1 what")
    assert send(distributor(sink), ANN).outcome(ANN) == ("sent", "2.0.0")
    assert [command.split()[0] for command in sink.commands[:2]] == ["EHLO", "HELO"]
    assert sink.violations == []


def test_the_commit_stands_between_the_content_and_the_dot(sink, distributor, send):
    arrived = []

    def commit(recipients):
        arrived.append(len(sink.messages))

    result = send(distributor(sink), ANN, BOB, commit=commit)
    assert result.commits == [(ANN, BOB)]
    assert arrived == [0]
    assert len(sink.messages) == 1


def test_all_but_the_dot_has_left_before_the_commit(sink, distributor, send):
    data = b"Subject: x\r\n\r\n" + b"0123456789abcde\r\n" * 60_000
    send(distributor(sink), ANN, data=data)
    whole = sink.connections[0].received

    def commit(recipients):
        deadline = time.monotonic() + 10
        while sink.connections[1].received < whole - len(b".\r\n"):
            assert time.monotonic() < deadline, "content was kept back"
            time.sleep(0.001)
        time.sleep(0.05)  # what should not come had time to
        assert sink.connections[1].received == whole - len(b".\r\n")

    assert send(distributor(sink), ANN, data=data, commit=commit).outcome(ANN) == ("sent", "2.0.0")


def test_a_commit_that_fails_leaves_nothing_at_the_server(sink, distributor, mail):
    def commit(recipients):
        raise BadMailError("the journal is full")

    smtp = distributor(sink)
    with pytest.raises(BadMailError):
        list(smtp.distribute(mail(), Ticket("t", (ANN,), commit=commit)))
    sink.settle()
    assert sink.messages == []
    (report,) = smtp.distribute(mail(), Ticket("t", (ANN,)))
    assert report.outcome.value == "sent"


def test_who_stops_listening_half_way_leaves_no_half_dialogue(sink, distributor, mail):
    sink.on("RCPT", "550 5.1.1 no", match="ann*")
    smtp = distributor(sink)
    reports = smtp.distribute(mail(), Ticket("t", (ANN, BOB)))
    assert next(reports).recipient == ANN
    reports.close()
    sink.settle()
    assert sink.messages == []
    (report,) = smtp.distribute(mail(), Ticket("t", (BOB,)))
    assert report.outcome.value == "sent"


# The connection


def test_one_connection_carries_many_mails_and_ends_with_quit(sink, distributor, send):
    smtp = distributor(sink)
    for _ in range(3):
        send(smtp, ANN)
    smtp.__exit__(None, None, None)
    sink.settle()
    assert len(sink.connections) == 1
    assert len(sink.messages) == 3
    assert sink.commands[-1] == "QUIT"
    assert "RSET" not in sink.commands


def test_a_transaction_that_ended_badly_is_reset_in_the_flight_of_the_next(sink, distributor, send):
    smtp = distributor(sink)
    sink.on("RCPT", "550 5.1.1 no", times=1)
    send(smtp, ANN)
    before = sink.connections[0].flights
    assert send(smtp, ANN).outcome(ANN) == ("sent", "2.0.0")
    assert sink.connections[0].flights - before == 2
    assert sink.commands.count("RSET") == 1


@pytest.mark.parametrize("farewell", [(CUT,), ("421 4.4.2 idle for too long", CUT)])
def test_a_connection_closed_while_idle_is_opened_again(sink, distributor, send, farewell):
    smtp = distributor(sink)
    sink.on(".", "250 2.0.0 taken", *farewell, times=1)
    assert send(smtp, ANN).outcome(ANN) == ("sent", "2.0.0")
    sink.settle()
    result = send(smtp, BOB)
    assert (result.outcome(BOB), result.error) == (("sent", "2.0.0"), None)
    assert len(sink.connections) == 2


@pytest.mark.parametrize("farewell", [(CUT,), ("421 4.7.0 enough for one connection", CUT)])
def test_a_server_that_wants_a_connection_for_each_mail_gets_it(sink, distributor, send, farewell):
    smtp = distributor(sink)
    send(smtp, ANN)
    sink.on("MAIL", *farewell, times=1)
    result = send(smtp, BOB)
    assert (result.outcome(BOB), result.error) == (("sent", "2.0.0"), None)
    assert len(sink.connections) == 2


def test_an_answer_that_nobody_asked_for_costs_the_connection_and_no_mail(sink, distributor, send):
    smtp = distributor(sink)
    sink.on(".", b"250 2.0.0 taken\r\n250 2.0.0 and again\r\n", times=1)
    send(smtp, ANN)
    assert send(smtp, BOB).outcome(BOB) == ("sent", "2.0.0")
    assert len(sink.connections) == 2


def test_it_greets_with_the_name_it_is_told(sink, distributor, send):
    send(distributor(sink, helo="red.example.org"), ANN)
    assert sink.commands[0] == "EHLO red.example.org"


def test_it_greets_with_an_address_where_the_host_has_no_full_name(
    sink, distributor, send, monkeypatch
):
    monkeypatch.setattr("socket.gethostname", lambda: "vm")
    send(distributor(sink), ANN)
    assert sink.commands[0] == "EHLO [127.0.0.1]"


def test_it_greets_with_the_full_name_of_the_host(sink, distributor, send, monkeypatch):
    monkeypatch.setattr("socket.gethostname", lambda: "vm.example.org")
    send(distributor(sink), ANN)
    assert sink.commands[0] == "EHLO vm.example.org"


# The envelope


def test_the_sender_of_the_step_replaces_the_mails_own(sink, distributor, send):
    send(distributor(sink, sender="bounces@example.org"), ANN, sender="eve@example.com")
    assert sink.messages[0].sender == "bounces@example.org"


@pytest.mark.parametrize("option", [None, "bounces@example.org"])
def test_d20_the_null_sender_stays_null(sink, distributor, send, option):
    result = send(distributor(sink, sender=option), ANN, sender="")
    assert result.outcome(ANN) == ("sent", "2.0.0")
    assert sink.messages[0].sender == ""
    assert any(command.startswith("MAIL FROM:<>") for command in sink.commands)


def test_a_mail_without_a_sender_takes_that_of_the_step(sink, distributor, send):
    send(distributor(sink, sender="red@example.org"), ANN, sender=None)
    assert sink.messages[0].sender == "red@example.org"


def test_a_mail_without_any_sender_says_which_key_to_set(sink, distributor, send):
    result = send(distributor(sink), ANN, sender=None)
    assert isinstance(result.error, BadMailError)
    assert "set `sender`" in result.error.text
    assert sink.connections == []


def test_recipients_go_in_transactions_of_at_most_so_many(sink, distributor, send):
    result = send(distributor(sink, recipients_max=10), *MANY)
    assert [len(message.recipients) for message in sink.messages] == [10, 10, 5]
    assert [report.recipient for report in result.reports] == MANY
    assert [len(group) for group in result.commits] == [10, 10, 5]


def test_the_server_may_set_a_lower_limit(distributor, send):
    with SmtpSink(extensions=["PIPELINING", "LIMITS RCPTMAX=20"]) as sink:
        send(distributor(sink), *MANY)
        assert [len(message.recipients) for message in sink.messages] == [20, 5]


@pytest.mark.parametrize("code", ["452 4.5.3", "452", "552 5.5.3"])
def test_recipients_over_the_servers_limit_go_at_once_in_another_transaction(
    sink, distributor, send, code
):
    sink.on("RCPT", f"{code} too many recipients", after=10, times=15)
    result = send(distributor(sink), *MANY)
    assert {report.outcome.value for report in result.reports} == {"sent"}
    assert [len(message.recipients) for message in sink.messages] == [10, 10, 5]


def test_nobody_gets_a_mail_twice_that_names_him_twice(sink, distributor, send):
    result = send(distributor(sink), ANN, ANN)
    assert sink.messages[0].recipients == (ANN,)
    assert len(result.reports) == 1


# What the mail needs


@pytest.mark.parametrize(
    ("data", "parameters"),
    [
        (b"Subject: x\r\n\r\nplain\r\n", ("SIZE=21",)),
        (b"Subject: x\r\n\r\n\xfcber\r\n", ("SIZE=20", "BODY=8BITMIME")),
    ],
)
def test_mail_announces_its_size_and_its_octets(sink, distributor, send, data, parameters):
    send(distributor(sink), ANN, data=data)
    assert sink.messages[0].parameters == parameters
    assert sink.messages[0].data == data


def test_only_who_needs_it_goes_with_smtputf8(sink, distributor, send):
    result = send(distributor(sink), ANN, "jürgen@example.org", BOB)
    assert {report.outcome.value for report in result.reports} == {"sent"}
    first, second = sink.messages
    assert (first.recipients, "SMTPUTF8" in first.parameters) == ((ANN, BOB), False)
    assert (second.recipients, "SMTPUTF8" in second.parameters) == (("jürgen@example.org",), True)


def test_no_parameter_is_sent_that_is_not_offered(distributor, send):
    with SmtpSink(extensions=[]) as sink:
        send(distributor(sink), ANN)
        assert sink.messages[0].parameters == ()


def test_bare_line_ends_are_mended_and_said(sink, distributor, send, log):
    send(distributor(sink), ANN, data=b"Subject: x\r\n\r\na\rb\r\n")
    assert sink.messages[0].data == b"Subject: x\r\n\r\na\r\nb\r\n"
    assert log.facts("bare line ends became CRLF") == {"mail": "m1", "count": 1}


def test_content_that_was_edited_is_sent_in_pieces(sink, distributor, send, mail):
    body = b"0123456789abcde\r\n" * 60_000  # a megabyte: several pieces
    post: Mail = mail(b"Subject: x\r\n\r\n" + body)
    header = post.header()
    header.set("Subject", "[Red] x")
    send(distributor(sink), ANN, post=post.with_header(header))
    assert sink.messages[0].data == b"Subject: [Red] x\r\n\r\n" + body
