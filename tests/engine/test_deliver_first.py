"""The way without a second copy of the body: when it is taken, and how it is left."""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator

import pytest

from mailflow.engine.flow import why_common_way
from mailflow.errors import UnavailableError
from mailflow.kinds import Context, Ticket
from mailflow.mail import Mail, OctetFile, Octets
from mailflow.verdicts import FAILED, LATER, Discard, Hold, Report

from .parts import Mailbox, Post, Works, distribute, fetch, message, process, subject


def mailbox(count: int = 3) -> Mailbox:
    return Mailbox(**{f"k{number}": message(f"m{number}") for number in range(count)})


def place() -> Post:
    return Post(repeatable=True, per_recipient=False)


def passing(mail: Mail, context: Context) -> Iterator[Mail]:
    yield mail


class Watch(Post):
    """A repeatable place that looks at the journal while it delivers."""

    def __init__(self, works: Works) -> None:
        super().__init__(repeatable=True, per_recipient=False)
        self.works = works
        self.states: list[tuple[str, int]] = []

    def take(self, mail: Mail, ticket: Ticket) -> Iterator[Report]:
        ((state, bodies),) = self.works.rows(
            "SELECT state, (SELECT count(*) FROM body WHERE mail = id) FROM mail WHERE id = ?",
            mail.id,
        )
        self.states.append((state, bodies))
        yield from super().take(mail, ticket)


@pytest.mark.parametrize(
    ("post", "pure", "why"),
    [
        (Post(repeatable=True, per_recipient=False), True, ""),
        (Post(repeatable=False, per_recipient=False), True, "cannot be repeated"),
        (Post(repeatable=True, per_recipient=True), True, "for each recipient"),
        (Post(repeatable=True, per_recipient=False), False, "may say another thing"),
    ],
)
def test_it_is_chosen_where_nothing_speaks_against_it(
    works: Works, post: Post, pure: bool, why: str
) -> None:
    step = process(passing, pure=pure)
    pipeline = works.pipeline([fetch(mailbox())], [distribute(post)], [step])
    assert why in why_common_way(pipeline)
    assert bool(why) == bool(why_common_way(pipeline))
    works.run(pipeline)
    assert works.registry.names.count("mail.planned") == (3 if why else 0)
    assert post.subjects == ["m0", "m1", "m2"]


def test_one_that_cannot_be_repeated_among_many_makes_it_the_common_way(works: Works) -> None:
    ways = [distribute(place(), "one"), distribute(Post(), "two")]
    assert "distribute.two" in why_common_way(works.pipeline([fetch(mailbox())], ways))


@pytest.mark.parametrize("many", [False, True])
def test_only_the_intent_is_in_the_journal_while_it_delivers(works: Works, many: bool) -> None:
    post = Watch(works)
    works.run(works.pipeline([fetch(mailbox(), keep=0.0)], [distribute(post, many=many)]))
    assert post.states == [("intent", 0)] * 3
    assert works.rows("SELECT state FROM mail") == [("done",)] * 3
    assert works.rows("SELECT state FROM delivery") == [("sent",)] * 3
    assert post.finished == [key for key, _ in post.keys]


@pytest.mark.parametrize("many", [False, True])
@pytest.mark.parametrize("kind", ["raises", LATER, FAILED])
def test_a_failure_goes_the_common_way_and_leaves_one_copy(
    works: Works, kind: object, many: bool
) -> None:
    box, post = mailbox(), place()
    failed: list[str] = []

    def act(mail: Mail, ticket: Ticket) -> Iterator[Report]:
        if subject(mail.content) == "m1" and len(failed) < 2:
            failed.append(ticket.key)
            if kind == "raises":
                raise UnavailableError("disk full")
            yield Report("", kind, "4.3.1", "disk full")  # type: ignore[arg-type]
            return
        yield from post.take(mail, ticket)

    post.act = act
    pipeline = works.pipeline([fetch(box, keep=0.0)], [distribute(post, many=many)])
    status = works.run(pipeline)
    assert status == (69 if kind is FAILED else 75)
    assert box.messages == {}  # the journal has it now
    assert failed[0] == failed[1]  # the same ticket, at once
    works.change("UPDATE delivery SET state = 'due' WHERE state = 'held'")
    works.due_now()
    assert works.run(pipeline) == 0
    assert sorted(post.subjects) == ["m0", "m1", "m2"]
    assert works.rows("SELECT count(*) FROM body") == [(0,)]


def test_what_was_delivered_before_a_failure_is_not_delivered_again(works: Works) -> None:
    """A group is cut after the first: the common way knows that some may be there."""
    post = place()
    cut: list[int] = []

    def act(mail: Mail, ticket: Ticket) -> Iterator[Report]:
        yield from post.take(mail, ticket)
        if not cut:
            cut.append(1)
            raise UnavailableError("cut after the link, before the report was read")

    post.act = act
    works.run(works.pipeline([fetch(mailbox(1))], [distribute(post)]))
    assert post.subjects == ["m0"]
    assert [ticket.resumed for ticket in post.tickets] == [False, True]
    assert works.states() == [("post", "", "sent")]


def test_of_two_places_only_the_one_that_failed_is_tried_again(works: Works) -> None:
    one, two = place(), place()

    def act(mail: Mail, ticket: Ticket) -> Iterator[Report]:
        yield Report("", LATER, "", "busy")

    two.act = act
    ways = [distribute(one, "one"), distribute(two, "two")]
    pipeline = works.pipeline([fetch(mailbox(1))], ways)
    works.run(pipeline)
    assert works.states() == [("one", "", "sent"), ("two", "", "due")]
    two.act = two.take
    works.due_now()
    works.run(pipeline)
    assert one.subjects == two.subjects == ["m0"]


@pytest.mark.parametrize("verdict", [Hold("look"), Discard("an echo")])
def test_a_verdict_goes_the_common_way_with_its_reason(works: Works, verdict: object) -> None:
    post = place()

    def judge(mail: Mail, context: Context) -> Iterator[object]:
        yield verdict if subject(mail.content) == "m1" else mail

    box = mailbox()
    works.run(
        works.pipeline([fetch(box, keep=0.0)], [distribute(post)], [process(judge, pure=True)])
    )
    assert post.subjects == ["m0", "m2"]
    assert box.messages == {}
    assert [entry.state for entry in works.waits()] == ["held"] * isinstance(verdict, Hold)
    ((mail,),) = works.rows("SELECT DISTINCT mail FROM story")
    assert verdict.reason in [each.text for each in works.story(mail).chapters]  # type: ignore[attr-defined]


def test_steps_are_asked_once(works: Works) -> None:
    seen: list[str] = []

    def look(mail: Mail, context: Context) -> Iterator[object]:
        seen.append(subject(mail.content))
        yield Hold("look") if subject(mail.content) == "m1" else mail

    works.run(works.pipeline([fetch(mailbox())], [distribute(place())], [process(look, pure=True)]))
    assert seen == ["m0", "m1", "m2"]


def test_a_cut_intent_is_resumed_with_the_same_id_and_ticket(works: Works) -> None:
    box, post = mailbox(1), place()
    pipeline = works.pipeline([fetch(box)], [distribute(post)])
    works.run(pipeline)
    mail = works.mail()
    _back_to_the_intent(works)
    box.fetched.clear()
    works.run(pipeline)
    assert box.fetched == ["k0"]
    assert works.mail() == mail
    assert [ticket.key for ticket in post.tickets] == [post.tickets[0].key] * 2
    assert [ticket.resumed for ticket in post.tickets] == [False, True]
    assert post.subjects == ["m0"]
    assert works.rows("SELECT state FROM seen") == [("done",)]


def test_a_cut_intent_is_resumed_the_common_way_where_the_file_has_changed(works: Works) -> None:
    box, post, more = mailbox(1), place(), Post()
    works.run(works.pipeline([fetch(box)], [distribute(post)]))
    mail = works.mail()
    _back_to_the_intent(works)
    works.run(works.pipeline([fetch(box)], [distribute(post), distribute(more, "more")]))
    assert works.mail() == mail
    assert post.tickets[1].resumed
    assert post.subjects == more.subjects == ["m0"]


def test_an_intent_whose_message_has_vanished_is_ended_and_its_story_says_so(works: Works) -> None:
    box, post = mailbox(1), place()
    pipeline = works.pipeline([fetch(box)], [distribute(post)])
    works.run(pipeline)
    _back_to_the_intent(works)
    box.messages.clear()
    works.run(pipeline)
    assert works.waits() == []
    assert "abandoned" in [each.what for each in works.story(works.mail()).chapters]


@pytest.mark.parametrize("where", ['subject is "other"', "size > 1MB", 'content contains "y"'])
def test_an_intent_that_another_where_refuses_is_ended_too(works: Works, where: str) -> None:
    box, post = mailbox(1), place()
    works.run(works.pipeline([fetch(box)], [distribute(post)]))
    _back_to_the_intent(works)
    works.run(works.pipeline([fetch(box, where=where)], [distribute(post)]))
    assert works.waits() == []
    assert len(post.tickets) == 1
    assert "abandoned" in [each.what for each in works.story(works.mail()).chapters]


def _back_to_the_intent(works: Works) -> None:
    """As if the process had died before its last commit."""
    works.change("UPDATE mail SET state = 'intent', ended = NULL, owner = 'dead', working = 1")
    works.change("DELETE FROM delivery")
    works.change("DELETE FROM seen")


class Spooling(Mailbox):
    """Its messages come as files: in the scratch directory, or wherever `directory` is."""

    def __init__(self, **messages: bytes) -> None:
        super().__init__(**messages)
        self.directory = ""
        self.paths: list[str] = []
        self.make = self._file

    def _file(self, runtime: object, octets: bytes) -> OctetFile:
        directory = self.directory or runtime.scratch  # type: ignore[attr-defined]
        path = os.path.join(directory, f"spool{len(self.paths)}")
        with open(path, "wb") as file:
            file.write(octets)
        self.paths.append(path)
        return OctetFile(path)


@pytest.mark.parametrize("repeatable", [True, False], ids=["deliver-first", "common"])
@pytest.mark.parametrize("size", [100, 300_000])
def test_files_of_a_fetcher_are_gone_when_all_is_delivered(
    works: Works, repeatable: bool, size: int
) -> None:
    box, post = Spooling(a=message("a", "x" * size)), Post(repeatable=repeatable)
    post.per_recipient = not repeatable
    works.run(works.pipeline([fetch(box)], [distribute(post)]))
    assert post.octets == [message("a", "x" * size)]
    works.run(works.pipeline([fetch(box)], [distribute(post)]))
    assert not [path for path in works.root.glob("journal.db.d/*/*") if path.is_file()]


@pytest.mark.parametrize("repeatable", [True, False], ids=["deliver-first", "common"])
@pytest.mark.parametrize("size", [100, 300_000])
def test_files_that_are_the_sources_own_are_never_touched(
    works: Works, repeatable: bool, size: int
) -> None:
    box, post = Spooling(a=message("a", "x" * size)), Post(repeatable=repeatable)
    post.per_recipient = not repeatable
    box.directory = str(works.root)
    works.run(works.pipeline([fetch(box)], [distribute(post)]))
    assert post.octets == [message("a", "x" * size)]
    assert os.path.exists(box.paths[0])


def test_large_bodies_are_files_while_they_wait_and_then_gone(works: Works) -> None:
    large = message("large", "x" * 300_000)
    box, post = Mailbox(a=large, b=message("small")), Post()

    def act(mail: Mail, ticket: Ticket) -> Iterator[Report]:
        if ticket.attempt == 1:
            raise UnavailableError("busy")
        yield from post.take(mail, ticket)

    post.act = act
    pipeline = works.pipeline([fetch(box)], [distribute(post)])
    works.run(pipeline)
    rows = works.rows("SELECT size, data IS NULL, file IS NULL FROM body ORDER BY size")
    assert [(size > 256 << 10, no_data, no_file) for size, no_data, no_file in rows] == [
        (False, 0, 1), (True, 1, 0)
    ]  # fmt: skip
    (file,) = [path for path in works.root.glob("journal.db.d/*/*") if path.name != ".guard"]
    assert file.read_bytes() == large
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    works.due_now()
    works.run(pipeline)
    assert sorted(post.subjects) == ["large", "small"]
    assert not list(works.root.glob("journal.db.d/*/*"))
    assert [path.name for path in works.root.glob("journal.db.d/*")] == [".guard"]


def test_a_distributor_that_failed_is_left_as_after_an_error(works: Works) -> None:
    post = place()
    error = UnavailableError("disk full")

    def act(mail: Mail, ticket: Ticket) -> Iterator[Report]:
        raise error
        yield

    post.act = act
    works.run(works.pipeline([fetch(mailbox(1))], [distribute(post)]))
    assert post.closed == [error, error]


def test_a_finish_that_fails_changes_nothing(works: Works) -> None:
    box, post = mailbox(2), place()

    class Full(list[str]):
        def __iadd__(self, keys: object) -> Full:  # type: ignore[override, misc]
            raise OSError(28, "no space left")

    post.finished = Full()
    assert works.run(works.pipeline([fetch(box, keep=0.0)], [distribute(post)])) == 0
    assert box.messages == {}
    assert works.rows("SELECT DISTINCT state FROM mail") == [("done",)]


def test_a_journal_that_fails_after_the_delivery_leaves_one_copy(
    works: Works, monkeypatch: pytest.MonkeyPatch
) -> None:
    from mailflow.engine.journal import arrivals
    from mailflow.errors import JournalError

    box, post = mailbox(2), place()

    def full(*arguments: object, **words: object) -> None:
        raise JournalError("the disk is full")

    pipeline = works.pipeline([fetch(box, keep=0.0)], [distribute(post)])
    with monkeypatch.context() as patch:
        patch.setattr(arrivals, "fulfil", full)
        assert works.run(pipeline) == 74
    assert post.subjects == ["m0", "m1"]
    assert box.settled == []
    assert works.run(pipeline, force=True) == 0
    assert post.subjects == ["m0", "m1"]
    assert box.messages == {}


def test_content_made_anew_by_a_pure_step_is_delivered_first_too(works: Works) -> None:
    post = Watch(works)

    def rewrite(mail: Mail, context: Context) -> Iterator[Mail]:
        yield mail.replace(content=Octets(b"Subject: new\r\n\r\n"))

    works.run(
        works.pipeline([fetch(mailbox(1))], [distribute(post)], [process(rewrite, pure=True)])
    )
    assert post.octets == [b"Subject: new\r\n\r\n"]
    assert post.states == [("intent", 0)]
