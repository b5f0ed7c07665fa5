"""The live maildrop on a webmail, through the POP3 server and by itself, with the test bed behind
it; what a real Roundcube does is shown in tests/contracts and tests/interop."""

from __future__ import annotations

import poplib
import re
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from mailflow.errors import ConfigError, InUseError, LoginError, MailflowError, UnavailableError
from mailflow.kinds import Credentials
from mailflow.mail import read
from mailflow.testing.contracts.component import Stage
from mailflow.testing.gateway import Clients
from mailflow.testing.webmail import USER, TestBed
from mailflow_webmail.definition.site import SHIPPED
from mailflow_webmail.live import WebmailDropOptions
from mailflow_webmail.maildrop import WebmailDrop
from mailflow_webmail.opened import uidl
from mailflow_webmail.rows import as_they_came

from .stages import end

ANN = Credentials("ann", checked=True)
SECRET = "canary-5aa0-secret"


def message(text: str) -> bytes:
    return f"Subject: {text}\r\n\r\n{text}\r\n".encode()


@pytest.fixture(scope="module")
def running() -> Iterator[TestBed]:
    with TestBed(["INBOX", "Lists", "Trash"], password=SECRET) as bed:
        yield bed


@pytest.fixture
def bed(running: TestBed) -> Iterator[TestBed]:
    """Without mail and without troubles."""
    yield running
    running.quiet()
    for folder in ("INBOX", "Lists", "Trash"):
        running.delete(folder, *running.uids(folder))


Make = Callable[..., WebmailDrop]


def definition(directory: Path, *, shared: bool) -> str:
    """That of the test bed, which says whether an account may have several sessions."""
    text = re.sub("(?m)^shared = .*$", "", Path(SHIPPED, "testbed.toml").read_text())
    path = directory / f"shared-{shared}.toml"
    path.write_text(f"shared = {str(shared).lower()}\n{text}")
    return str(path)


@pytest.fixture
def site(tmp_path: Path) -> str:
    return definition(tmp_path, shared=True)


@pytest.fixture
def stage(bed: TestBed, tmp_path: Path, site: str) -> Iterator[Callable[..., Stage]]:
    """With what a file would say of the account at the test bed, or more."""
    stages: list[Stage] = []

    def make(**options: object) -> Stage:
        table = {
            "site": site, "url": bed.url, "user": USER, "password": SECRET,
            "timeout": "10s", **options,
        }  # fmt: skip
        given = {name: each for name, each in table.items() if each is not None}
        stages.append(Stage(WebmailDrop, given, tmp_path))
        return stages[-1]

    yield make
    end(stages)
    for each in stages:
        assert SECRET not in each.said


@pytest.fixture
def maildrop(stage: Callable[..., Stage]) -> Make:
    return lambda **options: stage(**options).make()


def texts(drop: Any) -> list[str]:
    found = [read(drop.read(item.key)).decode() for item in drop.items()]
    return [each.rpartition("\r\n\r\n")[2][:-2] for each in found]


def awaited(enter: Callable[[], Any]) -> Any:
    """What it gives once the lock is back, soon after the end of a connection."""
    until = time.monotonic() + 20
    while True:
        try:
            return enter()
        except InUseError:
            assert time.monotonic() < until
            time.sleep(0.005)  # nothing tells when


@pytest.fixture
def serve() -> Iterator[Clients]:
    with Clients() as clients:
        yield clients


def log_in(client: poplib.POP3, name: str = "ann", password: str = "secret") -> poplib.POP3:
    client.user(name)
    client.pass_(password)
    return client


# A session


def test_pwm_02_a_pop3_client_reads_and_deletes_what_lies_at_a_webmail(
    bed: TestBed, maildrop: Make, serve: Clients
) -> None:
    bed.put("INBOX", *map(message, ("one", "two", "three")))
    client = log_in(serve(maildrop()))
    assert client.stat() == (3, sum(len(message(text)) for text in ("one", "two", "three")))
    assert [client.retr(number)[1][-1] for number in (1, 2, 3)] == [b"one", b"two", b"three"]
    assert client.top(2, 0)[1] == [b"Subject: two", b""]
    client.dele(2)
    assert len(bed.messages("INBOX")) == 3, "nothing goes before QUIT"
    client.quit()
    assert bed.messages("INBOX") == list(map(message, ("one", "three")))


def test_a_session_that_is_cut_deletes_nothing(
    bed: TestBed, maildrop: Make, serve: Clients
) -> None:
    bed.put("INBOX", message("one"))
    drop = maildrop()
    client = log_in(serve(drop))
    client.dele(1)
    client.close()
    opened = awaited(lambda: drop.login(ANN))
    assert texts(opened) == ["one"]
    opened.close()


def test_one_session_of_an_account_at_a_time(bed: TestBed, stage: Callable[..., Stage]) -> None:
    """A second log-in may end the first session there."""
    first = stage().make().login(ANN)
    bed.forget()
    with pytest.raises(InUseError):
        stage().make().login(ANN)
    assert bed.requests == []
    first.close()
    stage().make().login(ANN).close()


def test_folders_follow_each_other(bed: TestBed, maildrop: Make) -> None:
    bed.put("INBOX", message("one"))
    bed.put("Lists", message("two"))
    drop = maildrop(folders=["INBOX", "L*"]).login(ANN)
    assert texts(drop) == ["one", "two"]
    drop.close([drop.items()[1].key])
    assert (len(bed.messages("INBOX")), len(bed.messages("Lists"))) == (1, 0)


def test_what_is_deleted_may_go_to_the_trash(bed: TestBed, maildrop: Make) -> None:
    bed.put("INBOX", *map(message, ("one", "two")))
    drop = maildrop(trash=True).login(ANN)
    drop.close([drop.items()[0].key])
    assert bed.messages("INBOX") == [message("two")]
    assert bed.messages("Trash") == [message("one")]


def test_what_was_read_is_seen_where_that_is_wanted(bed: TestBed, maildrop: Make) -> None:
    bed.put("INBOX", *map(message, ("one", "two")))
    for seen, wanted in ((False, 0), (True, 1)):
        drop = maildrop(seen=seen).login(ANN)
        bed.forget()
        read(drop.read(drop.items()[0].key))
        read(drop.top(drop.items()[1].key, 0))
        drop.close()
        assert bed.asked("change") == wanted


# How messages are called, and how large they are


def test_a_uidl_is_made_of_the_folder_and_the_id_alone(bed: TestBed, maildrop: Make) -> None:
    (id_,) = bed.put("INBOX", message("one"))
    drop = maildrop().login(ANN)
    assert [item.key for item in drop.items()] == [uidl("INBOX", id_)]
    drop.close()
    assert len({uidl("INBOX", "1"), uidl("INBOX1", ""), uidl("Lists", "1")}) == 3


@pytest.mark.parametrize(
    ("ids", "wanted"),
    [
        (["10", "9", "8"], ["8", "9", "10"]),
        (["8", "10", "9"], ["8", "9", "10"]),
        (["1700000002.M1.x", "1700000001.M2.x"], ["1700000001.M2.x", "1700000002.M1.x"]),
        (["9fa1", "10bc", "e7"], ["e7", "10bc", "9fa1"]),
        (["b", "a"], ["a", "b"]),
    ],
)
def test_messages_come_as_they_arrived(ids: list[str], wanted: list[str]) -> None:
    rows = [{"id": each} for each in ids]
    assert [row["id"] for row in as_they_came(rows)] == wanted


def test_a_message_is_measured_once_for_all(bed: TestBed, stage: Callable[..., Stage]) -> None:
    """A page says no exact size: what nobody has measured is loaded, in whatever process."""
    bed.put("INBOX", *(message(str(number)) for number in range(9)))
    bed.forget()
    stage().make().login(ANN).close()
    assert bed.asked("source") == 9
    bed.put("INBOX", b"Subject: ten\r\n\r\nno end")
    bed.forget()
    drop = stage().make().login(ANN)
    assert bed.asked("source") == 1
    assert [item.size for item in drop.items()] == [len(message("1"))] * 9 + [24]
    drop.close()


def test_what_was_loaded_to_be_measured_is_not_loaded_again(bed: TestBed, maildrop: Make) -> None:
    bed.put("INBOX", *(message(str(number)) for number in range(5)))
    bed.forget()
    drop = maildrop().login(ANN)
    assert texts(drop) == list("01234")
    assert texts(drop) == list("01234")
    assert bed.asked("source") == 5
    drop.close()


def test_what_was_measured_before_a_failure_is_not_lost(
    bed: TestBed, stage: Callable[..., Stage]
) -> None:
    bed.put("INBOX", *(message(str(number)) for number in range(12)))
    bed.trouble("unavailable", at=("source",), after=3)
    with pytest.raises(UnavailableError):
        stage(parallel=1).make().login(ANN)
    bed.quiet()
    bed.forget()
    stage(parallel=1).make().login(ANN).close()
    assert bed.asked("source") == 12 - 3


@pytest.mark.parametrize("trouble", ["blank", "truncated"])
def test_one_message_that_cannot_be_read_keeps_none_of_the_others(
    bed: TestBed, stage: Callable[..., Stage], trouble: str
) -> None:
    """It is served as soon as it can be."""
    bed.put("INBOX", *map(message, ("one", "two", "three")))
    bed.trouble(trouble, times=1)
    place = stage(parallel=1)
    drop = place.make().login(ANN)
    assert texts(drop) == ["two", "three"]
    assert "a message is not served" in place.said
    drop.close([item.key for item in drop.items()])
    drop = stage().make().login(ANN)
    assert texts(drop) == ["one"]
    drop.close()


def test_an_outage_is_no_drop_without_messages(bed: TestBed, maildrop: Make) -> None:
    """Each source is empty, as Roundcube has it while its IMAP server is down."""
    bed.put("INBOX", *(message(str(number)) for number in range(9)))
    bed.trouble("blank")
    with pytest.raises(UnavailableError):
        maildrop().login(ANN)
    bed.quiet()
    maildrop().login(ANN).close()
    bed.put("INBOX", message("ten"))
    bed.trouble("blank")
    with pytest.raises(UnavailableError):
        maildrop().login(ANN)


def test_a_message_that_is_too_large_is_loaded_once_and_not_served(
    bed: TestBed, stage: Callable[..., Stage]
) -> None:
    bed.put("INBOX", message("one"), message("x" * 9000))
    for _ in range(2):
        bed.forget()
        drop = stage(max_size="5KiB").make().login(ANN)
        assert texts(drop) == ["one"]
        drop.close()
    assert bed.asked("source") <= 1, "the one that is read"
    drop = stage(max_size="50KiB").make().login(ANN)
    assert len(drop.items()) == 2
    drop.close()


def test_messages_that_are_read_one_after_the_other_come_several_at_once(
    bed: TestBed, stage: Callable[..., Stage]
) -> None:
    bed.put("INBOX", *(message(str(number)) for number in range(6)))
    stage().make().login(ANN).close()
    drop = stage(parallel=3).make().login(ANN)
    bed.forget()
    assert read(drop.read(drop.items()[0].key)) == message("0")
    drop.close()
    assert 1 <= bed.asked("source") <= 3, "some follow the first, and not all"


def test_a_check_counts_messages_and_loads_none(bed: TestBed, maildrop: Make) -> None:
    bed.put("INBOX", *map(message, ("one", "two")))
    bed.put("Lists", message("three"))
    bed.forget()
    assert maildrop(folders=["INBOX", "Lists"]).messages("ann") == 3
    assert (bed.asked("source"), bed.asked("logout")) == (0, 1)


# Connections


def test_the_next_session_of_a_user_has_the_same_log_in(bed: TestBed, maildrop: Make) -> None:
    bed.forget()
    drop = maildrop()
    for text in ("one", "two"):
        bed.put("INBOX", message(text))
        opened = drop.login(ANN)
        assert texts(opened) == [text]
        opened.close([opened.items()[0].key])
    assert bed.asked("login") == 2, "the page with the form, and the form"
    assert bed.asked("logout") == 0


def test_a_session_that_others_would_meet_is_not_kept(
    bed: TestBed, stage: Callable[..., Stage], tmp_path: Path
) -> None:
    site = definition(tmp_path, shared=False)
    first, second = (stage(site=site).make() for _ in range(2))
    bed.forget()
    first.login(ANN).close()
    assert bed.asked("logout") == 1
    second.login(ANN).close()


def test_a_session_that_has_ended_there_is_begun_again(bed: TestBed, maildrop: Make) -> None:
    bed.put("INBOX", *map(message, ("one", "two")))
    bed.trouble("expired", after=3)
    drop = maildrop(parallel=1).login(ANN)
    bed.quiet()
    assert texts(drop) == ["one", "two"]
    drop.close([item.key for item in drop.items()])
    assert bed.messages("INBOX") == []


def test_what_a_quit_deletes_is_deleted_though_everything_stops(
    bed: TestBed, stage: Callable[..., Stage]
) -> None:
    bed.put("INBOX", *map(message, ("one", "two")))
    place = stage()
    drop = place.make().login(ANN)
    place.halt.set()
    drop.close([drop.items()[0].key])
    assert bed.messages("INBOX") == [message("two")]


# What goes wrong


@pytest.mark.parametrize("trouble", ["layout", "interstitial", "empty", "maintenance", "error"])
def test_a_page_that_cannot_be_read_is_no_empty_drop(
    bed: TestBed, maildrop: Make, serve: Clients, trouble: str
) -> None:
    bed.put("INBOX", message("one"))
    bed.trouble(trouble)
    client = serve(maildrop())
    with pytest.raises(poplib.error_proto, match=r"-ERR \[SYS/TEMP\]"):
        log_in(client)
    bed.quiet()
    assert log_in(serve.again()).stat()[0] == 1


def test_a_deletion_that_was_not_done_is_told(bed: TestBed, maildrop: Make, serve: Clients) -> None:
    bed.put("INBOX", message("one"))
    bed.trouble("stubborn")
    client = log_in(serve(maildrop()))
    client.dele(1)
    with pytest.raises(poplib.error_proto, match=r"-ERR"):
        client.quit()
    assert bed.messages("INBOX") == [message("one")]


def test_a_message_that_is_cut_is_not_sent_as_whole(bed: TestBed, maildrop: Make) -> None:
    bed.put("INBOX", message("one"))
    maildrop().login(ANN).close()
    drop = maildrop().login(ANN)
    bed.trouble("truncated")
    with pytest.raises(MailflowError):
        drop.read(drop.items()[0].key)
    bed.quiet()
    assert texts(drop) == ["one"]
    drop.close()


def test_a_message_that_has_gone_meanwhile_is_told(
    bed: TestBed, maildrop: Make, serve: Clients
) -> None:
    uids = bed.put("INBOX", *map(message, ("one", "two")))
    maildrop().login(ANN).close()
    client = log_in(serve(maildrop()))
    bed.delete("INBOX", uids[0])
    with pytest.raises(poplib.error_proto, match=r"-ERR"):
        client.retr(1)
    assert client.retr(2)[1][-1] == b"two"
    client.dele(1)
    client.quit()
    assert bed.messages("INBOX") == [message("two")]


def test_a_wrong_password_in_the_file_is_told_in_the_log_alone(
    bed: TestBed, maildrop: Make
) -> None:
    with pytest.raises(LoginError):
        maildrop(password="canary-0aa1").login(ANN)


# Who may


def test_a_password_that_is_passed_on_is_checked_there(
    bed: TestBed, maildrop: Make, serve: Clients
) -> None:
    bed.put("INBOX", message("one"))
    client = serve(maildrop(user=None, password=None), "*", passthrough=True)
    with pytest.raises(poplib.error_proto, match=r"-ERR \[AUTH\]"):
        log_in(client, USER, "canary-1bb2")
    client = log_in(serve.again(), USER, SECRET)
    assert client.retr(1)[1][-1] == b"one"
    client.quit()


def test_another_password_has_no_part_in_a_session_that_is_kept(
    bed: TestBed, maildrop: Make
) -> None:
    drop = maildrop(user=None)
    drop.login(Credentials(USER, password=SECRET)).close()
    with pytest.raises(LoginError):
        drop.login(Credentials(USER, password="canary-2cc3"))


def test_without_a_password_nobody_is_let_in(bed: TestBed, maildrop: Make) -> None:
    with pytest.raises(LoginError, match="passthrough"):
        maildrop(password=None).login(ANN)


def test_cookies_of_the_file_let_in_nobody_whom_the_webmail_has_to_check(
    bed: TestBed, maildrop: Make, tmp_path: Path
) -> None:
    """They would be good for whatever password."""
    cookies = tmp_path / "cookies.txt"
    cookies.write_text("# Netscape HTTP Cookie File\n")
    drop = maildrop(cookies=str(cookies), user=None)
    with pytest.raises(LoginError):
        drop.login(Credentials(USER, password="canary-3dd4"))


def test_cookies_of_a_browser_do_instead_of_a_password_there(
    bed: TestBed, maildrop: Make, tmp_path: Path
) -> None:
    """For whom a password of its own here has been checked."""
    import mechanicalsoup

    bed.put("INBOX", message("one"))
    with mechanicalsoup.StatefulBrowser() as browser:
        browser.open(f"{bed.url}login")
        browser.select_form("form#login")
        browser["user"], browser["pass"] = USER, SECRET
        browser.submit_selected()
        lines = [
            f"127.0.0.1\tFALSE\t/\tFALSE\t0\t{cookie.name}\t{cookie.value}"
            for cookie in browser.get_cookiejar()
        ]
    cookies = tmp_path / "cookies.txt"
    cookies.write_text("\n".join(["# Netscape HTTP Cookie File", *lines, ""]))
    cookies.chmod(0o600)
    drop = maildrop(password=None, cookies=str(cookies)).login(ANN)
    assert texts(drop) == ["one"]
    drop.close()


@pytest.mark.parametrize(
    ("table", "fault"),
    [
        ({}, "site: expected which webmail"),
        ({"site": "testbed"}, "url: expected which webmail"),
        ({"site": "testbed", "url": "https://x.example/", "allow": ["example.org"]}, "allow: .*"),
        ({"allow": ["*"]}, "allow.*expected a domain"),
        ({"allow": ["example.org"], "cookies": "x"}, "cookies: cookies are one account's"),
        ({"site": "testbed", "url": "https://x.example/", "folders": ["!Junk"]}, "folders: "),
    ],
)
def test_options_that_cannot_stand_together_are_told(table: dict[str, object], fault: str) -> None:
    with pytest.raises(ConfigError, match=fault):
        WebmailDropOptions.read(table)


def test_pwm_20_a_site_that_is_none_is_told_with_the_nearest(bed: TestBed) -> None:
    options = WebmailDropOptions.read({"site": "roundcub", "url": "https://x.example/"})
    assert [(name, "roundcube" in text) for name, text in options.look()] == [("site", True)]
