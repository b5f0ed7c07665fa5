"""A session: logged in once for all threads, ended in order, and no page taken for another."""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor

import pytest

from mailflow.errors import (
    GoneError,
    InUseError,
    LoginError,
    MailflowError,
    PeerError,
    RefusedError,
    UnavailableError,
)
from mailflow.mail import read
from mailflow.testing.webmail import TestBed
from mailflow_webmail.account import entry
from mailflow_webmail.account import session as module
from mailflow_webmail.account.session import opened
from mailflow_webmail.definition.patterns import Search
from mailflow_webmail.errors import ChallengeError, ExpiredError, LayoutError, ThrottledError
from mailflow_webmail.settings import WebmailOptions
from mailflow_webmail.web.cookies import Lent

from .paper import PASSWORD, USER, Paper, page, row, site
from .web import ok

A = b"Subject: a\r\n\r\na\r\n"


@pytest.fixture
def paper():
    with Paper(a=A) as running:
        yield running


@pytest.fixture
def session(paper, tmp_path):
    with paper.session(tmp_path) as opened:
        yield opened


class TestLoggingIn:
    def test_nobody_is_asked_before_somebody_asks(self, paper, session):
        assert paper.asked == []
        session.log_in()
        assert paper.steps == ["login", "login"]

    def test_it_is_done_once_and_ended_by_logging_out(self, paper, tmp_path):
        with paper.session(tmp_path) as session:
            session.folders()
            session.listing("INBOX")
        assert paper.logins == 1
        assert paper.steps[-1] == "logout"

    def test_who_never_came_in_does_not_log_out(self, paper, tmp_path):
        paper.opened(tmp_path).close()
        assert paper.asked == []

    def test_rule_04_what_it_captures_is_sent_with_later_steps(self, paper, session):
        session.listing("INBOX")
        assert "key=key1" in paper.asked[-1].target

    def test_a_logout_that_fails_hurts_nobody(self, paper, tmp_path):
        with paper.session(tmp_path) as session:
            session.log_in()
            paper.says["logout"] = lambda asked: None

    @pytest.mark.parametrize(
        ("answer", "error"),
        [
            (page("<p id=denied>"), LoginError),
            (page("<p id=captcha>"), ChallengeError),
            (page("<p id=slower>"), ThrottledError),
            (ok("<title>Down for maintenance</title>"), UnavailableError),
            (ok("", status="503 Down"), UnavailableError),
            (ok("", status="401 No"), LoginError),
            (page("<h1>We have new terms</h1>"), LayoutError),
        ],
    )
    def test_rule_01_answers_to_the_form_are_told_apart(self, paper, session, answer, error):
        paper.says["login"] = lambda asked: answer
        with pytest.raises(error) as caught:
            session.log_in()
        assert type(caught.value) is error

    def test_rule_03_a_denial_says_that_it_may_be_an_outage(self, paper, session):
        paper.says["login"] = lambda asked: paper.form()
        with pytest.raises(LoginError, match="cannot check them at the moment"):
            session.log_in()

    def test_rule_03_a_denial_is_not_asked_for_twice(self, paper, session):
        paper.says["login"] = lambda asked: paper.form("<p id=denied>")
        for _ in range(3):
            with pytest.raises(LoginError):
                session.listing("INBOX")
        assert paper.steps == ["login", "login"]

    def test_rule_03_threads_that_wait_for_a_denied_login_do_not_try_again(self, paper, session):
        paper.says["login"] = lambda asked: paper.form("<p id=denied>")
        with ThreadPoolExecutor(4) as pool:
            tried = [pool.submit(session.listing, "INBOX") for _ in range(4)]
        assert all(isinstance(each.exception(), LoginError) for each in tried)
        assert paper.steps == ["login", "login"]

    def test_rule_03_the_seconds_that_a_site_is_left_alone_are_told(self, paper, session):
        paper.says["login"] = lambda asked: page("<p id=slower>")
        with pytest.raises(ThrottledError) as caught:
            session.log_in()
        assert caught.value.fields["delay"] == 90.0

    def test_rule_03_one_that_is_left_alone_for_so_long_may_be_asked_again(self, paper, session):
        paper.says["login"] = lambda asked: ok("", "Retry-After: 60", status="429 Slower")
        with pytest.raises(ThrottledError):
            session.log_in()
        del paper.says["login"]
        with pytest.raises(ThrottledError):
            session.log_in()
        session._entry._until -= 61.0
        session.log_in()
        assert paper.logins == 1

    def test_f26_a_challenge_says_what_a_human_can_do(self, paper, session):
        paper.says["login"] = lambda asked: page("<p id=captcha>")
        with pytest.raises(ChallengeError, match="name that file as `cookies`"):
            session.log_in()

    def test_f26_a_page_without_the_form_is_looked_at_before_it_is_called_changed(
        self, paper, session
    ):
        paper.says["form"] = lambda asked: ok("<title>Down</title>")
        with pytest.raises(UnavailableError):
            session.log_in()

    @pytest.mark.parametrize("answer", [ok("", status="404 None"), page("Shop")])
    def test_a_url_that_leads_elsewhere_is_thought_of(self, paper, session, answer):
        paper.says["form"] = lambda asked: answer
        with pytest.raises(
            LayoutError, match=r"\. Either `url` leads elsewhere, or the webmail has"
        ):
            session.log_in()

    def test_rule_15_a_page_between_is_not_taken_for_the_session(self, paper, session):
        paper.says["login"] = lambda asked: page("<a href=folders>Go on</a>")
        with pytest.raises(LayoutError, match=r"\. The webmail has changed, ") as caught:
            session.folders()
        assert caught.value.fields["step"] == "login"
        assert caught.value.fields["key"] == "expect"

    def test_f26_a_page_that_leads_on_by_itself_is_not_followed(self, paper, session):
        refresh = '<meta http-equiv="refresh" content="0; url=list">'
        paper.says["login"] = lambda asked: page(refresh)
        with pytest.raises(LayoutError):
            session.listing("INBOX")
        assert "list" not in paper.steps

    def test_a_fact_that_is_not_there_is_named(self, paper, session):
        paper.says["login"] = lambda asked: page("<p id=in>")
        with pytest.raises(LayoutError, match=r"capture\.key"):
            session.log_in()

    def test_cookies_that_are_still_good_spare_the_form(self, paper, session):
        paper.says["form"] = lambda asked: paper.inside()
        session.log_in()
        assert paper.steps == ["login"]

    def test_cookies_alone_that_have_ended_ask_a_human_and_try_no_password(self, paper, tmp_path):
        session = paper.opened(tmp_path)
        session._secret = None
        with pytest.raises(ChallengeError, match="save its cookies anew"):
            session.log_in()
        assert paper.steps[-1] == "login"
        session.close()


class TestLentByABrowser:
    """A session whose cookies were imported, with a password beside them."""

    @pytest.fixture
    def lent(self, paper, tmp_path):
        saved = tmp_path / "page.cookies"
        saved.write_text("127.0.0.1\tFALSE\t/\tFALSE\t0\tsid\tlent\n")
        saved.chmod(0o600)
        return Lent(str(saved), ["127.0.0.1"], str(tmp_path / "kept.cookies"))

    def test_it_is_used_and_not_ended(self, paper, tmp_path, lent):
        paper.says[""] = lambda asked: paper.inside()
        with paper.session(tmp_path, cookies=lent) as session:
            session.listing("INBOX")
        assert paper.logins == 0
        assert "logout" not in paper.steps

    def test_where_it_has_ended_the_password_begins_another_that_is_ended(
        self, paper, tmp_path, lent
    ):
        with paper.session(tmp_path, cookies=lent) as session:
            session.listing("INBOX")
        assert paper.logins == 1
        assert paper.steps[-1] == "logout"


class TestEnding:
    def test_f26_a_session_that_has_ended_is_begun_anew_once(self, paper, session):
        session.listing("INBOX")
        paper.logins += 1  # the key that we have is not good any more
        assert [each["id"] for each in session.listing("INBOX")] == ["a"]
        assert paper.steps.count("login") == 4

    def test_f26_a_step_that_expects_nothing_is_known_by_the_page_to_log_in(self, paper, session):
        rows = session.listing("INBOX")
        paper.logins += 1
        session.remove(rows)
        assert paper.mail == {}
        assert paper.steps.count("delete") == 2

    def test_rule_04_what_was_captured_before_is_not_sent_after(self, paper, session):
        session.listing("INBOX")
        paper.logins += 1
        session.listing("INBOX")
        assert "key=key3" in paper.asked[-1].target

    def test_rule_04_a_token_that_changes_with_each_page_is_renewed(self, paper, tmp_path):
        def turned(asked):
            paper.logins += 1
            return paper.listed(1)

        renewing = site(list__capture={"key": {"css": "#in", "attr": "data-key"}})
        with paper.session(tmp_path, renewing) as session:
            session.log_in()
            paper.says["list"] = turned
            row = session.listing("INBOX")[0]
            assert read(session.raw(row)) == A
        assert paper.steps.count("login") == 2

    def test_a_webmail_that_ends_each_session_is_not_logged_in_to_again_and_again(
        self, paper, session
    ):
        session.log_in()
        paper.says["list"] = lambda asked: paper.form()
        for _ in range(5):
            with pytest.raises(ExpiredError):
                session.listing("INBOX")
        assert paper.steps.count("login") == 4

    def test_it_is_after_a_while(self, paper, session, monkeypatch):
        monkeypatch.setattr(entry, "AGAIN", 0.0)
        session.log_in()
        paper.says["list"] = lambda asked: paper.form()
        with pytest.raises(ExpiredError):
            session.listing("INBOX")
        del paper.says["list"]
        paper.logins += 1
        assert session.listing("INBOX")

    def test_after_a_step_that_went_well_it_may_be_begun_anew_again(self, paper, session):
        for _ in range(3):
            session.listing("INBOX")
            paper.logins += 1
        assert session.listing("INBOX")

    def test_rule_17_threads_share_one_new_login(self, paper, session):
        paper.mail.update({f"m{n}": A for n in range(8)})
        rows = session.listing("INBOX")
        paper.logins += 1
        with ThreadPoolExecutor(4) as pool:
            found = list(pool.map(session.raw, rows))
        assert [read(each) for each in found] == [A] * 9
        assert paper.steps.count("login") == 4

    def test_nobody_asks_anything_while_somebody_logs_in(self, paper, session):
        rows = session.listing("INBOX")
        reading, asked_in_vain, form = (threading.Event() for _ in range(3))

        def held(asked):
            reading.set()
            assert asked_in_vain.wait(10)
            assert not form.wait(0.3)
            return ok(A, kind="message/rfc822")

        def form_of_login(asked):
            form.set()
            del paper.says["list"]
            return paper.form()

        def ended(asked):
            asked_in_vain.set()
            return paper.form()

        paper.says.update(raw=held, list=ended, form=form_of_login)
        with ThreadPoolExecutor(2) as pool:
            read_by = pool.submit(session.raw, rows[0])
            assert reading.wait(10)
            listed_by = pool.submit(session.listing, "INBOX")
            assert read(read_by.result(10)) == A
            assert listed_by.result(10)
        assert form.is_set()

    def test_work_within_work_is_begun_anew_as_a_whole(self, paper, session):
        rows = session.listing("INBOX")
        paper.logins += 1
        found = session.work(lambda facts: read(session.raw(rows[0])))
        assert found == A


def test_pwm_01_a_webmail_is_used_as_a_mailbox(tmp_path, halt):
    with TestBed(["INBOX", "Lists"]) as bed:
        bed.put("INBOX", A, b"Subject: b\r\n\r\n")
        table = {"site": "testbed", "url": bed.url, "user": bed.user, "password": bed.password}
        session = opened(WebmailOptions.read(table), halt, str(tmp_path))
        try:
            assert {each["name"] for each in session.folders()} >= {"INBOX", "Lists"}
            rows = session.listing("INBOX")
            assert read(session.raw(rows[1])) == A
            session.remove(rows[1:])
            assert session.listing("INBOX") == rows[:1]
        finally:
            session.close()
        assert bed.messages("INBOX") == [b"Subject: b\r\n\r\n"]


def test_pages_are_kept_apart_from_the_cookies_of_a_browser(tmp_path, halt, home):
    directory = home / ".local" / "state" / "mailflow" / "webmail"
    with Paper(a=A) as paper:
        saved = tmp_path / "page.cookies"
        saved.write_text("127.0.0.1\tFALSE\t/\tFALSE\t0\tsid\tlent\n")
        saved.chmod(0o600)
        paper.says[""] = paper.says["list"] = lambda asked: page(
            "<a id=logout></a><form id=session><input name=token value=t></form>",
            "Set-Cookie: sid=other",
        )
        table = {"site": "testbed", "url": paper.url, "user": USER, "cookies": str(saved)}
        session = opened(WebmailOptions.read(table), halt, str(tmp_path))
        with pytest.raises(LayoutError):
            session.listing("INBOX")
        session.close()
    assert [each.name for each in (directory / "pages").iterdir()]
    assert [each for each in directory.iterdir() if each.suffix == ".cookies"]


class TestOneSession:
    def test_rule_17_a_second_one_is_refused_where_it_would_end_the_first(self, paper, tmp_path):
        alone = site(shared=False)
        with paper.session(tmp_path, alone) as first, paper.session(tmp_path, alone) as second:
            first.log_in()
            with pytest.raises(InUseError):
                second.log_in()

    def test_rule_17_it_comes_in_when_the_first_has_left(self, paper, tmp_path):
        alone = site(shared=False)
        with paper.session(tmp_path, alone) as first:
            first.log_in()
        with paper.session(tmp_path, alone) as second:
            second.log_in()
        assert paper.logins == 2

    def test_rule_17_one_that_does_nothing_gives_way_and_begins_anew_later(
        self, paper, tmp_path, monkeypatch
    ):
        monkeypatch.setattr(entry, "IDLE", 0.0)
        alone = site(shared=False)
        with paper.session(tmp_path, alone) as first, paper.session(tmp_path, alone) as second:
            rows = first.listing("INBOX")
            second.listing("INBOX")
            assert read(first.raw(rows[0])) == A
        assert paper.logins == 3
        assert paper.steps.count("logout") == 1

    def test_rule_17_one_that_is_at_work_does_not(self, paper, tmp_path, monkeypatch):
        monkeypatch.setattr(entry, "IDLE", 0.0)
        alone = site(shared=False)
        with paper.session(tmp_path, alone) as first, paper.session(tmp_path, alone) as second:

            def in_between(facts):
                with pytest.raises(InUseError):
                    second.log_in()

            first.work(in_between)
        assert paper.logins == 1

    def test_one_that_was_not_let_in_keeps_nobody_out(self, paper, tmp_path):
        alone = site(shared=False)
        paper.says["login"] = lambda asked: paper.form("<p id=denied>")
        with paper.session(tmp_path, alone) as first, paper.session(tmp_path, alone) as second:
            with pytest.raises(LoginError):
                first.log_in()
            del paper.says["login"]
            second.log_in()

    def test_where_several_do_no_harm_there_may_be_several(self, paper, tmp_path):
        with paper.session(tmp_path) as first, paper.session(tmp_path) as second:
            first.log_in()
            second.log_in()
        assert paper.logins == 2


class TestFolders:
    def test_they_have_an_id_and_a_name(self, session):
        assert session.folders() == [{"id": "INBOX", "name": "Inbox"}]

    def test_none_at_all_is_another_page(self, paper, session):
        paper.says["folders"] = lambda asked: paper.inside("<p>Welcome!</p>")
        with pytest.raises(LayoutError, match="`rows` does not hold"):
            session.folders()

    def test_pages_with_more_of_them_are_followed_once_each(self, paper, tmp_path):
        link = '<a class=more href="folders?more">+</a><a class=folder href="list?f={0}">{0}</a>'
        paper.says["folders"] = lambda asked: paper.inside(
            link.format("B" if "more" in asked.target else "A")
        )
        follow = site(folders__follow={"css": "a.more", "attr": "href"})
        with paper.session(tmp_path, follow) as session:
            assert [each["id"] for each in session.folders()] == ["A", "B"]
        assert paper.steps.count("folders") == 2

    def test_a_link_that_is_no_address_is_refused(self, paper, tmp_path):
        paper.says["folders"] = lambda asked: paper.inside(
            '<a class=folder href="list?f=A">A</a><a class=more href="http://[">+</a>'
        )
        follow = site(folders__follow={"css": "a.more", "attr": "href"})
        with (
            paper.session(tmp_path, follow) as session,
            pytest.raises(PeerError, match="an address that is none"),
        ):
            session.folders()

    @pytest.mark.parametrize("key", ["rows", "follow"])
    def test_a_page_of_them_that_cannot_be_looked_into_is_told_with_its_step(
        self, paper, tmp_path, monkeypatch, key
    ):
        monkeypatch.setattr("mailflow_webmail.web.page.Search", lambda: Search(0.1))
        paper.says["folders"] = lambda asked: paper.inside(
            '<a class=folder href="list?f=A">A</a>' + "a" * 5_000
        )
        slow = {"rows": {"regex": "(?P<id>(a+)+)$"}, "follow": {"regex": "(a+)+$"}}
        with (
            paper.session(tmp_path, site(**{f"folders__{key}": slow[key]})) as session,
            pytest.raises(LayoutError, match=f"Paper: folders: `{key}` does not hold: the pattern"),
        ):
            session.folders()

    def test_pages_without_an_end_are_an_error(self, paper, tmp_path, monkeypatch):
        monkeypatch.setattr(module, "FOLLOWED", 5)
        paper.says["folders"] = lambda asked: paper.inside(
            f"<a class=folder href='list?f=A'>A</a><a class=more href='folders?{len(paper.asked)}'>"
        )
        follow = site(folders__follow={"css": "a.more", "attr": "href"})
        with paper.session(tmp_path, follow) as session, pytest.raises(PeerError, match="over 5"):
            session.folders()


class TestAnswers:
    @pytest.mark.parametrize(
        ("status", "error"),
        [
            ("500 Oops", UnavailableError),
            ("403 No", RefusedError),
            ("404 None", GoneError),
            ("429 Slower", ThrottledError),
            ("418 Teapot", LayoutError),
        ],
    )
    def test_rule_01_a_status_is_a_hint_where_nothing_else_tells(
        self, paper, session, status, error
    ):
        session.log_in()
        paper.says["list"] = lambda asked: ok("<p>?</p>", status=status)
        with pytest.raises(error) as caught:
            session.listing("INBOX")
        assert type(caught.value) is error

    def test_a_status_that_is_bad_is_not_made_good_by_what_the_page_has(self, paper, session):
        session.log_in()
        paper.says["list"] = lambda asked: page(
            f"<p id=in><b id=count>1</b><table>{row('a', 0)}</table>", status="500 Oops"
        )
        with pytest.raises(UnavailableError):
            session.listing("INBOX")

    def test_the_login_form_with_any_status_is_the_end_of_the_session(self, paper, session):
        session.log_in()
        said = paper.form()
        paper.says["list"] = lambda asked: said.replace(b"200 OK", b"403 No")
        with pytest.raises(ExpiredError):
            session.listing("INBOX")

    def test_rule_21_no_error_has_the_password_or_the_user(self, paper, session):
        paper.says["login"] = lambda asked: page(f"<h1>{USER} {PASSWORD}</h1>")
        with pytest.raises(MailflowError) as caught:
            session.log_in()
        said = f"{caught.value} {caught.value.fields}"
        assert PASSWORD not in said
        assert USER not in said

    def test_a_page_that_cannot_be_looked_into_is_an_error_that_names_the_step(
        self, paper, session
    ):
        session.log_in()
        paper.says["list"] = lambda asked: page("<p>" * 300_000)
        with pytest.raises(PeerError) as caught:
            session.listing("INBOX")
        assert caught.value.fields["step"] == "list"
