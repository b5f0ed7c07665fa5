"""A webmail as a source of `mailflow serve`: logged in once, polled cheaply, read by POP3."""

from __future__ import annotations

import poplib
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

import mailflow
from mailflow.testing.serving import Serving, free_ports
from mailflow.testing.webmail import TestBed

FILE = """
[pipeline]
name = "home"

[[fetch]]
use = "webmail"
site = "testbed"
url = "{url}"
user = "demo"
password = "demo"
every = "0.2s"
keep = "0d"

[[distribute]]
use = "spool"
drop = "ann"

[maildrop.ann]
use = "spool"
secret = "old program"

[[serve]]
use = "pop3"
listen = ["127.0.0.1:{port}"]
"""

MAIL = [b"Subject: %d\r\n\r\nhello\r\n" % number for number in range(3)]


@pytest.fixture
def bed() -> Iterator[TestBed]:
    with TestBed(["INBOX"]) as bed:
        bed.put("INBOX", *MAIL)
        yield bed


def eventually(holds: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 20
    while not holds():
        assert time.monotonic() < deadline
        time.sleep(0.02)  # what another process does is seen in what it has asked for


def test_pwm_10_a_webmail_is_read_by_pop3_through_the_spool(bed: TestBed, tmp_path: Path) -> None:
    """Cached: fetched by itself with one login, served though the webmail is gone, and in the
    end logged out."""
    (port,) = free_ports(1)
    file = tmp_path / "home.toml"
    file.write_text(FILE.format(url=bed.url, port=port))
    file.chmod(0o600)
    with Serving(file):
        eventually(lambda: bed.messages("INBOX") == [])
        bed.forget()
        eventually(lambda: bed.asked("list") > 3)
        assert {each.step for each in bed.requests} == {"list"}, "a poll is one request"
        box = poplib.POP3("127.0.0.1", port, timeout=10)
        box.user("ann")
        box.pass_("old program")
        found = [b"\r\n".join(box.retr(n + 1)[1]) + b"\r\n" for n in range(box.stat()[0])]
        box.quit()
        assert sorted(found) == MAIL
    assert bed.asked("logout") == 1


def test_pwm_01_from_python_a_webmail_is_used_as_any_other_mailbox(
    bed: TestBed, tmp_path: Path
) -> None:
    """Connect, list the folders, retrieve, delete."""
    file = tmp_path / "account.toml"
    lines = "".join(f'{name} = "{value}"\n' for name, value in bed.source().items())
    file.write_text(f"[account.page]\n{lines}")
    file.chmod(0o600)
    with mailflow.mailbox("page", file=str(file)) as box:
        assert "inbox" in box.tables
        rows = list(box.inbox().select("subject", "email"))
        assert sorted(row.email for row in rows) == MAIL
        assert box.inbox('subject is "1"').delete() == 1
    assert sorted(bed.messages("INBOX")) == [MAIL[0], MAIL[2]]
