"""The mailbox where connections break: nothing half done is taken for done, and no message
is touched that was not meant."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from contextlib import suppress

import pytest

import mailflow
from mailflow.errors import MailflowError, UnavailableError
from mailflow.halt import Halt
from mailflow.mailboxes import Database
from mailflow.testing.dovecot import Dovecot
from mailflow.testing.proxy import Fault, Proxy

SECRET = "canary-2b77-secret"

pytestmark = pytest.mark.interop("dovecot-imapd")


def post(number: int) -> bytes:
    return f"Subject: {number}\r\n\r\n{'x' * 3000}\r\n".encode()


FOUR = [post(number) for number in range(4)]


@pytest.fixture(scope="module")
def dovecot(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Dovecot]:
    with Dovecot(tmp_path_factory.mktemp("dovecot"), imap=True) as dovecot:
        yield dovecot


@pytest.fixture
def proxy(dovecot: Dovecot) -> Iterator[Proxy]:
    with Proxy((dovecot.host, dovecot.imap_port)) as proxy:
        yield proxy


@pytest.fixture
def user(dovecot: Dovecot) -> str:
    name = f"u{os.urandom(6).hex()}"
    dovecot.add_user(name, SECRET)
    return name


def opened(proxy: Proxy, user: str, more: str = "", **words: object) -> Database:
    url = f"imap://{user}@{proxy.host}:{proxy.port}?tls=none&timeout=5s{more}"
    return mailflow.mailbox(url, password=SECRET, **words)  # type: ignore[arg-type]


def octets_of(proxy: Proxy, user: str, act: object) -> int:
    """How many octets come to the client while it does that undisturbed."""
    before = proxy.to_client
    with opened(proxy, user) as box:
        act(box)  # type: ignore[operator]
    return proxy.to_client - before


@pytest.mark.parametrize("kind", ["cut", "reset"])
def test_f1_a_selection_that_is_cut_anywhere_gives_whole_rows_and_says_so(
    dovecot: Dovecot, proxy: Proxy, user: str, kind: str
) -> None:
    dovecot.deliver(user, *FOUR)
    whole = octets_of(proxy, user, lambda box: list(box.inbox().select("email")))
    told = 0
    for after in range(1, whole - 200, whole // 12):
        proxy.faults = [Fault(kind, after, connection=proxy.connections + 1)]  # type: ignore[arg-type]
        with opened(proxy, user) as box:
            rows, error = read_until_it_breaks(box)
            assert rows == FOUR[: len(rows)]
            assert error or len(rows) == 4, "a connection that broke between two tasks"
            assert read_until_it_breaks(box) == (FOUR, "")
        told += bool(error)
    assert told > 5
    assert dovecot.messages(user) == FOUR


def read_until_it_breaks(box: Database) -> tuple[list[bytes], str]:
    """(what came, what was said then)."""
    rows: list[bytes] = []
    try:
        for row in box.inbox().select("email", order="uid"):
            rows.append(row.email)
    except UnavailableError as error:
        return rows, error.text
    return rows, ""


def test_a_delete_that_is_cut_anywhere_removes_what_is_meant_or_nothing(
    dovecot: Dovecot, proxy: Proxy, user: str
) -> None:
    """And once more, it ends what was begun."""
    dovecot.deliver(user, *FOUR)
    whole = octets_of(proxy, user, lambda box: box.inbox("uid is 1").delete())
    assert dovecot.messages(user) == FOUR[1:]
    left = FOUR[1:]
    for after in range(whole // 3, whole, whole // 10):
        dovecot.deliver(user, post(9))
        proxy.faults = [Fault("cut", after, connection=proxy.connections + 1)]
        with opened(proxy, user) as box:
            with suppress(UnavailableError):
                box.inbox('subject is "9"').delete()
            assert dovecot.messages(user) in (left, [*left, post(9)])
            box.inbox('subject is "9"').delete()
        assert dovecot.messages(user) == left


def test_an_insert_whose_answer_is_lost_is_told(dovecot: Dovecot, proxy: Proxy, user: str) -> None:
    """Whether it is there, nobody knows: it is not done once more behind anybody's back."""
    whole = octets_of(proxy, user, lambda box: box.folder("INBOX").insert(email=post(0)))
    proxy.faults = [Fault("cut", whole - 100, connection=proxy.connections + 1)]
    with opened(proxy, user) as box:
        with pytest.raises(UnavailableError):
            box.folder("INBOX").insert(email=post(1))
        there = box.folder("INBOX")().count()
    assert there in (1, 2)
    assert len(dovecot.messages(user)) == there


def test_a_server_that_says_nothing_more_ends_in_its_time_out(
    dovecot: Dovecot, proxy: Proxy, user: str
) -> None:
    dovecot.deliver(user, *FOUR)
    proxy.faults = [Fault("stall", 900)]
    with opened(proxy, user, "&timeout=1s") as box:
        begun = time.monotonic()
        with pytest.raises(UnavailableError, match="keeps silent"):
            list(box.inbox().select("email"))
        assert time.monotonic() - begun < 10


def test_whoever_waits_for_a_connection_is_let_go_when_all_ends(
    dovecot: Dovecot, proxy: Proxy, user: str
) -> None:
    from mailflow_imap.pool import Pool

    halt = Halt()
    try:
        with opened(proxy, user, "&pool=1", halt=halt) as box:
            pool: Pool = box._mailbox._pool  # type: ignore[attr-defined]
            with pool.lent():
                halt.set()
                with pytest.raises(MailflowError, match="stopped on request"):
                    box.inbox()
    finally:
        halt.close()
