"""Reading a real SqWebMail, where places shift, through all that befalls it and its mail."""

from __future__ import annotations

import os
import re
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import pytest

from mailflow.errors import MailflowError
from mailflow.testing.corpus import AWKWARD, Large
from mailflow.testing.http_way import HttpWay
from mailflow.testing.sqwebmail import SqWebMail

from .webmail_servers import (
    FOLDERS,
    HOSTILE,
    PASSWORD,
    SqWebMailAccount,
    message,
    once,
    saved,
    with_lf,
)

pytestmark = [
    pytest.mark.interop("sqwebmail", "courier-authlib-userdb", "lighttpd"),
    pytest.mark.skipif(os.geteuid() != 0, reason="only root can start SqWebMail"),
]

DRAFTS = "Entwürfe & mehr"

HEADLESS = ("no-header", "no-field-at-all", "one-octet", "only-line-end")

MAIL = [
    each.octets for each in AWKWARD if each.name not in HEADLESS and not each.octets.endswith(b"\r")
]
"""Of a message whose last octet is a CR, SqWebMail leaves that out."""

MANY = [*MAIL, *(message(f"n{number}") for number in range(66 - len(MAIL)))]
"""Seven pages of the list."""

PAGES = [message(f"n{number}") for number in range(25)]
"""Three pages of the list, the last of which is filled up with rows of the one before."""


class Behind(NamedTuple):
    sqwebmail: SqWebMail
    way: HttpWay


@pytest.fixture(scope="module")
def ways(sqwebmail: SqWebMail) -> Iterator[Behind]:
    with HttpWay(sqwebmail.url) as way:
        yield Behind(sqwebmail, way)


@pytest.fixture
def behind(ways: Behind) -> Iterator[Behind]:
    yield ways
    ways.way.clear()
    for part in ("authdaemond", "sqwebmaild"):
        ways.sqwebmail.up(part)


@pytest.fixture
def account(behind: Behind, tmp_path: Path) -> SqWebMailAccount:
    """A user who reaches SqWebMail over the way."""
    made = SqWebMailAccount(behind.sqwebmail, tmp_path)
    made.url = behind.way.url
    return made


def test_every_message_of_every_folder_comes_octet_for_octet(
    at_sqwebmail: SqWebMailAccount,
) -> None:
    at_sqwebmail.deliver(*MANY)
    at_sqwebmail.deliver(message("draft"), folder=DRAFTS)
    at_sqwebmail.deliver(message("old"), message("older"), folder="Archive/2024")
    folders = ["INBOX", DRAFTS, "Archive/2024"]
    assert at_sqwebmail.run(folders=[at_sqwebmail.folder(each) for each in folders]) == 0
    wanted = sorted(octets for folder in folders for octets in at_sqwebmail.there(folder))
    assert at_sqwebmail.fetched() == wanted


def test_folders_have_the_names_that_their_user_knows(at_sqwebmail: SqWebMailAccount) -> None:
    for folder in (DRAFTS, "Archive/2024", "日本"):
        at_sqwebmail.deliver(folder=folder)
    with at_sqwebmail.session() as session:
        found = {row["id"]: row["name"] for row in session.folders()}
    assert found[at_sqwebmail.folder(DRAFTS)] == DRAFTS
    assert found[at_sqwebmail.folder("日本")] == "日本"
    assert at_sqwebmail.folder("Archive/2024") in found
    assert "INBOX" in found


def test_folders_of_any_name_are_read(at_sqwebmail: SqWebMailAccount) -> None:
    for number, folder in enumerate(FOLDERS):
        at_sqwebmail.deliver(message(f"n{number}"), folder=folder)
    with at_sqwebmail.session() as session:
        found = {row["id"] for row in session.folders()}
    assert found >= set(map(at_sqwebmail.folder, FOLDERS))
    assert at_sqwebmail.run(folders=["*"]) == 0
    assert at_sqwebmail.subjects() == sorted(f"n{number}" for number in range(len(FOLDERS)))


def test_what_was_fetched_is_not_fetched_again_and_what_came_is(
    at_sqwebmail: SqWebMailAccount,
) -> None:
    at_sqwebmail.deliver(*PAGES)
    assert at_sqwebmail.run() == 0
    at_sqwebmail.deliver(message("new"))
    assert at_sqwebmail.run() == 0
    assert len(at_sqwebmail.fetched()) == 26
    assert at_sqwebmail.fetched() == sorted(at_sqwebmail.there())


def test_20_megabytes_come_whole(at_sqwebmail: SqWebMailAccount) -> None:
    large = b"".join(Large(20 << 20).pieces())
    at_sqwebmail.deliver(large)
    assert at_sqwebmail.run() == 0
    assert at_sqwebmail.fetched() == [with_lf(large)]


def test_an_empty_folder_is_proven_and_no_error(at_sqwebmail: SqWebMailAccount) -> None:
    assert at_sqwebmail.run() == 0
    with at_sqwebmail.session() as session:
        assert session.listing("INBOX") == []


def test_fetching_leaves_mail_unread_and_where_it_is(at_sqwebmail: SqWebMailAccount) -> None:
    at_sqwebmail.deliver(*PAGES[:3])
    assert at_sqwebmail.run() == 0
    assert at_sqwebmail.flags() == ["", "", ""]


def test_one_is_deleted_and_the_others_stay_as_they_were(at_sqwebmail: SqWebMailAccount) -> None:
    at_sqwebmail.deliver(*PAGES)
    assert at_sqwebmail.run(where='subject is "n3"', keep="0d", on_done="delete") == 0
    assert at_sqwebmail.subjects() == ["n3"]
    left = [with_lf(each) for each in PAGES if each != PAGES[3]]
    assert sorted(at_sqwebmail.there()) == sorted(left)


def test_all_that_is_safe_here_is_deleted_over_all_pages(at_sqwebmail: SqWebMailAccount) -> None:
    at_sqwebmail.deliver(*PAGES)
    assert at_sqwebmail.run(keep="0d", on_done="delete") == 0
    assert at_sqwebmail.fetched() == sorted(map(with_lf, PAGES))
    assert at_sqwebmail.there() == []


@pytest.mark.parametrize("on_done", ["delete", "trash"])
def test_what_is_removed_lies_in_the_trash_and_goes_from_there_for_good(
    at_sqwebmail: SqWebMailAccount, on_done: str
) -> None:
    at_sqwebmail.deliver(*PAGES[:12])
    options = {"where": 'subject is "n3"', "keep": "0d"}
    assert at_sqwebmail.run(on_done=on_done, **options) == 0
    assert len(at_sqwebmail.there()) == 11
    assert at_sqwebmail.there("Trash") == [with_lf(PAGES[3])]
    trash = at_sqwebmail.folder("Trash")
    assert at_sqwebmail.run(folders=[trash], on_done="delete", **options) == 0
    assert at_sqwebmail.there("Trash") == []


def test_what_is_safe_here_is_marked_as_read(at_sqwebmail: SqWebMailAccount) -> None:
    at_sqwebmail.deliver(*PAGES[:12])
    assert at_sqwebmail.run(where='subject is "n1"', keep="0d", on_done="seen") == 0
    assert at_sqwebmail.flags() == ["", "S", *[""] * 10]


def test_a_wrong_password_is_said_so(
    at_sqwebmail: SqWebMailAccount, capfd: pytest.CaptureFixture[str]
) -> None:
    at_sqwebmail.deliver(*PAGES[:1])
    assert at_sqwebmail.run(password="wrong-canary") == 77
    assert "wrong-canary" not in capfd.readouterr().err
    assert at_sqwebmail.run() == 0
    assert at_sqwebmail.subjects() == ["n0"]


def test_without_who_knows_the_passwords_nothing_is_lost(
    account: SqWebMailAccount, behind: Behind
) -> None:
    account.deliver(*PAGES[:3])
    behind.sqwebmail.down("authdaemond")
    assert account.run(keep="0d", on_done="delete") in (75, 77)
    behind.sqwebmail.up("authdaemond")
    assert account.run(keep="0d", on_done="delete") == 0
    assert account.fetched() == sorted(map(with_lf, PAGES[:3]))


@pytest.mark.parametrize("when", ["noframes=1", "form=folder&", "form=fetch"])
def test_without_what_makes_the_pages_nothing_is_empty_lost_or_deleted(
    account: SqWebMailAccount, behind: Behind, when: str
) -> None:
    account.deliver(*PAGES[:15])
    behind.way.before = once(when, lambda: behind.sqwebmail.down("sqwebmaild"))
    assert account.run(keep="0d", on_done="delete") == 75
    assert len(account.there()) + len(account.fetched()) >= 15
    behind.sqwebmail.up("sqwebmaild")
    assert account.run(keep="0d", on_done="delete") == 0
    assert account.fetched() == sorted(map(with_lf, PAGES[:15]))
    assert account.there() == []


@pytest.mark.parametrize("when", ["pos=10", "form=fetch"])
def test_a_second_login_that_ends_the_session_is_followed_by_a_third(
    account: SqWebMailAccount, behind: Behind, when: str
) -> None:
    account.deliver(*PAGES[:15])

    def log_in() -> None:
        with account.session(url=behind.sqwebmail.url) as session:
            session.folders()

    behind.way.before = once(when, log_in)
    assert account.run() == 0
    assert account.fetched() == sorted(account.there())


def test_rows_that_shift_while_paging_hide_no_message_and_swap_none(
    account: SqWebMailAccount, behind: Behind
) -> None:
    account.deliver(*PAGES)
    behind.way.before = once("pos=10", lambda: account.remove("n24"))
    assert account.run() == 0
    assert account.run() == 0
    assert set(account.fetched()) >= set(account.there())
    assert len(set(account.fetched())) == len(account.fetched())


def test_rows_that_shift_while_loading_swap_no_message(
    account: SqWebMailAccount, behind: Behind
) -> None:
    """Another one arrives, one goes, and the folder is opened in another window."""
    account.deliver(*PAGES)

    def shift() -> None:
        account.deliver(message("late"))
        account.remove("n7")

    behind.way.before = once("form=fetch", shift)
    account.run(keep="0d", on_done="delete", where='subject is "n3"')
    account.run(keep="0d", on_done="delete", where='subject is "n3"')
    assert account.subjects() == ["n3"]
    wanted = [message("late"), *(each for each in PAGES if each not in (PAGES[3], PAGES[7]))]
    assert sorted(account.there()) == sorted(map(with_lf, wanted))


def test_mail_that_comes_while_paging_hides_none(account: SqWebMailAccount, behind: Behind) -> None:
    account.deliver(*PAGES)
    behind.way.before = once("pos=10", lambda: account.deliver(message("late")))
    assert account.run() == 0
    assert set(account.fetched()) >= set(map(with_lf, PAGES))
    assert account.run() == 0
    assert account.fetched() == sorted(account.there())


def test_a_message_that_has_gone_is_passed_over(account: SqWebMailAccount, behind: Behind) -> None:
    account.deliver(*PAGES[:5])
    behind.way.before = once("form=fetch", lambda: account.remove("n2"))
    account.run()
    assert account.run() == 0
    assert account.subjects() == ["n0", "n1", "n3", "n4"]


def test_a_folder_that_has_gone_is_named(
    at_sqwebmail: SqWebMailAccount, capfd: pytest.CaptureFixture[str]
) -> None:
    at_sqwebmail.deliver(*PAGES[:2])
    at_sqwebmail.deliver(message("work"), folder="Work")
    shutil.rmtree(at_sqwebmail.mail.path(at_sqwebmail.user, "Work"))
    with at_sqwebmail.session() as session, pytest.raises(MailflowError) as raised:
        session.listing(at_sqwebmail.folder("Work"))
    assert "Work" in str(raised.value)


def test_what_mail_says_is_no_answer_of_the_webmail(at_sqwebmail: SqWebMailAccount) -> None:
    bodies = [f"<html><h1>{each}</h1></html>\r\n".encode() for each in HOSTILE]
    at_sqwebmail.deliver(*map(message, HOSTILE, bodies))
    at_sqwebmail.deliver(*map(message, HOSTILE), folder="Invalid Login (1 of 7)")
    folders = ["INBOX", at_sqwebmail.folder("Invalid Login (1 of 7)")]
    assert at_sqwebmail.run(folders=folders) == 0
    wanted = at_sqwebmail.there() + at_sqwebmail.there("Invalid Login (1 of 7)")
    assert at_sqwebmail.fetched() == sorted(wanted)


@pytest.mark.usefixtures("home")
@pytest.mark.parametrize(
    ("step", "known", "renamed"),
    [
        ("login", b'name="logon"', b'name="enter"'),
        ("list", b"MOVEFILE-", b"FILE-"),
        ("list", b"folder-message-count", b"count"),
    ],
)
def test_pwm_37_a_page_of_other_names_is_an_error_that_says_where(
    account: SqWebMailAccount, behind: Behind, capfd: pytest.CaptureFixture[str],
    step: str, known: bytes, renamed: bytes,
) -> None:  # fmt: skip
    account.deliver(message("canary-subject"), *PAGES[:2])
    sessions: set[bytes] = set()

    def rewrite(path: str, body: bytes) -> bytes:
        sessions.update(re.findall(rb"/login/[^/]+/([0-9A-F]{32})", path.encode()))
        return body.replace(known, renamed)

    behind.way.rewrite = rewrite
    assert account.run(keep="0d", on_done="delete") == 76
    said = capfd.readouterr().err
    assert f"SqWebMail 6: {step}: " in said
    assert len(account.there()) == 3
    path = saved(said)
    octets = path.read_bytes()
    assert octets
    private = {PASSWORD.encode(), account.user.encode(), b"canary", *sessions}
    assert not {each for each in private if each in octets}


def test_sessions_end_in_order(account: SqWebMailAccount, behind: Behind) -> None:
    account.run()
    assert [each for each in behind.way.requests[-3:] if "form=logout" in each]
