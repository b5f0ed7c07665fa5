"""One job in a distributor's hands: commits C and D, and what is not reported."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator

import pytest

from mailflow.engine.flow import Flow
from mailflow.engine.journal import Database
from mailflow.errors import RefusedError, UnavailableError
from mailflow.kinds import Context, Ticket, Trouble
from mailflow.mail import Envelope, Mail
from mailflow.verdicts import FAILED, LATER, SENT, Bounce, Discard, Hold, Report, Retry, Stop

from .parts import Mailbox, Post, Works, distribute, fetch, message, process, react

TO = Envelope("ann@example.org", ("bob@example.org", "cleo@example.org", "dan@example.org"))


def mailbox(count: int = 1) -> Mailbox:
    box = Mailbox(**{f"k{number}": message(f"m{number}") for number in range(count)})
    box.envelope = TO
    return box


def short(states: list[tuple[str, str, str]]) -> dict[str, str]:
    return {recipient.partition("@")[0]: state for _, recipient, state in states}


def test_each_recipient_gets_the_state_that_was_reported(works: Works) -> None:
    post = Post()

    def act(mail: Mail, ticket: Ticket) -> Iterator[Report]:
        yield Report("bob@example.org", SENT)
        yield Report("cleo@example.org", LATER, "4.2.0", "greylisted", "mx.example.org")
        yield Report("dan@example.org", FAILED, "5.1.1", "no such user", "mx.example.org")

    post.act = act
    status = works.run(works.pipeline([fetch(mailbox())], [distribute(post)]))
    assert short(works.states()) == {"bob": "sent", "cleo": "due", "dan": "held"}
    assert status == RefusedError.exit_code


def test_only_who_is_due_is_tried_again(works: Works) -> None:
    post = Post()
    tried: list[tuple[str, ...]] = []

    def act(mail: Mail, ticket: Ticket) -> Iterator[Report]:
        tried.append(ticket.recipients)
        for to in ticket.recipients:
            yield Report(to, LATER if to.startswith("cleo") and ticket.attempt == 1 else SENT)

    post.act = act
    pipeline = works.pipeline([fetch(mailbox())], [distribute(post)])
    assert works.run(pipeline) == 75
    works.due_now()
    assert works.run(pipeline) == 0
    assert tried == [TO.recipients, ("cleo@example.org",)]
    assert works.waits() == []


def test_the_ticket_is_the_same_at_every_attempt(works: Works) -> None:
    post = Post()
    post.act = lambda mail, ticket: [Report(to, LATER) for to in ticket.recipients]
    pipeline = works.pipeline([fetch(mailbox())], [distribute(post)])
    for _ in range(3):
        works.run(pipeline)
        works.due_now()
    assert len({ticket.key for ticket in post.tickets}) == 1
    assert [ticket.attempt for ticket in post.tickets] == [1, 2, 3]
    assert [ticket.resumed for ticket in post.tickets] == [False, True, True]


def test_who_is_not_reported_before_an_exception_is_tried_later(works: Works) -> None:
    post = Post()

    def act(mail: Mail, ticket: Ticket) -> Iterator[Report]:
        yield Report("bob@example.org", SENT)
        raise UnavailableError("the line is cut")

    post.act = act
    status = works.run(works.pipeline([fetch(mailbox())], [distribute(post)]))
    assert short(works.states()) == {"bob": "sent", "cleo": "due", "dan": "due"}
    assert status == 75


def test_who_was_committed_before_an_exception_is_in_doubt_and_resent_once(works: Works) -> None:
    post = Post()

    def act(mail: Mail, ticket: Ticket) -> Iterator[Report]:
        ticket.commit(ticket.recipients[:1])
        raise UnavailableError("the line is cut after the dot")
        yield

    post.act = act
    pipeline = works.pipeline([fetch(mailbox())], [distribute(post)])
    works.run(pipeline)
    assert works.rows("SELECT recipient, state, doubt FROM delivery ORDER BY recipient") == [
        ("bob@example.org", "due", 1),
        ("cleo@example.org", "due", 0),
        ("dan@example.org", "due", 0),
    ]
    works.due_now()
    works.run(pipeline)
    assert short(works.states()) == {"bob": "held", "cleo": "due", "dan": "due"}


def test_in_doubt_is_held_at_once_where_the_file_says_so(works: Works) -> None:
    post = Post()

    def act(mail: Mail, ticket: Ticket) -> Iterator[Report]:
        ticket.commit(ticket.recipients)
        raise UnavailableError("cut")
        yield

    post.act = act
    works.run(works.pipeline([fetch(mailbox())], [distribute(post, if_in_doubt="hold")]))
    assert short(works.states()) == {"bob": "held", "cleo": "held", "dan": "held"}
    assert "perhaps taken already" in works.waits()[0].reason


def test_commit_c_is_on_the_disk_before_the_act(works: Works) -> None:
    post = Post()
    seen: list[list[tuple[str, str]]] = []

    def act(mail: Mail, ticket: Ticket) -> Iterator[Report]:
        ticket.commit(("bob@example.org",))
        seen.append(works.rows("SELECT recipient, state FROM delivery ORDER BY recipient"))
        yield from (Report(to, SENT) for to in ticket.recipients)

    post.act = act
    works.run(works.pipeline([fetch(mailbox())], [distribute(post)]))
    assert seen == [[("bob@example.org", "sending"), ("cleo@example.org", "due"),
                     ("dan@example.org", "due")]]  # fmt: skip


def test_commit_c_of_the_next_recipient_makes_the_last_report_durable(works: Works) -> None:
    post = Post()
    seen: list[dict[str, str]] = []

    def act(mail: Mail, ticket: Ticket) -> Iterator[Report]:
        for to in ticket.recipients:
            ticket.commit((to,))
            seen.append(short(works.states()))
            yield Report(to, SENT)

    post.act = act
    works.run(works.pipeline([fetch(mailbox())], [distribute(post)]))
    assert seen[1] == {"bob": "sent", "cleo": "sending", "dan": "due"}
    assert seen[2] == {"bob": "sent", "cleo": "sent", "dan": "sending"}


def test_a_commit_that_fails_leaves_nobody_in_doubt(
    works: Works, monkeypatch: pytest.MonkeyPatch
) -> None:
    from mailflow.engine.journal import plans

    post = Post()
    calls = []

    def refuse(*arguments: object) -> None:
        calls.append(arguments)
        raise UnavailableError("not now")

    post.act = post.take
    monkeypatch.setattr(plans, "send", refuse)
    works.run(works.pipeline([fetch(mailbox())], [distribute(post)]))
    assert calls
    assert set(short(works.states()).values()) == {"due"}
    assert works.rows("SELECT DISTINCT doubt FROM delivery") == [(0,)]


def test_a_commit_that_fails_forgets_no_report(
    works: Works, monkeypatch: pytest.MonkeyPatch
) -> None:
    from mailflow.engine.journal import plans

    post, send, calls = Post(), plans.send, []

    def refuse_the_second(*arguments: object) -> None:
        calls.append(arguments)
        if len(calls) == 2:
            raise UnavailableError("not now")
        send(*arguments)  # type: ignore[arg-type]

    def act(mail: Mail, ticket: Ticket) -> Iterator[Report]:
        for to in ticket.recipients:
            ticket.commit((to,))
            yield Report(to, SENT)

    post.act = act
    monkeypatch.setattr(plans, "send", refuse_the_second)
    works.run(works.pipeline([fetch(mailbox())], [distribute(post)]))
    assert short(works.states()) == {"bob": "sent", "cleo": "due", "dan": "due"}


def test_l10_ten_thousand_recipients_cost_what_ten_thousand_cost(works: Works) -> None:
    """Not the square of it: each report and each commit looks at what is new."""
    post = Post()

    def act(mail: Mail, ticket: Ticket) -> Iterator[Report]:
        for number in range(0, len(ticket.recipients), 50):
            some = ticket.recipients[number : number + 50]
            ticket.commit(some)
            yield from (Report(to, SENT) for to in some)

    def seconds(count: int) -> float:
        box = Mailbox(f"box{count}", a=message("a"))
        box.envelope = Envelope("ann@x.org", tuple(f"m{n}@x.org" for n in range(count)))
        pipeline = works.pipeline([fetch(box)], [distribute(post)])
        began = time.process_time()
        assert works.run(pipeline) == 0
        return time.process_time() - began

    post.act = act
    seconds(100)
    assert seconds(10_000) < 18 * seconds(1000)


def test_a_report_about_a_stranger_is_the_plugins_fault_and_is_not_believed(works: Works) -> None:
    post = Post()

    def act(mail: Mail, ticket: Ticket) -> Iterator[Report]:
        yield Report("bob@example.org", SENT)
        yield Report("eve@example.org", SENT)

    post.act = act
    assert works.run(works.pipeline([fetch(mailbox())], [distribute(post)])) == 78
    assert short(works.states()) == {"bob": "sent", "cleo": "held", "dan": "held"}
    assert "eve@example.org" in works.waits()[0].reason


@pytest.mark.parametrize("odd", [None, "sent", ("bob@example.org", SENT), 5])
@pytest.mark.parametrize("many", [False, True])
def test_what_is_no_report_loses_none_of_those_before_it(
    works: Works, odd: object, many: bool
) -> None:
    post = Post()

    def act(mail: Mail, ticket: Ticket) -> Iterator[object]:
        yield Report("bob@example.org", SENT)
        yield odd

    post.act = act  # type: ignore[assignment]
    pipeline = works.pipeline([fetch(mailbox())], [distribute(post, many=many)])
    assert works.run(pipeline) == 78
    assert short(works.states())["bob"] == "sent"
    assert "no report" in works.waits()[0].reason


def test_a_report_without_words_is_one(works: Works) -> None:
    post = Post()
    post.act = lambda mail, ticket: [
        Report(to, SENT, None, None, None)
        for to in ticket.recipients  # type: ignore[arg-type]
    ]
    assert works.run(works.pipeline([fetch(mailbox())], [distribute(post)])) == 0
    assert set(short(works.states()).values()) == {"sent"}
    place = Post(repeatable=True, per_recipient=False)
    place.act = lambda mail, ticket: [Report("", SENT, None, None)]  # type: ignore[arg-type]
    box = Mailbox("other", a=message("a"))
    assert works.run(works.pipeline([fetch(box)], [distribute(place, "place")])) == 0


def test_no_report_at_all_is_told_of(works: Works) -> None:
    post = Post()
    post.act = lambda mail, ticket: ()
    assert works.run(works.pipeline([fetch(mailbox())], [distribute(post)])) == 78
    assert "gave no report" in works.waits()[0].reason


def test_the_answers_text_is_kept_whatever_octets_it_has(works: Works) -> None:
    post = Post()
    post.act = lambda mail, ticket: [
        Report(to, LATER, "4.0.0", "caf\udce9\r\n  busy", "mx") for to in ticket.recipients
    ]
    assert works.run(works.pipeline([fetch(mailbox())], [distribute(post)])) == 75
    ((text,),) = works.rows("SELECT DISTINCT text FROM delivery")
    assert text == "caf\\udce9 busy"


@pytest.mark.parametrize(
    ("reaction", "state"),
    [(Retry(60.0), "due"), (Hold("so"), "held"), (Bounce("told"), "failed"),
     (Discard("old"), "dropped"), (Stop("enough"), "due")],
)  # fmt: skip
def test_a_reaction_gives_the_state(works: Works, reaction: object, state: str) -> None:
    post = Post()
    post.act = lambda mail, ticket: [Report(to, FAILED, "5.0.0", "no") for to in ticket.recipients]
    asked: list[Trouble] = []

    def decide(trouble: Trouble, context: Context) -> object:
        asked.append(trouble)
        return reaction

    pipeline = works.pipeline([fetch(mailbox())], [distribute(post)], react=[react(decide)])
    status = works.run(pipeline)
    assert set(short(works.states()).values()) == {state}
    assert len(asked) == 1
    assert asked[0].recipients == TO.recipients
    assert [report.code for report in asked[0].reports] == ["5.0.0"] * 3
    assert status == (0 if state in ("failed", "dropped") else RefusedError.exit_code)


def test_a_mail_ends_once_all_its_distributors_are_through(
    works: Works, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Two threads end deliveries of one mail; neither may free it before both are written."""
    post, archive = Post(), Post()
    first_gave_back, second_is_through = threading.Event(), threading.Event()
    give_back, commit = Flow.give_back, Database.commit
    slow: list[int] = []

    def give_back_slowly(self: Flow, mail: str) -> bool:
        last = give_back(self, mail)
        if threading.current_thread().name == "red/post":
            first_gave_back.set()
        return last

    def commit_slowly(self: Database, work: object) -> object:
        if threading.current_thread().name == "red/post" and first_gave_back.is_set():
            slow.append(1)
            second_is_through.wait(2)
        result = commit(self, work)  # type: ignore[arg-type]
        if threading.current_thread().name == "red/archive" and first_gave_back.is_set():
            second_is_through.set()
        return result

    def wait(mail: Mail, ticket: Ticket) -> Iterator[Report]:
        yield from archive.take(mail, ticket)
        first_gave_back.wait(1)

    archive.act = wait
    monkeypatch.setattr(Flow, "give_back", give_back_slowly)
    monkeypatch.setattr(Database, "commit", commit_slowly)
    steps = [distribute(post), distribute(archive, "archive")]
    works.run(works.pipeline([fetch(mailbox())], steps))
    assert works.rows("SELECT state, owner FROM mail") == [("done", None)]
    assert len(post.sent) == len(archive.sent) == 3


def test_reactors_that_remember_at_the_same_time_lose_no_report(works: Works) -> None:
    """Two threads fail at once, and one reactor's memory is read and written by both."""
    one, two = Post(), Post()
    meet = threading.Barrier(2)

    def act(mail: Mail, ticket: Ticket) -> Iterator[Report]:
        yield Report("bob@example.org", SENT)
        yield Report("cleo@example.org", SENT)
        meet.wait(5)
        yield Report("dan@example.org", LATER, "4.0.0", "busy")

    def count(trouble: Trouble, context: Context) -> None:
        found = int(context.memory.get("count") or 0)
        context.memory.set("count", str(found + 1))

    one.act = two.act = act
    steps = [distribute(one, "one"), distribute(two, "two")]
    status = works.run(works.pipeline([fetch(mailbox())], steps, react=[react(count)]))
    assert status == 75
    assert sorted(state for _, _, state in works.states()) == ["due"] * 2 + ["sent"] * 4
    assert works.rows("SELECT value FROM memory") == [("2",)]


def test_a_mail_the_distributor_chokes_on_does_not_hold_up_its_group(works: Works) -> None:
    post = Post()

    def act(mail: Mail, ticket: Ticket) -> Iterator[Report]:
        if mail.header().get("Subject") == "m3":
            raise ZeroDivisionError("a bug of the plugin")
        yield from post.take(mail, ticket)

    post.act = act
    pipeline = works.pipeline([fetch(mailbox(6))], [distribute(post, many=True)])
    assert works.run(pipeline) == 78
    assert sorted(set(post.subjects)) == ["m0", "m1", "m2", "m4", "m5"]
    assert len(post.sent) == 15
    assert {entry.state for entry in works.waits()} == {"held"}
    assert "ZeroDivisionError: a bug of the plugin" in works.waits()[0].reason


def test_process_and_distribute_see_the_same_octets(works: Works) -> None:
    post = Post()

    def tag(mail: Mail, context: Context) -> Iterator[Mail]:
        header = mail.header()
        header.set("X-Tag", "yes")
        yield mail.with_header(header)

    box = mailbox()
    works.run(works.pipeline([fetch(box)], [distribute(post)], [process(tag)]))
    expected = message("m0").replace(b"\r\n\r\n", b"\r\nX-Tag: yes\r\n\r\n", 1)
    assert set(post.octets) == {expected}
