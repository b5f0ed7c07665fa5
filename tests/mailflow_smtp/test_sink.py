"""The loopback server itself: strict, and obedient to its script."""

from __future__ import annotations

import socket
import time

import pytest

from mailflow.testing.smtp import CUT, RESET, STALL, SmtpSink

ENVELOPE = b"EHLO x\r\nMAIL FROM:<a@example.org>\r\nRCPT TO:<b@example.org>\r\nDATA\r\n"


def talk(sink: SmtpSink, octets: bytes) -> list[bytes]:
    """Send all at once; the lines it answers until it closes."""
    with socket.create_connection((sink.host, sink.port), 10) as sock:
        sock.sendall(octets)
        sock.shutdown(socket.SHUT_WR)
        answer = b""
        while data := sock.recv(65536):
            answer += data
    return answer.splitlines()


def codes(lines: list[bytes]) -> list[bytes]:
    return [line[:3] for line in lines if line[3:4] == b" "]


@pytest.mark.parametrize(
    "end", [b"\n.\n", b"\n.\r\n", b"\r\n.\n", b"\r.\r", b"\r\n.\r", b"\r.\r\n", b"\r\n..\r\n"]
)
def test_only_a_dot_between_two_crlf_ends_the_data(sink, end):
    talk(sink, ENVELOPE + b"x" + end + b"QUIT\r\n")
    assert sink.messages == []
    talk(sink, ENVELOPE + b"x" + end + b"\r\n.\r\nQUIT\r\n")
    assert len(sink.messages) == 1


def test_dots_are_unstuffed_and_the_lone_dot_may_come_first(sink):
    talk(sink, ENVELOPE + b"..a\r\n...\r\nb..\r\n.\r\n")
    talk(sink, ENVELOPE + b".\r\n")
    assert [message.data for message in sink.messages] == [b".a\r\n..\r\nb..\r\n", b""]


def test_the_end_is_found_however_the_octets_are_cut(sink):
    wire = ENVELOPE + b"a\r\n..b\r\n.\r\nQUIT\r\n"
    with socket.create_connection((sink.host, sink.port), 10) as sock:
        for octet in wire:
            sock.sendall(bytes([octet]))
        while sock.recv(4096):
            pass
    assert [message.data for message in sink.messages] == [b"a\r\n.b\r\n"]


def test_a_bare_line_feed_ends_no_command(sink):
    assert codes(talk(sink, b"NOOP\nNOOP\r\nQUIT\r\n")) == [b"220", b"500", b"221"]


def test_pipelining_that_was_not_offered_is_a_violation():
    with SmtpSink(extensions=[]) as sink:
        talk(sink, b"EHLO x\r\nMAIL FROM:<a@example.org>\r\nQUIT\r\n")
        assert len(sink.violations) == 2


@pytest.mark.parametrize(
    ("command", "code"),
    [
        (b"RCPT TO:<a@example.org>", b"503"),
        (b"DATA", b"554"),
        (b"MAIL FROM:a@example.org", b"501"),
        (b"MAIL FROM:<a@example.org> SMTPUTF8", b"555"),
        (b"MAIL FROM:<a@example.org> SIZE=5000", b"552"),
        (b"STARTTLS", b"502"),
        (b"BOGUS", b"500"),
    ],
)
def test_what_is_out_of_order_or_not_offered_is_refused(command, code):
    with SmtpSink(extensions=["PIPELINING", "SIZE 1000"]) as sink:
        assert codes(talk(sink, b"EHLO x\r\n" + command + b"\r\nQUIT\r\n"))[2] == code


def test_a_rule_spares_matches_holds_so_often_and_the_last_counts_first(sink):
    sink.on("NOOP", "250 third", match="b*")
    sink.on("NOOP", "250 second", after=1, times=2)
    lines = talk(sink, b"NOOP a\r\nNOOP b\r\nNOOP b\r\nNOOP b\r\nNOOP a\r\nQUIT\r\n")
    assert lines[1:6] == [b"250 2.0.0 ok", b"250 second", b"250 second", b"250 third",
                          b"250 2.0.0 ok"]  # fmt: skip


@pytest.mark.parametrize(("reply", "kept"), [("250 ok", 1), ("451 no", 0), ("554 no", 0), (CUT, 1)])
def test_a_message_is_kept_unless_it_was_refused(sink, reply, kept):
    sink.on(".", reply)
    talk(sink, ENVELOPE + b"x\r\n.\r\nQUIT\r\n")
    assert len(sink.messages) == kept


def test_it_cuts_after_so_many_octets():
    with SmtpSink() as sink:
        sink.cut_sent = 7
        assert talk(sink, b"") == [b"220 sin"]
        sink.cut_sent, sink.cut_received = None, 4
        assert codes(talk(sink, b"NOOP")) == [b"220"]  # more would be answered with RST
        assert sink.connections[1].received == 4


def test_it_resets_a_connection(sink):
    sink.on("NOOP", RESET)
    with socket.create_connection((sink.host, sink.port), 10) as sock:
        sock.recv(100)
        sock.sendall(b"NOOP\r\n")
        with pytest.raises(ConnectionResetError):
            sock.recv(100)


def test_it_stalls_until_the_client_leaves(sink):
    sink.on("CONNECT", STALL)
    with socket.create_connection((sink.host, sink.port), 0.2) as sock:
        with pytest.raises(TimeoutError):
            sock.recv(100)
        with pytest.raises(TimeoutError):
            sink.settle(0.1)
    sink.settle()


def test_it_waits_as_long_as_it_is_told(sink):
    sink.on("NOOP", 0.2, "250 at last")
    began = time.monotonic()
    assert b"250 at last" in talk(sink, b"NOOP\r\nQUIT\r\n")
    assert time.monotonic() - began >= 0.2


def test_flights_are_the_times_a_client_waited_for_answers(sink):
    talk(sink, ENVELOPE + b"x\r\n.\r\nQUIT\r\n")
    assert sink.connections[0].flights == 1
    with socket.create_connection((sink.host, sink.port), 10) as sock:
        for _ in range(3):
            sock.recv(100)
            sock.sendall(b"NOOP\r\nNOOP\r\n")
        sock.recv(100)
    assert sink.connections[1].flights == 3
