"""A run as a whole: several pipelines, its end, and what it leaves behind in the process."""

from __future__ import annotations

import gc
import os
import threading
import time
import weakref
from collections.abc import Iterator
from typing import Any

import pytest

from mailflow.engine import supervisor
from mailflow.engine.config import load_dict
from mailflow.errors import JournalError, LoginError, RefusedError, UnavailableError
from mailflow.halt import Halt
from mailflow.kinds import Context, Ticket
from mailflow.mail import Mail, Octets
from mailflow.verdicts import LATER, Report

from .parts import (
    Listener,
    Mailbox,
    Post,
    Works,
    distribute,
    fetch,
    mailbox,
    message,
    process,
    react,
)


def test_it_ends_when_the_sources_are_empty_and_nothing_is_due(works: Works) -> None:
    post = Post()
    assert works.run(works.pipeline([fetch(mailbox())], [distribute(post)])) == 0
    assert works.waits() == []
    assert works.registry.names[-1] == "run.ended"


def test_with_nothing_to_do_it_ends_at_once(works: Works) -> None:
    pipeline = works.pipeline([fetch(mailbox(0))], [distribute(Post())])
    works.run(pipeline)
    began = time.monotonic()
    works.run(pipeline)
    assert time.monotonic() - began < 0.5


def test_what_was_due_before_is_delivered_while_the_source_is_read(works: Works) -> None:
    box, post = mailbox(1), Post()
    post.act = lambda mail, ticket: [Report(to, LATER) for to in ticket.recipients]
    pipeline = works.pipeline([fetch(box)], [distribute(post)])
    works.run(pipeline)
    works.due_now()
    delivered = threading.Event()

    def act(mail: Mail, ticket: Ticket) -> Iterator[Report]:
        yield from post.take(mail, ticket)
        delivered.set()

    post.act = act
    box.on_listing = lambda: bool(delivered.wait(10)) or pytest.fail("not")  # type: ignore[assignment, return-value]
    assert works.run(pipeline) == 0


def test_pipelines_run_side_by_side_and_fail_alone(works: Works) -> None:
    red, blue = mailbox(2, "red"), mailbox(2, "blue")
    post = Post()
    both = threading.Barrier(2)
    red.on_listing = lambda: both.wait(10) and None  # type: ignore[assignment, return-value]

    def fail() -> None:
        both.wait(10)
        raise LoginError("wrong password")

    blue.on_listing = fail
    status = works.run(
        works.pipeline([fetch(red)], [distribute(post)], name="red"),
        works.pipeline([fetch(blue)], [distribute(Post())], name="blue"),
    )
    assert status == 77
    assert post.subjects == ["m0", "m1"]


def test_pipelines_with_journals_of_their_own(works: Works) -> None:
    red, blue = Post(), Post()
    works.run(
        works.pipeline([fetch(mailbox(1, "red"))], [distribute(red)], name="red"),
        works.pipeline(
            [fetch(mailbox(1, "blue"))], [distribute(blue)], name="blue",
            journal=str(works.root / "blue.db"),
        ),
    )  # fmt: skip
    assert red.subjects == blue.subjects == ["m0"]
    assert works.rows("SELECT pipeline FROM mail") == [("red",)]


def test_a_journal_that_cannot_be_opened_stops_its_pipeline_alone(works: Works) -> None:
    post = Post()
    status = works.run(
        works.pipeline([fetch(mailbox(1, "a"))], [distribute(Post())], name="a",
                       journal=str(works.root)),
        works.pipeline([fetch(mailbox(1, "b"))], [distribute(post)], name="b"),
    )  # fmt: skip
    assert status == JournalError.exit_code
    assert post.subjects == ["m0"]


def test_a_step_that_cannot_be_made_stops_its_pipeline_alone(works: Works) -> None:
    post = Post()
    bad = process(lambda mail, context: [mail], "bad")

    def refuse(self: object, options: object, runtime: object) -> None:
        raise ZeroDivisionError("bug")

    bad.component.__init__ = refuse
    status = works.run(
        works.pipeline([fetch(mailbox(1, "a"))], [distribute(Post())], [bad], name="a"),
        works.pipeline([fetch(mailbox(1, "b"))], [distribute(post)], name="b"),
    )
    assert status == 78
    assert post.subjects == ["m0"]


def test_two_pipelines_on_one_journal_do_not_take_each_others_mail(works: Works) -> None:
    red, blue = Post(), Post()
    red.act = lambda mail, ticket: [Report(to, LATER) for to in ticket.recipients]
    works.run(works.pipeline([fetch(mailbox(1, "red"))], [distribute(red)], name="red"))
    works.due_now()
    works.run(works.pipeline([fetch(mailbox(1, "blue"))], [distribute(blue)], name="blue"))
    assert blue.subjects == ["m0"]
    assert len(red.tickets) == 1


@pytest.mark.parametrize(
    ("statuses", "status"),
    [([], 0), ([75], 75), ([75, 78], 78), ([77, 78], 77), ([75, 74], 74)],
)
def test_the_status_is_the_first_that_trying_again_will_not_mend(
    statuses: list[int], status: int
) -> None:
    assert supervisor.exit_status(statuses) == status


class Counted(Octets):
    """Content that can be seen to be let go of."""

    __slots__ = ("__weakref__",)


@pytest.mark.parametrize("where", ["process", "distribute", "both"])
def test_memory_does_not_grow_with_mail_that_fails(works: Works, where: str) -> None:
    """An error holds its traceback, and that the mail."""
    alive: weakref.WeakSet[Counted] = weakref.WeakSet()
    box, post = Mailbox(), Post()
    box.add(**{f"k{n}": message(f"m{n}", "x" * 200_000) for n in range(150)})

    def make(runtime: object, octets: bytes) -> Counted:
        content = Counted(octets)
        alive.add(content)
        most.append(len(alive))
        return content

    def step(mail: Mail, context: Context) -> Iterator[Mail]:
        if where != "distribute":
            raise UnavailableError("not now")
        yield mail

    def act(mail: Mail, ticket: Ticket) -> Iterator[Report]:
        raise RefusedError(f"no to {mail.id}")
        yield

    most: list[int] = []
    box.make, post.act = make, act
    steps = [process(step)] if where != "distribute" else []
    works.run(works.pipeline([fetch(box, start="all")], [distribute(post)], steps))
    assert len(most) == 150
    assert max(most) < 100  # the inbox holds 8 MiB, and a group may be in work


def test_no_thread_survives_and_no_descriptor_leaks_over_many_runs(works: Works) -> None:
    red, blue = mailbox(0, "red"), mailbox(0, "blue")
    post, place = Post(), Post(repeatable=True, per_recipient=False)

    def fail() -> None:
        raise UnavailableError("down")

    def sometimes(mail: Mail, ticket: Ticket) -> Iterator[Report]:
        if len(post.tickets) % 3 == 0:
            raise UnavailableError("busy")
        yield from post.take(mail, ticket)

    post.act = sometimes
    blue.on_listing = fail
    pipelines = [
        works.pipeline([fetch(red)], [distribute(post, parallel=3), distribute(place, "place")]),
        works.pipeline([fetch(blue)], [distribute(place)], name="blue"),
    ]
    works.run(*pipelines)
    threads, descriptors = threading.active_count(), len(os.listdir("/proc/self/fd"))
    for number in range(50):
        red.add(**{f"n{number}": message(f"n{number}")})
        works.run(*pipelines, force=True)
    gc.collect()
    # What other tests of this process left behind may go meanwhile; 50 leaks would show.
    assert threading.active_count() < threads + 10
    assert len(os.listdir("/proc/self/fd")) < descriptors + 10


def test_memory_does_not_grow_with_what_is_refused_in_a_run(works: Works) -> None:
    """What nobody needs any more is let go of."""
    from mailflow.engine import work
    from mailflow.verdicts import Reject

    made: list[work.Work] = []
    init = work.Work.__init__

    class Watched(work.Work):
        def __init__(self, *arguments: object) -> None:
            init(self, *arguments)  # type: ignore[arg-type]
            made.append(self)

    def reject(mail: Mail, context: Context) -> Iterator[object]:
        yield Reject("no")

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(supervisor, "Work", Watched)
        works.run(works.pipeline([fetch(mailbox(50))], [distribute(Post())], [process(reject)]))
    assert [each.refused for each in made] == [[]]
    assert [each._unanswered for each in made] == [{}]


def test_a_stop_before_the_start_starts_nothing(works: Works) -> None:
    halt, box = Halt(), mailbox()
    halt.set()
    assert works.run(works.pipeline([fetch(box)], [distribute(Post())]), halt=halt) == 0
    assert box.fetched == []
    halt.close()


def test_a_stop_while_a_source_is_read_keeps_what_was_taken(works: Works) -> None:
    halt, box, post = Halt(), mailbox(10), Post()

    def stop(key: str) -> None:
        if key == "k5":
            halt.set()

    box.on_fetch = stop
    pipeline = works.pipeline([fetch(box, keep=0.0)], [distribute(post)])
    works.run(pipeline, halt=halt)
    taken = len(works.rows("SELECT 1 FROM seen"))
    assert 1 <= taken <= 6
    box.on_fetch = lambda key: None
    works.run(pipeline, force=True)
    assert post.subjects == [f"m{number}" for number in range(10)]
    assert len(box.fetched) == 10 + (6 - taken)
    assert box.messages == {}
    halt.close()


@pytest.mark.parametrize(
    "where", ["fetcher", "step", "distributor", "deliver-first", "session", "reactor", "making"]
)
def test_c05_a_plugin_that_ends_the_program_ends_only_what_it_does(
    works: Works, where: str, capfd: pytest.CaptureFixture[str]
) -> None:
    """sys.exit(0) in a library: no mail is lost, no thread waits, no status 0."""
    box, good = mailbox(2), mailbox(1, "good")
    repeatable = where == "deliver-first"
    post = Post(repeatable=repeatable, per_recipient=not repeatable)
    steps, reactors = [], []

    def leave(*_: object, **words: object) -> Any:
        raise SystemExit(0)

    if where == "fetcher":
        box.on_fetch = leave
    elif where == "step":
        steps = [process(leave)]
    elif where in ("distributor", "deliver-first"):
        post.act = leave
    elif where == "session":
        post.on_open = leave
    elif where == "reactor":
        steps, reactors = [process(lambda mail, context: 1 / 0)], [react(leave)]  # type: ignore[arg-type, return-value]
    way = distribute(post)
    if where == "making":
        way.component.__init__ = leave
    other = works.pipeline([fetch(good)], [distribute(Post())], name="good")
    pipeline = works.pipeline([fetch(box, keep=0.0)], [way], steps, reactors)
    before = set(threading.enumerate())
    assert works.run(pipeline, other) == 78
    assert works.rows("SELECT state FROM mail WHERE pipeline = 'good'") == [("done",)]
    assert set(threading.enumerate()) <= before
    held = [entry for entry in works.waits() if entry.state == "held"]
    assert len(held) + len(box.messages) == 2
    if where == "reactor":
        assert "a reactor failed" in capfd.readouterr().err


class TestEvents:
    def test_a_mails_way_is_told_in_order(self, works: Works) -> None:
        works.run(works.pipeline([fetch(mailbox(1))], [distribute(Post())]))
        names = [name for name in works.registry.names if not name.startswith("source.")]
        assert names == [
            "run.started", "mail.accepted", "mail.planned", "delivery.sent", "mail.done",
            "run.ended",
        ]  # fmt: skip
        assert {"source.opened", "source.closed"} < set(works.registry.names)

    def test_facts_are_strings_and_numbers_and_name_the_pipeline(self, works: Works) -> None:
        box, post = mailbox(2), Post()
        post.act = lambda mail, ticket: [Report(to, LATER) for to in ticket.recipients]
        works.run(works.pipeline([fetch(box)], [distribute(post)]))
        for name, facts in works.registry.told:
            assert facts["pipeline"] == "red", name
            assert all(isinstance(value, str | int | float) for value in facts.values()), name
            if name.startswith(("mail.", "delivery.")):
                assert facts["mail"]

    def test_what_did_not_succeed_is_told_too(self, works: Works) -> None:
        box, post = mailbox(1), Post()
        post.act = lambda mail, ticket: [Report(to, LATER) for to in ticket.recipients]

        def fail() -> None:
            if box.sessions > 1:
                raise UnavailableError("down")

        box.on_listing = fail
        pipeline = works.pipeline([fetch(box)], [distribute(post)])
        works.run(pipeline)
        works.run(pipeline)
        assert "delivery.later" in works.registry.names
        assert "source.failed" in works.registry.names

    def test_held_deliveries_are_told_as_held(self, works: Works) -> None:
        from mailflow.errors import RefusedError

        post = Post()

        def refuse(mail: Mail, ticket: Ticket) -> Iterator[Report]:
            raise RefusedError("no")
            yield

        post.act = refuse
        works.run(works.pipeline([fetch(mailbox(1))], [distribute(post)]))
        assert "mail.held" in works.registry.names


def test_from_python_a_pipeline_may_be_a_dict(works: Works) -> None:
    maildir = works.root / "Maildir"
    pipeline = load_dict(
        {
            "pipeline": {"journal": works.path},
            "fetch": [{"use": "stdin"}],
            "distribute": [{"use": "maildir", "path": str(maildir)}],
        },
        Listener(),
    )
    assert works.run(pipeline) == 0  # stdin is for the hook alone
