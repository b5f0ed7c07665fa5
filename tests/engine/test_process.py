"""One mail through the [[process]] steps: verdicts, copies, failures and the way out."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from mailflow.errors import BadMailError, PluginError, UnavailableError
from mailflow.kinds import Context, Trouble
from mailflow.mail import Envelope, Mail, OctetFile, Octets
from mailflow.verdicts import Bounce, Discard, Hold, Reject, Report, Retry, Stop

from .parts import Mailbox, Post, Works, distribute, fetch, message, process, react, subject


def mailbox(count: int = 1) -> Mailbox:
    return Mailbox(**{f"k{number}": message(f"m{number}") for number in range(count)})


def note(name: str, value: str) -> Any:
    def work(mail: Mail, context: Context) -> Iterator[Mail]:
        yield mail.noted(**{name: value})

    return work


def say(verdict: object) -> Any:
    def work(mail: Mail, context: Context) -> Iterator[object]:
        yield verdict

    return work


def say_envelope(envelope: Envelope) -> Any:
    def work(mail: Mail, context: Context) -> Iterator[Mail]:
        yield mail.replace(envelope=envelope)

    return work


def passing(mail: Mail, context: Context) -> Iterator[Mail]:
    yield mail


def test_steps_run_in_the_order_of_the_file(works: Works) -> None:
    post, seen = Post(), []

    def first(mail: Mail, context: Context) -> Iterator[Mail]:
        seen.append("first")
        yield mail

    def second(mail: Mail, context: Context) -> Iterator[Mail]:
        seen.append("second")
        yield mail

    steps = [process(first, "first"), process(second, "second")]
    works.run(works.pipeline([fetch(mailbox())], [distribute(post)], steps))
    assert seen == ["first", "second"]
    assert post.subjects == ["m0"]


def test_a_step_sees_the_mail_as_the_one_before_left_it(works: Works) -> None:
    post, seen = Post(), []

    def look(mail: Mail, context: Context) -> Iterator[Mail]:
        seen.append(dict(mail.notes))
        yield mail

    steps = [process(note("colour", "red"), "note"), process(look, "look")]
    works.run(works.pipeline([fetch(mailbox())], [distribute(post)], steps))
    assert seen == [{"colour": "red"}]


@pytest.mark.parametrize("pure", [True, False], ids=["deliver-first", "journal-first"])
def test_a_step_whose_when_does_not_hold_is_passed_by(works: Works, pure: bool) -> None:
    post = Post(repeatable=True, per_recipient=False)
    steps = [process(say(Discard("no")), "no", pure=pure, when='subject is "m1"')]
    works.run(works.pipeline([fetch(mailbox(3))], [distribute(post)], steps))
    assert sorted(post.subjects) == ["m0", "m2"]


def test_when_of_a_later_step_asks_for_the_note_of_an_earlier_one(works: Works) -> None:
    red, blue = Post(), Post()
    steps = [process(note("colour", "red"), "note")]
    ways = [
        distribute(red, "red", when='note "colour" is "red"'),
        distribute(blue, "blue", when='note "colour" is "blue"'),
    ]
    works.run(works.pipeline([fetch(mailbox())], ways, steps))
    assert (red.subjects, blue.subjects) == (["m0"], [])


def test_a_mail_goes_to_every_distributor_whose_when_holds(works: Works) -> None:
    one, two, none = Post(), Post(), Post()
    ways = [distribute(one, "one"), distribute(two, "two", when='subject contains "m"'),
            distribute(none, "none", when='subject contains "x"')]  # fmt: skip
    works.run(works.pipeline([fetch(mailbox())], ways))
    assert (one.subjects, two.subjects, none.subjects) == (["m0"], ["m0"], [])


def test_a_discard_goes_nowhere_and_its_reason_is_kept(works: Works) -> None:
    post = Post()
    steps = [process(say(Discard("an echo")))]
    assert works.run(works.pipeline([fetch(mailbox())], [distribute(post)], steps)) == 0
    assert post.sent == []
    assert works.waits() == []
    (chapter,) = [each for each in works.story(works.mail()).chapters if each.step == "step"]
    assert (chapter.what, chapter.text) == ("discard", "an echo")
    assert works.rows("SELECT count(*) FROM body") == [(0,)]


@pytest.mark.parametrize("verdict", [Hold("for olga"), Reject("not a member")])
def test_hold_and_reject_wait_for_a_human_where_no_reactor_decides(
    works: Works, verdict: Hold | Reject
) -> None:
    post = Post()
    steps = [process(say(verdict))]
    assert works.run(works.pipeline([fetch(mailbox())], [distribute(post)], steps)) == 0
    (entry,) = works.waits()
    assert (entry.state, entry.step, entry.reason) == ("held", "step", verdict.reason)
    assert post.sent == []


@pytest.mark.parametrize(
    ("reaction", "state"),
    [(Retry(60.0), ["waiting"]), (Hold("x"), ["held"]), (Bounce("x"), []), (Discard("x"), [])],
)
def test_reactors_decide_about_a_verdict(works: Works, reaction: object, state: list[str]) -> None:
    seen: list[Trouble] = []

    def decide(trouble: Trouble, context: Context) -> object:
        seen.append(trouble)
        return reaction

    steps = [process(say(Reject("not a member")))]
    works.run(works.pipeline([fetch(mailbox())], [distribute(Post())], steps, [react(decide)]))
    (trouble,) = seen
    assert (trouble.stage, trouble.step, trouble.attempt) == ("verdict", "step", 1)
    assert trouble.verdict == Reject("not a member")
    assert [entry.state for entry in works.waits()] == state


def test_copies_go_their_own_ways(works: Works) -> None:
    post = Post()

    def split(mail: Mail, context: Context) -> Iterator[object]:
        for to in ("bob@example.org", "cleo@example.org"):
            header = mail.header()
            header.set("X-To", to)
            copy = mail.with_header(header)
            yield copy.replace(envelope=Envelope("ann@example.org", (to,)))
        yield Discard("the third")

    works.run(works.pipeline([fetch(mailbox())], [distribute(post)], [process(split)]))
    assert [(to, b"X-To: " + to.encode() in octets) for _, to, octets in post.sent] == [
        ("bob@example.org", True), ("cleo@example.org", True),
    ]  # fmt: skip
    assert len(set(post.keys)) == 2
    assert works.rows("SELECT state FROM mail") == [("done",)]


def test_a_verdict_for_one_copy_leaves_the_other(works: Works) -> None:
    post = Post()

    def split(mail: Mail, context: Context) -> Iterator[object]:
        yield mail.noted(n="one")
        yield mail.noted(n="two")

    def judge(mail: Mail, context: Context) -> Iterator[object]:
        yield Hold("the first") if mail.notes["n"] == "one" else mail

    steps = [process(split, "split"), process(judge, "judge")]
    works.run(works.pipeline([fetch(mailbox())], [distribute(post)], steps))
    assert post.subjects == ["m0"]
    assert [(entry.state, entry.step) for entry in works.waits()] == [("held", "judge")]


def test_in_deliver_first_a_verdict_for_one_copy_is_kept_with_its_reason(works: Works) -> None:
    post = Post(repeatable=True, per_recipient=False)

    def split(mail: Mail, context: Context) -> Iterator[object]:
        yield mail
        yield Discard("a copy too many")

    works.run(works.pipeline([fetch(mailbox())], [distribute(post)], [process(split, pure=True)]))
    assert post.subjects == ["m0"]
    assert "a copy too many" in [each.text for each in works.story(works.mail()).chapters]


def test_new_content_travels_instead_of_the_old(works: Works) -> None:
    post, large = Post(), b"Subject: new\r\n\r\n" + b"x" * 300_000

    def rewrite(mail: Mail, context: Context) -> Iterator[Mail]:
        yield mail.replace(content=Octets(large))
        yield mail

    works.run(works.pipeline([fetch(mailbox())], [distribute(post)], [process(rewrite)]))
    assert post.octets == [large, message("m0")]
    assert works.rows("SELECT count(*) FROM body") == [(0,)]
    assert not [path for path in works.root.glob("journal.db.d/*/*") if path.name != ".guard"]


@pytest.mark.parametrize(
    ("work", "said"),
    [
        (lambda mail, context: (), "yields nothing"),
        (lambda mail, context: None, "TypeError"),
        (say(None), "yields NoneType"),
        (say("go on"), "yields str"),
        (say(Report("a@x", "sent")), "yields Report"),  # type: ignore[arg-type]
        (say(Hold(None)), "yields Hold"),  # type: ignore[arg-type]
        (lambda mail, context: [mail.replace(notes={"n": 5})], "notes that are not text"),
        (lambda mail, context: 1 / 0, "ZeroDivisionError: division by zero"),
    ],
)  # fmt: skip
def test_a_step_that_breaks_its_contract_holds_that_mail_alone(
    works: Works, work: Any, said: str
) -> None:
    post = Post()

    def bad(mail: Mail, context: Context) -> object:
        return work(mail, context) if subject(mail.content) == "m1" else [mail]

    pipeline = works.pipeline([fetch(mailbox(3))], [distribute(post)], [process(bad)])  # type: ignore[arg-type]
    assert works.run(pipeline) == PluginError.exit_code
    assert post.subjects == ["m0", "m2"]
    (entry,) = works.waits()
    assert entry.state == "held"
    assert said in entry.reason


def test_what_may_pass_is_processed_again_at_the_same_step(works: Works) -> None:
    post, seen = Post(), []

    def count(mail: Mail, context: Context) -> Iterator[Mail]:
        seen.append("first")
        yield mail.noted(first="done")

    def fail(mail: Mail, context: Context) -> Iterator[Mail]:
        seen.append("second")
        if seen.count("second") < 3:
            raise UnavailableError("not now")
        assert mail.notes["first"] == "done"
        yield mail

    steps = [process(count, "count"), process(fail, "fail")]
    pipeline = works.pipeline([fetch(mailbox())], [distribute(post)], steps)
    assert works.run(pipeline) == 75
    works.due_now()
    assert works.run(pipeline) == 75
    assert [(entry.state, entry.step, entry.attempt) for entry in works.waits()] == [
        ("waiting", "fail", 2)
    ]
    works.due_now()
    assert works.run(pipeline) == 0
    assert seen == ["first", "second", "second", "second"]
    assert post.subjects == ["m0"]


def test_what_a_step_did_before_it_failed_is_undone(works: Works) -> None:
    post, tries = Post(), []

    def fail(mail: Mail, context: Context) -> Iterator[Mail]:
        tries.append(context.memory.get("seen"))
        context.memory.set("seen", "yes")
        context.send(context.new(Envelope("", ("olga@example.org",)), Octets(message("notice"))))
        if len(tries) == 1:
            raise UnavailableError("not now")
        yield mail

    pipeline = works.pipeline([fetch(mailbox())], [distribute(post)], [process(fail)])
    works.run(pipeline)
    assert post.sent == []
    assert works.rows("SELECT count(*) FROM memory") == [(0,)]
    works.due_now()
    works.run(pipeline)
    assert sorted(post.subjects) == ["m0", "notice"]
    assert tries == [None, None]


def test_when_no_distributor_takes_it_a_mail_is_held(works: Works) -> None:
    seen: list[str] = []

    def decide(trouble: Trouble, context: Context) -> None:
        seen.append(trouble.stage)

    ways = [distribute(Post(), when='subject is "other"')]
    pipeline = works.pipeline([fetch(mailbox())], ways, react=[react(decide)])
    assert works.run(pipeline) == BadMailError.exit_code
    assert seen == ["unrouted"]
    (entry,) = works.waits()
    assert (entry.state, entry.reason) == (
        "held", "no [[distribute]] step takes this mail: no `when` holds",
    )  # fmt: skip


def test_a_step_that_leaves_nobody_is_an_outcome_and_no_trouble(works: Works) -> None:
    post = Post()

    def clear(mail: Mail, context: Context) -> Iterator[Mail]:
        yield mail.replace(envelope=Envelope("ann@example.org", ()))

    pipeline = works.pipeline([fetch(mailbox())], [distribute(post)], [process(clear)])
    assert works.run(pipeline) == 0
    assert post.tickets == []
    assert works.waits() == []
    assert "nobody" in [each.what for each in works.story(works.mail()).chapters]


def test_a_mail_that_nobody_ever_named_a_recipient_for_is_held(works: Works) -> None:
    box, post = mailbox(), Post()
    box.envelope = Envelope("ann@example.org", ())
    assert works.run(works.pipeline([fetch(box)], [distribute(post)])) == BadMailError.exit_code
    assert post.tickets == []
    (entry,) = works.waits()
    assert entry.state == "held"
    assert "nobody to send it to" in entry.reason


@pytest.mark.parametrize("to", ["bob\n@example.org", "b\0b@example.org", "caf\udce9@x.org", ""])
def test_d18_a_recipient_that_cannot_be_one_holds_the_mail(works: Works, to: str) -> None:
    post = Post()

    def address(mail: Mail, context: Context) -> Iterator[Mail]:
        yield mail.replace(envelope=Envelope("ann@example.org", ("bob@example.org", to)))

    pipeline = works.pipeline([fetch(mailbox())], [distribute(post)], [process(address)])
    assert works.run(pipeline) == BadMailError.exit_code
    assert post.tickets == []
    (entry,) = works.waits()
    assert entry.state == "held"
    assert "can be no recipient" in entry.reason
    assert len(entry.recipients) == 1 + bool(to)


def test_octets_that_are_no_text_do_not_stop_a_mail(works: Works) -> None:
    """A header of Latin-1 ends in notes, reasons, memory and the story."""
    post, box = Post(), Mailbox(a=b"Subject: caf\xe9\r\n\r\nhello\r\n", b=message("b"))

    def odd(mail: Mail, context: Context) -> Iterator[object]:
        text = mail.header().get("Subject") or ""
        context.memory.set(text, text)
        yield mail.noted(subject=text)
        yield Hold(f"because of {text}")

    def look(mail: Mail, context: Context) -> Iterator[Mail]:
        assert mail.notes["subject"] in ("caf\udce9", "b")
        yield mail

    steps = [process(odd, "odd"), process(look, "look")]
    assert works.run(works.pipeline([fetch(box)], [distribute(post)], steps)) == 0
    assert len(post.sent) == 2
    assert sorted(entry.reason for entry in works.waits()) == [
        "because of b", "because of caf\\udce9",
    ]  # fmt: skip


def test_a_content_that_cannot_be_read_holds_that_mail_alone(works: Works) -> None:
    post = Post()

    def lose(mail: Mail, context: Context) -> Iterator[Mail]:
        lost = OctetFile(str(works.root / "lost"), 1000)
        yield mail.replace(content=lost) if subject(mail.content) == "m1" else mail

    pipeline = works.pipeline([fetch(mailbox(3))], [distribute(post)], [process(lose)])
    assert works.run(pipeline) == BadMailError.exit_code
    assert post.subjects == ["m0", "m2"]
    (entry,) = works.waits()
    assert entry.state == "held"
    assert "No such file" in entry.reason


def test_what_is_held_is_said_where_no_reactor_tells_of_it(
    works: Works, capfd: pytest.CaptureFixture[str]
) -> None:
    """Cron mails this line; with a notice on its way it says nothing."""
    steps = [process(say(Hold("is no member")), "list")]
    assert works.run(works.pipeline([fetch(mailbox())], [distribute(Post())], steps)) == 0
    (line,) = capfd.readouterr().err.splitlines()
    assert "[warning] held: is no member | pipeline=red step=list mail=" in line

    def tell_the_first(trouble: Trouble, context: Context) -> None:
        if context.memory.get("told") is None:
            context.send(context.new(Envelope("", ("olga@example.org",)), Octets(message("n"))))
        context.memory.set("told", "1")

    box = Mailbox(k8=message("m8"))
    told = works.pipeline([fetch(box)], [distribute(Post())], steps, [react(tell_the_first)])
    assert works.run(told) == 0
    assert len(works.waits()) == 2
    assert capfd.readouterr().err == ""
    box.messages["k9"] = message("m9")
    assert works.run(told) == 0
    assert len(works.waits()) == 3
    assert "[warning] held: is no member | " in capfd.readouterr().err


def test_stop_ends_the_run_and_the_mail_waits(works: Works) -> None:
    post = Post()
    steps = [process(lambda mail, context: 1 / 0)]  # type: ignore[arg-type, return-value]
    box = mailbox(5)
    pipeline = works.pipeline(
        [fetch(box)], [distribute(post)], steps, [react(lambda trouble, context: Stop("enough"))]
    )
    assert works.run(pipeline) == PluginError.exit_code
    assert {entry.state for entry in works.waits()} == {"waiting"}
    assert post.sent == []


def test_mail_that_waits_at_a_step_that_is_gone_is_held_with_a_clear_line(works: Works) -> None:
    post = Post()

    def fail(mail: Mail, context: Context) -> Iterator[Mail]:
        raise UnavailableError("not now")
        yield

    works.run(works.pipeline([fetch(mailbox())], [distribute(post)], [process(fail, "old")]))
    works.due_now()
    changed = works.pipeline(
        [fetch(mailbox())], [distribute(post)], [process(say(Discard("x")), "new")]
    )
    works.run(changed)
    assert post.sent == []
    (entry,) = works.waits()
    assert entry.state == "held"
    assert "process step 'old' is gone from" in entry.reason


def test_released_by_hand_mail_of_a_step_that_is_gone_goes_out(works: Works) -> None:
    from mailflow.engine.journal import queue

    post = Post()
    works.run(works.pipeline([fetch(mailbox())], [distribute(post)], [process(say(Hold("x")))]))
    journal = works.journal()
    mail = works.mail()
    journal.commit(lambda tx: queue.release(tx, mail, 0.0))
    journal.close()
    works.run(works.pipeline([fetch(mailbox())], [distribute(post)]))
    assert post.subjects == ["m0"]
    assert works.waits() == []


def test_released_by_hand_a_mail_meets_its_step_again_approved(works: Works) -> None:
    from mailflow.engine.journal import queue

    post, seen = Post(), []

    def moderate(mail: Mail, context: Context) -> Iterator[object]:
        seen.append(context.approved)
        yield mail if context.approved else Hold("for a human")

    def after(mail: Mail, context: Context) -> Iterator[Mail]:
        assert not context.approved
        yield mail

    steps = [process(passing, "before"), process(moderate, "moderate"), process(after, "after")]
    pipeline = works.pipeline([fetch(mailbox())], [distribute(post)], steps)
    works.run(pipeline)
    assert works.run(pipeline) == 0  # held is held
    mail = works.mail()
    journal = works.journal()
    journal.commit(lambda tx: queue.release(tx, mail, 0.0))
    journal.close()
    works.run(pipeline)
    assert seen == [False, True]
    assert post.subjects == ["m0"]


@pytest.mark.parametrize("pure", [True, False], ids=["deliver-first", "journal-first"])
def test_events_are_told_once_and_after_the_commit(works: Works, pure: bool) -> None:
    post = Post(repeatable=True, per_recipient=False)

    def judge(mail: Mail, context: Context) -> Iterator[object]:
        yield Hold("why not") if subject(mail.content) == "m1" else mail

    steps = [process(judge, pure=pure)]
    works.run(works.pipeline([fetch(mailbox(2))], [distribute(post)], steps))
    names = works.registry.names
    assert names.count("mail.verdict") == names.count("mail.held") == 1
    assert names.count("mail.done") == 1
    assert names.index("mail.accepted") < names.index("mail.verdict") < names.index("mail.held")
    assert names[0] == "run.started"
    assert names[-1] == "run.ended"


@pytest.mark.parametrize("pure", [True, False], ids=["deliver-first", "journal-first"])
def test_reactors_are_asked_once_about_one_trouble(works: Works, pure: bool) -> None:
    seen: list[str] = []

    def notify(trouble: Trouble, context: Context) -> None:
        """As react.notify: one notice, and no second one soon."""
        seen.append(trouble.stage)
        if context.memory.get("told") is None:
            context.memory.set("told", "yes")
            notice = context.new(Envelope("", ("olga@example.org",)), Octets(message("notice")))
            context.send(notice, "notices")

    box, notices = mailbox(), Post(repeatable=True, per_recipient=False)
    ways = [distribute(notices, "notices")]
    steps = [process(say(Reject("no")), pure=pure)]
    works.run(works.pipeline([fetch(box)], ways, steps, [react(notify)]))
    assert seen == ["verdict"]
    assert notices.subjects == ["notice"]
