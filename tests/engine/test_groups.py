"""Due deliveries in groups, and sessions that share the work of one distributor."""

from __future__ import annotations

import itertools
import sqlite3
import threading
import time
from collections.abc import Iterator
from typing import Any

import pytest

from mailflow.engine import hands, outgoing
from mailflow.engine.flow import Flow
from mailflow.engine.journal import Database, plans
from mailflow.engine.pipeline import Pipeline
from mailflow.errors import (
    CrowdedError,
    LoginError,
    PluginError,
    UnavailableError,
)
from mailflow.halt import Halt
from mailflow.kinds import Ticket
from mailflow.log import get_logger
from mailflow.mail import Mail
from mailflow.verdicts import FAILED, LATER, SENT, Outcome, Report

from .parts import Mailbox, Post, Works, _many, distribute, fetch, mailbox


def later(mail: Mail, ticket: Ticket) -> list[Report]:
    return [Report(to, LATER) for to in ticket.recipients]


def all_at_hand(works: Works, post: Post, box: Mailbox, step: Any) -> Pipeline:
    """A pipeline whose next run finds every mail of `box` due at once, at attempt 2."""
    act, many = post.act, step.component.__dict__.get("distribute_many")
    post.act = later
    step.component.distribute_many = _many
    pipeline = works.pipeline([fetch(box)], [step])
    works.run(pipeline)
    works.due_now()
    post.act, step.component.distribute_many = act, many
    post.tickets.clear()
    post.opened = 0
    return pipeline


def a_many(post: Post, **words: Any) -> Any:
    return distribute(post, many=True, **words)


def test_what_is_answered_in_a_group_is_in_the_journal_before_the_next_is_begun(
    works: Works,
) -> None:
    """A kill in mid-group leaves nobody in doubt who was answered for."""
    post = Post()
    seen: list[list[tuple[str, int]]] = []

    def act(mail: Mail, ticket: Ticket) -> Iterator[Report]:
        seen.append(works.rows("SELECT state, count(*) FROM delivery GROUP BY 1 ORDER BY 1"))
        yield from post.take(mail, ticket)

    post.act = act
    assert works.run(all_at_hand(works, post, mailbox(3), a_many(post))) == 0
    assert seen == [[("due", 3)], [("due", 2), ("sent", 1)], [("due", 1), ("sent", 2)]]


@pytest.mark.parametrize("outcome", [LATER, FAILED])
def test_an_answer_that_is_a_no_is_written_as_soon(works: Works, outcome: Outcome) -> None:
    post = Post()
    seen: list[int] = []

    def act(mail: Mail, ticket: Ticket) -> Iterator[Report]:
        ((count,),) = works.rows("SELECT count(*) FROM delivery WHERE text = 'no'")
        seen.append(count)
        ticket.commit(ticket.recipients)
        yield Report(ticket.recipients[0], outcome, "", "no")

    post.act = act
    works.run(all_at_hand(works, post, mailbox(3), a_many(post)))
    assert seen == [0, 1, 2]


def test_a_group_that_can_be_repeated_is_written_in_one_commit(
    works: Works, monkeypatch: pytest.MonkeyPatch
) -> None:
    post, news = Post(repeatable=True, per_recipient=False), Post()
    commits: list[int] = []
    close_sent = hands.close_sent

    def count(flow: object, deliveries: list[object]) -> None:
        commits.append(len(deliveries))
        close_sent(flow, deliveries)  # type: ignore[arg-type]

    monkeypatch.setattr(hands, "close_sent", count)
    steps = [a_many(post), distribute(news, "news")]
    box = mailbox(20)
    gate = threading.Event()

    def act(mail: Mail, ticket: Ticket) -> Iterator[Report]:
        gate.wait(5)
        yield from post.take(mail, ticket)

    post.act = act
    news.act = lambda mail, ticket: (gate.set() if len(news.sent) == 19 else None,
                                     *news.take(mail, ticket))[1:]  # fmt: skip
    assert works.run(works.pipeline([fetch(box)], steps)) == 0
    assert sum(commits) == 40
    assert max(commits) > 1
    assert len(post.finished) == 20


def test_d12_an_error_in_a_group_is_that_of_the_mail_it_struck(works: Works) -> None:
    """The one that was drawn ahead goes at once, as if it had not been."""
    post = Post()
    calls: list[int] = []

    def ahead(self: object, jobs: Iterator[tuple[Mail, Ticket]]) -> Iterator[tuple[Ticket, Report]]:
        drawn = list(itertools.islice(jobs, 2))
        calls.append(len(drawn))
        if len(calls) == 2:
            drawn[0][1].commit(drawn[0][1].recipients)
            raise UnavailableError("cut after the dot")
        for mail, ticket in drawn:
            for report in post.take(mail, ticket):
                yield ticket, report

    step = a_many(post)
    step.component.distribute_many = ahead  # type: ignore[attr-defined]
    works.run(all_at_hand(works, post, mailbox(6), step))
    assert sum(calls) == 8  # one was put back, and the one in doubt is sent once more
    states = works.rows("SELECT attempt, doubt, count(*) FROM delivery GROUP BY 1, 2 ORDER BY 1")
    assert states == [(2, 0, 5), (3, 1, 1)]


@pytest.mark.parametrize("count", [4, 40])
def test_a_group_does_not_take_what_idle_sessions_could_do(works: Works, count: int) -> None:
    post = Post()
    together = threading.Barrier(4)
    threads: set[str] = set()

    def act(mail: Mail, ticket: Ticket) -> Iterator[Report]:
        name = str(threading.get_ident())
        if name not in threads:
            threads.add(name)
            together.wait(5)
        yield from post.take(mail, ticket)

    post.act = act
    works.run(all_at_hand(works, post, mailbox(count), a_many(post, parallel=4)))
    assert len(threads) == 4
    assert sorted(post.subjects) == sorted(f"m{number}" for number in range(count))


def test_a_distributor_that_takes_all_at_once_gets_its_share(works: Works) -> None:
    """A Maildir flushes once for what it was given; the rest is for the other threads."""
    post = Post()
    sizes: list[int] = []
    gate = threading.Barrier(4)

    def all_at_once(
        self: object, jobs: Iterator[tuple[Mail, Ticket]]
    ) -> Iterator[tuple[Ticket, Report]]:
        drawn = list(jobs)
        sizes.append(len(drawn))
        if len(sizes) <= 4:
            gate.wait(5)
        for mail, ticket in drawn:
            for report in post.take(mail, ticket):
                yield ticket, report

    step = a_many(post, parallel=4)
    step.component.distribute_many = all_at_once  # type: ignore[attr-defined]
    assert works.run(all_at_hand(works, post, mailbox(40), step)) == 0
    assert max(sizes) <= 10
    assert len(post.sent) == 40


def members(count: int) -> Mailbox:
    box = mailbox(1)
    box.envelope = box.envelope._replace(
        recipients=tuple(f"member{number}@example.org" for number in range(count))
    )
    return box


def test_a_mail_to_many_is_shared_by_the_sessions(works: Works) -> None:
    post = Post()
    shares: list[int] = []
    together = threading.Barrier(4)

    def act(mail: Mail, ticket: Ticket) -> Iterator[Report]:
        shares.append(len(ticket.recipients))
        together.wait(5)
        yield from post.take(mail, ticket)

    post.act = act
    box = members(1000)
    assert works.run(works.pipeline([fetch(box)], [a_many(post, parallel=4)])) == 0
    assert shares == [250] * 4
    assert sorted(to for _, to, _ in post.sent) == sorted(box.envelope.recipients)
    assert works.rows("SELECT state, owner FROM mail") == [("done", None)]


@pytest.mark.parametrize(("parallel", "count"), [(1, 1000), (4, 100)])
def test_a_mail_is_not_cut_where_nothing_is_won(works: Works, parallel: int, count: int) -> None:
    post = Post()
    works.run(works.pipeline([fetch(members(count))], [a_many(post, parallel=parallel)]))
    assert [len(ticket.recipients) for ticket in post.tickets] == [count]


def test_parts_of_one_mail_in_one_group_are_told_apart(works: Works) -> None:
    post = Post()

    def act(mail: Mail, ticket: Ticket) -> Iterator[Report]:
        for to in ticket.recipients:
            yield Report(to, LATER if to == "member150@example.org" else SENT)

    post.act = act
    works.run(works.pipeline([fetch(members(200))], [a_many(post, parallel=2)]))
    assert works.rows("SELECT recipient FROM delivery WHERE state != 'sent'") == [
        ("member150@example.org",)
    ]


def test_a_server_that_takes_no_more_sessions_gets_fewer_and_fails_no_mail(works: Works) -> None:
    post = Post()
    sessions: set[int] = set()
    refused = threading.Event()
    lock = threading.Lock()

    def act(mail: Mail, ticket: Ticket) -> Iterator[Report]:
        me = threading.get_ident()
        with lock:
            crowded = me not in sessions and len(sessions) == 2
            sessions.update(() if crowded else (me,))
        if crowded:
            for _ in range(500):  # the others have had an answer each
                if len(post.sent) >= 2:
                    break
                time.sleep(0.01)
            refused.set()
            raise CrowdedError("421 too many connections")
        yield from post.take(mail, ticket)
        refused.wait(5)

    post.act = act
    pipeline = all_at_hand(works, post, mailbox(30), a_many(post, parallel=5))
    assert works.run(pipeline) == 0
    assert refused.is_set()
    assert sorted(post.subjects) == sorted(f"m{number}" for number in range(30))
    assert works.rows("SELECT DISTINCT state, attempt FROM delivery") == [("sent", 2)]


def test_a_server_that_takes_no_session_at_all_is_a_failure(works: Works) -> None:
    post = Post()
    tries: list[int] = []

    def refuse() -> None:
        tries.append(1)
        raise CrowdedError("421 too many connections")

    post.on_open = refuse
    pipeline = works.pipeline([fetch(mailbox(20))], [a_many(post, parallel=3)])
    assert works.run(pipeline) == 75
    assert works.rows("SELECT DISTINCT state, attempt FROM delivery") == [("due", 1)]
    assert len(tries) < 10


def test_a_session_without_work_is_ended(works: Works, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(outgoing, "IDLE_SECONDS", 0.05)
    post, box = Post(), mailbox(2)
    ended = threading.Event()
    post.closed = type("Closed", (list,), {"append": lambda self, error: ended.set()})()
    waited: list[bool] = []

    def slowly(key: str) -> None:
        if key == "k1":
            waited.append(ended.wait(5))

    box.on_fetch = slowly
    assert works.run(works.pipeline([fetch(box)], [a_many(post)])) == 0
    assert waited == [True]
    assert (post.opened, post.subjects) == (2, ["m0", "m1"])


def test_what_a_hook_drains_is_shared_by_the_sessions_too(works: Works) -> None:
    post = Post()
    post.act = lambda mail, ticket: [Report(to, LATER) for to in ticket.recipients]
    pipeline = works.pipeline([fetch(members(400))], [a_many(post, parallel=4)])
    works.run(pipeline)
    works.due_now()
    together = threading.Barrier(4)

    def act(mail: Mail, ticket: Ticket) -> Iterator[Report]:
        together.wait(5)
        yield from post.take(mail, ticket)

    post.act = act
    flow = make_flow(works, pipeline)
    try:
        owner = flow.journal.owner.id
        claimed = flow.journal.commit(lambda tx: plans.claim(tx, owner, "red", time.time()))
        flow.take(claimed.jobs[0].mail, 1)
        outgoing.Outgoing(flow, pipeline.distribute[0]).drain(claimed.jobs)
    finally:
        flow.journal.close()
    assert len(post.sent) == 400
    assert works.rows("SELECT state, owner FROM mail") == [("done", None)]


def test_what_a_step_sent_is_known_to_the_next_run(works: Works) -> None:
    """Once for each answer: a transaction, whoever shared it."""
    post = Post()

    def act(mail: Mail, ticket: Ticket) -> Iterator[Report]:
        ticket.commit(ticket.recipients)
        for to in ticket.recipients:
            yield Report(to, SENT, "2.0.0", f"250 queued as {mail.id}")

    post.act = act
    box = mailbox(3)
    box.envelope = box.envelope._replace(recipients=("bob@example.org", "cleo@example.org"))
    pipeline = works.pipeline([fetch(box)], [a_many(post)])
    assert works.run(pipeline) == 0
    works.change("UPDATE delivery SET at = at - 100 WHERE mail = (SELECT min(id) FROM mail)")
    flow = make_flow(works, pipeline)
    try:
        assert len(flow._sent_before("post", 60.0)) == 2
        ages = flow._sent_before("post", 200.0)
        assert len(ages) == 3
        assert round(max(ages), -1) == 100
        assert flow._sent_before("other", 200.0) == []
    finally:
        flow.journal.close()


def make_flow(works: Works, pipeline: Pipeline) -> Flow:
    halt = Halt()
    return Flow(pipeline, works.journal(), works.registry, halt, get_logger())


def test_a_mail_tried_alone_by_a_distributor_that_is_gone_is_due_again(works: Works) -> None:
    """One of a group is at fault, and then the other side is: neither ends the run with 0."""
    post = Post()

    def bad(self: object, jobs: Iterator[tuple[Mail, Ticket]]) -> Iterator[tuple[Ticket, Report]]:
        list(itertools.islice(jobs, 2))
        post.on_open = gone
        raise PluginError("one of them is bad")
        yield

    def gone() -> None:
        raise UnavailableError("gone")

    step = a_many(post)
    step.component.distribute_many = bad
    pipeline = all_at_hand(works, post, mailbox(4), step)
    assert works.run(pipeline) == 75
    assert works.rows("SELECT state, attempt, text, count(*) FROM delivery GROUP BY 3") == [
        ("due", 2, "gone", 4)
    ]


def test_d12_what_was_sent_is_written_once_the_journal_can(
    works: Works, monkeypatch: pytest.MonkeyPatch
) -> None:
    post = Post()
    commit = Database.commit
    failed: list[str] = []

    def full_once(self: Database, work: Any) -> Any:
        def write(tx: Any) -> Any:
            result = work(tx)
            if work.__qualname__.startswith("close_sent") and not failed:
                failed.append(work.__qualname__)
                raise sqlite3.OperationalError("the disk is full")
            return result

        return commit(self, write)

    monkeypatch.setattr(Database, "commit", full_once)
    works.run(works.pipeline([fetch(mailbox(3))], [a_many(post)]))
    works.run(works.pipeline([fetch(mailbox(3))], [a_many(post)]))
    assert works.rows("SELECT DISTINCT state, doubt FROM delivery") == [("sent", 0)]
    assert sorted(post.subjects) == ["m0", "m1", "m2"]
    assert failed
    assert works.rows("SELECT DISTINCT state, owner FROM mail") == [("done", None)]


def test_a_login_that_is_wanted_in_the_middle_is_not_tried_for_each_mail(works: Works) -> None:
    post = Post()

    def act(mail: Mail, ticket: Ticket) -> Iterator[Report]:
        ticket.commit(ticket.recipients)
        yield Report(ticket.recipients[0], LATER, "5.7.0", "530 log in first")
        raise LoginError("530 log in first")

    post.act = act
    pipeline = all_at_hand(works, post, mailbox(20), a_many(post))
    assert works.run(pipeline) == LoginError.exit_code
    assert post.opened == 1
    assert works.rows("SELECT DISTINCT state, doubt FROM delivery") == [("due", 0)]
