"""What the webmail fetcher asks a webmail for, and what it makes of the answers."""

from __future__ import annotations

import os
import re
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest

from mailflow.directories import settings_directory
from mailflow.errors import ConfigError, GoneError, LoginError, UnavailableError
from mailflow.halt import Halt
from mailflow.kinds import Fetched, Missed, Runtime
from mailflow.mail import Octets, head, read
from mailflow.query import Query
from mailflow.testing.engine import LogDouble
from mailflow.testing.webmail import TestBed
from mailflow.verdicts import Fate
from mailflow_webmail import fetcher as module
from mailflow_webmail import mark
from mailflow_webmail.account.session import Session
from mailflow_webmail.errors import LayoutError
from mailflow_webmail.fetcher import WebmailFetcher
from mailflow_webmail.web import browser

from .web import HttpProxy, SocksProxy

FOLDERS = ("INBOX", "Lists", "Lists-old", "Trash")


def message(number: int, body: bytes = b"hello\r\n") -> bytes:
    return b"Subject: %d\r\nMessage-ID: <%d@example.org>\r\n\r\n" % (number, number) + body


MAIL = [message(number) for number in range(5)]

Make = Callable[..., WebmailFetcher]
Change = Callable[[str], str]


@pytest.fixture(scope="module")
def running() -> Iterator[TestBed]:
    with TestBed(FOLDERS, page_size=3) as bed:
        yield bed


@pytest.fixture
def bed(running: TestBed) -> TestBed:
    """The test bed, in whose INBOX there are five messages."""
    running.quiet()
    running.log_out_all()
    for folder in FOLDERS:
        running.delete(folder, *running.uids(folder))
    running.bed.seen.clear()
    running.put("INBOX", *MAIL)
    running.forget()
    return running


@pytest.fixture
def log() -> LogDouble:
    return LogDouble()


@pytest.fixture
def make(bed: TestBed, log: Any, tmp_path: Path) -> Iterator[Make]:
    halt = Halt()
    runtime = Runtime("page", "red", halt, log, str(tmp_path))

    def make(**options: object) -> WebmailFetcher:
        table = {**bed.source(timeout="5s"), **options}
        del table["use"]
        return WebmailFetcher(WebmailFetcher.options.read(table), runtime)

    yield make
    halt.close()


def take(fetcher: WebmailFetcher, mark: str = "", settle: bool = True) -> dict[str, bytes | str]:
    """A visit: what came for each key, all of it settled, or why it did not."""
    with fetcher:
        keys = [item.key for item in fetcher.listing(Query.always, mark)]
        got: dict[str, bytes | str] = {}
        for each in fetcher.retrieve(keys):
            if isinstance(each, Missed):
                got[each.key] = each.error.text
                continue
            got[each.key] = read(each.content)
            if settle:
                fetcher.settle(each.key, Fate.DONE)
    return got


def poll(fetcher: WebmailFetcher, mark: str = "") -> list[str]:
    """A visit that finds nothing to do; what it lists."""
    with fetcher:
        return [item.key for item in fetcher.listing(Query.always, mark)]


def logins(bed: TestBed) -> int:
    return [(each.method, each.step) for each in bed.requests].count(("POST", "login"))


@pytest.fixture
def changed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[Change], str]:
    """A site like that of the test bed, with what it says changed."""
    from mailflow_webmail.definition.site import SHIPPED

    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path))
    directory = tmp_path / "mailflow" / "sites"
    directory.mkdir(parents=True)

    def make(change: Change) -> str:
        (directory / "mine.toml").write_text(change(Path(SHIPPED, "testbed.toml").read_text()))
        return "mine"

    return make


# Which folders


def test_pwm_01_folders_are_listed_read_and_emptied(bed: TestBed, make: Make) -> None:
    bed.put("Lists", message(7))
    got = take(make(folders=["INBOX", "Lists"]))
    assert sorted(map(bytes, got.values())) == sorted([*MAIL, message(7)])  # type: ignore[arg-type]
    assert {key.rpartition(";")[0] for key in got} == {"INBOX", "Lists"}
    assert bed.messages("INBOX") == bed.messages("Lists") == []


def test_folders_are_chosen_by_pattern_and_left_out(bed: TestBed, make: Make) -> None:
    for number, folder in enumerate(FOLDERS[1:], 7):
        bed.put(folder, message(number))
    got = take(make(folders=["*", "!Trash", "!INBOX", "!*-old"]))
    assert list(got.values()) == [message(7)]


def test_a_folder_that_is_not_there_is_an_error_and_nothing_is_fetched(make: Make) -> None:
    with pytest.raises(GoneError):
        poll(make(folders=["INBOX", "Nowhere"]))
    with pytest.raises(GoneError, match=r"has no folder like Nowhere\*"):
        poll(make(folders=["Nowhere*"]))
    with make(folders=["Nowhere*"]) as fetcher, pytest.raises(GoneError, match="has no folder"):
        list(fetcher.offers())


def test_a_name_that_is_known_is_not_looked_for_again_while_logged_in(
    bed: TestBed, make: Make
) -> None:
    fetcher = make(folders=["Lists"])
    fetcher.stay()
    poll(fetcher)
    bed.forget()
    poll(fetcher)
    assert bed.asked("folders") == 0
    fetcher.close()


def test_the_oldest_messages_come_first(bed: TestBed, make: Make) -> None:
    """A page shows the newest first, and a `limit` would leave out the others for ever."""
    assert list(take(make(parallel=1), settle=False).values()) == MAIL


@pytest.mark.parametrize(
    "octets",
    [
        pytest.param(
            b"Subject: a\r\n" + b"X-Long: %s\r\n" % (b"y" * 990) * 1100 + b"\r\nhello\r\n",
            id="long",
        ),
        pytest.param(b"Subject: a", id="without-end"),
        pytest.param(b"Subject: a\r\nno field\r\n\r\nhello\r\n", id="without-blank-line"),
        pytest.param(b"\r\nhello\r\n\r\nworld\r\n", id="none"),
    ],
)
def test_a_header_section_is_the_same_alone_and_with_its_message(
    make: Make, monkeypatch: pytest.MonkeyPatch, octets: bytes
) -> None:
    """By it a message is known again before it is settled; another one would be fetched anew."""
    monkeypatch.setattr(Session, "raw", lambda self, row: Octets(octets))
    with make() as fetcher:
        key = next(iter(fetcher.listing(Query.always))).key
        [alone], [whole] = fetcher.heads([key]), fetcher.retrieve([key])
    assert isinstance(whole, Fetched)
    assert head(alone.content) == head(whole.content)


@pytest.mark.parametrize("kind", ["http", "socks5h"])
def test_pwm_03_where_only_a_proxy_leads_out_all_goes_through_it(
    bed: TestBed, make: Make, kind: str
) -> None:
    name = "webmail.example.org"  # nobody but the proxy can look it up
    with (HttpProxy if kind == "http" else SocksProxy)({name: bed.port}) as proxy:
        through = f"{kind}://127.0.0.1:{proxy.port}"
        got = take(make(url=f"http://{name}/", proxy=through))
    assert list(got.values()) == MAIL
    assert bed.messages("INBOX") == []
    assert proxy.asked


# How often a webmail is asked


def test_within_a_living_session_a_poll_that_finds_nothing_new_is_one_request(
    bed: TestBed, make: Make
) -> None:
    bed.delete("INBOX", *bed.uids("INBOX")[3:])
    fetcher = make(on_done="keep")
    fetcher.stay()
    take(fetcher)
    bed.forget()
    assert len(poll(fetcher, fetcher.mark)) == 3
    assert [each.step for each in bed.requests] == ["list"]
    fetcher.close()


def test_who_may_stay_logs_in_once_and_out_in_the_end(bed: TestBed, make: Make) -> None:
    fetcher = make()
    fetcher.stay()
    for _ in range(3):
        poll(fetcher)
    fetcher.close()
    assert (logins(bed), bed.asked("logout")) == (1, 1)


def test_who_may_not_stay_logs_out_after_each_visit(bed: TestBed, make: Make) -> None:
    fetcher = make()
    for _ in range(2):
        poll(fetcher)
    assert (logins(bed), bed.asked("logout")) == (2, 2)


def test_a_session_that_has_ended_meanwhile_is_begun_anew(bed: TestBed, make: Make) -> None:
    fetcher = make()
    fetcher.stay()
    poll(fetcher)
    bed.log_out_all()
    assert len(take(fetcher)) == 5
    fetcher.close()
    assert bed.messages("INBOX") == []


def test_after_a_failure_nobody_stays_logged_in(bed: TestBed, make: Make) -> None:
    fetcher = make()
    fetcher.stay()
    poll(fetcher)
    bed.trouble("error", at=("list",), times=9)
    with pytest.raises(UnavailableError):
        poll(fetcher)
    bed.quiet()
    bed.forget()
    poll(fetcher)
    assert logins(bed) == 1
    fetcher.close()


def test_no_more_than_parallel_messages_are_asked_for_at_once(bed: TestBed, make: Make) -> None:
    import threading

    lock, at_once, most = threading.Lock(), 0, 0
    fetcher = make(parallel=2)
    with fetcher:
        keys = [item.key for item in fetcher.listing(Query.always)]
        session: Any = fetcher._session
        raw = session.raw

        def counted(row: Any) -> Any:
            nonlocal at_once, most
            with lock:
                at_once += 1
                most = max(most, at_once)
            try:
                return raw(row)
            finally:
                with lock:
                    at_once -= 1

        session.raw = counted
        assert len(list(fetcher.retrieve(keys))) == 5
    assert most == 2


def by_number(text: str) -> str:
    """Ids that say in which order messages have come, as UIDs of IMAP do."""
    uid = '\nfields.id = { css = "input[name=uid]", attr = "value" }\n'
    return text.replace(
        uid, f'\nfields.id = {{ css = "td.subject" }}{uid.replace(".id", ".uid")}'
    ).replace("{id}", "{uid}")


def test_of_many_pages_the_first_alone_is_read_while_nothing_has_come(
    bed: TestBed, make: Make, changed: Callable[[Change], str]
) -> None:
    fetcher = make(site=changed(by_number), on_done="keep")
    fetcher.stay()
    assert len(take(fetcher)) == 5
    bed.forget()
    assert poll(fetcher, fetcher.mark) == []
    assert [each.step for each in bed.requests] == ["list"]
    assert not fetcher.lists("INBOX;0")
    bed.put("INBOX", message(5))
    assert len(poll(fetcher, fetcher.mark)) == 6
    fetcher.close()


@pytest.mark.parametrize("what", ["where", "unfinished", "day", "removed"])
def test_all_pages_are_read_where_the_first_would_not_tell(
    bed: TestBed,
    make: Make,
    changed: Callable[[Change], str],
    monkeypatch: pytest.MonkeyPatch,
    what: str,
) -> None:
    fetcher = make(site=changed(by_number), on_done="keep")
    fetcher.stay()
    with fetcher:
        keys = [item.key for item in fetcher.listing(Query.always)]
        fetcher.unfinished(keys[:1] if what == "unfinished" else [])
    if what == "day":
        monkeypatch.setattr(mark, "DAY", -600.0)
    if what == "removed":
        bed.delete("INBOX", bed.uids("INBOX")[0])
    where = Query("size < 1GB") if what == "where" else Query.always
    with fetcher:
        listed = list(fetcher.listing(where, fetcher.mark))
    assert len(listed) == (4 if what == "removed" else 5)
    fetcher.close()


def test_who_waited_in_vain_does_not_wait_as_long_to_log_out(
    bed: TestBed, make: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(browser, "PARTING", 0.02)
    fetcher = make(timeout="60s")
    poll(fetcher)
    bed.trouble("slow", at=("logout",), seconds=8.0, times=1)
    began = time.monotonic()
    poll(fetcher)
    assert time.monotonic() - began < 8
    bed.quiet()


# What is done with what is settled


@pytest.mark.parametrize("on_done", ["delete", "trash"])
def test_what_is_settled_is_removed(bed: TestBed, make: Make, on_done: str) -> None:
    take(make(on_done=on_done))
    assert bed.messages("INBOX") == []
    assert sorted(bed.messages("Trash")) == (MAIL if on_done == "trash" else [])


def test_what_is_to_be_kept_stays_as_it_is(bed: TestBed, make: Make) -> None:
    take(make(on_done="keep"))
    assert bed.messages("INBOX") == MAIL
    assert bed.asked("change") == 0
    assert not bed.bed.seen


def test_what_is_marked_as_read_is_marked_once(bed: TestBed, make: Make) -> None:
    first = make(on_done="seen")
    take(first)
    assert len(bed.bed.seen) == 5
    bed.put("INBOX", message(6))
    bed.forget()
    second = make(on_done="seen")
    take(second, first.mark)
    assert len(bed.bed.seen) == 6
    assert bed.asked("change") == 1
    assert bed.messages("INBOX") == [*MAIL, message(6)]


def test_of_many_messages_some_are_removed_while_others_are_still_to_come(
    bed: TestBed, make: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "BATCH", 2)
    left = []
    with make() as fetcher:
        keys = [item.key for item in fetcher.listing(Query.always)]
        for got in fetcher.retrieve(keys):
            assert isinstance(got, Fetched)
            left.append(len(bed.messages("INBOX")))
            fetcher.settle(got.key, Fate.DONE)
    assert left == [5, 5, 3, 3, 1]
    assert bed.messages("INBOX") == []


def test_where_places_shift_removing_some_leads_to_no_wrong_message(
    bed: TestBed,
    make: Make,
    monkeypatch: pytest.MonkeyPatch,
    changed: Callable[[Change], str],
) -> None:
    monkeypatch.setattr(module, "BATCH", 2)
    by_place = changed(
        lambda text: text.replace("a.src", "a.place").replace(
            "\n[list]\n", "\n[list]\nvolatile = true\n"
        )
    )
    bed.trouble("positions")
    got = take(make(site=by_place))
    assert sorted(map(bytes, got.values())) == MAIL  # type: ignore[arg-type]
    assert bed.messages("INBOX") == []


def test_a_removal_that_is_not_done_is_an_error(bed: TestBed, make: Make) -> None:
    bed.trouble("stubborn")
    with pytest.raises(UnavailableError, match="5 of 5 messages are still in"):
        take(make())
    assert bed.messages("INBOX") == MAIL


def test_a_message_that_somebody_else_removes_is_missed_and_no_error(
    bed: TestBed, make: Make
) -> None:
    with make() as fetcher:
        keys = [item.key for item in fetcher.listing(Query.always)]
        bed.delete("INBOX", *bed.uids("INBOX")[:1])
        got = list(fetcher.retrieve(keys))
        for each in got:
            fetcher.settle(each.key, Fate.DONE)
    missed = [each for each in got if isinstance(each, Missed)]
    assert [type(each.error) for each in missed] == [GoneError]
    assert len(got) == 5
    assert bed.messages("INBOX") == []


# What goes wrong


@pytest.mark.parametrize("alone", [False, True])
def test_a_message_that_the_webmail_cannot_give_keeps_none_of_the_others(
    bed: TestBed, make: Make, alone: bool
) -> None:
    """Nor does it make a source fail for ever in which nothing else is new."""
    if alone:
        bed.delete("INBOX", *bed.uids("INBOX")[1:])
    bad = f"INBOX;{bed.uids('INBOX')[0]}"
    with make() as fetcher:
        session: Any = fetcher._session
        raw = session.raw

        def failing(row: Any) -> Any:
            if bad.endswith(row["id"]):
                raise UnavailableError("testbed: raw: an error that it tells of this one")
            return raw(row)

        session.raw = failing
        keys = [item.key for item in fetcher.listing(Query.always)]
        got = list(fetcher.retrieve(keys))
        for each in got:
            if isinstance(each, Fetched):
                fetcher.settle(each.key, Fate.DONE)
        fetcher.unfinished([bad])
    assert [each.key for each in got if isinstance(each, Missed)] == [bad]
    assert bed.messages("INBOX") == MAIL[:1]
    again = take(make(), fetcher.mark)
    assert list(again.values()) == MAIL[:1]


def test_a_layout_that_was_never_seen_is_named_and_is_no_empty_mailbox(
    bed: TestBed, make: Make
) -> None:
    bed.trouble("layout")
    with pytest.raises(LayoutError) as caught:
        poll(make())
    assert caught.value.exit_code == 76
    assert "list" in caught.value.text


def test_a_wrong_password_is_a_login_error(make: Make) -> None:
    with pytest.raises(LoginError):
        poll(make(password="wrong"))


def test_a_message_over_max_size_is_left_and_asked_for_once(
    bed: TestBed, make: Make, log: LogDouble
) -> None:
    bed.trouble("unsized")
    bed.put("INBOX", message(9, b"x" * 5000))
    first = make(max_size="1KB", on_done="keep")
    got = take(first)
    assert sum(isinstance(each, bytes) for each in got.values()) == 5
    bed.forget()
    second = make(max_size="1KB", on_done="keep")
    assert len(poll(second, first.mark)) == 5
    assert "messages over max_size stay at the webmail" in log.said("warning")
    third = make(on_done="keep")
    assert len(poll(third, second.mark)) == 6


# The options


def options(**changes: object) -> Any:
    table = {
        "site": "testbed", "url": "https://webmail.example.org/", "user": "ann",
        "password": "x", **changes,
    }  # fmt: skip
    return WebmailFetcher.options.read({k: v for k, v in table.items() if v is not None})


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"password": None}, "expected the password, or the `cookies` of a browser"),
        ({"folders": ["!Junk"]}, "expected at least one folder to read"),
        ({"folders": ["!"]}, "expected a folder such as"),
        ({"url": "webmail.example.org"}, "expected an address such as"),
        ({"url": "file:///etc/passwd"}, "expected an address such as"),
        ({"url": "https://ann:secret@webmail.example.org/"}, "`user` and `password`"),
        ({"proxy": "ftp://proxy"}, "expected an address such as"),
        ({"on_done": "flag"}, "delete"),
    ],
)
def test_what_is_wrong_with_the_options_is_said(change: dict[str, object], said: str) -> None:
    with pytest.raises(ConfigError) as caught:
        options(**change)
    assert said in caught.value.text
    assert "secret" not in caught.value.text


@pytest.mark.parametrize(
    ("change", "names"),
    [({}, []), ({"site": "nowhere"}, ["site"]), ({"ca_file": "/none"}, ["ca_file"])],
)
def test_check_looks_whether_the_site_is_there(
    change: dict[str, object], names: Sequence[str]
) -> None:
    assert [name for name, _ in options(**change).look()] == names


def test_check_says_where_a_site_of_ones_own_would_be() -> None:
    ((_, text),) = options(site="horde").look()
    own = os.path.join(settings_directory(), "sites", "horde.toml")
    assert text.startswith("there is no site 'horde'; there are roundcube, ")
    assert text.endswith(f", and one of your own would be {own}")


def test_check_says_what_a_site_cannot_do(changed: Callable[[Change], str]) -> None:
    mine = changed(lambda text: re.sub(r"(?ms)^\[seen\].*?(?=^\[)", "", text))
    assert list(options(site=mine).look()) == []
    found = list(options(site=mine, on_done="seen").look())
    said = 'the site mine does not say how to mark a message as read; it knows "delete", "trash"'
    assert found == [("on_done", f'{said}, "keep"')]


def test_what_is_mended_by_hand_ends_the_rest_after_a_failure(
    changed: Callable[[Change], str], tmp_path: Path
) -> None:
    mine = changed(lambda text: text)
    secret, cookies = tmp_path / "page.secret", tmp_path / "page.cookies"
    made = options(site=mine, password={"file": str(secret)}, cookies=str(cookies))
    assert [os.path.basename(each) for each in made.watched()] == [
        "page.secret", "page.cookies", f"{mine}.toml",
    ]  # fmt: skip
    assert list(options(site="nowhere").watched()) == []
