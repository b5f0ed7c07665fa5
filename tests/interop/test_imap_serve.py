"""`mailflow serve` told of mail by two real IMAP servers, as soon as it comes."""

from __future__ import annotations

import json
import time
from collections.abc import Callable

import pytest

from mailflow.testing.serving import Serving

from .imap_servers import PASSWORD, Account, message

pytestmark = pytest.mark.timeout(120)

PIPELINE = """
[[fetch]]
use = "imap"
host = "{host}"
port = {port}
tls = "none"
user = "{user}"
password = {{ file = "ann.secret" }}
every = "1h"
folders = {folders}

[[distribute]]
use = "maildir"
path = "Maildir"
"""


def serving(account: Account, *folders: str) -> Serving:
    secret = account.home / "ann.secret"
    secret.write_text(f"{PASSWORD}\n")
    secret.chmod(0o600)
    file = account.home / "ann.toml"
    file.write_text(
        PIPELINE.format(
            host=account.server.host, port=account.server.imap_port, user=account.user,
            folders=json.dumps(list(folders)),
        )
    )  # fmt: skip
    return Serving(file)


def until(wanted: Callable[[], bool], running: Serving) -> None:
    deadline = time.monotonic() + 20
    while not wanted():
        assert time.monotonic() < deadline, running.said
        time.sleep(0.05)  # nothing tells another process when mail comes into a Maildir


def test_mail_is_fetched_when_the_server_tells_of_it(account: Account) -> None:
    account.deliver(message("one"))
    with serving(account, "INBOX") as running:
        until(lambda: account.subjects() == ["one"], running)
        account.deliver(message("two"))
        until(lambda: account.subjects() == ["one", "two"], running)
        account.deliver(message("three"))
        until(lambda: account.subjects() == ["one", "three", "two"], running)


def test_what_another_program_does_meanwhile_ends_no_session(account: Account) -> None:
    account.deliver(message("one"), message("two"))
    with serving(account, "INBOX") as running:
        until(lambda: account.subjects() == ["one", "two"], running)
        account.mark(1, "\\Deleted")
        with account.program() as session:
            session.expunge()
        account.deliver(message("three"))
        until(lambda: account.subjects() == ["one", "three", "two"], running)
    assert account.left() == [message("two"), message("three")]


def test_the_first_of_several_folders_is_the_one_that_tells(account: Account) -> None:
    sent = account.server.folder("Sent")
    account.deliver(message("one"), folder="Sent")
    with serving(account, sent, "INBOX") as running:
        until(lambda: account.subjects() == ["one"], running)
        account.deliver(message("two"), folder="Sent")
        until(lambda: account.subjects() == ["one", "two"], running)


def test_it_ends_at_once_while_it_waits(account: Account) -> None:
    account.deliver(message("one"))
    with serving(account, "INBOX") as running:
        until(lambda: account.subjects() == ["one"], running)
        begun = time.monotonic()
        running.stop()
    assert time.monotonic() - begun < 10, running.said
