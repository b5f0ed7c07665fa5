"""Removing messages: those that were meant, and believed only when they are seen to be gone."""

from __future__ import annotations

from contextlib import suppress
from urllib.parse import parse_qs

import pytest

from mailflow.errors import (
    ConfigError,
    GoneError,
    MailflowError,
    RefusedError,
    UnavailableError,
)
from mailflow.mail import read
from mailflow_webmail.account import removal
from mailflow_webmail.errors import ExpiredError, LayoutError

from .paper import Paper, page, site
from .web import ok

A = b"Subject: a\r\n\r\na\r\n"
JOINED = {"joined": ",", "post": "delete", "data": {"id": "{id}", "key": "{key}"}}


@pytest.fixture
def paper():
    with Paper(**{f"m{n}": A for n in range(5)}) as running:
        yield running


@pytest.fixture
def session(paper, tmp_path):
    with paper.session(tmp_path) as opened:
        yield opened


def listed(session, *keys):
    rows = {each["id"]: each for each in session.listing("INBOX")}
    return [rows[key] for key in keys]


def asked_to_delete(paper):
    return [
        parse_qs(each.body.decode())["id"][0] for each in paper.asked if "delete" in each.target
    ]


class TestRemoving:
    def test_those_that_were_meant_are_gone_and_no_others(self, paper, session):
        session.remove(listed(session, "m1", "m3"))
        assert list(paper.mail) == ["m0", "m2", "m4"]

    def test_nothing_to_do_asks_nobody(self, paper, session):
        session.remove([])
        assert paper.asked == []

    def test_one_whose_name_is_that_of_two_others_takes_neither_with_it(self, paper, tmp_path):
        paper.mail["m1,m3"] = A
        with paper.session(tmp_path, site(delete=JOINED)) as session:
            rows = listed(session, "m0", "m1,m3")
            with pytest.raises(RefusedError, match="',' in its name"):
                session.remove(rows)
        assert asked_to_delete(paper) == []

    def test_several_go_in_one_request_where_the_site_takes_them(
        self, paper, tmp_path, monkeypatch
    ):
        monkeypatch.setattr(removal, "BATCH", 2)
        with paper.session(tmp_path, site(delete=JOINED)) as session:
            session.remove(listed(session, "m0", "m1", "m2"))
        assert asked_to_delete(paper) == ["m0,m1", "m2"]
        assert list(paper.mail) == ["m3", "m4"]

    def test_one_that_is_gone_already_is_no_error(self, paper, session):
        rows = listed(session, "m1")
        del paper.mail["m1"]
        session.remove(rows)

    def test_rows_of_two_folders_are_not_removed_together(self, session):
        rows = listed(session, "m1", "m2")
        with pytest.raises(ValueError, match="one folder"):
            session.remove([rows[0], {**rows[1], "folder": "Lists"}])

    def test_what_the_site_cannot_do_is_told_before_anything_is_asked(self, paper, session):
        rows = listed(session, "m1")
        asked = len(paper.asked)
        with pytest.raises(ConfigError, match="does not say how to `trash`"):
            session.remove(rows, "trash")
        assert len(paper.asked) == asked

    def test_marking_as_seen_needs_no_new_listing(self, paper, session):
        rows = listed(session, "m1", "m2")
        asked = paper.steps.count("list")
        session.remove(rows, "seen")
        assert paper.steps.count("seen") == 2
        assert paper.steps.count("list") == asked

    def test_the_last_one_leaves_a_folder_that_proves_to_be_empty(self, paper, session):
        session.remove(listed(session, *paper.mail))
        assert paper.mail == {}

    def test_a_session_that_ends_before_it_is_begun_anew_and_nothing_is_left(self, paper, session):
        rows = listed(session, "m1")
        paper.logins += 1
        session.remove(rows)
        assert "m1" not in paper.mail


class TestNotBelieved:
    def test_rule_12_a_yes_is_none_while_a_new_listing_has_them(self, paper, session):
        rows = listed(session, "m1", "m2")
        paper.says["delete"] = lambda asked: (paper.mail.pop("m1", None), paper.inside("ok"))[1]
        with pytest.raises(UnavailableError, match="1 of 2 messages"):
            session.remove(rows)
        assert "m2" in paper.mail

    def test_rule_12_it_says_how_many_are_left(self, paper, session):
        rows = listed(session, "m1", "m2")
        paper.says["delete"] = lambda asked: paper.inside("deleted")
        with pytest.raises(UnavailableError, match="2 of 2 messages are still in 'INBOX'"):
            session.remove(rows)

    @pytest.mark.parametrize(
        ("answer", "error"),
        [
            (page("<p id=slower>"), UnavailableError),
            (ok("", status="500 Oops"), UnavailableError),
            (ok("", status="403 No"), RefusedError),
            (None, UnavailableError),
        ],
    )
    def test_what_is_no_answer_is_an_error_and_is_not_asked_again(
        self, paper, session, answer, error
    ):
        rows = listed(session, "m1")
        paper.says["delete"] = lambda asked: answer
        with pytest.raises(error):
            session.remove(rows)
        assert paper.steps.count("delete") == 1

    def test_rule_02_an_outage_after_it_is_no_proof(self, paper, session):
        rows = listed(session, "m1")

        def deleted(asked):
            paper.says["list"] = lambda asked: paper.inside("<b id=count>0</b>")
            return paper.inside("deleted")

        paper.says["delete"] = deleted
        with pytest.raises(LayoutError):
            session.remove(rows)

    def test_a_session_that_ends_again_and_again_removes_nothing_else(self, paper, session):
        rows = listed(session, "m1")
        paper.says["delete"] = lambda asked: paper.form()
        with pytest.raises(ExpiredError):
            session.remove(rows)
        assert len(paper.mail) == 5


class TestHandles:
    def by_file(self, **more):
        return site(
            list__rows__fields__file={"attr": "data-at"},
            delete={"post": "delete", "data": {"id": "{id}", "key": "{key}", "file": "{file}"}},
            **more,
        )

    def test_rule_07_they_are_those_of_a_new_listing(self, paper, tmp_path):
        with paper.session(tmp_path, self.by_file()) as session:
            rows = listed(session, "m1")
            paper.mail["new"] = A
            session.remove(rows)
        sent = [each.body for each in paper.asked if "delete" in each.target]
        assert rows[0]["file"] == "3"
        assert b"file=4" in sent[0]

    def test_rule_07_what_a_new_listing_does_not_have_is_not_asked_for(self, paper, tmp_path):
        with paper.session(tmp_path, self.by_file()) as session:
            rows = listed(session, "m1", "m2")
            del paper.mail["m1"]
            session.remove(rows)
        assert asked_to_delete(paper) == ["m2"]

    def test_rule_07_nothing_is_removed_by_a_place_that_shifts(self, paper, tmp_path):
        by_place = self.by_file(list__volatile=True, raw__query={"at": "{file}", "key": "{key}"})
        with paper.session(tmp_path, by_place) as session:
            rows = listed(session, "m1")
            with pytest.raises(RefusedError, match="shifts as mail comes and goes"):
                session.remove(rows)
        assert "delete" not in paper.steps


class TestUnproven:
    def unsized(self, paper):
        paper.says["raw"] = lambda asked: [
            b"HTTP/1.1 200 OK\r\nContent-Type: message/rfc822\r\nConnection: close\r\n\r\n", A,
        ]  # fmt: skip

    def test_rule_19_a_message_whose_length_nothing_proved_is_not_removed(self, paper, session):
        rows = listed(session, "m1", "m2")
        assert read(session.raw(rows[1])) == A
        self.unsized(paper)
        assert read(session.raw(rows[0])) == A
        with pytest.raises(RefusedError, match="not removed: 1 message of which"):
            session.remove(rows)
        assert "m1" in paper.mail
        assert "m2" not in paper.mail

    def test_rule_19_it_is_when_the_list_says_its_length(self, paper, tmp_path):
        self.unsized(paper)
        sized = site(list__rows__fields__size={"attr": "data-size"})
        paper.mail = {"m1": A}
        paper.says["list"] = lambda asked: ok(
            paper.listed(1).partition(b"\r\n\r\n")[2].replace(b"<tr", b"<tr data-size=%d" % len(A))
        )
        with paper.session(tmp_path, sized) as session:
            rows = listed(session, "m1")
            session.raw(rows[0])
            session.remove(rows)
        assert paper.mail == {}

    def test_rule_19_marking_it_as_seen_loses_nothing(self, paper, session):
        rows = listed(session, "m1")
        self.unsized(paper)
        session.raw(rows[0])
        session.remove(rows, "seen")
        assert paper.steps.count("seen") == 1

    def test_one_that_came_whole_later_is_removed(self, paper, session):
        rows = listed(session, "m1")
        self.unsized(paper)
        session.raw(rows[0])
        del paper.says["raw"]
        session.raw(rows[0])
        session.remove(rows)
        assert "m1" not in paper.mail


PAGES = {
    "nothing": b"",
    "a login form": b"form",
    "an outage": ok("<title>Down for a while</title>"),
    "an empty page": page(""),
    "an empty folder": page('<p id=in data-key=key1></p><p id=none></p><b id=count>0</b>'),
    "an empty folder without a count": page('<p id=in data-key=key1></p><p id=none></p>'),
    "a count without rows": page('<p id=in data-key=key1></p><b id=count>5</b>'),
    "rows without a count": page('<p id=in data-key=key1></p><table><tr id=m1 data-at=0></table>'),
    "one row of five": page(
        '<p id=in data-key=key1></p><b id=count>5</b><table><tr id=m1 data-at=0></table>'
    ),
    "another count": page(
        '<p id=in data-key=key1></p><b id=count>1</b><table><tr id=m1 data-at=0></table>'
    ),
    "gone": page("<p id=in data-key=key1></p><p id=gone></p>"),
    "a mail": ok(A, kind="message/rfc822"),
    "no octets": ok(b"", kind="message/rfc822"),
    "a file": ok(b"\x89PNG\r\n", kind="image/png"),
    "JSON": ok(b'{"count": 0, "rows": []}', kind="application/json"),
    "500": ok("<p id=in data-key=key1></p><p id=none></p>", status="500 Oops"),
    "404": ok("<p id=in data-key=key1></p><p id=none></p>", status="404 None"),
    "no end": (b"HTTP/1.1 200 OK\r\nContent-Type: text/html\r\nContent-Length: 99\r\n\r\n<p>",),
}  # fmt: skip

HONEST = ("an empty folder", "an empty folder without a count", "another count")
"""Pages that prove what they say."""

STEPS = ("form", "login", "folders", "list", "raw", "delete")


class TestAnyPage:
    """In the place of any other: an error or the right answer, never a loss."""

    @pytest.mark.parametrize("step", STEPS)
    @pytest.mark.parametrize("name", PAGES)
    def test_rule_15_never_an_empty_folder_nor_a_removal(self, paper, tmp_path, step, name):
        answer = PAGES[name]
        said = {b"": None, b"form": paper.form()}.get(answer, answer)
        there = dict(paper.mail)
        with paper.session(tmp_path) as session:
            rows = [{"folder": "INBOX", "id": key, "at": "0", "@page": "1.0"} for key in there]
            paper.says[step] = lambda asked: said
            honest = step == "list" and name in HONEST
            with suppress(MailflowError):
                found = [each["id"] for each in session.listing("INBOX")]
                assert honest or found == list(there)[::-1]
            for row in rows:
                try:
                    assert read(session.raw(row)) == A
                except GoneError:
                    assert honest
                except MailflowError:
                    pass
            with suppress(MailflowError):
                session.remove(rows[:1])
                assert honest or rows[0]["id"] not in paper.mail
            with suppress(MailflowError):
                assert session.folders() == [{"id": "INBOX", "name": "Inbox"}]
        assert list(there)[1:] == [key for key in paper.mail if key != "m0"]
