"""Due deliveries on their way through one distributor: threads, failures, the end."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator

import pytest

from mailflow.errors import (
    LoginError,
    RefusedError,
    UnavailableError,
)
from mailflow.halt import Halt
from mailflow.kinds import Ticket
from mailflow.mail import Mail
from mailflow.verdicts import LATER, SENT, Report

from .parts import Post, Works, distribute, fetch, mailbox


def fails(error: Exception) -> object:
    def act(mail: Mail, ticket: Ticket) -> Iterator[Report]:
        raise error
        yield

    return act


@pytest.mark.parametrize("many", [False, True])
def test_a_distributor_that_is_down_is_not_tried_for_each_mail(works: Works, many: bool) -> None:
    post = Post()
    tries: list[int] = []

    def refuse() -> None:
        tries.append(1)
        raise UnavailableError("connection refused")

    post.on_open = refuse
    pipeline = works.pipeline([fetch(mailbox(250), start="all")], [distribute(post, many=many)])
    assert works.run(pipeline) == 75
    assert len(tries) <= 3
    assert works.rows("SELECT state, attempt, count(*) FROM delivery") == [("due", 1, 250)]
    assert {entry.reason for entry in works.waits()} == {"connection refused"}


def test_a_refused_login_is_tried_once_and_not_the_mails_fault(works: Works) -> None:
    post = Post()
    tries: list[int] = []

    def refuse() -> None:
        tries.append(1)
        raise LoginError("wrong password")

    post.on_open = refuse
    pipeline = works.pipeline([fetch(mailbox(30))], [distribute(post, many=True)])
    assert works.run(pipeline) == LoginError.exit_code
    assert len(tries) == 1
    assert works.rows("SELECT DISTINCT state FROM delivery") == [("due",)]


def test_a_final_no_without_words_for_anybody_holds(works: Works) -> None:
    post = Post()
    post.act = fails(RefusedError("go away"))  # type: ignore[assignment]
    assert works.run(works.pipeline([fetch(mailbox(1))], [distribute(post)])) == 69
    (entry,) = works.waits()
    assert (entry.state, entry.reason) == ("held", "go away")


def test_after_an_error_the_session_is_a_new_one(works: Works) -> None:
    post = Post()

    def act(mail: Mail, ticket: Ticket) -> Iterator[Report]:
        if len(post.tickets) == 1:
            raise UnavailableError("cut")
        yield from post.take(mail, ticket)

    post.act = act
    works.run(works.pipeline([fetch(mailbox(2))], [distribute(post)]))
    assert post.opened == 2
    assert [type(error) for error in post.closed] == [UnavailableError, type(None)]
    assert post.subjects == ["m1"]


def test_one_session_serves_many_mails(works: Works) -> None:
    post = Post()
    works.run(works.pipeline([fetch(mailbox(50))], [distribute(post)]))
    assert post.opened == 1
    assert post.subjects == [f"m{number}" for number in range(50)]


def test_retries_wait_longer_and_longer(works: Works) -> None:
    post = Post()
    post.act = lambda mail, ticket: [Report(to, LATER, "", "busy") for to in ticket.recipients]
    pipeline = works.pipeline([fetch(mailbox(1))], [distribute(post)])
    waits = []
    for _ in range(5):
        works.run(pipeline)
        ((due,),) = works.rows("SELECT due FROM delivery")
        waits.append(round((due - time.time()) / 60))
        works.due_now()
    assert waits == [1, 5, 30, 120, 120]


def test_what_is_not_due_is_not_tried(works: Works) -> None:
    post = Post()
    post.act = lambda mail, ticket: [Report(to, LATER, "", "busy") for to in ticket.recipients]
    pipeline = works.pipeline([fetch(mailbox(1))], [distribute(post)])
    works.run(pipeline)
    assert works.run(pipeline) == 0
    assert len(post.tickets) == 1


def test_after_five_days_what_may_pass_is_held(works: Works) -> None:
    post = Post()
    post.act = lambda mail, ticket: [Report(to, LATER, "", "busy") for to in ticket.recipients]
    pipeline = works.pipeline([fetch(mailbox(1))], [distribute(post)])
    works.run(pipeline)
    works.change("UPDATE mail SET arrived = arrived - 5 * 86400")
    works.due_now()
    assert works.run(pipeline) == 75
    assert [entry.state for entry in works.waits()] == ["held"]


def test_parallel_sessions_share_the_mails(works: Works) -> None:
    post = Post()
    together = threading.Barrier(3)

    def act(mail: Mail, ticket: Ticket) -> Iterator[Report]:
        if len(post.sent) < 1:
            together.wait(5)
        yield from post.take(mail, ticket)

    post.act = act
    works.run(works.pipeline([fetch(mailbox(9))], [distribute(post, parallel=3)]))
    assert post.opened == 3
    assert sorted(post.subjects) == sorted(f"m{number}" for number in range(9))


def test_a_stop_leaves_what_is_not_begun_as_it_was(works: Works) -> None:
    """Due at once, no attempt counted, nobody told of a trouble."""
    halt, post = Halt(), Post()

    def act(mail: Mail, ticket: Ticket) -> Iterator[Report]:
        if len(post.tickets) == 2:
            halt.set()
            raise UnavailableError("stopped on request")
        yield from post.take(mail, ticket)

    post.act = act
    pipeline = works.pipeline([fetch(mailbox(20))], [distribute(post)])
    assert works.run(pipeline, halt=halt) == 0
    assert works.rows("SELECT state, attempt, count(*) FROM delivery GROUP BY 1 ORDER BY 1") == [
        ("due", 0, 19), ("sent", 1, 1)
    ]  # fmt: skip
    assert works.rows("SELECT count(*) FROM mail WHERE owner IS NOT NULL OR working") == [(0,)]
    post.act = post.take
    assert works.run(pipeline) == 0
    assert sorted(post.subjects) == sorted(f"m{number}" for number in range(20))


def test_a_stop_keeps_what_was_reported(works: Works) -> None:
    halt, post, box = Halt(), Post(), mailbox(1)
    box.envelope = box.envelope._replace(recipients=("bob@example.org", "cleo@example.org"))

    def act(mail: Mail, ticket: Ticket) -> Iterator[Report]:
        yield Report(ticket.recipients[0], SENT)
        halt.set()
        raise UnavailableError("stopped on request")

    post.act = act
    works.run(works.pipeline([fetch(box)], [distribute(post)]), halt=halt)
    assert [(to, state) for _, to, state in works.states()] == [
        ("bob@example.org", "sent"), ("cleo@example.org", "due"),
    ]  # fmt: skip


def test_a_distributor_that_cannot_end_in_order_breaks_nothing(
    works: Works, capfd: pytest.CaptureFixture[str]
) -> None:
    post = Post()

    class Grudge(list[object]):
        def append(self, error: object) -> None:
            raise ZeroDivisionError("no QUIT")

    post.closed = Grudge()
    assert works.run(works.pipeline([fetch(mailbox(1))], [distribute(post)])) == 0
    assert post.subjects == ["m0"]
    assert "did not end in order" in capfd.readouterr().err


def test_finish_names_the_tickets_that_are_final(works: Works) -> None:
    post = Post()

    def act(mail: Mail, ticket: Ticket) -> Iterator[Report]:
        if mail.header().get("Subject") == "m1":
            yield Report(ticket.recipients[0], LATER, "", "busy")
        else:
            yield from post.take(mail, ticket)

    post.act = act
    works.run(works.pipeline([fetch(mailbox(3))], [distribute(post, many=True)]))
    assert post.finished == [key for key, _ in post.keys]
    assert len(post.finished) == 2


def test_two_destinations_do_not_wait_for_each_other(works: Works) -> None:
    slow, fast = Post(), Post()
    fast_is_through = threading.Event()

    def act(mail: Mail, ticket: Ticket) -> Iterator[Report]:
        assert fast_is_through.wait(10)
        yield from slow.take(mail, ticket)

    def act_fast(mail: Mail, ticket: Ticket) -> Iterator[Report]:
        yield from fast.take(mail, ticket)
        if len(fast.sent) == 5:
            fast_is_through.set()

    slow.act, fast.act = act, act_fast
    steps = [distribute(slow, "slow"), distribute(fast, "fast")]
    assert works.run(works.pipeline([fetch(mailbox(5))], steps)) == 0
    assert len(slow.sent) == len(fast.sent) == 5
