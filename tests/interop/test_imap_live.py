"""A mailbox on each of two real IMAP servers, served live to a POP3 client by `mailflow serve`."""

from __future__ import annotations

import json
import poplib
import time
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from mailflow.testing.serving import Serving, free_ports

from .imap_servers import PASSWORD, Account, message

pytestmark = pytest.mark.timeout(120)

PIPELINE = """
[maildrop."*"]
use = "imap"
host = "{host}"
port = {port}
login = "passthrough"
folders = {folders}
trash = '\\Trash'

[[serve]]
use = "pop3"
listen = ["127.0.0.1:{listen}"]
"""

DRAFTS = "Entwürfe & mehr"


@contextmanager
def served(account: Account, *folders: str) -> Iterator[int]:
    """The port where the POP3 server listens."""
    (listen,) = free_ports(1)
    file = account.home / "live.toml"
    names = [account.server.folder(folder) for folder in folders]
    file.write_text(
        PIPELINE.format(
            host=account.server.host, port=account.server.imap_port, listen=listen,
            folders=json.dumps(names, ensure_ascii=False),
        )
    )  # fmt: skip
    with Serving(file) as running:
        yield listen
    assert "Traceback" not in running.said


@contextmanager
def client(account: Account, port: int, password: str = PASSWORD) -> Iterator[poplib.POP3]:
    """The end of a session before may still be on its way to the server."""
    deadline = time.monotonic() + 20
    while True:
        box = poplib.POP3("127.0.0.1", port, timeout=20)
        box.user(account.user)
        try:
            box.pass_(password)
            break
        except poplib.error_proto as error:
            box.close()
            if b"[IN-USE]" not in error.args[0] or time.monotonic() > deadline:
                raise
            time.sleep(0.02)
    try:
        yield box
    finally:
        box.close()


def texts(box: poplib.POP3) -> list[bytes]:
    return [b"\r\n".join([*box.retr(n + 1)[1], b""]) for n in range(box.stat()[0])]


def test_p3s_10_folders_of_any_name_are_one_drop_in_their_order(account: Account) -> None:
    account.deliver(message("one"), message("two", b"Gr\xfc\xdfe\r\n.dots\r\n"))
    account.deliver(message("draft"), folder=DRAFTS)
    with served(account, "INBOX", DRAFTS) as port, client(account, port) as box:
        wanted = [*account.left(), *account.left(DRAFTS)]
        assert texts(box) == wanted
        assert [int(line.split()[1]) for line in box.list()[1]] == [len(each) for each in wanted]
        assert len({line.split()[1] for line in box.uidl()[1]}) == 3


def test_nothing_is_marked_as_read_by_reading(account: Account) -> None:
    account.deliver(message("one"))
    with served(account, "INBOX") as port, client(account, port) as box:
        texts(box)
        box.quit()
    assert account.flags() == [set()]


def test_p3s_11_what_is_deleted_goes_to_the_trash_at_quit_and_not_before(
    account: Account,
) -> None:
    account.deliver(message("theirs"), message("ours"), message("left"))
    account.mark(1, "\\Deleted")
    with served(account, "INBOX") as port:
        with client(account, port) as box:
            assert box.stat()[0] == 2  # what another program has marked as deleted is not shown
            box.dele(1)
            assert len(account.left()) == 3
        with client(account, port) as box:  # the first one was cut off
            assert box.stat()[0] == 2
            box.dele(1)
            box.quit()
    assert account.left() == [message("theirs"), message("left")]
    assert account.left("Trash") == [message("ours")]


def test_p3s_12_uidls_stay_when_other_messages_come_and_go(account: Account) -> None:
    account.deliver(message("one"), message("two"))
    with served(account, "INBOX") as port:
        with client(account, port) as box:
            before = [line.split()[1] for line in box.uidl()[1]]
        with account.program() as session:
            session.store("1", "+FLAGS", "\\Deleted")
            session.expunge()
        account.deliver(message("three"))
        with client(account, port) as box:
            after = [line.split()[1] for line in box.uidl()[1]]
    assert after[0] == before[1]
    assert after[1] not in before


def test_a_wrong_password_is_the_server_s_to_refuse(account: Account) -> None:
    with (
        served(account, "INBOX") as port,
        pytest.raises(poplib.error_proto, match=r"-ERR \[AUTH\]"),
        client(account, port, "canary-guess"),
    ):
        pass
