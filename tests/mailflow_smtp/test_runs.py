"""Whole runs, from a mailbox by way of the journal to a server that is not always willing.

Rule of the file: the engine, the journal and the distributor are the real ones.
"""

from __future__ import annotations

import sqlite3
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

import mailflow
from mailflow.testing import kill
from mailflow.testing.pop3 import Pop3Server
from mailflow.testing.smtp import CUT, SmtpSink
from mailflow.testing.tls import Authority

ANN, BOB = "ann@example.org", "bob@example.org"


def post(number: int) -> bytes:
    return f"From: eve@example.org\r\nSubject: m{number:02}\r\n\r\nhello {number}\r\n".encode()


def subjects(sink: SmtpSink) -> list[str]:
    return [message.data.split(b"\r\n")[1].decode().removeprefix("Subject: ")
            for message in sink.messages]  # fmt: skip


class Line:
    """A pipeline from a POP3 mailbox to the sink, and the journal between."""

    def __init__(self, directory: Path, box: Pop3Server, sink: SmtpSink) -> None:
        self.directory = directory
        self.box = box
        self.journal = directory / "journal.db"
        self.smtp: dict[str, Any] = {
            "use": "smtp", "host": sink.host, "port": sink.port, "tls": "none",
            "sender": "red@example.org",
        }  # fmt: skip
        self.to = [ANN]
        self.more: dict[str, Any] = {}

    def table(self) -> dict[str, Any]:
        fetch = {
            "use": "pop3", "host": self.box.host, "port": self.box.port, "tls": "none",
            "user": "red", "password": "secret", "start": "all",
        }  # fmt: skip
        return {
            "pipeline": {"name": "red", "journal": str(self.journal)},
            "fetch": [fetch],
            "process": [{"use": "filter.recipients", "set": self.to}],
            "distribute": [self.smtp],
            **self.more,
        }

    def run(self) -> int:
        return mailflow.run(self.table())

    def rows(self, query: str) -> list[tuple[Any, ...]]:
        connection = sqlite3.connect(self.journal)
        try:
            return connection.execute(query).fetchall()
        finally:
            connection.close()

    def due_now(self) -> None:
        connection = sqlite3.connect(self.journal)
        with connection:
            connection.execute("UPDATE delivery SET due = 0 WHERE state = 'due'")
        connection.close()


@pytest.fixture
def line(tmp_path: Path, sink: SmtpSink) -> Iterator[Callable[..., Line]]:
    """line(count): a line with so many mails at its source."""
    servers = []

    def make(count: int, server: SmtpSink = sink) -> Line:
        box = Pop3Server({"red": "secret"}, {"red": [post(number) for number in range(count)]})
        servers.append(box.__enter__())
        return Line(tmp_path, box, server)

    yield make
    for server in servers:
        server.__exit__(None, None, None)


def asked(sink: SmtpSink) -> int:
    return sum(command.startswith("MAIL") for command in sink.commands)


# D21: a smarthost that is in no hurry


def test_d21_who_greylists_is_not_asked_again_before_the_time_has_come(line, sink):
    sink.on("RCPT", "450 4.2.0 greylisted, come again in an hour")
    red = line(10)
    assert red.run() == 75
    assert asked(sink) == 10
    for _ in range(3):
        assert red.run() == 0
    assert asked(sink) == 10
    ((soonest,),) = red.rows("SELECT min(due) FROM delivery")
    assert soonest > time.time() + 50


def test_d21_what_was_greylisted_goes_out_in_the_order_it_came(line, sink):
    sink.on("RCPT", "450 4.2.0 greylisted", times=10)
    red = line(10)
    red.run()
    red.due_now()
    assert red.run() == 0
    assert subjects(sink) == [f"m{number:02}" for number in range(10)]


def test_d21_a_server_that_takes_four_is_left_alone_with_the_rest_and_loses_none(line, sink):
    sink.on("MAIL", "450 4.7.1 ten a minute", after=4)
    red = line(30)
    assert red.run() == 75
    first = len(sink.messages)
    assert first == 4
    for _ in range(3):  # until then, nothing is tried
        red.run()
    assert asked(sink) <= 30 + 2
    with SmtpSink() as willing:
        red.smtp["port"] = willing.port
        red.due_now()
        assert red.run() == 0
        assert subjects(sink) + subjects(willing) == [f"m{number:02}" for number in range(30)]


def test_d21_a_rate_is_kept_over_runs(line, sink, monkeypatch):
    waits: list[float] = []
    monkeypatch.setattr("mailflow.halt.Halt.wait", lambda self, seconds: waits.append(seconds))
    red = line(3)
    red.smtp["rate"] = "3/1h"
    assert red.run() == 0
    assert waits == []
    red.box.deliver("red", post(3))
    assert red.run() == 0
    assert len(waits) == 1
    assert 3500 < waits[0] <= 3600


def test_d11_too_many_connections_shrink_the_pool_and_fail_no_mail(line, sink):
    red = line(40)
    red.smtp["parallel"] = 6
    sink.on(".", 0.02, "250 2.0.0 taken")  # so that each has something to do
    sink.on("CONNECT", "421 4.7.0 too many connections from you", CUT, after=2)
    assert red.run() == 0
    assert sorted(subjects(sink)) == [f"m{number:02}" for number in range(40)]
    assert red.rows("SELECT DISTINCT state, attempt FROM delivery") == [("sent", 1)]


# D12, D10: what the journal knows when the program dies


def test_d12_a_kill_in_a_group_leaves_in_doubt_what_was_not_answered_and_nothing_else(
    line, sink, tmp_path
):
    """Killed at each of its sends to the server; the next run sends what is left."""
    import json
    import sys

    red = line(4)
    program = "import json, sys, mailflow; sys.exit(mailflow.run(json.loads(sys.argv[1])))"
    number = 0
    while True:
        journal = tmp_path / f"kill{number}"
        journal.mkdir()
        red.journal = journal / "journal.db"
        sink.messages.clear()
        sends = iter(range(1000))

        def decide(step: kill.Step, number: int = number, sends: Any = sends) -> int | None:
            return kill.KILL if step.call == "sendto" and next(sends) == number else None

        outcome = kill.watch([sys.executable, "-c", program, json.dumps(red.table())], decide)
        if outcome.status == 0:
            break
        sending = red.rows("SELECT count(*) FROM delivery WHERE state = 'sending'") if (
            red.journal.exists() and red.rows("SELECT 1 FROM sqlite_master WHERE name='delivery'")
        ) else [(0,)]  # fmt: skip
        assert sending[0][0] <= 1, f"killed at send {number}"
        assert red.run() == 0
        assert sorted(set(subjects(sink))) == ["m00", "m01", "m02", "m03"]
        assert len(sink.messages) - 4 <= sending[0][0], f"killed at send {number}"
        number += 1
    assert number > 6


# What pymalist did


def test_pml_15_starttls_with_ehlo_before_and_after_one_connection_and_quit(line, tmp_path):
    authority = Authority(tmp_path)
    certificate = authority.issue(["localhost"])
    with SmtpSink(tls=certificate.server_context(), users={"red": "canary"}) as sink:
        red = line(3, sink)
        red.smtp |= {
            "host": "localhost", "tls": "starttls", "ca_file": authority.ca_file,
            "user": "red", "password": "canary",
        }  # fmt: skip
        assert red.run() == 0
        sink.settle()
        assert len(sink.connections) == 1
        assert [command.split()[0] for command in sink.commands][:4] == [
            "EHLO", "STARTTLS", "EHLO", "AUTH"
        ]  # fmt: skip
        assert sink.commands[-1] == "QUIT"
        assert len(sink.messages) == 3


def test_pml_18_each_recipient_has_a_result_of_his_own_in_one_transaction(line, sink):
    sink.on("RCPT", "450 4.2.0 greylisted", match="bob*")
    red = line(1)
    red.to = [ANN, BOB, "cat@example.org"]
    assert red.run() == 75
    assert [message.recipients for message in sink.messages] == [(ANN, "cat@example.org")]
    assert red.rows("SELECT recipient, state FROM delivery ORDER BY 1") == [
        (ANN, "sent"), (BOB, "due"), ("cat@example.org", "sent")
    ]  # fmt: skip


def test_pml_18_one_transaction_for_each_recipient_where_it_is_wished(line, sink):
    red = line(1)
    red.to = [ANN, BOB]
    red.smtp["recipients_max"] = 1
    assert red.run() == 0
    assert [message.recipients for message in sink.messages] == [(ANN,), (BOB,)]


def test_pml_19_a_mail_goes_to_all_destinations_and_one_that_fails_stops_no_other(
    line, sink, tmp_path
):
    sink.on("MAIL", "450 4.3.2 not now")
    red = line(2)
    archive = tmp_path / "archive"
    red.more["distribute"] = [red.smtp, {"use": "maildir", "path": str(archive)}]
    assert red.run() == 75
    assert len(list((archive / "new").iterdir())) == 2
    assert sink.messages == []
