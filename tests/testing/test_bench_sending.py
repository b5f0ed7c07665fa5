"""The rows that send: what a server was sent is read as it is, and all of it counts."""

from __future__ import annotations

import socket
from pathlib import Path

import pytest

from bench import corpus, relay, senders
from bench.measure import Command, Launcher
from bench.row import Contender, Options, Ratio, Row
from bench.rows import smtp

MESSAGE = b"Received: from elsewhere\nSubject: one\n\nbody\n\nX-Rcpt-Args: <no@example.org>\n"
DUMP = (
    b"X-Client-Addr: 127.0.0.1\nX-Client-Proto: ESMTP\nX-Helo-Args: x\n"
    b"X-Mail-Args: <ann@example.com> BODY=8BITMIME\n"
    b"X-Rcpt-Args: <red@example.org>\nX-Rcpt-Args: <bob@example.org> NOTIFY=NEVER\n"
    b"Received: from x ([127.0.0.1])\n\tby sink.example.org (smtp-sink) with ESMTP id 1;\n"
    b"\tSat, 3 Jan 2026 10:00:00 +0000 (UTC)\n" + MESSAGE + b"\n"
)
ROW = Row("a-row", "A row", "What was measured.", smtp.run_recipients, Ratio(1, ("msmtp",)))
needs_sink = pytest.mark.skipif(not Path(relay.PROGRAM).exists(), reason="smtp-sink is missing")


def wanted(*to: str) -> relay.Sent:
    return relay.expected([MESSAGE], to)


def test_a_transaction_has_its_recipients_and_the_message_without_what_the_sink_put_before() -> (
    None
):
    assert relay.transaction(DUMP) == (["red@example.org", "bob@example.org"], MESSAGE)


def test_a_recipient_who_was_sent_nothing_voids_the_run() -> None:
    found = wanted("red@example.org")
    missing = relay.fault(found, wanted("red@example.org", "bob@example.org"))
    assert missing == "1 of 2 deliveries missing or changed"


def test_a_second_copy_for_one_recipient_voids_the_run() -> None:
    once = wanted("red@example.org")
    assert relay.fault(once + once, once) == "1 deliveries more than there should be"
    assert relay.fault(once, once) == ""


def test_a_changed_octet_voids_a_run_and_an_empty_line_at_the_end_does_not() -> None:
    def digest(message: bytes) -> bytes:
        return relay.digest(message, body_only=False)

    assert digest(MESSAGE + b"\n") == digest(MESSAGE)
    assert digest(MESSAGE.replace(b"one", b"One")) != digest(MESSAGE)


def test_where_headers_are_to_be_changed_bodies_are_compared() -> None:
    dressed = MESSAGE.replace(b"one", b"[Red] one")
    assert relay.digest(dressed, body_only=True) == relay.digest(MESSAGE, body_only=True)
    changed = relay.digest(MESSAGE.replace(b"body", b"Body"), body_only=True)
    assert changed != relay.digest(MESSAGE, body_only=True)


@pytest.mark.interop
@needs_sink
@pytest.mark.parametrize(("messages", "recipients"), [(1, 120), (7, 1)])
def test_the_limit_sends_every_message_to_everybody_once(
    tmp_path: Path, messages: int, recipients: int
) -> None:
    mails = list(corpus.messages(messages, size=3000))
    job = senders.Job(smtp.write(tmp_path / "corpus", mails), smtp.people(recipients), messages)
    with Launcher() as launcher:
        options = Options(launcher, tmp_path, tmp_path / "none", tmp_path, repetitions=1)
        outcome = smtp.run(ROW, options, [senders.limit()], relay.Sink(0.001), mails, job)
    (series,) = outcome.series
    assert series.fault == ""


@pytest.mark.interop
@needs_sink
def test_a_contender_that_sends_nothing_is_void(tmp_path: Path) -> None:
    mails = list(corpus.messages(1))
    job = senders.Job(smtp.write(tmp_path / "corpus", mails), smtp.people(3))
    idle = Contender("idle", "gauge", lambda where, job: Command(["/bin/true"], where))
    with Launcher() as launcher:
        options = Options(launcher, tmp_path, tmp_path / "none", tmp_path, repetitions=1)
        outcome = smtp.run(ROW, options, [idle], relay.Sink(0), mails, job)
    assert outcome.series[0].fault == "3 of 3 deliveries missing or changed"


@pytest.mark.interop
@needs_sink
def test_a_sink_is_gone_when_its_run_is_over(tmp_path: Path) -> None:
    with relay.Sink(0) as server, server.taking(tmp_path / "sent") as port:
        socket.create_connection(("127.0.0.1", port), 5).close()
    with pytest.raises(ConnectionRefusedError):
        socket.create_connection(("127.0.0.1", port), 5)
