"""Reading a real Roundcube, in each of its skins, through all that befalls it and its mail."""

from __future__ import annotations

import re
import shutil
from collections.abc import Iterator
from http.cookiejar import MozillaCookieJar
from pathlib import Path
from typing import NamedTuple

import mechanicalsoup
import pytest

from mailflow.errors import MailflowError
from mailflow.mail import read
from mailflow.testing.corpus import AWKWARD, Large
from mailflow.testing.http_way import HttpWay
from mailflow.testing.proxy import Proxy
from mailflow.testing.roundcube import SKINS, Roundcube

from .webmail_servers import (
    FOLDERS,
    HOSTILE,
    PASSWORD,
    RoundcubeAccount,
    message,
    once,
    saved,
    with_lf,
)

pytestmark = pytest.mark.interop(
    "dovecot-imapd", "php-cli", "roundcube-core", "roundcube-sqlite3", "roundcube-skin-larry",
    "roundcube-skin-classic",
)  # fmt: skip

DRAFTS = "Entwürfe & mehr"

HEADLESS = ("no-header", "no-field-at-all", "one-octet", "only-line-end")

MAIL = [each.stored for each in AWKWARD if b"\0" not in each.octets and each.name not in HEADLESS]
"""IMAP servers give no NUL (RFC 3501, 9); all else comes as it lies there."""

MANY = [*MAIL, *(message(f"n{number}") for number in range(70 - len(MAIL)))]
"""More than a page of the list, which is 50."""

PAGES = [message(f"n{number}") for number in range(25)]
"""The same where a page is 10."""


class Behind(NamedTuple):
    """A Roundcube with a way to it, and one from it to its IMAP server, that can be cut."""

    roundcube: Roundcube
    way: HttpWay
    imap: Proxy

    def cut(self) -> None:
        """The IMAP server is down."""
        self.imap.target = ("127.0.0.1", 9)
        self.imap.drop()

    def mend(self) -> None:
        self.imap.target = ("127.0.0.1", self.roundcube.dovecot.imap_port)


@pytest.fixture(scope="module")
def ways(roundcube: Roundcube) -> Iterator[Behind]:
    with (
        Proxy(("127.0.0.1", roundcube.dovecot.imap_port)) as imap,
        Roundcube(
            roundcube.dovecot, imap_port=imap.port, settings={"mail_pagesize": "10"}
        ) as other,
        HttpWay(other.url) as way,
    ):
        yield Behind(other, way, imap)


@pytest.fixture
def behind(ways: Behind) -> Iterator[Behind]:
    yield ways
    ways.way.clear()
    ways.mend()


@pytest.fixture
def account(behind: Behind, tmp_path: Path) -> RoundcubeAccount:
    """A user who reaches Roundcube over the way."""
    made = RoundcubeAccount(behind.roundcube, tmp_path)
    made.url = behind.way.url
    return made


@pytest.mark.parametrize("skin", SKINS)
def test_every_message_of_every_folder_comes_octet_for_octet(
    at_roundcube: RoundcubeAccount, roundcube: Roundcube, skin: str
) -> None:
    at_roundcube.deliver(*MANY)
    at_roundcube.deliver(message("draft"), folder=DRAFTS)
    at_roundcube.deliver(message("old"), message("older"), folder="Archive/2024")
    folders = ["INBOX", DRAFTS, "Archive/2024"]
    with roundcube.configured(skin=f"'{skin}'"):
        assert at_roundcube.run(folders=[at_roundcube.folder(each) for each in folders]) == 0
    wanted = sorted(octets for folder in folders for octets in at_roundcube.there(folder))
    assert at_roundcube.fetched() == wanted


def test_what_does_not_begin_like_a_message_is_left_where_it_is_and_told(
    at_roundcube: RoundcubeAccount, capfd: pytest.CaptureFixture[str]
) -> None:
    odd = [each.stored for each in AWKWARD if each.name in HEADLESS]
    at_roundcube.deliver(PAGES[0], *odd)
    assert at_roundcube.run(keep="0d", on_done="delete") == 0
    assert capfd.readouterr().err.count("cannot be had") == len(odd)
    assert at_roundcube.subjects() == ["n0"]
    assert at_roundcube.there() == list(map(with_lf, odd))


@pytest.mark.parametrize("skin", SKINS)
def test_folders_have_the_names_that_their_user_sees(
    at_roundcube: RoundcubeAccount, roundcube: Roundcube, skin: str
) -> None:
    at_roundcube.deliver(folder=DRAFTS)
    at_roundcube.deliver(folder="日本/<b>&amp;")
    with roundcube.configured(skin=f"'{skin}'"), at_roundcube.session() as session:
        found = {row["id"]: row["name"] for row in session.folders()}
    assert found[at_roundcube.folder(DRAFTS)] == DRAFTS
    assert found[at_roundcube.folder("日本/<b>&amp;")].endswith("<b>&amp;")
    assert "INBOX" in found


def test_folders_of_any_name_are_read(at_roundcube: RoundcubeAccount) -> None:
    for number, folder in enumerate(FOLDERS):
        at_roundcube.deliver(message(f"n{number}"), folder=folder)
    with at_roundcube.session() as session:
        found = {row["id"] for row in session.folders()}
    assert found >= set(map(at_roundcube.folder, FOLDERS))
    assert at_roundcube.run(folders=["*"]) == 0
    assert at_roundcube.subjects() == sorted(f"n{number}" for number in range(len(FOLDERS)))


def test_what_was_fetched_is_not_fetched_again_and_what_came_is(
    at_roundcube: RoundcubeAccount,
) -> None:
    at_roundcube.deliver(*PAGES)
    assert at_roundcube.run() == 0
    at_roundcube.deliver(message("new"))
    assert at_roundcube.run() == 0
    assert len(at_roundcube.fetched()) == 26
    assert at_roundcube.fetched() == sorted(at_roundcube.there())


def test_20_megabytes_come_whole(at_roundcube: RoundcubeAccount) -> None:
    large = b"".join(Large(20 << 20).pieces())
    at_roundcube.deliver(large)
    assert at_roundcube.run() == 0
    assert at_roundcube.fetched() == [with_lf(large)]


def test_an_empty_folder_is_proven_and_no_error(at_roundcube: RoundcubeAccount) -> None:
    assert at_roundcube.run() == 0
    with at_roundcube.session() as session:
        assert session.listing("INBOX") == []


def test_fetching_leaves_mail_unread_and_where_it_is(at_roundcube: RoundcubeAccount) -> None:
    at_roundcube.deliver(*PAGES[:3])
    assert at_roundcube.run() == 0
    assert at_roundcube.flags() == ["", "", ""]


def test_one_is_deleted_and_the_others_stay_as_they_were(at_roundcube: RoundcubeAccount) -> None:
    at_roundcube.deliver(*PAGES)
    assert at_roundcube.run(where='subject is "n3"', keep="0d", on_done="delete") == 0
    assert at_roundcube.subjects() == ["n3"]
    left = [with_lf(each) for each in PAGES if each != PAGES[3]]
    assert sorted(at_roundcube.there()) == sorted(left)
    assert at_roundcube.there("Trash") == []


def test_what_is_safe_here_moves_to_the_trash(at_roundcube: RoundcubeAccount) -> None:
    at_roundcube.deliver(*PAGES[:3])
    assert at_roundcube.run(where='subject is "n1"', keep="0d", on_done="trash") == 0
    assert len(at_roundcube.there()) == 2
    assert at_roundcube.there("Trash") == [with_lf(PAGES[1])]


def test_what_is_safe_here_is_marked_as_read(at_roundcube: RoundcubeAccount) -> None:
    at_roundcube.deliver(*PAGES[:3])
    assert at_roundcube.run(where='subject is "n1"', keep="0d", on_done="seen") == 0
    assert at_roundcube.flags() == ["", "S", ""]


def test_a_wrong_password_is_said_so(
    at_roundcube: RoundcubeAccount, capfd: pytest.CaptureFixture[str]
) -> None:
    at_roundcube.deliver(*PAGES[:1])
    assert at_roundcube.run(password="wrong-canary") == 77
    assert "wrong-canary" not in capfd.readouterr().err
    assert at_roundcube.run() == 0
    assert at_roundcube.subjects() == ["n0"]


def test_after_too_many_wrong_passwords_the_right_one_waits(
    at_roundcube: RoundcubeAccount, roundcube: Roundcube
) -> None:
    at_roundcube.deliver(*PAGES[:1])
    assert at_roundcube.run() == 0
    with roundcube.configured(login_rate_limit="1"):
        assert at_roundcube.run(password="wrong") == 77
        with pytest.raises(MailflowError) as raised, at_roundcube.session() as session:
            session.folders()
    assert (raised.value.exit_code, raised.value.temporary) == (75, True)
    assert raised.value.fields.get("delay", 0) > 0


def test_a_session_that_expires_in_the_middle_begins_anew(
    account: RoundcubeAccount, behind: Behind
) -> None:
    account.deliver(*PAGES)
    behind.way.before = once("viewsource", behind.roundcube.expire)
    assert account.run() == 0
    assert account.fetched() == sorted(account.there())
    logins = [each for each in behind.way.requests if each.startswith("POST /?_task=login")]
    assert len(logins) == 2


def test_a_session_that_expires_while_paging_begins_anew(
    account: RoundcubeAccount, behind: Behind
) -> None:
    account.deliver(*PAGES)
    behind.way.before = once("_page=2", behind.roundcube.expire)
    assert account.run() == 0
    assert account.fetched() == sorted(account.there())


def test_a_session_that_expires_before_the_deletion_begins_anew(
    account: RoundcubeAccount, behind: Behind
) -> None:
    account.deliver(*PAGES[:3])
    behind.way.before = once("_action=delete", behind.roundcube.expire)
    assert account.run(keep="0d", on_done="delete") == 0
    assert account.subjects() == ["n0", "n1", "n2"]
    assert account.there() == []


@pytest.mark.parametrize("when", ["_task=login", "_action=list", "_page=2", "viewsource", "delete"])
def test_without_the_imap_server_nothing_is_empty_lost_or_deleted(
    account: RoundcubeAccount, behind: Behind, when: str
) -> None:
    account.deliver(*PAGES)
    behind.way.before = once(when, behind.cut)
    assert account.run(keep="0d", on_done="delete") == 75
    taken = account.fetched()
    assert set(taken) <= {with_lf(each) for each in PAGES}
    assert len(account.there()) + len(taken) >= 25
    behind.mend()
    assert account.run(keep="0d", on_done="delete") == 0
    assert account.fetched() == sorted(map(with_lf, PAGES))
    assert account.there() == []


def test_a_page_in_the_place_of_a_source_is_no_message(
    account: RoundcubeAccount, behind: Behind
) -> None:
    account.deliver(*PAGES)
    behind.way.rewrite = lambda path, body: (
        b"<!DOCTYPE html><html>Maintenance: back soon</html>" if "viewsource" in path else body
    )
    assert account.run(keep="0d", on_done="delete") == 75
    assert (account.fetched(), len(account.there())) == ([], len(PAGES))
    behind.way.clear()
    assert account.run(keep="0d", on_done="delete") == 0
    assert account.fetched() == sorted(map(with_lf, PAGES))


def test_an_outage_is_none_less_in_an_account_of_another_language(
    account: RoundcubeAccount, behind: Behind
) -> None:
    account.deliver(*PAGES)
    with behind.roundcube.configured(language="'de_DE'"), account.session() as session:
        rows = session.listing("INBOX")
        behind.cut()
        with pytest.raises(MailflowError) as raised:
            session.listing("INBOX")
        assert raised.value.temporary
        with pytest.raises(MailflowError) as raised:
            session.raw(rows[0])
        assert raised.value.temporary


def test_an_outage_that_says_so_in_another_language_keeps_nobody_out_for_good(
    account: RoundcubeAccount, behind: Behind
) -> None:
    account.deliver(*PAGES[:3])
    with behind.roundcube.configured(language="'de_DE'"):
        behind.cut()
        assert account.run(keep="0d", on_done="delete") in (75, 77)
        behind.mend()
        assert account.run(keep="0d", on_done="delete") == 0
    assert account.fetched() == sorted(map(with_lf, PAGES[:3]))


def test_without_the_web_server_the_next_run_goes_on(
    account: RoundcubeAccount, behind: Behind
) -> None:
    account.deliver(*PAGES)
    seen: list[str] = []

    def before(method: str, path: str) -> None:
        seen.extend(["x"] * ("viewsource" in path))
        if len(seen) > 12:
            raise ConnectionResetError

    behind.way.before = before
    assert account.run(keep="0d", on_done="delete") == 75
    behind.way.clear()
    assert account.run(keep="0d", on_done="delete") == 0
    assert account.fetched() == sorted(map(with_lf, PAGES))
    assert account.there() == []


def test_where_nobody_listens_it_is_tried_again_later(
    at_roundcube: RoundcubeAccount, capfd: pytest.CaptureFixture[str]
) -> None:
    at_roundcube.url = "http://127.0.0.1:9/"
    assert at_roundcube.run() == 75
    assert "127.0.0.1" in capfd.readouterr().err


def test_a_message_that_has_gone_is_passed_over(account: RoundcubeAccount, behind: Behind) -> None:
    account.deliver(*PAGES[:5])
    behind.way.before = once("viewsource", lambda: account.remove("n2"))
    assert account.run(parallel=1) == 0
    assert account.run() == 0
    assert account.subjects() == ["n0", "n1", "n3", "n4"]


def test_a_folder_that_has_gone_is_named_and_keeps_nothing_from_the_others(
    account: RoundcubeAccount, behind: Behind, capfd: pytest.CaptureFixture[str]
) -> None:
    account.deliver(*PAGES[:2])
    account.deliver(message("work"), folder="Work")
    shutil.rmtree(account.mail.path(account.user, "Work"))
    assert account.run(folders=["INBOX", "Work"]) != 0
    assert "Work" in capfd.readouterr().err
    assert account.run(folders=["INBOX"]) == 0
    assert account.subjects() == ["n0", "n1"]


def test_rows_that_shift_while_paging_hide_no_message(
    account: RoundcubeAccount, behind: Behind
) -> None:
    account.deliver(*PAGES)
    behind.way.before = once("_page=2", lambda: account.remove("n24"))
    assert account.run() == 0
    assert set(account.fetched()) >= set(account.there())


def test_mail_that_comes_while_paging_hides_none(account: RoundcubeAccount, behind: Behind) -> None:
    account.deliver(*PAGES)
    behind.way.before = once("_page=2", lambda: account.deliver(message("late")))
    assert account.run() == 0
    assert set(account.fetched()) >= set(map(with_lf, PAGES))
    assert account.run() == 0
    assert account.fetched() == sorted(account.there())


def test_conversations_are_messages(at_roundcube: RoundcubeAccount, roundcube: Roundcube) -> None:
    replies = [
        message(f"r{number}", b"yes\r\n", "References: <n0@example.com>") for number in range(60)
    ]
    at_roundcube.deliver(*PAGES[:10], *replies)
    with roundcube.configured(default_list_mode="'threads'"):
        assert at_roundcube.run() == 0
        assert at_roundcube.fetched() == sorted(at_roundcube.there())


def test_what_is_marked_as_deleted_and_hidden_is_no_missing_message(
    at_roundcube: RoundcubeAccount, roundcube: Roundcube
) -> None:
    at_roundcube.deliver(*PAGES)
    at_roundcube.mark("n7", "T")
    with roundcube.configured(skip_deleted="true"):
        assert at_roundcube.run(keep="0d", on_done="delete") == 0
    assert at_roundcube.fetched() == sorted(with_lf(each) for each in PAGES if each != PAGES[7])


@pytest.mark.parametrize("skin", SKINS)
def test_what_mail_says_is_no_answer_of_the_webmail(
    at_roundcube: RoundcubeAccount, roundcube: Roundcube, skin: str
) -> None:
    bodies = [f"<html><h1>{each}</h1></html>\r\n".encode() for each in HOSTILE]
    at_roundcube.deliver(*map(message, HOSTILE, bodies))
    at_roundcube.deliver(*map(message, HOSTILE), folder="session_error(1)")
    with roundcube.configured(skin=f"'{skin}'"):
        assert at_roundcube.run(folders=["INBOX", "session_error(1)"]) == 0
    wanted = at_roundcube.there() + at_roundcube.there("session_error(1)")
    assert at_roundcube.fetched() == sorted(wanted)


@pytest.mark.parametrize("language", ["de_DE", "ar"])
def test_pwm_37_the_language_of_an_account_changes_nothing(
    at_roundcube: RoundcubeAccount, roundcube: Roundcube, language: str
) -> None:
    at_roundcube.deliver(*PAGES)
    with roundcube.configured(language=f"'{language}'"):
        assert at_roundcube.run(keep="0d", on_done="trash") == 0
        assert at_roundcube.run(folders=["Trash"], keep="0d", on_done="delete") == 0
        assert at_roundcube.run(password="wrong") == 77
    assert set(at_roundcube.fetched()) == set(map(with_lf, PAGES))
    assert at_roundcube.there() == at_roundcube.there("Trash") == []


RENAMED = [
    ("login", b'name="_pass"', b'name="_secret"'),
    ("login", b'id="mailboxlist"', b'id="foldertree"'),
    ("list", b"add_message_row", b"append_message"),
    ("list", b'"messagecount"', b'"count"'),
    ("delete", rb"\"confirmation\"", rb"\"yes\""),
]
"""The step that cannot go on where a page says the third for the second."""


@pytest.mark.usefixtures("home")
@pytest.mark.parametrize(("step", "known", "renamed"), RENAMED)
def test_pwm_37_a_page_of_other_names_is_an_error_that_says_where(
    account: RoundcubeAccount, behind: Behind, capfd: pytest.CaptureFixture[str],
    step: str, known: bytes, renamed: bytes,
) -> None:  # fmt: skip
    account.deliver(message("canary-subject"), *PAGES[:2])
    tokens: set[bytes] = set()

    def rewrite(path: str, body: bytes) -> bytes:
        tokens.update(re.findall(rb'"request_token":"(\w+)"', body))
        return body.replace(known, renamed)

    behind.way.rewrite = rewrite
    assert account.run(keep="0d", on_done="delete") == 76
    said = capfd.readouterr().err
    assert f"Roundcube 1.6: {step}: " in said
    path = saved(said)
    octets = path.read_bytes()
    assert octets
    assert path.stat().st_mode & 0o077 == 0
    private = {PASSWORD.encode(), account.user.encode(), b"canary", *tokens}
    assert not {each for each in private if each in octets}


def test_messages_are_read_without_a_pipeline(at_roundcube: RoundcubeAccount) -> None:
    at_roundcube.deliver(*PAGES[:2])
    with at_roundcube.session() as session:
        octets = [read(session.raw(row)) for row in session.listing("INBOX")]
        assert sorted(octets) == PAGES[:2]
    assert PASSWORD not in repr(session)


def test_sessions_end_in_order(account: RoundcubeAccount, behind: Behind) -> None:
    account.run()
    assert "_task=logout" in behind.way.requests[-1]


def test_the_session_of_a_browser_is_lent_over_several_runs(
    at_roundcube: RoundcubeAccount, tmp_path: Path
) -> None:
    path = tmp_path / "page.cookies"
    with mechanicalsoup.StatefulBrowser() as browser:
        browser.open(f"{at_roundcube.url}?_task=login", timeout=20)
        browser.select_form('form:has(input[name="_pass"])')
        browser["_user"], browser["_pass"] = at_roundcube.user, PASSWORD
        browser.submit_selected(timeout=20)
        jar = MozillaCookieJar(str(path))
        for cookie in browser.session.cookies:
            jar.set_cookie(cookie)
        jar.save(ignore_discard=True)
        path.chmod(0o600)
        for number in range(2):
            at_roundcube.deliver(PAGES[number])
            assert at_roundcube.run(password=None, cookies=str(path)) == 0
        there = browser.open(f"{at_roundcube.url}?_task=mail", timeout=20)
        assert there.soup.select_one("#mailboxlist") is not None
    assert at_roundcube.subjects() == ["n0", "n1"]
