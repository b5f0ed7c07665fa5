"""What steps remember: over mails, over processes, and only where a plan was committed."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator

import pytest

from mailflow.engine.journal import ConflictError, Effects, Remembered, plans
from mailflow.errors import UnavailableError
from mailflow.kinds import Context, Trouble
from mailflow.mail import Envelope, Mail, OctetFile, Octets
from mailflow.verdicts import Discard, Hold, Retry

from .parts import Mailbox, Post, Works, distribute, fetch, message, process, react, subject


def once(mail: Mail, context: Context) -> Iterator[object]:
    """Duplicate suppression: a body that was there before is discarded."""
    text = mail.header().get("X-Same") or ""
    if context.memory.get(text):
        yield Discard("seen before")
        return
    context.memory.set(text, mail.id)
    yield mail


def same(*names: str) -> Mailbox:
    return Mailbox(**{name: message(name, **{"X-Same": "yes"}) for name in names})


def test_two_mails_of_one_group_see_each_other(works: Works) -> None:
    post = Post()
    pipeline = works.pipeline([fetch(same("a", "b", "c"))], [distribute(post)], [process(once)])
    works.run(pipeline)
    assert post.subjects == ["a"]


def test_mails_of_two_runs_see_each_other(works: Works) -> None:
    post, box = Post(), same("a")
    pipeline = works.pipeline([fetch(box)], [distribute(post)], [process(once)])
    works.run(pipeline)
    box.add(**same("b").messages)
    works.run(pipeline)
    assert post.subjects == ["a"]


def test_a_mail_never_meets_its_own_entries(works: Works) -> None:
    """It is held, released and comes to the same step again: it is no copy of itself."""
    from mailflow.engine.journal import queue

    post = Post()

    def moderate(mail: Mail, context: Context) -> Iterator[object]:
        for verdict in once(mail, context):
            yield verdict if context.approved or isinstance(verdict, Discard) else Hold("look")

    pipeline = works.pipeline([fetch(same("a"))], [distribute(post)], [process(moderate)])
    works.run(pipeline)
    journal, mail = works.journal(), works.mail()
    journal.commit(lambda tx: queue.release(tx, mail, 0.0))
    journal.close()
    works.run(pipeline)
    assert post.subjects == ["a"]


def test_copies_of_one_mail_do_not_meet_each_other_either(works: Works) -> None:
    post = Post()

    def double(mail: Mail, context: Context) -> Iterator[Mail]:
        yield mail
        yield mail

    steps = [process(double, "double"), process(once, "once")]
    works.run(works.pipeline([fetch(same("a"))], [distribute(post)], steps))
    assert post.subjects == ["a", "a"]


def test_steps_do_not_see_what_others_remember(works: Works) -> None:
    post, seen = Post(), []

    def write(mail: Mail, context: Context) -> Iterator[Mail]:
        context.memory.set("k", "v")
        yield mail

    def look(mail: Mail, context: Context) -> Iterator[Mail]:
        seen.append(context.memory.get("k"))
        yield mail

    steps = [process(write, "write"), process(look, "look")]
    box = same("a", "b")
    works.run(works.pipeline([fetch(box)], [distribute(post)], steps))
    assert seen == [None, None]


def test_pipelines_on_one_journal_do_not_see_what_others_remember(works: Works) -> None:
    post = Post()
    for name in ("red", "blue"):
        step = fetch(same(name), name)
        works.run(works.pipeline([step], [distribute(post)], [process(once)], name=name))
    assert post.subjects == ["red", "blue"]


def test_the_newest_word_counts(works: Works) -> None:
    seen: list[str | None] = []

    def count(mail: Mail, context: Context) -> Iterator[Mail]:
        found = context.memory.get("count")
        seen.append(found)
        context.memory.set("count", str(int(found or 0) + 1))
        yield mail

    box = same("a", "b", "c")
    pipeline = works.pipeline([fetch(box)], [distribute(Post())], [process(count)])
    works.run(pipeline)
    box.add(**same("d").messages)
    works.run(pipeline)
    assert seen[-1] == "3"


def test_the_newest_word_counts_though_an_older_mail_says_it(works: Works) -> None:
    """The first mail is tried again after the second has passed."""
    post, seen = Post(), []

    def count(mail: Mail, context: Context) -> Iterator[Mail]:
        found = context.memory.get("count")
        if subject(mail.content) == "a" and not seen:
            seen.append("fail")
            raise UnavailableError("not now")
        seen.append(found)
        context.memory.set("count", str(int(found or 0) + 1))
        yield mail

    box = same("a", "b")
    pipeline = works.pipeline([fetch(box)], [distribute(post)], [process(count)])
    works.run(pipeline)
    works.due_now()
    works.run(pipeline)
    box.add(**same("c").messages)
    works.run(pipeline)
    assert seen == ["fail", None, "1", "2"]


def test_f29_the_newest_word_counts_though_the_clock_was_put_back(works: Works) -> None:
    box, seen = same("a"), []

    def count(mail: Mail, context: Context) -> Iterator[Mail]:
        seen.append(context.memory.get("count"))
        context.memory.set("count", str(len(seen)))
        yield mail

    pipeline = works.pipeline([fetch(box)], [distribute(Post())], [process(count)])
    works.run(pipeline)
    works.change("UPDATE memory SET at = at + 3600")
    for name in ("b", "c"):
        box.add(**same(name).messages)
        works.run(pipeline)
    assert seen == [None, "1", "2"]


def test_what_is_kept_for_a_time_is_then_forgotten(works: Works) -> None:
    box, post = same("a"), Post()

    def remember(mail: Mail, context: Context) -> Iterator[object]:
        if context.memory.get("k"):
            yield Discard("again")
            return
        context.memory.set("k", "v", keep=3600.0)
        yield mail

    pipeline = works.pipeline([fetch(box)], [distribute(post)], [process(remember)])
    works.run(pipeline)
    works.change("UPDATE memory SET expires = expires - 3601")
    box.add(**same("b").messages)
    works.run(pipeline)
    assert post.subjects == ["a", "b"]
    assert works.rows("SELECT count(*) FROM memory") == [(1,)]  # the old one is swept


def test_a_plan_made_from_what_another_process_has_changed_is_made_again(works: Works) -> None:
    post, box = Post(), same("a")
    interfered: list[int] = []

    def slow(mail: Mail, context: Context) -> Iterator[object]:
        verdicts = list(once(mail, context))
        if not interfered:
            interfered.append(1)
            works.change(
                "INSERT INTO memory (pipeline, step, key, mail, value, expires)"
                " VALUES ('red', 'step', 'yes', 'other', 'other', NULL)"
            )
        yield from verdicts

    works.run(works.pipeline([fetch(box)], [distribute(post)], [process(slow)]))
    assert post.sent == []
    story = [each.text for each in works.story(works.mail()).chapters if each.what == "discard"]
    assert story == ["seen before"]


def test_in_a_group_one_conflict_replans_and_doubles_nothing(works: Works) -> None:
    post, box = Post(), Mailbox()
    box.add(**{f"k{n}": message(f"m{n}", **{"X-Same": str(n % 5)}) for n in range(10)})
    interfered: list[int] = []

    def slow(mail: Mail, context: Context) -> Iterator[object]:
        yield from once(mail, context)
        if not interfered:
            interfered.append(1)
            works.change(
                "INSERT INTO memory (pipeline, step, key, mail, value, expires)"
                " VALUES ('red', 'step', '3', 'other', 'other', NULL)"
            )

    works.run(works.pipeline([fetch(box)], [distribute(post)], [process(slow)]))
    assert sorted(post.subjects) == ["m0", "m1", "m2", "m4"]
    assert works.rows("SELECT count(*) FROM mail WHERE state != 'done'") == [(0,)]


def test_a_read_that_is_true_no_more_is_a_conflict(works: Works) -> None:
    journal = works.journal()

    def settle(*reads: Remembered) -> None:
        effects = Effects(reads=reads)
        journal.commit(lambda tx: plans.settle_effects(tx, "red", "mail", effects, 1.0))

    settle(Remembered("step", "k", None))
    works.change(
        "INSERT INTO memory (pipeline, step, key, mail, value, expires)"
        " VALUES ('red', 'step', 'k', 'other', 'v', NULL)"
    )
    settle(Remembered("step", "k", "v"))
    with pytest.raises(ConflictError):
        settle(Remembered("step", "k", None))
    journal.close()


def test_reactors_share_one_memory_over_mails_and_sources(works: Works) -> None:
    """A reactor meets what it wrote for the same mail, for others and for a source."""
    box, seen = same("a", "b"), []

    def fail() -> None:
        raise UnavailableError("down")

    def step(mail: Mail, context: Context) -> Iterator[Mail]:
        raise UnavailableError("not now")
        yield

    def count(trouble: Trouble, context: Context) -> Retry:
        seen.append((trouble.stage, context.memory.get("count")))
        context.memory.set("count", str(len(seen)))
        return Retry(0.0 if trouble.attempt < 2 else 3600.0)

    pipeline = works.pipeline([fetch(box)], [distribute(Post())], [process(step)], [react(count)])
    works.run(pipeline)
    box.on_listing = fail
    works.run(pipeline)
    assert seen == [
        ("process", None), ("process", "1"), ("process", "2"), ("process", "3"), ("fetch", "4"),
    ]  # fmt: skip


def test_a_reactor_and_a_step_of_one_name_have_memories_of_their_own(works: Works) -> None:
    seen: list[str | None] = []

    def step(mail: Mail, context: Context) -> Iterator[object]:
        seen.append(context.memory.get("k"))
        yield Hold("x")

    def write(trouble: Trouble, context: Context) -> None:
        context.memory.set("k", "of the reactor")

    pipeline = works.pipeline(
        [fetch(same("a", "b"))], [distribute(Post())], [process(step, "x")], [react(write, "x")]
    )
    works.run(pipeline)
    box = same("c")
    works.run(
        works.pipeline(
            [fetch(box)], [distribute(Post())], [process(step, "x")], [react(write, "x")]
        )
    )
    assert seen == [None, None, None]


class TestNotices:
    def test_a_notice_is_in_the_commit_of_what_it_is_about_and_is_sent_in_the_run(
        self, works: Works
    ) -> None:
        post = Post()

        def tell(mail: Mail, context: Context) -> Iterator[object]:
            notice = context.new(Envelope("", ("olga@example.org",)), Octets(message("notice")))
            context.send(notice)
            yield Hold("look")

        box = same("a")
        works.run(works.pipeline([fetch(box)], [distribute(post)], [process(tell)]))
        assert [(to, subject(Octets(octets))) for _, to, octets in post.sent] == [
            ("olga@example.org", "notice")
        ]
        (identity,) = works.rows("SELECT id FROM mail WHERE notice")[0]
        assert works.story(identity).chapters[0].what == "written"
        assert any(
            each.what == "notice" and identity in each.text
            for each in works.story(works.mail()).chapters
        )

    def test_it_goes_by_the_first_that_sends_or_by_the_one_named(self, works: Works) -> None:
        archive, post, other = Post(repeatable=True, per_recipient=False), Post(), Post()

        def tell(mail: Mail, context: Context) -> Iterator[object]:
            for via in (None, "other", "archive"):
                name = f"via {via}"
                notice = context.new(Envelope("", ("olga@x.org",)), Octets(message(name)))
                context.send(notice, via)
            yield Discard("done")

        ways = [distribute(archive, "archive"), distribute(post), distribute(other, "other")]
        works.run(works.pipeline([fetch(same("a"))], ways, [process(tell)]))
        assert post.subjects == ["via None"]
        assert other.subjects == ["via other"]
        assert archive.subjects == ["via archive"]

    def test_with_nobody_that_sends_it_is_the_files_fault_and_the_mail_waits(
        self, works: Works
    ) -> None:
        archive = Post(repeatable=True, per_recipient=False)

        def tell(mail: Mail, context: Context) -> Iterator[object]:
            context.send(context.new(Envelope("", ("olga@x.org",)), Octets(message("n"))))
            yield mail

        pipeline = works.pipeline([fetch(same("a"))], [distribute(archive)], [process(tell)])
        assert works.run(pipeline) == 78
        (entry,) = works.waits()
        assert "a notice needs a [[distribute]] that sends" in entry.reason

    def test_the_mail_at_hand_may_be_sent_as_a_notice_and_twice(self, works: Works) -> None:
        post = Post()

        def forward(mail: Mail, context: Context) -> Iterator[object]:
            context.send(mail.replace(envelope=Envelope("", ("olga@x.org",))))
            context.send(mail.replace(envelope=Envelope("", ("piet@x.org",))))
            yield mail

        works.run(works.pipeline([fetch(same("a"))], [distribute(post)], [process(forward)]))
        assert sorted(to for _, to, _ in post.sent) == [
            "bob@example.org",
            "olga@x.org",
            "piet@x.org",
        ]
        assert works.rows("SELECT DISTINCT state FROM mail") == [("done",)]

    def test_a_notice_to_nobody_is_the_steps_fault(self, works: Works) -> None:
        def tell(mail: Mail, context: Context) -> Iterator[object]:
            context.send(context.new(Envelope("", ()), Octets(message("n"))))
            yield mail

        pipeline = works.pipeline([fetch(same("a"))], [distribute(Post())], [process(tell)])
        assert works.run(pipeline) == 78
        assert works.rows("SELECT count(*) FROM mail WHERE notice") == [(0,)]

    @pytest.mark.parametrize("to", ["", "bob\n@x", "caf\udce9@x"])
    def test_a_notice_to_what_is_no_address_is_the_steps_fault(self, works: Works, to: str) -> None:
        def tell(mail: Mail, context: Context) -> Iterator[object]:
            context.send(context.new(Envelope("", (to,)), Octets(message("n"))))
            yield mail

        pipeline = works.pipeline([fetch(same("a"))], [distribute(Post())], [process(tell)])
        assert works.run(pipeline) == 78
        assert [entry.state for entry in works.waits()] == ["held"]

    def test_a_notice_whose_octets_cannot_be_read_is_the_steps_fault(self, works: Works) -> None:
        def tell(mail: Mail, context: Context) -> Iterator[object]:
            lost = OctetFile(str(works.root / "lost"), 10)
            context.send(context.new(Envelope("", ("olga@x.org",)), lost))
            yield mail

        pipeline = works.pipeline([fetch(same("a"))], [distribute(Post())], [process(tell)])
        assert works.run(pipeline) == 75
        assert [entry.state for entry in works.waits()] == ["waiting"]

    def test_a_large_notice_is_sent_whole(self, works: Works) -> None:
        post = Post()
        large = message("large", "x" * 400_000)

        def tell(mail: Mail, context: Context) -> Iterator[object]:
            context.send(context.new(Envelope("", ("olga@x.org",)), Octets(large)))
            yield Discard("done")

        works.run(works.pipeline([fetch(same("a"))], [distribute(post)], [process(tell)]))
        assert post.octets == [large]
        assert works.rows("SELECT count(*) FROM body") == [(0,)]

    def test_troubles_of_a_notice_make_no_notice(self, works: Works) -> None:
        post = Post()

        def fail(mail: Mail, ticket: object) -> Iterator[object]:
            raise UnavailableError("down")
            yield

        post.act = fail  # type: ignore[assignment]
        told: list[str] = []

        def tell(trouble: Trouble, context: Context) -> Retry:
            told.append(subject(trouble.mail.content) if trouble.mail else "")
            context.send(context.new(Envelope("", ("olga@x.org",)), Octets(message("notice"))))
            return Retry(0.0 if trouble.attempt < 3 else 3600.0)

        pipeline = works.pipeline([fetch(same("a"))], [distribute(post)], react=[react(tell)])
        for _ in range(4):
            works.run(pipeline)
            works.due_now()
        notices = works.rows("SELECT count(*) FROM mail WHERE notice")[0][0]
        assert notices == told.count("a")
        assert "notice" in told


def test_two_processes_that_get_one_mail_at_once_pass_one_on(works: Works) -> None:
    """Two hooks at once, equal Message-IDs: one copy in the Maildir."""
    pipeline = works.root / "hook.toml"
    pipeline.write_text(
        f"""
        [pipeline]
        journal = "{works.path}"
        [[fetch]]
        use = "stdin"
        [[process]]
        use = "list.post"
        address = "red@example.org"
        members = ["ann@example.org"]
        posting = {{ members = "accept", others = "accept" }}
        [[distribute]]
        use = "maildir"
        path = "{works.root}/Maildir"
        """
    )
    mail = b"From: ann@example.org\nTo: red@example.org\nMessage-ID: <1@x>\nSubject: x\n\nhello\n"
    children = [
        subprocess.Popen(
            [sys.executable, "-m", "mailflow", "hook", str(pipeline)], stdin=subprocess.PIPE
        )
        for _ in range(6)
    ]
    for number, child in enumerate(children):
        assert child.stdin is not None
        child.stdin.write(b"Received: by %d\n" % number + mail)
        child.stdin.close()
    assert [child.wait(60) for child in children] == [0] * 6
    assert len(list((works.root / "Maildir" / "new").iterdir())) == 1
