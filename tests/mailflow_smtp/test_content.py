"""Mail that a server cannot take, or that would say more than it should.

Rule of the file: nothing is mangled silently, and one mail stays one mail.
"""

from __future__ import annotations

import socket

import pytest

from mailflow import BadMailError
from mailflow.mail import CHUNK
from mailflow.testing.smtp import SmtpSink

ANN, BOB = "ann@example.org", "bob@example.org"


# D14: what the server cannot take


def test_d14_a_mail_over_the_announced_size_is_refused_before_it_is_sent(distributor, send):
    with SmtpSink(extensions=["PIPELINING", "SIZE 100"]) as sink:
        result = send(distributor(sink), ANN, data=b"Subject: x\r\n\r\n" + b"x" * 100)
        assert result.outcome(ANN) == ("failed", "5.3.4")
        assert "114 octets" in result.reports[0].text
        assert not any(command.startswith("MAIL") for command in sink.commands)


@pytest.mark.parametrize("data", [b"Subject: x\r\n\r\n\xc3\xa4\r\n", b"Subject: \xe4\r\n\r\n"])
def test_d14_8_bit_octets_are_not_sent_to_a_server_for_7(distributor, send, data):
    with SmtpSink(extensions=["PIPELINING"]) as sink:
        result = send(distributor(sink), ANN, data=data)
        assert result.outcome(ANN) == ("failed", "5.6.3")
        assert "8BITMIME" in result.reports[0].text
        assert not any(command.startswith("MAIL") for command in sink.commands)


def test_d14_without_smtputf8_only_the_foreign_address_fails(distributor, send):
    with SmtpSink(extensions=["PIPELINING", "8BITMIME"]) as sink:
        result = send(distributor(sink), ANN, "jürgen@example.org", BOB)
        assert result.outcome("jürgen@example.org") == ("failed", "5.6.7")
        assert sink.messages[0].recipients == (ANN, BOB)


def test_d14_without_smtputf8_a_foreign_sender_can_send_to_nobody(distributor, send):
    with SmtpSink(extensions=["PIPELINING", "8BITMIME"]) as sink:
        result = send(distributor(sink), ANN, sender="jürgen@example.org")
        assert result.outcome(ANN) == ("failed", "5.6.7")
        assert "jürgen@example.org" in result.reports[0].text


# D15: smuggling out

VECTORS = [
    b"\n.\n", b"\n.\r\n", b"\r\n.\n", b"\r.\r", b"\r\n.\r", b"\r.\n", b"\r.\r\n", b"\n.\r",
    b"\n\n.\n\n", b"\r\r.\r\r", b"\r\n\r.\r\n", b"\r\r\n.\r\n", b"\r\n.\r\r\n", b"\r\n\0.\r\n",
    b"\r\n.\r\n", b"\r\n..\r\n",
]  # fmt: skip
SMUGGLED = b"MAIL FROM:<admin@example.org>\r\nRCPT TO:<eve@example.org>\r\nDATA\r\nevil\r\n.\r\n"
LENIENT = [b"\n.\n", b"\n.\r\n", b"\r\n.\n", b"\r.\r", b"\r\n.\r", b"\r.\n", b"\r.\r\n", b"\n.\r"]


def test_d15_the_sink_can_be_smuggled_to_so_that_the_tests_below_mean_something():
    with SmtpSink(lenient=LENIENT) as sink:
        for vector in LENIENT:
            with socket.create_connection((sink.host, sink.port)) as sock:
                sock.sendall(
                    b"EHLO x\r\nMAIL FROM:<a@b>\r\nRCPT TO:<c@d>\r\nDATA\r\nx" + vector + SMUGGLED
                )
                sock.sendall(b"QUIT\r\n")
                while sock.recv(4096):
                    pass
        assert len(sink.messages) == 2 * len(LENIENT)


@pytest.mark.parametrize("vector", VECTORS, ids=repr)
def test_d15_no_server_however_careless_sees_a_second_mail(distributor, send, vector):
    with SmtpSink(lenient=LENIENT) as sink:
        head = b"Subject: x\r\n\r\nfirst"
        result = send(distributor(sink), ANN, data=head + vector + SMUGGLED)
        assert result.outcome(ANN) == ("sent", "2.0.0")
        (message,) = sink.messages
        assert message.recipients == (ANN,)
        assert b"MAIL FROM:<admin@example.org>" in message.data
        assert message.data.endswith(b"evil\r\n.\r\n")


@pytest.mark.parametrize("vector", VECTORS, ids=repr)
def test_d15_nor_where_the_vector_lies_across_two_pieces(distributor, send, vector):
    with SmtpSink(lenient=LENIENT) as sink:
        smtp = distributor(sink)
        for shift in range(len(vector) + 1):
            head = b"Subject: x\r\n\r\n"
            head += b"x" * (CHUNK - len(head) - shift)
            result = send(smtp, ANN, data=head + vector + SMUGGLED)
            assert result.outcome(ANN) == ("sent", "2.0.0")
            assert sink.messages[-1].data.startswith(head)
        assert len(sink.messages) == len(vector) + 1


# D18: injection

INJECTIONS = [
    "ann@example.org\r\nRCPT TO:<eve@example.org>",
    "ann@example.org>\r\nDATA",
    "ann@example.org\n",
    "a\0b@example.org",
    "ann@example.org> SIZE=1",
    "ann smith@example.org",
    "",
]


@pytest.mark.parametrize("address", INJECTIONS, ids=repr)
def test_d18_a_recipient_that_would_end_the_command_never_reaches_the_wire(
    sink, distributor, send, address
):
    result = send(distributor(sink), address, BOB)
    assert result.outcome(address) == ("failed", "5.1.3")
    assert result.outcome(BOB) == ("sent", "2.0.0")
    assert [c for c in sink.commands if c.startswith("RCPT")] == ["RCPT TO:<bob@example.org>"]
    assert all(report.text.isprintable() for report in result.reports)


@pytest.mark.parametrize("address", INJECTIONS[:-1], ids=repr)
def test_d18_a_sender_that_would_end_the_command_never_reaches_the_wire(
    sink, distributor, send, address
):
    result = send(distributor(sink), BOB, sender=address)
    assert isinstance(result.error, BadMailError)
    assert result.error.text.isprintable()
    assert sink.connections == []
