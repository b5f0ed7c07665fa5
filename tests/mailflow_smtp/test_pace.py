"""Rates, crowded servers and logins: what the sessions of one step know together.

Rule of the file: time is the test's own, but where a wait is to end before its time.
"""

from __future__ import annotations

import threading
import time

import pytest

from mailflow import ConfigError, CrowdedError, LoginError, UnavailableError
from mailflow.testing.smtp import CUT, SmtpSink
from mailflow_smtp.distributor import SmtpDistributor
from mailflow_smtp.settings import SmtpOptions
from mailflow_smtp.standing import Pace, Standing

ANN, BOB, CAT = "ann@example.org", "bob@example.org", "cat@example.org"
SENT = ("sent", "2.0.0")


@pytest.fixture
def clock(monkeypatch):
    class Clock:
        now = 1000.0

    monkeypatch.setattr("mailflow_smtp.standing.time.monotonic", lambda: Clock.now)
    return Clock


# Rates


@pytest.mark.parametrize(
    ("text", "rate"),
    [("10/1m", (10, 60.0)), ("500/1d", (500, 86400.0)), ("2/s", (2, 1.0)), (" 3 / 10s", (3, 10.0))],
)
def test_a_rate_is_so_many_in_so_much_time(text, rate):
    assert SmtpOptions.read({"host": "x", "rate": text}).rate == rate


@pytest.mark.parametrize("text", ["", "10", "0/1m", "10/", "10/forever", "10/0s", "x/1m", 5, "1/x"])
def test_what_is_no_rate_is_a_fault_of_the_file(text):
    with pytest.raises(ConfigError, match="rate"):
        SmtpOptions.read({"host": "x", "rate": text})


def test_so_many_go_at_once_and_the_next_when_the_first_is_old_enough(clock):
    pace = Pace(3, 60.0)
    assert [pace.book() for _ in range(3)] == [0.0, 0.0, 0.0]
    clock.now += 20
    assert pace.book() == 40.0
    clock.now += 40
    assert pace.book() == 0.0 or pace.book() == 60.0


def test_who_waits_has_a_place_that_nobody_else_gets(clock):
    pace = Pace(2, 60.0)
    assert [pace.book() for _ in range(6)] == [0.0, 0.0, 60.0, 60.0, 120.0, 120.0]
    assert not pace.take()
    clock.now += 179
    assert not pace.take()
    clock.now += 1
    assert pace.take()


def test_what_earlier_runs_have_sent_counts(clock):
    pace = Pace(2, 60.0)
    asked = []
    pace.begin(lambda seconds: asked.append(seconds) or [50.0, 10.0])
    pace.begin(lambda seconds: asked.append(seconds) or [0.0, 0.0])
    assert asked == [60.0]
    assert pace.book() == 10.0


def test_no_transaction_begins_before_its_time(sink, distributor, send_many, monkeypatch):
    waits = []
    monkeypatch.setattr("mailflow.halt.Halt.wait", lambda self, seconds: waits.append(seconds))
    smtp = distributor(sink, rate=(2, 3600.0))
    group = send_many(smtp, {"m1": (ANN,), "m2": (BOB,), "m3": (CAT,), "m4": (ANN,)})
    assert [who for mail in group.reports.values() for who in mail.values()] == [SENT] * 4
    assert [round(seconds) for seconds in waits] == [3600, 3600]


def test_each_transaction_of_a_mail_counts(sink, distributor, send, monkeypatch):
    waits = []
    monkeypatch.setattr("mailflow.halt.Halt.wait", lambda self, seconds: waits.append(seconds))
    send(distributor(sink, rate=(2, 60.0), recipients_max=1), ANN, BOB, CAT)
    assert len(waits) == 1


def test_before_a_wait_all_that_was_reported_is_written(sink, distributor, mail, monkeypatch):
    from mailflow import Ticket

    happened = []
    monkeypatch.setattr("mailflow.halt.Halt.wait", lambda self, seconds: happened.append("wait"))
    ticket = Ticket("t1", (ANN, BOB), commit=lambda some: happened.append(tuple(some)))
    smtp = distributor(sink, rate=(1, 60.0), recipients_max=1)
    for report in smtp.distribute(mail(), ticket):
        happened.append(report.recipient)
    assert happened == [(ANN,), ANN, (), "wait", (BOB,), BOB]


def test_a_stop_ends_the_wait_and_leaves_no_doubt(sink, distributor, send_many, halt):
    smtp = distributor(sink, rate=(1, 3600.0))
    timer = threading.Timer(0.2, halt.set)
    timer.start()
    began = time.monotonic()
    group = send_many(smtp, {"m1": (ANN,), "m2": (BOB,)})
    timer.join()
    assert time.monotonic() - began < 10
    assert isinstance(group.error, UnavailableError)
    assert (group.reports, group.in_doubt) == ({"m1": {ANN: SENT}}, {})


def test_the_sessions_of_a_step_share_one_rate(sink, runtime, monkeypatch, send):
    waits = []
    monkeypatch.setattr("mailflow.halt.Halt.wait", lambda self, seconds: waits.append(seconds))
    options = SmtpOptions({"host": sink.host, "port": sink.port, "rate": (2, 60.0)})
    for number in range(3):
        with SmtpDistributor(options, runtime) as smtp:
            assert send(smtp, ANN).outcome(ANN) == SENT
        assert len(waits) == max(0, number - 1)


# A crowded server


@pytest.mark.parametrize("verb", ["CONNECT", "EHLO", "MAIL"])
@pytest.mark.parametrize("code", ["421 4.7.0", "454 4.7.0"])
def test_a_server_that_has_enough_says_so_before_any_mail(sink, distributor, send, verb, code):
    sink.on(verb, f"{code} too many connections", CUT)
    result = send(distributor(sink), ANN)
    assert isinstance(result.error, CrowdedError)
    assert "too many connections" in result.error.text
    assert (result.reports, result.commits) == ([], [])


@pytest.mark.parametrize("verb", ["RCPT", "DATA"])
def test_what_it_says_later_is_about_the_mail(sink, distributor, send, verb):
    sink.on(verb, "421 4.3.2 shutting down", CUT)
    assert type(send(distributor(sink), ANN).error) is UnavailableError


# Logging in


USER = {"user": "red", "password": "secret"}


def mechanisms(sink: SmtpSink) -> list[str]:
    return [command.split()[1] for command in sink.commands if command.startswith("AUTH")]


@pytest.mark.parametrize("refusal", ["535 5.7.8 no", "504 5.5.4 not that one", "500 5.5.2 what"])
def test_pml_16_the_next_mechanism_is_tried_where_one_that_is_offered_fails(
    distributor, send, refusal
):
    with SmtpSink(users={"red": "secret"}, mechanisms=["PLAIN", "LOGIN"]) as sink:
        sink.on("AUTH", refusal, match="PLAIN*")
        assert send(distributor(sink, **USER), ANN).outcome(ANN) == SENT
        assert mechanisms(sink) == ["PLAIN", "LOGIN"]


def test_pml_16_the_order_is_that_of_the_file(distributor, send):
    with SmtpSink(users={"red": "secret"}, mechanisms=["PLAIN", "LOGIN"]) as sink:
        send(distributor(sink, auth=("LOGIN", "PLAIN"), **USER), ANN)
        assert mechanisms(sink) == ["LOGIN"]


def test_pml_16_the_one_that_worked_is_the_first_at_the_next_connection(distributor, send):
    with SmtpSink(users={"red": "secret"}, mechanisms=["PLAIN", "LOGIN"]) as sink:
        sink.on("AUTH", "535 5.7.8 no", match="PLAIN*")
        smtp = distributor(sink, **USER)
        send(smtp, ANN)
        sink.on(".", "250 2.0.0 ok", CUT, times=1)
        send(smtp, ANN)
        sink.settle()
        send(smtp, ANN)
        assert mechanisms(sink) == ["PLAIN", "LOGIN", "LOGIN"]


def test_many_sessions_with_a_wrong_password_try_it_once(runtime, send):
    """Each failure counts towards a lock-out, whichever session it came from."""
    with SmtpSink(users={"red": "secret"}, mechanisms=["PLAIN"]) as sink:
        from mailflow.options import SecretValue

        wrong = SecretValue(lambda: "wrong", "the test")
        options = SmtpOptions(
            {"host": sink.host, "port": sink.port, "user": "red", "password": wrong}
        )
        errors = []

        def run() -> None:
            with SmtpDistributor(options, runtime) as smtp:
                errors.append(send(smtp, ANN).error)

        threads = [threading.Thread(target=run) for _ in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert all(isinstance(error, LoginError) for error in errors)
        assert len(errors) == 8
        assert mechanisms(sink) == ["PLAIN"]


def test_a_refused_login_is_tried_again_after_a_while(clock):
    standing = Standing(None, chunking=True)
    with pytest.raises(LoginError), standing.login():
        raise LoginError("no")
    with pytest.raises(LoginError), standing.login():
        raise AssertionError("tried again at once")
    clock.now += 31
    with standing.login():
        standing.mechanism = "PLAIN"
