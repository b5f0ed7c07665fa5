"""Flags that change at a real server: what is listed again, and by which question."""

from __future__ import annotations

import imaplib
import os
from collections.abc import Callable, Iterator

import pytest

from mailflow.kinds import Runtime
from mailflow.query import Query
from mailflow.testing.dovecot import Dovecot
from mailflow_imap.fetcher import ImapFetcher
from mailflow_imap.source import ImapSourceOptions

pytestmark = pytest.mark.interop("dovecot-imapd")

PASSWORD = "canary-93aa"
COUNT = 30

Make = Callable[[], ImapFetcher]


@pytest.fixture(scope="module", params=[(), ("CONDSTORE", "QRESYNC")], ids=["condstore", "without"])
def dovecot(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Dovecot]:
    home = tmp_path_factory.mktemp("dovecot")
    with Dovecot(home, imap=True, without=request.param) as dovecot:
        yield dovecot


@pytest.fixture
def user(dovecot: Dovecot) -> str:
    user = f"u{os.urandom(6).hex()}"
    dovecot.add_user(user, PASSWORD)
    dovecot.deliver(user, *(b"Subject: %d\r\n\r\nhello\r\n" % n for n in range(COUNT)))
    return user


@pytest.fixture
def make(dovecot: Dovecot, user: str, runtime: Runtime) -> Make:
    table = {
        "host": dovecot.host, "port": dovecot.imap_port, "user": user, "password": PASSWORD,
    }  # fmt: skip
    return lambda: ImapFetcher(ImapSourceOptions.read(table), runtime)


def mark(dovecot: Dovecot, user: str, uid: int, flag: str) -> None:
    """Another program does so."""
    with imaplib.IMAP4(dovecot.host, dovecot.imap_port, timeout=20) as program:
        program.login(user, PASSWORD)
        program.select()
        assert program.uid("STORE", str(uid), "+FLAGS", flag)[0] == "OK"


def visit(fetcher: ImapFetcher, where: str, mark: str = "", unfinished: int = 0) -> list[int]:
    with fetcher:
        found = list(fetcher.listing(Query(where), mark))
        fetcher.unfinished([item.key for item in found[:unfinished]])
    return [item.uid or 0 for item in found]


def test_what_is_marked_later_is_listed_and_not_all_the_others(
    dovecot: Dovecot, user: str, make: Make
) -> None:
    first = make()
    assert visit(first, "flagged") == []
    mark(dovecot, user, 7, "\\Flagged")
    dovecot.deliver(user, b"Subject: new\r\n\r\nhello\r\n")
    second = make()
    listed = visit(second, "flagged", first.mark)
    assert 7 in listed
    assert len(listed) <= 2
    assert not second.complete
    listed = visit(make(), "flagged", second.mark)
    assert listed in ([], [7]), "without CONDSTORE it is found each time, and known"


def test_what_is_still_wanted_is_listed_though_it_has_not_changed(
    dovecot: Dovecot, user: str, make: Make
) -> None:
    for uid in (3, 4):
        mark(dovecot, user, uid, "\\Flagged")
    first = make()
    assert visit(first, "flagged", unfinished=1) == [3, 4]
    assert 3 in visit(make(), "flagged", first.mark)


def test_what_time_alone_decides_is_asked_for_each_time(
    dovecot: Dovecot, user: str, make: Make
) -> None:
    where = "older than 1h and not deleted"
    first = make()
    expected = visit(first, where)
    mark(dovecot, user, 5, "\\Deleted")
    listed = visit(make(), where, first.mark)
    assert set(expected) - {5} <= set(listed)
