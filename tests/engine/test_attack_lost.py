"""Files that leave mail without a way: it is held and somebody is told, never gone."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from mailflow.engine import reaction
from mailflow.engine.journal import queue
from mailflow.errors import BadMailError
from mailflow.kinds import Context, Trouble
from mailflow.mail import Envelope, Mail
from mailflow.verdicts import LATER, Hold, Report, Retry

from .parts import Mailbox, Post, Works, distribute, fetch, message, process, react


def unaddressed() -> Mailbox:
    """As from POP3: nobody says whom the mail is for."""
    box = Mailbox(k0=message("m0"))
    box.envelope = Envelope()
    return box


def names_them(mail: Mail, context: Context) -> Iterator[Mail | Hold]:
    if not context.approved:
        yield Hold("who is that?")
        return
    yield mail.replace(envelope=Envelope("red@example.org", ("bob@example.org",)))


def release(works: Works) -> None:
    journal = works.journal()
    journal.commit(lambda tx: queue.release(tx, works.mail(), 0.0))
    journal.close()


def test_mail_that_came_without_recipients_is_held_where_no_step_names_any(works: Works) -> None:
    """Done, it would be deleted at its source and be nowhere."""
    pipeline = works.pipeline([fetch(unaddressed(), keep=0.0)], [distribute(Post())])
    assert works.run(pipeline) == BadMailError.exit_code
    (entry,) = works.waits()
    assert entry.state == "held"
    assert "it came without recipients" in entry.reason


def test_where_another_destination_takes_it_nobody_need_be_named(works: Works) -> None:
    archive = Post(repeatable=True, per_recipient=False)
    ways = [distribute(Post(), "smtp"), distribute(archive, "archive")]
    assert works.run(works.pipeline([fetch(unaddressed())], ways)) == 0
    assert archive.subjects == ["m0"]
    assert works.waits() == []


@pytest.mark.parametrize("archived", [False, True], ids=["smtp-only", "with-archive"])
def test_released_for_a_step_that_was_renamed_it_waits_for_the_step(
    works: Works, archived: bool
) -> None:
    """What the step would have said who gets it; without it, it would go to nobody."""
    post = Post()
    ways = [distribute(post)]
    if archived:
        ways.append(distribute(Post(repeatable=True, per_recipient=False), "archive"))
    before = works.pipeline([fetch(unaddressed())], ways, [process(names_them, "red")])
    works.run(before)
    release(works)
    works.run(works.pipeline([fetch(unaddressed())], ways, [process(names_them, "blue")]))
    (entry,) = works.waits()
    assert (entry.state, entry.step) == ("held", "red")
    assert entry.reason.endswith("put it back, then release it")
    release(works)
    works.run(before)
    assert post.subjects == ["m0"]
    assert works.waits() == []


@pytest.mark.parametrize("stage", ["process", "distribute"])
def test_a_run_ends_even_if_a_reactor_tries_all_again_at_once(works: Works, stage: str) -> None:
    """`after = ["0s"]` against a server that is down for days."""
    tried: list[int] = []

    def decide(trouble: Trouble, context: Context) -> Retry:
        tried.append(trouble.attempt)
        return Retry(0.0)

    def fail(mail: Mail, context: Context) -> Iterator[Mail]:
        raise ValueError("broken")
        yield mail

    post = Post()
    post.act = lambda mail, ticket: [Report(to, LATER, "4.2.0") for to in ticket.recipients]
    steps = [process(fail)] if stage == "process" else []
    works.run(
        works.pipeline([fetch(Mailbox(k0=message()))], [distribute(post)], steps, [react(decide)])
    )
    assert tried == list(range(1, reaction.AT_ONCE + 2))
    assert len(works.waits()) == 1
