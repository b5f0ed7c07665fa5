"""Processes that die: whose mail is free, what is in doubt, and what is swept.

Rule of the file: those that die are real processes, killed by SIGKILL.
"""

from __future__ import annotations

import os
import signal
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from mailflow.engine.config import Pipeline
from mailflow.engine.journal import Database, owners, plans
from mailflow.errors import BadMailError, ConfigError
from mailflow.kinds import Context, Ticket
from mailflow.mail import Mail
from mailflow.verdicts import LATER, SENT, Report

from .parts import Mailbox, Post, Works, distribute, fetch, message, process, subject


def die() -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def in_a_child(work: Callable[[], object]) -> int:
    """Do `work` in a process of its own; its end as waitpid has it, 0 for a good one."""
    child = os.fork()
    if not child:
        try:
            work()
        finally:
            os._exit(0)
    return os.waitpid(child, 0)[1]


def crash(works: Works, pipeline: Pipeline) -> None:
    assert in_a_child(lambda: works.run(pipeline, force=True)) == signal.SIGKILL


def mailbox(*names: str, size: int = 0) -> Mailbox:
    return Mailbox(**{name: message(name, "x" * size) for name in names})


def dying(post: Post, where: str) -> Callable[[Mail, Ticket], Iterator[Report]]:
    """A distributor that dies on mails whose subject begins with "deadly"."""

    def act(mail: Mail, ticket: Ticket) -> Iterator[Report]:
        deadly = subject(mail.content).startswith("deadly")
        if deadly and where == "before C":
            die()
        ticket.commit(ticket.recipients)
        if deadly and where == "between C and D":
            die()
        for to in ticket.recipients:
            post.sent.append((ticket.key, to, b"Subject: " + subject(mail.content).encode()))
            yield Report(to, SENT)

    return act


class TestAdoption:
    def test_before_a_nothing_has_happened(self, works: Works) -> None:
        box, post = mailbox("a"), Post()
        box.on_fetch = lambda key: die()
        pipeline = works.pipeline([fetch(box)], [distribute(post)])
        crash(works, pipeline)
        box.on_fetch = lambda key: None
        assert works.run(pipeline) == 0
        assert post.subjects == ["a"]

    @pytest.mark.parametrize("size", [0, 300_000])
    def test_after_a_the_mail_is_processed_and_its_key_settled(
        self, works: Works, size: int
    ) -> None:
        box, post = mailbox("a", size=size), Post()
        deadly = [True]

        def step(mail: Mail, context: Context) -> Iterator[Mail]:
            if deadly:
                die()
            yield mail

        pipeline = works.pipeline([fetch(box, keep=0.0)], [distribute(post)], [process(step)])
        crash(works, pipeline)
        deadly.clear()
        assert works.run(pipeline) == 0
        assert post.octets == [message("a", "x" * size)]
        assert box.fetched == []  # nothing was fetched again
        assert box.settled == ["a"]
        assert not list(works.root.glob("journal.db.d/*/*"))

    def test_after_b_what_is_due_is_delivered(self, works: Works) -> None:
        box, post = mailbox("deadly"), Post()
        post.act = dying(post, "before C")
        pipeline = works.pipeline([fetch(box)], [distribute(post)])
        crash(works, pipeline)
        post.act = post.take
        assert works.run(pipeline) == 0
        assert post.subjects == ["deadly"]
        assert post.tickets[-1].resumed

    @pytest.mark.parametrize(("policy", "states"), [("resend", "sent"), ("hold", "held")])
    def test_between_c_and_d_it_is_in_doubt(self, works: Works, policy: str, states: str) -> None:
        box, post = mailbox("deadly"), Post()
        post.act = dying(post, "between C and D")
        pipeline = works.pipeline([fetch(box)], [distribute(post, if_in_doubt=policy)])
        crash(works, pipeline)
        post.act = post.take
        works.run(pipeline)
        assert works.states() == [("post", "bob@example.org", states)]
        assert len(post.sent) == (policy == "resend")

    def test_a_second_doubt_holds_whatever_the_file_says(self, works: Works) -> None:
        box, post = mailbox("deadly"), Post()
        post.act = dying(post, "between C and D")
        pipeline = works.pipeline([fetch(box)], [distribute(post)])
        for _ in range(2):
            crash(works, pipeline)
        post.act = post.take
        works.run(pipeline)
        assert post.sent == []
        (entry,) = works.waits()
        assert (entry.state, entry.step) == ("held", "post")
        assert "perhaps taken already" in entry.reason

    def test_in_doubt_at_a_step_that_is_gone_is_held(self, works: Works) -> None:
        box, post = mailbox("deadly"), Post()
        post.act = dying(post, "between C and D")
        crash(works, works.pipeline([fetch(box)], [distribute(post, "old")]))
        works.run(works.pipeline([fetch(box)], [distribute(Post(), "new")]))
        assert works.states() == [("old", "bob@example.org", "held")]

    def test_due_at_a_step_that_is_gone_is_held_with_a_clear_line(self, works: Works) -> None:
        box, post, new = mailbox("deadly"), Post(), Post()
        post.act = dying(post, "before C")
        crash(works, works.pipeline([fetch(box)], [distribute(post, "old")]))
        changed = works.pipeline([fetch(box)], [distribute(new, "new")])
        assert works.run(changed) == ConfigError.exit_code
        (entry,) = works.waits()
        assert (entry.state, entry.step) == ("held", "old")
        assert entry.reason == f"distribute step 'old' is gone from {works.root}/red.toml"
        assert new.sent == []


class TestCrashLoops:
    def test_three_crashes_hold_the_mail_and_the_others_go_on(self, works: Works) -> None:
        box, post = mailbox("a", "deadly", "b"), Post()
        post.act = dying(post, "before C")
        pipeline = works.pipeline([fetch(box)], [distribute(post)])
        for _ in range(plans.CRASHES):
            crash(works, pipeline)
        assert works.run(pipeline) == BadMailError.exit_code
        (entry,) = works.waits()
        assert (entry.sender, entry.state) == ("ann@example.org", "held")
        assert f"in work in {plans.CRASHES} crashes" in entry.reason
        assert works.rows("SELECT count(*) FROM delivery WHERE state = 'sent'") == [(2,)]

    def test_a_mail_that_gets_on_between_crashes_is_not_held(self, works: Works) -> None:
        """Ten thousand recipients, and a host that ends what runs for a minute."""
        people = tuple(f"p{number}@example.org" for number in range(plans.CRASHES + 2))
        box, post = mailbox("long"), Post()
        box.envelope = box.envelope._replace(recipients=people)

        def cut_after_one(mail: Mail, ticket: Ticket) -> Iterator[Report]:
            for number, recipient in enumerate(ticket.recipients):
                if number == 1 and len(ticket.recipients) > 2:
                    ticket.commit((recipient,))
                    die()
                post.sent.append((ticket.key, recipient, b""))
                yield Report(recipient, SENT)

        post.act = cut_after_one
        pipeline = works.pipeline([fetch(box)], [distribute(post, if_in_doubt="resend")])
        for _ in range(plans.CRASHES):
            crash(works, pipeline)
        assert works.run(pipeline) == 0
        assert works.rows("SELECT count(*) FROM delivery WHERE state = 'sent'") == [(len(people),)]

    def test_a_step_that_kills_the_process_is_survived_too(self, works: Works) -> None:
        box, post = mailbox("a", "deadly", "b"), Post()

        def step(mail: Mail, context: Context) -> Iterator[Mail]:
            if subject(mail.content) == "deadly":
                die()
            yield mail

        pipeline = works.pipeline([fetch(box)], [distribute(post)], [process(step)])
        for _ in range(plans.CRASHES):
            crash(works, pipeline)
        works.run(pipeline)
        assert [entry.state for entry in works.waits()] == ["held"]
        assert works.rows("SELECT count(*) FROM delivery WHERE state = 'sent'") == [(2,)]

    @pytest.mark.parametrize("where", ["step", "distributor"])
    def test_and_in_deliver_first(self, works: Works, where: str) -> None:
        box, post = mailbox("a", "deadly", "b"), Post(repeatable=True, per_recipient=False)

        def kill(mail: Mail) -> None:
            if subject(mail.content) == "deadly":
                die()

        def step(mail: Mail, context: Context) -> Iterator[Mail]:
            if where == "step":
                kill(mail)
            yield mail

        def act(mail: Mail, ticket: Ticket) -> Iterator[Report]:
            if where == "distributor":
                kill(mail)
            yield from post.take(mail, ticket)

        post.act = act
        pipeline = works.pipeline([fetch(box)], [distribute(post)], [process(step, pure=True)])
        for _ in range(plans.CRASHES):
            crash(works, pipeline)
        works.run(pipeline)
        assert [entry.state for entry in works.waits()] == ["held"]
        assert works.rows("SELECT count(*) FROM delivery WHERE state = 'sent'") == [(2,)]

    def test_what_was_in_a_crash_is_tried_alone(self, works: Works) -> None:
        """Of ten in work, one is deadly: the second crash blames it alone."""
        names = [f"m{number}" for number in range(4)] + ["deadly"] + ["n0", "n1", "n2"]
        box, post = mailbox(*names), Post()
        together = threading.Barrier(8)

        def act(mail: Mail, ticket: Ticket) -> Iterator[Report]:
            together.wait(10)
            if subject(mail.content) == "deadly":
                die()
            yield from post.take(mail, ticket)

        post.act = act
        pipeline = works.pipeline([fetch(box)], [distribute(post, parallel=8)])
        crash(works, pipeline)
        post.act = dying(post, "before C")
        crash(works, pipeline)
        crash(works, pipeline)
        works.run(pipeline)
        assert works.rows("SELECT max(crashes) FROM mail WHERE state != 'done'") == [(0,)]
        (entry,) = works.waits()
        assert entry.state == "held"
        assert works.rows("SELECT count(*) FROM delivery WHERE state = 'sent'") == [(7,)]

    def test_once_through_the_work_in_order_it_is_no_suspect_any_more(self, works: Works) -> None:
        """Crashes of other causes do not add up over the years."""
        box, post = mailbox("deadly"), Post()
        post.act = dying(post, "before C")
        pipeline = works.pipeline([fetch(box)], [distribute(post)])
        crash(works, pipeline)
        crash(works, pipeline)
        post.act = lambda mail, ticket: [Report(to, LATER) for to in ticket.recipients]
        works.run(pipeline)
        assert works.rows("SELECT crashes FROM mail") == [(0,)]

    def test_released_it_is_tried_again(self, works: Works) -> None:
        from mailflow.engine.journal import queue

        box, post = mailbox("deadly"), Post()
        post.act = dying(post, "before C")
        pipeline = works.pipeline([fetch(box)], [distribute(post)])
        for _ in range(plans.CRASHES):
            crash(works, pipeline)
        works.run(pipeline)
        journal, mail = works.journal(), works.mail()
        journal.commit(lambda tx: queue.release(tx, mail, 0.0))
        journal.close()
        post.act = post.take
        works.run(pipeline)
        assert post.subjects == ["deadly"]


class TestLostBodies:
    def lose(self, works: Works) -> None:
        for path in works.root.glob("journal.db.d/*/*"):
            path.unlink()

    def test_due_deliveries_of_a_lost_body_are_held_and_the_others_go_on(
        self, works: Works
    ) -> None:
        box, post = Mailbox(a=message("a", "x" * 300_000), b=message("b")), Post()
        post.act = lambda mail, ticket: [Report(to, LATER) for to in ticket.recipients]
        pipeline = works.pipeline([fetch(box)], [distribute(post)])
        works.run(pipeline)
        self.lose(works)
        works.due_now()
        post.act = post.take
        assert works.run(pipeline) == 74
        assert post.subjects == ["b"]
        (entry,) = works.waits()
        assert entry.state == "held"
        assert "has lost" in entry.reason

    def test_an_accepted_mail_of_a_lost_body_is_held_and_the_others_go_on(
        self, works: Works
    ) -> None:
        box, post = Mailbox(a=message("a", "x" * 300_000), b=message("b")), Post()
        deadly = [True]

        def step(mail: Mail, context: Context) -> Iterator[Mail]:
            if deadly:
                die()
            yield mail

        pipeline = works.pipeline([fetch(box)], [distribute(post)], [process(step)])
        crash(works, pipeline)
        deadly.clear()
        self.lose(works)
        assert works.run(pipeline) == 74
        assert post.subjects == ["b"]
        assert [entry.state for entry in works.waits()] == ["held"]


class TestTheLiving:
    def test_what_a_living_process_has_in_hand_is_its_own(self, works: Works) -> None:
        """Two runs on one journal: neither delivers, frees or sweeps what the other has."""
        box, slow = mailbox("a", size=300_000), Post()
        inside, go_on = works.root / "inside", works.root / "go"

        def act(mail: Mail, ticket: Ticket) -> Iterator[Report]:
            ticket.commit(ticket.recipients)
            inside.touch()
            await_(go_on.exists)
            for to in ticket.recipients:
                with open(works.root / "sent", "ab") as file, mail.content.open() as octets:
                    file.write(octets.read())
                yield Report(to, SENT)

        slow.act = act
        pipeline = works.pipeline([fetch(box)], [distribute(slow)])
        child = os.fork()
        if not child:
            try:
                works.run(pipeline)
            finally:
                os._exit(0)
        await_(inside.exists)
        other = Post()
        assert works.run(works.pipeline([fetch(Mailbox())], [distribute(other)])) == 0
        assert other.sent == []
        ((state, owner),) = works.rows(
            "SELECT d.state, owner FROM delivery d JOIN mail ON id = mail"
        )
        assert state == "sending"
        assert owner
        go_on.touch()
        assert os.waitpid(child, 0)[1] == 0
        assert (works.root / "sent").read_bytes() == message("a", "x" * 300_000)
        assert works.rows("SELECT state FROM mail") == [("done",)]

    def test_a_step_that_another_process_still_knows_is_not_taken_from_it(
        self, works: Works
    ) -> None:
        """The file was changed under a running process: what it has in hand it ends."""
        box, old, new = mailbox("a"), Post(), Post()

        def act(mail: Mail, ticket: Ticket) -> Iterator[Report]:
            changed = works.pipeline([fetch(Mailbox("other"))], [distribute(new, "new")])
            assert in_a_child(lambda: works.run(changed)) == 0
            assert works.states() == [("old", "bob@example.org", "due")]
            yield from old.take(mail, ticket)

        old.act = act
        assert works.run(works.pipeline([fetch(box)], [distribute(old, "old")])) == 0
        assert works.states() == [("old", "bob@example.org", "sent")]


class TestOwners:
    @pytest.fixture
    def journal(self, tmp_path: Path) -> Iterator[Database]:
        opened = Database(str(tmp_path / "journal.db"))
        yield opened
        opened.close()

    def test_it_lives_as_long_as_its_process(self, journal: Database) -> None:
        reader, writer = os.pipe()

        def live() -> None:
            mine = Database(journal.path)
            os.write(writer, mine.owner.id.encode())
            die()

        assert in_a_child(live) == signal.SIGKILL
        dead = os.read(reader, 100).decode()
        os.close(reader)
        os.close(writer)
        assert owners.is_alive(journal.owners, journal.owner.id)
        assert not owners.is_alive(journal.owners, dead)
        assert not owners.is_alive(journal.owners, "stranger")

    def test_another_process_sees_this_one_live(self, journal: Database) -> None:
        def look() -> None:
            os._exit(7 if owners.is_alive(journal.owners, journal.owner.id) else 8)

        assert os.waitstatus_to_exitcode(in_a_child(look)) == 7

    def test_a_sweep_removes_orphans_and_keeps_bodies_and_the_living(
        self, journal: Database
    ) -> None:
        dead = Path(journal.owners) / "dead"
        dead.mkdir()
        (dead / "lock").touch()
        (dead / "orphan").write_text("half")
        (dead / "body").write_text("kept")
        alive = Path(journal.owner.directory) / "in work"
        alive.write_text("half")
        owners.sweep(journal.owners, lambda: {"dead/body"})
        assert sorted(path.name for path in dead.iterdir()) == ["body"]
        assert alive.exists()
        owners.sweep(journal.owners, lambda: set())
        assert not dead.exists()

    def test_one_odd_entry_does_not_stop_the_sweep(self, journal: Database) -> None:
        root = Path(journal.owners)
        (root / "a stray file").touch()
        (root / "a directory" / "in it").mkdir(parents=True)
        dead = root / "zz"
        dead.mkdir()
        (dead / "orphan").touch()
        owners.sweep(journal.owners, lambda: set())
        assert not dead.exists()

    def test_a_new_owner_is_never_swept_before_it_has_its_lock(self, journal: Database) -> None:
        """The sweep and the birth of an owner exclude each other."""
        born: list[Database] = []
        thread = threading.Thread(target=lambda: born.append(Database(journal.path)))

        def committed() -> set[str]:
            thread.start()
            time.sleep(0.1)
            assert born == []
            return set()

        (Path(journal.owners) / "dead").mkdir()
        owners.sweep(journal.owners, committed)
        thread.join()
        assert owners.is_alive(journal.owners, born[0].owner.id)
        born[0].close()

    def test_a_process_that_leaves_in_order_leaves_nothing(self, tmp_path: Path) -> None:
        journal = Database(str(tmp_path / "journal.db"))
        journal.close()
        assert [path.name for path in (tmp_path / "journal.db.d").iterdir()] == [".guard"]

    def test_a_body_outlives_the_owner_that_wrote_it(self, works: Works) -> None:
        box, post = mailbox("a", size=300_000), Post()
        post.act = lambda mail, ticket: [Report(to, LATER) for to in ticket.recipients]
        pipeline = works.pipeline([fetch(box)], [distribute(post)])
        works.run(pipeline)
        works.run(pipeline)  # sweeps
        works.due_now()
        post.act = post.take
        works.run(pipeline)
        assert post.octets == [message("a", "x" * 300_000)]
        assert not list(works.root.glob("journal.db.d/*/*"))


def await_(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 20
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.005)
