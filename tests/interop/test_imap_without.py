"""A real IMAP server that can do less: without UIDPLUS, MOVE, CONDSTORE, LITERAL+ and others."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from mailflow.testing.dovecot import CAPABILITIES, Dovecot

from .imap_servers import Account, message

pytestmark = pytest.mark.interop("dovecot-imapd")

BARE = [name for name in CAPABILITIES.split() if name != "IMAP4rev1"]


@pytest.fixture(scope="module", params=[["UIDPLUS"], ["UIDPLUS", "MOVE"], BARE], ids=len)
def server(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Dovecot]:
    directory = tmp_path_factory.mktemp("dovecot")
    with Dovecot(directory, imap=True, without=request.param) as running:
        yield running


@pytest.fixture
def account(server: Dovecot, tmp_path: Path) -> Account:
    return Account(server, tmp_path)


def test_dal_31_without_uidplus_nothing_is_expunged_but_marked_and_said_so(
    account: Account, capfd: pytest.CaptureFixture[str]
) -> None:
    account.deliver(message("theirs"), message("ours"))
    account.mark(1, "\\Deleted")
    account.run(where='subject is "ours"', keep="0d", on_done="delete")
    assert account.left() == [message("theirs"), message("ours")]
    assert account.flags() == [{"\\Deleted"}, {"\\Deleted"}]
    (line,) = [each for each in capfd.readouterr().err.splitlines() if "UIDPLUS" in each]
    assert "marked as deleted" in line


def test_what_is_marked_but_still_there_does_not_come_again(account: Account) -> None:
    account.deliver(message("one"))
    for _ in range(3):
        account.run(keep="0d", on_done="delete")
    assert account.subjects() == ["one"]


def test_a_move_leaves_one_copy_in_the_target_and_expunges_nothing_of_others(
    account: Account,
) -> None:
    account.deliver(message("theirs"), message("ours"))
    account.mark(1, "\\Deleted")
    for _ in range(2):
        account.run(where='subject is "ours"', keep="0d", on_done="move Done")
    assert account.left("Done") == [message("ours")]
    assert account.left()[0] == message("theirs")


def test_a_poll_needs_nothing_but_the_base_protocol(account: Account) -> None:
    account.deliver(message("one"))
    account.run()
    account.deliver(message("two"), message("three"))
    account.mark(1, "\\Seen")
    assert account.run() == 0
    assert account.subjects() == ["one", "three", "two"]


def test_names_and_queries_of_any_alphabet_need_no_extension(account: Account) -> None:
    folder = "Entwürfe & mehr"
    text = message("one", "Grüße\r\n".encode(), "Content-Type: text/plain; charset=utf-8")
    account.deliver(text, message("two"), folder=folder)
    assert account.run(folders=[folder], where='content contains "GRÜSSE"') == 0
    assert account.subjects() == ["one"]
