"""What goes wrong at the server, on the wire or in the mail, and what each must come to.

Rule of the file: a recipient is reported once, and is in doubt only if the final
dot was sent and not answered.
"""

from __future__ import annotations

import io
import socket
import threading
import time
from contextlib import contextmanager

import pytest

from mailflow import CrowdedError, LoginError, PeerError, RefusedError, UnavailableError
from mailflow.testing.smtp import CUT, EXTENSIONS, RESET, STALL, SmtpSink

ANN, BOB, CAT = "ann@example.org", "bob@example.org", "cat@example.org"
STAGES = ["CONNECT", "EHLO", "MAIL", "RCPT", "DATA", "BODY", "."]
BEFORE_THE_DOT = STAGES[:-1]
LARGE = b"Subject: x\r\n\r\n" + b"0123456789abcde\r\n" * 2_000_000
"""More than the sockets' buffers hold."""


# D9: refusals


@pytest.mark.parametrize(
    ("verb", "reply", "ann", "bob"),
    [
        ("MAIL", "450 4.7.1 later", ("later", "4.7.1"), ("later", "4.7.1")),
        ("MAIL", "550 5.1.8 not you", ("failed", "5.1.8"), ("failed", "5.1.8")),
        ("RCPT", "450 4.2.0 greylisted", ("later", "4.2.0"), ("sent", "2.0.0")),
        ("RCPT", "550 5.1.1 no such user", ("failed", "5.1.1"), ("sent", "2.0.0")),
        ("RCPT", "550 no such user", ("failed", "5.0.0"), ("sent", "2.0.0")),
        ("DATA", "451 4.3.0 later", ("later", "4.3.0"), ("later", "4.3.0")),
        ("DATA", "554 5.7.1 no", ("failed", "5.7.1"), ("failed", "5.7.1")),
        (".", "452 4.3.1 disk full", ("later", "4.3.1"), ("later", "4.3.1")),
        (".", "550 5.7.1 spam", ("failed", "5.7.1"), ("failed", "5.7.1")),
    ],
)
@pytest.mark.parametrize("extensions", [EXTENSIONS, ("8BITMIME",)], ids=["pipelined", "lock-step"])
def test_d09_a_refusal_reaches_whom_it_concerns(
    distributor, send, extensions, verb, reply, ann, bob
):
    with SmtpSink(extensions=extensions) as sink:
        sink.on(verb, reply, match="ann*" if verb == "RCPT" else "*")
        result = send(distributor(sink), ANN, BOB)
        assert (result.outcome(ANN), result.outcome(BOB)) == (ann, bob)
        assert result.error is None
        assert sink.violations == []


def test_d09_a_refused_recipient_does_not_hinder_the_others(sink, distributor, send):
    sink.on("RCPT", "550 5.1.1 no such user", match="bob*")
    sink.on("RCPT", "450 4.2.0 greylisted", match="cat*")
    result = send(distributor(sink), ANN, BOB, CAT)
    assert sink.messages[0].recipients == (ANN,)
    assert result.commits == [(ANN,)]
    assert result.outcome(BOB) == ("failed", "5.1.1")
    assert result.outcome(CAT) == ("later", "4.2.0")


def test_d09_refused_by_all_nobody_is_committed(sink, distributor, send):
    sink.on("RCPT", "550 5.1.1 no such user")
    result = send(distributor(sink), ANN, BOB)
    assert result.commits == []
    assert {report.outcome.value for report in result.reports} == {"failed"}
    assert sink.messages == []


@pytest.mark.parametrize("end", ["554 5.5.1 no recipients", "250 2.0.0 whatever", CUT])
def test_d09_data_that_was_opened_for_nobody_gets_the_lone_dot(sink, distributor, send, end):
    """RFC 2920, 3.1: a client that pipelined DATA must end it."""
    sink.on("RCPT", "550 5.1.1 no such user", times=2)
    sink.on("DATA", "354 go ahead", times=1)
    sink.on(".", end, times=1)
    smtp = distributor(sink)
    result = send(smtp, ANN, BOB)
    assert (result.commits, result.error) == ([], None)
    assert result.outcome(ANN) == result.outcome(BOB) == ("failed", "5.1.1")
    assert send(smtp, CAT).outcome(CAT) == ("sent", "2.0.0")
    assert [message.recipients for message in sink.messages if message.recipients] == [(CAT,)]
    assert all(message.data == b"" for message in sink.messages if not message.recipients)


def test_d09_a_mail_after_a_refused_one_goes_on_the_same_connection(sink, distributor, send):
    smtp = distributor(sink)
    for verb in ("MAIL", "RCPT", "DATA", "."):
        sink.on(verb, "550 5.7.1 no", times=1)
        assert send(smtp, ANN).outcome(ANN) == ("failed", "5.7.1")
        assert send(smtp, ANN).outcome(ANN) == ("sent", "2.0.0")
    assert len(sink.connections) == 1
    assert sink.commands.count("RSET") == 4
    assert sink.violations == []


def test_d09_a_refusal_that_ends_the_connection_counts(sink, distributor, send):
    sink.on("MAIL", "550 5.7.1 you are blocked", CUT)
    result = send(distributor(sink), ANN, BOB)
    assert result.outcome(ANN) == result.outcome(BOB) == ("failed", "5.7.1")
    assert result.error is None


PIECE = 16 << 10
"""More than waits to leave with the dot."""


class Paused:
    """Content of which only a piece is given until `settled` returns."""

    def __init__(self, settled, size):
        self.settled = settled
        self.size = size
        self.opened = 0

    def open(self):
        self.opened += 1
        sending = self.opened > 1  # the first reader only looks for 8-bit octets
        content = self

        class Reader(io.BytesIO):
            def read(self, size=-1):
                if sending and self.tell() == PIECE:
                    content.settled()
                return super().read(PIECE)

        return Reader(b"0123456789abcde\n" * (self.size // 16))


@pytest.mark.parametrize(
    ("reply", "outcome"),
    [("552 5.3.4 too big", ("failed", "5.3.4")), ("421 4.3.2 bye", ("later", "4.3.2"))],
)
@pytest.mark.parametrize("size", [PIECE, 200 * PIECE], ids=["at its end", "in its midst"])
def test_d09_a_refusal_before_the_end_of_the_content_counts(
    sink, distributor, send, mail, reply, outcome, size
):
    sink.on("BODY", reply, CUT)
    content = Paused(sink.settle, size)
    result = send(distributor(sink), ANN, post=mail()._replace(content=content))
    assert (result.outcome(ANN), result.error, result.commits) == (outcome, None, [])


@pytest.mark.parametrize("code", ["552 5.3.4", "421 4.3.2"])
def test_d09_a_refusal_of_which_the_server_reads_on_counts(sink, distributor, send, code):
    sink.on("BODY", f"{code} no", 0.2, times=1)
    result = send(distributor(sink), ANN, data=LARGE)
    assert (result.outcome(ANN)[1], result.error, result.commits) == (code[4:], None, [])
    assert sink.messages == []


@pytest.mark.parametrize("size", [PIECE, 200 * PIECE], ids=["at its end", "in its midst"])
def test_d11_a_connection_lost_right_before_the_dot_leaves_no_doubt(
    sink, distributor, send, mail, size
):
    sink.on("BODY", CUT)
    content = Paused(sink.settle, size)
    result = send(distributor(sink), ANN, post=mail()._replace(content=content))
    assert isinstance(result.error, UnavailableError)
    assert (result.reports, result.commits) == ([], [])


def test_an_answer_before_the_mail_was_whole_is_not_believed(sink, distributor, send):
    sink.on("DATA", b"354 go ahead\r\n250 2.0.0 taken already\r\n")
    result = send(distributor(sink), ANN)
    assert isinstance(result.error, PeerError)
    assert (result.commits, result.reports) == ([], [])


def test_a_server_that_wants_a_login_does_not_cost_the_mail(sink, distributor, send):
    sink.on("MAIL", "530 5.7.0 Authentication required")
    result = send(distributor(sink), ANN)
    assert isinstance(result.error, LoginError)
    assert result.reports == []
    assert "set `user`" in result.error.text


# D10, D11, D12: lost, silent, closing


@pytest.mark.parametrize("act", [CUT, RESET], ids=["cut", "reset"])
@pytest.mark.parametrize("verb", BEFORE_THE_DOT)
def test_d11_a_connection_lost_before_the_dot_leaves_no_doubt(sink, distributor, send, verb, act):
    sink.on(verb, act)
    result = send(distributor(sink), ANN, BOB, data=LARGE)
    assert isinstance(result.error, UnavailableError)
    assert (result.reports, result.in_doubt) == ([], set())
    assert sink.messages == []


@pytest.mark.parametrize("verb", [*BEFORE_THE_DOT[:-1]])
def test_d11_silence_before_the_dot_ends_in_time(sink, distributor, send, verb):
    sink.on(verb, STALL)
    began = time.monotonic()
    result = send(distributor(sink, timeout=0.2), ANN)
    assert time.monotonic() - began < 5
    assert isinstance(result.error, UnavailableError)
    assert (result.reports, result.commits) == ([], [])


def test_d11_a_server_that_stops_reading_ends_in_time(sink, distributor, send):
    sink.on("BODY", 1.5)
    began = time.monotonic()
    result = send(distributor(sink, timeout=0.2), ANN, data=LARGE)
    assert time.monotonic() - began < 1.4
    assert isinstance(result.error, UnavailableError)
    assert result.commits == []


def test_d11_a_reply_that_trickles_ends_in_time(sink, distributor, send):
    trickle = [each for octet in b"250-" + b"x" * 100 for each in (bytes([octet]), 0.05)]
    sink.on("MAIL", *trickle)
    began = time.monotonic()
    result = send(distributor(sink, timeout=0.3), ANN)
    assert time.monotonic() - began < 3
    assert isinstance(result.error, UnavailableError)


@pytest.mark.parametrize("verb", BEFORE_THE_DOT[:-1])
@pytest.mark.parametrize("after", [(), (CUT,)], ids=["", "cut"])
def test_d11_a_421_is_temporary_wherever_it_comes(sink, distributor, send, verb, after):
    sink.on(verb, "421 4.3.2 shutting down", *after)
    result = send(distributor(sink), ANN, BOB)
    assert isinstance(result.error, UnavailableError)
    assert result.error.temporary
    assert "421 4.3.2 shutting down" in result.error.text
    assert (result.reports, result.commits) == ([], [])


def test_d11_a_421_to_the_dot_is_an_answer(sink, distributor, send):
    sink.on(".", "421 4.3.2 shutting down", times=1)
    smtp = distributor(sink)
    result = send(smtp, ANN)
    assert (result.outcome(ANN), result.error) == (("later", "4.3.2"), None)
    assert send(smtp, BOB).outcome(BOB) == ("sent", "2.0.0")
    assert len(sink.connections) == 2


def test_d10_what_was_refused_before_the_connection_broke_stays_refused(sink, distributor, send):
    sink.on("RCPT", "550 5.1.1 no such user", match="ann*")
    sink.on("RCPT", CUT, match="cat*")
    result = send(distributor(sink), ANN, BOB, CAT)
    assert result.outcome(ANN) == ("failed", "5.1.1")
    assert (result.outcome(BOB), result.outcome(CAT)) == (None, None)
    assert isinstance(result.error, UnavailableError)
    assert result.commits == []


def test_d10_what_earlier_transactions_delivered_stays_delivered(sink, distributor, send):
    sink.on("MAIL", "421 4.3.2 bye", CUT, after=1)
    sink.on("CONNECT", "421 4.3.2 bye", CUT, after=1)
    result = send(distributor(sink, recipients_max=1), ANN, BOB, CAT)
    assert result.outcome(ANN) == ("sent", "2.0.0")
    assert isinstance(result.error, UnavailableError)
    assert result.commits == [(ANN,)]
    assert result.in_doubt == set()


def check_consistent(sink, result):
    """What is true after any cut: see the rule of the file."""
    sent = {report.recipient for report in result.reports if report.outcome.value == "sent"}
    kept = {recipient for message in sink.messages for recipient in message.recipients}
    assert len(sink.messages) <= 1
    assert sent <= kept
    assert kept <= sent | result.in_doubt
    assert result.outcome(BOB) in (None, ("failed", "5.1.1"))
    assert sent | result.in_doubt <= {ANN, CAT}
    if sent != {ANN, CAT}:
        assert isinstance(result.error, UnavailableError)


@pytest.mark.parametrize("side", ["cut_sent", "cut_received"])
def test_d10_cut_at_every_octet_nobody_is_lost_or_sent_to_twice(distributor, send, side):
    outcomes = set()
    octets = 1
    while True:
        with SmtpSink(extensions=["PIPELINING"]) as sink:
            sink.on("RCPT", "550 5.1.1 no such user", match="bob*")
            setattr(sink, side, octets)
            result = send(distributor(sink, helo="x"), ANN, BOB, CAT)
            check_consistent(sink, result)
            outcomes.add((len(result.reports), len(result.in_doubt)))
        if len(result.reports) == 3 and side == "cut_sent":
            break
        if side == "cut_received" and not result.error:
            break
        octets += 1
    # Nothing known, all known; where replies are lost: one refused, the others in doubt.
    assert {(0, 0), (3, 0)} <= outcomes
    assert side == "cut_received" or {(1, 0), (1, 2)} <= outcomes
    assert octets > 100


@pytest.mark.parametrize("act", [CUT, RESET, STALL], ids=["cut", "reset", "stall"])
def test_d12_no_answer_to_the_dot_leaves_a_doubt_and_says_so(sink, distributor, send, act):
    sink.on(".", act, times=1)
    smtp = distributor(sink, message_timeout=0.3)
    result = send(smtp, ANN, BOB)
    assert isinstance(result.error, UnavailableError)
    assert "the answer to a whole mail is missing" in result.error.text
    assert result.in_doubt == {ANN, BOB}
    assert result.reports == []
    again = send(smtp, ANN, BOB)
    assert again.outcome(ANN) == ("sent", "2.0.0")
    assert sink.messages[0].data == sink.messages[1].data


@pytest.mark.parametrize("octets", [b"OK queued\r\n", b"354 more\r\n"])
def test_d12_nonsense_as_answer_to_the_dot_leaves_a_doubt(sink, distributor, send, octets):
    sink.on(".", octets)
    result = send(distributor(sink), ANN)
    assert isinstance(result.error, PeerError)
    assert result.in_doubt == {ANN}


def test_d12_the_answer_to_the_dot_is_waited_for_longer_than_others(
    sink, distributor, send, monkeypatch
):
    monkeypatch.setattr("mailflow.net.SLOWEST", 1e9)
    sink.on(".", 0.8, "250 2.0.0 at last")
    result = send(distributor(sink, timeout=0.1, message_timeout=10.0), ANN)
    assert result.outcome(ANN) == ("sent", "2.0.0")


def test_d12_the_answer_to_the_dot_is_waited_for_when_the_engine_stops(
    sink, distributor, send, halt
):
    sink.on(".", 0.4, "250 2.0.0 at last")
    result = send(distributor(sink), ANN, commit=lambda _: threading.Timer(0.1, halt.set).start())
    assert (result.outcome(ANN), result.error) == (("sent", "2.0.0"), None)


def test_no_other_wait_is_longer_for_it(sink, distributor, send, halt):
    sink.on(".", 0.4, "250 2.0.0 at last")
    sink.on("MAIL", STALL, after=1)
    smtp = distributor(sink, recipients_max=1)
    began = time.monotonic()
    result = send(smtp, ANN, BOB, commit=lambda _: halt.set())
    assert result.outcome(ANN) == ("sent", "2.0.0")
    assert isinstance(result.error, UnavailableError)
    assert time.monotonic() - began < 5


@pytest.mark.parametrize("verb", ["CONNECT", "MAIL", "DATA"])
def test_any_other_wait_ends_when_the_engine_stops(sink, distributor, send, halt, verb):
    sink.on(verb, STALL)
    threading.Timer(0.1, halt.set).start()
    began = time.monotonic()
    result = send(distributor(sink), ANN)
    assert time.monotonic() - began < 5
    assert isinstance(result.error, UnavailableError)
    assert result.commits == []


# D13: replies


@pytest.mark.parametrize(
    "octets",
    [
        b"250-2.1.5 one\r\n250-2.1.5 two\r\n250 2.1.5 three\r\n",
        b"250\r\n",
        b"250 5.1.1 contradicts itself\r\n",
        b"250 " + b"x" * (1 << 20) + b"\r\n",
        b"250-x\r\n" * 150_000 + b"250 x\r\n",
        b"251 2.1.5 forwards\r\n",
    ],
    ids=["lines", "bare", "contradiction", "long", "many", "251"],
)
@pytest.mark.parametrize("verb", ["RCPT", "."])
def test_d13_odd_replies_are_understood(sink, distributor, send, verb, octets):
    sink.on(verb, octets)
    result = send(distributor(sink), ANN, BOB)
    assert {report.outcome.value for report in result.reports} == {"sent"}
    assert all(len(report.text) <= 1000 for report in result.reports)


@pytest.mark.parametrize(
    "octets",
    [b"\r\n", b"ok\r\n", b"250-ok\r\n550 no\r\n", b"354 what\r\n", b"999 ?\r\n", b"\0\0\0\n"],
)
def test_d13_what_is_no_reply_is_temporary(sink, distributor, send, octets):
    sink.on("RCPT", octets)
    result = send(distributor(sink), ANN)
    assert isinstance(result.error, PeerError)
    assert result.error.temporary
    assert (result.reports, result.commits) == ([], [])


@pytest.mark.parametrize("octets", [b"250 2.0.0 taken\r\n", b"334 \r\n"])
def test_d13_data_that_is_not_opened_by_354_gets_no_content(sink, distributor, send, octets):
    sink.on("DATA", octets)
    result = send(distributor(sink), ANN)
    assert isinstance(result.error, PeerError)
    sink.settle()
    assert "Subject: hello" not in sink.commands


# D21: a server that is not ready to


def test_d21_a_greylisting_server_is_asked_once(sink, distributor, send):
    sink.on("RCPT", "450 4.2.0 greylisted, try again later")
    result = send(distributor(sink), *[f"m{number}@example.org" for number in range(10)])
    assert {report.outcome.value for report in result.reports} == {"later"}
    assert len([c for c in sink.commands if c.startswith("MAIL")]) == 1


def test_d21_a_server_that_takes_no_more_mail_is_asked_once(sink, distributor, send):
    sink.on("MAIL", "450 4.7.1 only ten mails a minute")
    members = [f"m{number}@example.org" for number in range(10)]
    result = send(distributor(sink, recipients_max=2), *members)
    assert [report.recipient for report in result.reports] == members
    assert {report.outcome.value for report in result.reports} == {"later"}
    assert len([c for c in sink.commands if c.startswith("MAIL")]) == 1


# Connecting


@pytest.mark.parametrize(
    ("reply", "kind"),
    [
        ("554 5.3.2 no mail here", RefusedError),
        ("521 5.3.2 no mail here", RefusedError),
        ("450 4.3.2 overloaded", CrowdedError),
        ("421 4.3.2 overloaded", CrowdedError),
        ("334 what", PeerError),
        (b"SSH-2.0-OpenSSH_9.2\r\n", PeerError),
    ],
)
def test_a_greeting_that_is_no_welcome_says_what_it_was(sink, distributor, send, reply, kind):
    sink.on("CONNECT", reply)
    result = send(distributor(sink), ANN)
    assert type(result.error) is kind
    assert str(sink.port) in result.error.text
    assert result.reports == []
    sink.settle(5)  # nobody keeps the connection


def test_nobody_listening_is_unavailable(distributor, send):
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
    result = send(distributor(host="127.0.0.1", port=port), ANN)
    assert isinstance(result.error, UnavailableError)
    assert f"127.0.0.1:{port}" in result.error.text


@contextmanager
def unanswered():
    """A port whose queue of connections is full: a SYN is never answered."""
    with socket.create_server(("127.0.0.1", 0), backlog=0) as server:
        address = server.getsockname()
        fillers = []
        for _ in range(4):
            filler = socket.socket()
            filler.setblocking(False)
            filler.connect_ex(address)
            fillers.append(filler)
        yield address
        for filler in fillers:
            filler.close()


def test_a_host_that_does_not_answer_is_given_up_in_time(distributor, send):
    with unanswered() as (host, port):
        began = time.monotonic()
        result = send(distributor(host=host, port=port, timeout=0.3), ANN)
        assert time.monotonic() - began < 5
        assert isinstance(result.error, UnavailableError)
