"""Statements whose answer or cost matters more than it shows elsewhere."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from mailflow.engine.journal import (
    Arrival,
    Copy,
    Database,
    Effects,
    Lane,
    arrivals,
    bodies,
    database,
    plans,
)
from mailflow.kinds import Context
from mailflow.mail import Envelope, Mail, Octets
from mailflow.verdicts import LATER, Hold, Report

from .parts import Mailbox, Post, Works, distribute, fetch, message, process

LANE = Lane("red", "box", "box")


@pytest.fixture
def journal(tmp_path: Path) -> Iterator[Database]:
    opened = Database(str(tmp_path / "journal.db"))
    yield opened
    opened.close()


def accepted(journal: Database, mail: str, *, owner: str = "me", pipeline: str = "red") -> Mail:
    made = Mail(mail, Envelope("ann@example.org", ("bob@example.org",)), Octets(b"x"))
    arrival = Arrival(made, LANE._replace(pipeline=pipeline), mail, None, 1.0)
    pair = (arrival, bodies.Body(1, b"x", None))
    journal.commit(lambda tx: arrivals.accept(tx, owner, [pair], None))
    return made


def planned(journal: Database, mail: str, *, due: float = 0.0, state: str = "due") -> None:
    """A mail with one delivery, in nobody's hands."""
    made = accepted(journal, mail)
    copy = Copy(0, made, deliveries=(("post", "bob@example.org"),))

    def work(tx: object) -> None:
        plans.plan(tx, "red", mail, (0, made.content), [(copy, None)], Effects(), 1.0)  # type: ignore[arg-type]
        tx.execute(  # type: ignore[attr-defined]
            "UPDATE delivery SET due = ?, state = ? WHERE mail = ?", (due, state, mail)
        )
        tx.execute("UPDATE mail SET owner = NULL, working = 0 WHERE id = ?", (mail,))  # type: ignore[attr-defined]

    journal.commit(work)


def is_due(journal: Database, now: float = 100.0, pipeline: str = "red") -> bool:
    """What is_due says; it must say what claim would find."""
    found = journal.read(lambda tx: plans.is_due(tx, pipeline, now))

    def look(tx: object) -> plans.Claimed:
        claimed = plans.claim(tx, "other", pipeline, now)  # type: ignore[arg-type]
        tx.execute("UPDATE mail SET owner = NULL, working = 0 WHERE owner = 'other'")  # type: ignore[attr-defined]
        return claimed

    claimed = journal.commit(look)
    assert found == bool(claimed.jobs or claimed.waiting or claimed.crashed)
    return found


class TestIsDue:
    def test_nothing_is(self, journal: Database) -> None:
        assert not is_due(journal)

    def test_an_accepted_mail_in_nobodys_hands_is(self, journal: Database) -> None:
        accepted(journal, "m1", owner="me")
        assert not is_due(journal)
        journal.commit(lambda tx: plans.let_go(tx, "me"))
        assert is_due(journal)
        assert not is_due(journal, pipeline="blue")

    def test_a_delivery_is_when_its_time_has_come(self, journal: Database) -> None:
        planned(journal, "m1", due=100.5)
        assert not is_due(journal, 100.0)
        assert is_due(journal, 101.0)

    @pytest.mark.parametrize("state", ["sent", "failed", "dropped", "held", "doubt", "sending"])
    def test_one_in_another_state_never_is(self, journal: Database, state: str) -> None:
        planned(journal, "m1", state=state)
        assert not is_due(journal)

    @pytest.mark.parametrize(("state", "due"), [("waiting", True), ("held", False)])
    def test_a_copy_that_waits_is(self, journal: Database, state: str, due: bool) -> None:
        planned(journal, "m1", state="sent")
        journal.commit(lambda tx: tx.execute("UPDATE copy SET state = ?, due = 50", (state,)))
        assert is_due(journal) == due

    def test_it_costs_the_same_however_much_waits_for_its_time(self, journal: Database) -> None:
        def steps() -> int:
            count = [0]

            def tick() -> int:
                count[0] += 1
                return 0

            journal._connection.set_progress_handler(tick, 1)
            journal.read(lambda tx: plans.is_due(tx, "red", 100.0))
            journal._connection.set_progress_handler(None, 1)
            return count[0]

        planned(journal, "m0", due=1000.0)
        few = steps()
        for number in range(200):
            planned(journal, f"n{number}", due=1000.0)
            planned(journal, f"h{number}", state="held")
        assert steps() <= few + 50


class TestClaim:
    def test_it_takes_the_oldest_first_and_no_more_than_asked(self, journal: Database) -> None:
        for number in (3, 1, 2):
            planned(journal, f"m{number}")
        claimed = journal.commit(lambda tx: plans.claim(tx, "me", "red", 100.0, 2))
        assert [job.mail for job in claimed.jobs] == ["m1", "m2"]

    def test_what_is_claimed_is_claimed_once(self, journal: Database) -> None:
        planned(journal, "m1")
        first = journal.commit(lambda tx: plans.claim(tx, "me", "red", 100.0))
        second = journal.commit(lambda tx: plans.claim(tx, "you", "red", 100.0))
        assert (len(first.jobs), len(second.jobs)) == (1, 0)

    def test_one_of_a_crash_is_taken_alone_and_first(self, journal: Database) -> None:
        for number in range(3):
            planned(journal, f"m{number}")
        journal.commit(lambda tx: tx.execute("UPDATE mail SET crashes = 1 WHERE id = 'm2'"))
        claimed = journal.commit(lambda tx: plans.claim(tx, "me", "red", 100.0))
        assert [job.mail for job in claimed.jobs] == ["m2"]
        assert claimed.alone


def test_no_statement_walks_over_what_was_ever_seen_sent_or_remembered(
    works: Works, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A run costs what there is to do, and not what was ever done."""
    said: set[str] = set()
    connect = database._connect

    def watched(*arguments: Any) -> sqlite3.Connection:
        connection = connect(*arguments)
        connection.set_trace_callback(said.add)
        return connection

    def step(mail: Mail, context: Context) -> Iterator[object]:
        context.memory.get("k")
        context.memory.set("k", "v", keep=60.0)
        yield Hold("x")
        yield mail

    box, post = Mailbox(a=message("a"), b=message("b")), Post()
    post.act = lambda mail, ticket: [Report(to, LATER) for to in ticket.recipients]
    place = Post(repeatable=True, per_recipient=False)
    monkeypatch.setattr(database, "_connect", watched)
    pipeline = works.pipeline([fetch(box, keep=0.0)], [distribute(post)], [process(step)])
    for _ in range(3):
        works.run(pipeline, force=True)
        works.due_now()
    works.run(works.pipeline([fetch(Mailbox("other", a=message("x")))], [distribute(place)]))
    assert len(said) > 50
    connection = sqlite3.connect(works.path)
    connection.execute("CREATE TEMP TABLE absent (key TEXT PRIMARY KEY) WITHOUT ROWID")
    walks = {
        statement[:200]: detail
        for statement in said
        if statement.split()[0] in ("SELECT", "UPDATE", "DELETE", "INSERT")
        for _, _, _, detail in connection.execute(f"EXPLAIN QUERY PLAN {statement}")
        if detail.startswith("SCAN ") and "USING" not in detail and detail.split()[1] in LARGE
    }
    connection.close()
    assert walks == {}


LARGE = ("mail", "delivery", "copy", "seen", "memory", "story", "body", "m", "d", "c")


def test_a_final_report_ends_a_mail_only_with_its_last_delivery(journal: Database) -> None:
    planned(journal, "m1")
    assert journal.commit(lambda tx: plans.release(tx, "m1", 2.0)) == (False, [])
    row = plans.Row("m1", 0, "post", "bob@example.org", "sent", 0.0, 1, 0, "", "ok", "mx")
    journal.commit(lambda tx: plans.report(tx, [row], 2.0))
    assert journal.commit(lambda tx: plans.release(tx, "m1", 2.0)) == (True, [])
    assert journal.read(lambda tx: tx.execute("SELECT count(*) FROM body").fetchone()) == (0,)
