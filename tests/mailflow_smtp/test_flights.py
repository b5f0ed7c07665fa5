"""Many mails over one connection: each envelope in flight with the content before it.

Rule of the file: what is asked for ahead is never committed, and never takes harm from
what becomes of the mail before it.
"""

from __future__ import annotations

import pytest

from mailflow import BadMailError, Envelope, Mail, Octets, PeerError, Ticket, UnavailableError
from mailflow.testing.smtp import CUT, RESET, STALL, SmtpSink

ANN, BOB, CAT = "ann@example.org", "bob@example.org", "cat@example.org"
SENT = ("sent", "2.0.0")
THREE = {"m1": (ANN, BOB), "m2": (BOB,), "m3": (CAT,)}


def subjects(sink: SmtpSink) -> list[str]:
    return [message.data.split(b"\r\n")[0].removeprefix(b"Subject: ").decode()
            for message in sink.messages]  # fmt: skip


def all_sent(group) -> bool:
    return group.reports == {mail: dict.fromkeys(to, SENT) for mail, to in THREE.items()}


def test_each_mail_but_the_first_takes_one_round_trip(sink, distributor, send_many):
    smtp = distributor(sink)
    group = send_many(smtp, THREE)
    assert all_sent(group)
    assert subjects(sink) == ["m1", "m2", "m3"]
    # EHLO, envelope 1, content 1 + envelope 2, content 2 + envelope 3, content 3
    assert sink.connections[0].flights == 5
    assert "RSET" not in sink.commands
    assert sink.violations == []


def test_a_mail_is_committed_once_the_one_before_is_answered_and_before_its_dot(
    sink, distributor, send_many
):
    group = send_many(distributor(sink), THREE)
    assert group.told == [
        ("commit", "m1"), ("report", "m1"), ("report", "m1"),
        ("commit", "m2"), ("report", "m2"), ("commit", "m3"), ("report", "m3"),
    ]  # fmt: skip


def test_a_mail_is_drawn_no_earlier_than_its_envelope_can_go(sink, distributor, send_many):
    sink.on("DATA", CUT)
    group = send_many(distributor(sink), THREE)
    assert isinstance(group.error, UnavailableError)
    assert group.drawn == ["m1"]


def test_only_who_was_accepted_is_committed(sink, distributor, send_many):
    sink.on("RCPT", "550 5.1.1 no such user", match="bob*")
    group = send_many(distributor(sink), THREE)
    assert group.commits == {"m1": [(ANN,)], "m3": [(CAT,)]}
    assert group.reports["m1"] == {BOB: ("failed", "5.1.1"), ANN: SENT}
    assert group.reports["m2"] == {BOB: ("failed", "5.1.1")}
    assert group.reports["m3"] == {CAT: SENT}
    assert len(sink.connections) == 1
    assert sink.violations == []


@pytest.mark.parametrize("verb", ["MAIL", "RCPT", "DATA", "."])
@pytest.mark.parametrize("code", ["450 4.7.1", "550 5.7.1"])
@pytest.mark.parametrize("after", [0, 1, 2])
def test_d09_a_refusal_hits_one_mail_of_a_group(distributor, send_many, verb, code, after):
    with SmtpSink() as sink:
        sink.on(verb, f"{code} no", times=1, after=after)
        jobs = {"m1": (ANN,), "m2": (ANN,), "m3": (ANN,)}
        group = send_many(distributor(sink), jobs)
        hit = f"m{after + 1}"
        outcome = ("later" if code[0] == "4" else "failed", code[4:])
        assert group.reports == {
            mail: {ANN: outcome if mail == hit else SENT} for mail in ("m1", "m2", "m3")
        }
        assert group.in_doubt == {}
        assert subjects(sink) == [mail for mail in ("m1", "m2", "m3") if mail != hit]
        assert len(sink.connections) == 1
        assert sink.violations == []


def test_d09_data_opened_ahead_for_nobody_is_ended_with_the_lone_dot(sink, distributor, send_many):
    sink.on("RCPT", "550 5.1.1 no", match="bob*")
    sink.on("DATA", "354 go ahead", after=1, times=1)
    group = send_many(distributor(sink), {"m1": (ANN,), "m2": (BOB,), "m3": (CAT,)})
    assert group.reports["m2"] == {BOB: ("failed", "5.1.1")}
    assert [message.recipients for message in sink.messages] == [(ANN,), (CAT,)]
    assert len(sink.connections) == 1


def test_a_server_that_keeps_a_refused_transaction_open_is_asked_anew(sink, distributor, send_many):
    """As few do: the refused content did not end it, so that the next MAIL is one too many."""
    sink.on(".", "552 5.3.4 too big", times=1)
    sink.on("MAIL", "503 5.5.1 nested MAIL", after=1, times=1)
    sink.on("RCPT", "250 2.1.5 into the wrong one", after=2, times=1)
    sink.on("DATA", "354 go ahead", after=1, times=1)
    group = send_many(distributor(sink), THREE)
    assert group.reports["m1"] == dict.fromkeys((ANN, BOB), ("failed", "5.3.4"))
    assert (group.reports["m2"], group.reports["m3"]) == ({BOB: SENT}, {CAT: SENT})
    assert subjects(sink) == ["m2", "m3"]
    assert len(sink.connections) == 2


@pytest.mark.parametrize("act", [CUT, RESET, STALL], ids=["cut", "reset", "stall"])
def test_d12_a_lost_answer_leaves_one_mail_of_a_group_in_doubt(sink, distributor, send_many, act):
    sink.on(".", act, after=1)
    group = send_many(distributor(sink, message_timeout=0.3), THREE)
    assert isinstance(group.error, UnavailableError)
    assert group.reports == {"m1": dict.fromkeys((ANN, BOB), SENT)}
    assert group.in_doubt == {"m2": {BOB}}
    assert "m3" not in group.commits
    assert subjects(sink) == ["m1", "m2"]


@pytest.mark.parametrize("verb", ["MAIL", "RCPT", "DATA"])
@pytest.mark.parametrize(
    "act", [(CUT,), (RESET,), ("421 4.4.2 enough", CUT), ("421 4.4.2 enough",)]
)
def test_d11_a_connection_lost_under_the_next_envelope_is_opened_again(
    sink, distributor, send_many, verb, act
):
    counts = {"MAIL": 1, "RCPT": 2, "DATA": 1}
    sink.on(verb, *act, after=counts[verb], times=1)
    group = send_many(distributor(sink), THREE)
    assert group.error is None
    assert all_sent(group)
    assert group.in_doubt == {}
    assert subjects(sink) == ["m1", "m2", "m3"]
    assert len(sink.connections) == 2


@pytest.mark.parametrize("reply", ["421 4.3.2 shutting down", "250 2.0.0 taken"])
def test_d11_a_server_that_leaves_behind_its_answer_gets_the_rest_elsewhere(
    sink, distributor, send_many, reply
):
    sink.on(".", reply, CUT, times=1)
    group = send_many(distributor(sink), THREE)
    said = SENT if reply[0] == "2" else ("later", "4.3.2")
    assert group.reports["m1"] == dict.fromkeys((ANN, BOB), said)
    assert (group.reports["m2"], group.reports["m3"]) == ({BOB: SENT}, {CAT: SENT})
    assert group.in_doubt == {}


def test_d10_cut_at_every_octet_no_mail_of_a_group_is_lost_or_sent_twice(distributor, send_many):
    jobs = {"m1": (ANN,), "m2": (BOB,)}
    outcomes = set()
    octets = 1
    while True:
        with SmtpSink(extensions=["PIPELINING"]) as sink:
            sink.cut_received = octets
            group = send_many(distributor(sink, helo="x"), jobs)
            kept = subjects(sink)
            told = {mail for mail, who in group.reports.items() if SENT in who.values()}
            assert len(kept) == len(set(kept))
            assert told <= set(kept) <= told | set(group.in_doubt)
            assert len(group.in_doubt) <= 1
            outcomes.add((len(told), len(group.in_doubt)))
        if group.error is None:
            break
        octets += 1
    assert {(0, 0), (0, 1), (1, 1), (2, 0)} <= outcomes


def test_without_pipelining_the_next_envelope_waits_for_the_answer(distributor, send_many):
    with SmtpSink(extensions=["8BITMIME"]) as sink:
        group = send_many(distributor(sink), THREE)
        assert all_sent(group)
        assert sink.violations == []
        assert len(sink.connections) == 1


def test_one_connection_takes_content_of_any_size(sink, distributor, send_many):
    large = b"Subject: m2\r\n\r\n" + b"0123456789abcde\r\n" * 60_000
    group = send_many(distributor(sink), THREE, data={"m2": large})
    assert all_sent(group)
    assert sink.messages[1].data == large


def test_a_mail_that_cannot_be_said_costs_the_one_before_it_nothing(sink, distributor, send_many):
    group = send_many(distributor(sink), THREE, senders={"m2": None})
    assert isinstance(group.error, BadMailError)
    assert group.reports == {"m1": dict.fromkeys((ANN, BOB), SENT)}
    assert group.in_doubt == {}


def test_a_mail_that_the_server_is_not_able_to_take_is_refused_in_passing(distributor, send_many):
    with SmtpSink(extensions=["PIPELINING"]) as sink:
        data = {"m2": b"Subject: m2\r\n\r\n\xfcber\r\n"}
        group = send_many(distributor(sink), THREE, data=data)
        assert group.reports["m2"] == {BOB: ("failed", "5.6.3")}
        assert subjects(sink) == ["m1", "m3"]


def test_many_recipients_go_in_transactions_behind_each_other(sink, distributor, send_many):
    members = tuple(f"member{number}@example.org" for number in range(1000))
    group = send_many(distributor(sink), {"m1": members})
    assert group.reports == {"m1": dict.fromkeys(members, SENT)}
    assert [len(message.recipients) for message in sink.messages] == [100] * 10
    assert sink.connections[0].flights == 12


def test_an_answer_too_many_costs_the_connection_and_is_nobodys(sink, distributor, send_many):
    sink.on(".", b"250 2.0.0 taken\r\n250 2.0.0 and again\r\n", times=1)
    group = send_many(distributor(sink), THREE)
    assert group.reports["m1"] == dict.fromkeys((ANN, BOB), SENT)
    assert isinstance(group.error, PeerError)
    assert group.in_doubt == {}


class Unreadable:
    """Content whose disk is gone."""

    size = 100

    def open(self):
        raise OSError(5, "Input/output error")


@pytest.mark.parametrize("offered", [("PIPELINING",), ("PIPELINING", "CHUNKING")])
def test_d01_a_next_mail_that_cannot_be_read_leaves_the_one_before_in_no_doubt(
    distributor, offered
):
    with SmtpSink(extensions=offered) as sink:
        happened = []
        jobs = [
            (Mail(name, Envelope("red@example.org"), content),
             Ticket(name, (ANN,), commit=lambda some, name=name: happened.append(("C", name))))
            for name, content in (("m1", Octets(b"Subject: m1\r\n\r\nx\r\n")), ("m2", Unreadable()))
        ]  # fmt: skip
        said = distributor(sink).distribute_many(iter(jobs))
        with pytest.raises(OSError, match="Input/output"):
            happened.extend(("D", ticket.key) for ticket, _ in said)
        assert happened == [("C", "m1"), ("D", "m1")]
        assert subjects(sink) == ["m1"]
