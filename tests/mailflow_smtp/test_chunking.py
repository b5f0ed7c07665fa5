"""Content by BDAT (RFC 3030), against a server that counts octets as the RFC says.

Rule of the file: the last chunk is the dot; nobody is committed later than that.
"""

from __future__ import annotations

import pytest

from mailflow import LoginError, UnavailableError
from mailflow.testing.smtp import CUT, RESET, STALL, SmtpSink

ANN, BOB, CAT = "ann@example.org", "bob@example.org", "cat@example.org"
SENT = ("sent", "2.0.0")
CHUNKING = ("PIPELINING", "SIZE 0", "8BITMIME", "CHUNKING")
LARGE = b"Subject: x\r\n\r\n" + b"0123456789abcde\r\n" * 60_000
THREE = {"m1": (ANN,), "m2": (BOB,), "m3": (CAT,)}


@pytest.fixture
def chunky():
    with SmtpSink(extensions=CHUNKING) as sink:
        yield sink


def test_a_short_mail_takes_one_round_trip_with_its_envelope(chunky, distributor, send):
    result = send(distributor(chunky), ANN, BOB)
    assert (result.outcome(ANN), result.outcome(BOB)) == (SENT, SENT)
    assert chunky.connections[0].flights == 2  # EHLO, and all the rest
    assert chunky.messages[0].chunks == 1
    assert chunky.violations == []


def test_each_further_mail_takes_one_round_trip(chunky, distributor, send_many):
    group = send_many(distributor(chunky), THREE)
    assert group.reports == {"m1": {ANN: SENT}, "m2": {BOB: SENT}, "m3": {CAT: SENT}}
    assert chunky.connections[0].flights == 4
    assert [message.chunks for message in chunky.messages] == [1, 1, 1]


def test_further_mails_are_committed_for_who_was_accepted(chunky, distributor, send_many):
    chunky.on("RCPT", "550 5.1.1 no such user", match="bob*")
    group = send_many(distributor(chunky), {"m1": (ANN,), "m2": (BOB, CAT), "m3": (BOB,)})
    assert group.commits == {"m1": [(ANN,)], "m2": [(CAT,)]}
    assert group.reports["m2"] == {BOB: ("failed", "5.1.1"), CAT: SENT}
    assert group.reports["m3"] == {BOB: ("failed", "5.1.1")}


@pytest.mark.parametrize("data", [b"Subject: x\r\n\r\n.\r\n..\r\n.two\r\n", b".\r\n", LARGE])
def test_octets_arrive_as_they_are_without_stuffing(chunky, distributor, send, data):
    send(distributor(chunky), ANN, data=data)
    assert chunky.messages[0].data == data


@pytest.mark.parametrize("data", [b"Subject: x\r\n\r\na\rb\nc\r\r\n", b"no end", b"a\r"])
def test_d15_line_ends_are_mended_as_for_data(chunky, distributor, send, data):
    send(distributor(chunky), ANN, data=data)
    with SmtpSink() as other:
        send(distributor(other), ANN, data=data)
        assert chunky.messages[0].data == other.messages[0].data


def test_a_large_mail_goes_in_pieces_and_is_committed_before_the_last(chunky, distributor, send):
    seen = []

    def commit(recipients):
        seen.append((len(chunky.messages), chunky.connections[0].received > len(LARGE) - 20_000))

    result = send(distributor(chunky), ANN, data=LARGE, commit=commit)
    assert result.outcome(ANN) == SENT
    assert chunky.messages[0].chunks > 2
    assert [len(chunky.messages), result.commits] == [1, [(ANN,)]]
    assert seen[0][0] == 0


def test_a_large_mail_waits_for_who_wants_it(chunky, distributor, send):
    chunky.on("RCPT", "550 5.1.1 no such user")
    result = send(distributor(chunky), ANN, data=LARGE)
    assert (result.outcome(ANN), result.commits) == (("failed", "5.1.1"), [])
    assert not any(command.startswith("BDAT") for command in chunky.commands)


def test_without_pipelining_each_chunk_waits_for_its_answer(distributor, send):
    with SmtpSink(extensions=["CHUNKING"]) as sink:
        assert send(distributor(sink), ANN, BOB, data=LARGE).outcome(ANN) == SENT
        assert sink.messages[0].data == LARGE
        assert sink.violations == []


def test_it_can_be_switched_off(chunky, distributor, send):
    send(distributor(chunky, chunking=False), ANN)
    assert "DATA" in chunky.commands
    assert not any(command.startswith("BDAT") for command in chunky.commands)


def test_on_a_connection_that_has_rested_the_envelope_goes_first(chunky, distributor, send):
    """A server that leaves just then must not put a mail in doubt."""
    smtp = distributor(chunky)
    send(smtp, ANN)
    chunky.on("MAIL", CUT, times=1)
    result = send(smtp, BOB)
    assert (result.outcome(BOB), result.in_doubt) == (SENT, set())
    assert result.commits == [(BOB,)]


# Some of it refused


def test_refused_by_some_the_others_get_it_and_all_are_answered(chunky, distributor, send):
    chunky.on("RCPT", "550 5.1.1 no such user", match="bob*")
    chunky.on("RCPT", "450 4.2.0 greylisted", match="cat*")
    result = send(distributor(chunky), ANN, BOB, CAT)
    assert chunky.messages[0].recipients == (ANN,)
    assert result.outcome(ANN) == SENT
    assert result.outcome(BOB) == ("failed", "5.1.1")
    assert result.outcome(CAT) == ("later", "4.2.0")
    assert result.in_doubt == set()


def test_d17_refused_by_all_the_refusals_count_and_not_what_bdat_is_told(chunky, distributor, send):
    chunky.on("RCPT", "450 4.2.0 greylisted", match="ann*", times=1)
    chunky.on("RCPT", "550 5.1.1 no such user", match="bob*")
    smtp = distributor(chunky)
    result = send(smtp, ANN, BOB)
    assert (result.outcome(ANN), result.outcome(BOB)) == (("later", "4.2.0"), ("failed", "5.1.1"))
    assert (result.in_doubt, result.error, chunky.messages) == (set(), None, [])
    assert send(smtp, ANN).outcome(ANN) == SENT
    assert len(chunky.connections) == 1


def test_d17_refused_as_sender_the_content_goes_nowhere(chunky, distributor, send):
    chunky.on("MAIL", "550 5.7.1 not you", times=1)
    smtp = distributor(chunky)
    result = send(smtp, ANN, BOB)
    assert result.outcome(ANN) == result.outcome(BOB) == ("failed", "5.7.1")
    assert (result.in_doubt, chunky.messages) == (set(), [])
    assert send(smtp, ANN).outcome(ANN) == SENT


@pytest.mark.parametrize("code", ["452 4.3.1", "552 5.3.4"])
@pytest.mark.parametrize("data", [b"Subject: x\r\n\r\nx\r\n", LARGE], ids=["short", "large"])
@pytest.mark.parametrize("pipelining", [("PIPELINING",), ()], ids=["", "lock-step"])
def test_d17_a_refused_chunk_is_the_answer_for_the_whole_mail(
    distributor, send, code, data, pipelining
):
    with SmtpSink(extensions=[*pipelining, "CHUNKING"]) as sink:
        sink.on("BDAT", f"{code} no room", times=1)
        smtp = distributor(sink)
        result = send(smtp, ANN, data=data)
        outcome = "later" if code[0] == "4" else "failed"
        assert (result.outcome(ANN), result.in_doubt) == ((outcome, code[4:]), set())
        assert sink.messages == []
        assert send(smtp, ANN).outcome(ANN) == SENT


def test_d17_after_a_refused_chunk_no_other_is_sent(distributor, send):
    with SmtpSink(extensions=["CHUNKING"]) as sink:
        sink.on("BDAT", "552 5.3.4 too big")
        result = send(distributor(sink), ANN, data=LARGE)
        assert result.commits == []
        assert sum(command.startswith("BDAT") for command in sink.commands) == 1
        assert not any(command.endswith("LAST") for command in sink.commands)


def test_d17_a_mail_that_cannot_be_read_to_its_end_is_never_ended(chunky, distributor, send, mail):
    """Half a message is none: the last chunk is missing, and the connection is dropped."""

    class Torn:
        size = len(LARGE)
        opened = 0

        def open(self):
            import io

            self.opened += 1
            if self.opened == 1:  # looked through for 8-bit octets
                return io.BytesIO(LARGE)

            class Reader(io.BytesIO):
                def read(self, size=-1):
                    if self.tell():
                        raise UnavailableError("the disk is gone")
                    return super().read(size)

            return Reader(LARGE)

    result = send(distributor(chunky), ANN, post=mail()._replace(content=Torn()))
    assert isinstance(result.error, UnavailableError)
    assert (result.commits, result.reports) == ([], [])
    chunky.settle()
    assert chunky.messages == []


def test_d17_bdat_and_data_are_never_mixed_in_one_transaction(chunky, distributor, send_many):
    send_many(distributor(chunky), THREE, data={"m2": LARGE})
    assert "DATA" not in chunky.commands
    assert chunky.violations == []


@pytest.mark.parametrize("reply", ["500 5.5.1 what", "502 5.5.2 no such command"])
@pytest.mark.parametrize("data", [b"Subject: x\r\n\r\nRSET\r\n", LARGE], ids=["short", "large"])
def test_d17_a_server_that_offers_it_and_does_not_know_it_gets_data(
    chunky, distributor, send, reply, data
):
    """What it then reads are commands, or the content taken for such."""
    chunky.on("BDAT", reply)
    smtp = distributor(chunky)
    assert send(smtp, ANN, data=data).outcome(ANN) == SENT
    assert send(smtp, BOB).outcome(BOB) == SENT
    assert chunky.messages[0].data == data
    assert sum(command.startswith("BDAT") for command in chunky.commands) <= 4
    assert len(chunky.connections) == 2


# Lost


@pytest.mark.parametrize("act", [CUT, RESET, STALL], ids=["cut", "reset", "stall"])
def test_d12_no_answer_to_the_last_chunk_leaves_a_doubt(chunky, distributor, send, act):
    chunky.on(".", act, times=1)
    chunky.on("RCPT", "550 5.1.1 no such user", match="bob*")
    result = send(distributor(chunky, message_timeout=0.3), ANN, BOB)
    assert isinstance(result.error, UnavailableError)
    assert result.in_doubt == {ANN}
    assert result.outcome(BOB) == ("failed", "5.1.1")


def test_d10_cut_at_every_octet_nobody_is_lost_or_sent_to_twice(distributor, send):
    outcomes = set()
    octets = 1
    while True:
        with SmtpSink(extensions=["PIPELINING", "CHUNKING"]) as sink:
            sink.on("RCPT", "550 5.1.1 no such user", match="bob*")
            sink.cut_sent = octets
            result = send(distributor(sink, helo="x"), ANN, BOB)
            sent = {r.recipient for r in result.reports if r.outcome.value == "sent"}
            kept = {to for message in sink.messages for to in message.recipients}
            assert sent <= kept <= sent | result.in_doubt
            assert result.outcome(BOB) in (None, ("failed", "5.1.1"))
            outcomes.add((len(result.reports), len(result.in_doubt)))
        if len(result.reports) == 2:
            break
        octets += 1
    assert {(0, 0), (0, 2), (1, 1), (2, 0)} <= outcomes


@pytest.mark.parametrize(
    "data", [b"Subject: x\r\n\r\nRSET\r\nNOOP\r\n", LARGE], ids=["short", "large"]
)
def test_d17_what_such_a_server_says_to_the_content_is_no_answer_to_the_next_mail(
    chunky, distributor, send_many, data
):
    chunky.on("BDAT", "500 5.5.1 what")
    group = send_many(distributor(chunky), THREE, data={"m1": data})
    assert group.error is None
    assert group.reports == {"m1": {ANN: SENT}, "m2": {BOB: SENT}, "m3": {CAT: SENT}}
    assert [message.recipients for message in chunky.messages] == [(ANN,), (BOB,), (CAT,)]


def test_d10_of_lmtp_only_who_was_told_500_is_asked_about_again(distributor, send):
    with SmtpSink(lmtp=True, extensions=CHUNKING) as sink:
        sink.on(".", "500 5.5.1 what", match="bob*", times=1)
        lmtp = distributor(sink)
        lmtp._options.lmtp = True
        result = send(lmtp, ANN, BOB, CAT)
        assert [result.outcome(to) for to in (ANN, BOB, CAT)] == [SENT] * 3
        assert sorted(to for each in sink.messages for to in each.recipients) == [ANN, BOB, CAT]


@pytest.mark.parametrize("verb", ["MAIL", "RCPT"])
def test_d12_421_before_the_content_was_looked_at_leaves_no_doubt(chunky, distributor, send, verb):
    chunky.on(verb, "421 4.7.0 too busy", CUT)
    result = send(distributor(chunky), ANN, BOB)
    assert result.in_doubt == set()
    assert result.outcome(ANN) == result.outcome(BOB) == ("later", "4.7.0")
    assert chunky.messages == []


def test_a_stop_waits_for_the_answers_to_what_was_sent_at_once(chunky, distributor, send, runtime):
    chunky.on("MAIL", 0.3, "250 2.1.0 ok")
    result = send(distributor(chunky), ANN, commit=lambda recipients: runtime.halt.set())
    assert (result.outcome(ANN), result.in_doubt) == (SENT, set())


def test_answers_kept_until_the_content_is_seen_to_are_waited_for_as_its_own(
    chunky, distributor, send
):
    """As by a server with a filter in front of its queue."""
    chunky.on("MAIL", 0.5, "250 2.1.0 ok")
    result = send(distributor(chunky, timeout=0.2), ANN)
    assert (result.outcome(ANN), result.in_doubt) == (SENT, set())


@pytest.mark.parametrize("verb", ["MAIL", "RCPT"])
def test_d17_a_login_that_is_wanted_first_leaves_no_doubt(chunky, distributor, send, verb):
    chunky.on(verb, "530 5.7.0 authentication required")
    result = send(distributor(chunky), ANN, BOB)
    assert isinstance(result.error, LoginError)
    assert (result.in_doubt, chunky.messages) == (set(), [])
    assert result.outcome(ANN) == result.outcome(BOB) == ("later", "5.7.0")
