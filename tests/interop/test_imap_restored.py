"""A mailbox on a real server is put back to what it was, or loses its index: nothing is lost,
and nothing comes twice."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from mailflow.testing.dovecot import Dovecot

from .imap_servers import Account, message

pytestmark = pytest.mark.interop("dovecot-imapd")


@pytest.fixture(scope="module")
def dovecot(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Dovecot]:
    with Dovecot(tmp_path_factory.mktemp("restored"), imap=True) as dovecot:
        yield dovecot


@pytest.fixture
def mailbox(dovecot: Dovecot, tmp_path: Path) -> Account:
    return Account(dovecot, tmp_path)


def test_what_comes_after_the_index_was_lost_is_found_though_changes_are_counted_anew(
    mailbox: Account, dovecot: Dovecot
) -> None:
    mailbox.deliver(message("one"), message("two"))
    for flag in ("\\Answered", "\\Seen", "\\Draft"):
        mailbox.mark(1, flag)
    where = "not flagged"  # which may change, so that changes are asked for
    mailbox.run(where=where)
    folder = Path(dovecot.maildir(mailbox.user))
    for file in folder.glob("dovecot.index*"):
        file.unlink()
    mailbox.deliver(message("three"))
    mailbox.run(where=where)
    mailbox.deliver(message("four"))
    mailbox.run(where=where)
    assert mailbox.subjects() == ["four", "one", "three", "two"]


@pytest.mark.parametrize(
    "options",
    [{}, {"where": "not seen"}, {"keep": "0d", "on_done": "delete"}],
    ids=["kept", "searched", "deleted"],
)
def test_f14_new_mail_of_a_restored_mailbox_is_not_taken_for_what_was_lost(
    mailbox: Account, dovecot: Dovecot, tmp_path: Path, options: dict[str, object]
) -> None:
    folder, backup = dovecot.maildir(mailbox.user), tmp_path / "backup"
    mailbox.deliver(message("one"), message("two"))
    mailbox.run(**options)
    shutil.copytree(folder, backup)
    mailbox.deliver(*(message(f"lost-{number}") for number in range(4)))
    mailbox.run(**options)
    shutil.rmtree(folder)
    shutil.copytree(backup, folder)
    owner = os.stat(os.path.dirname(folder))
    for place, _, files in os.walk(folder):
        for each in (place, *(os.path.join(place, name) for name in files)):
            os.chown(each, owner.st_uid, owner.st_gid)
    mailbox.deliver(message("new-1"), message("new-2"))
    mailbox.run(**options)
    mailbox.deliver(message("new-3"))
    mailbox.run(**options)
    lost = [f"lost-{number}" for number in range(4)]
    assert mailbox.subjects() == sorted([*lost, "new-1", "new-2", "new-3", "one", "two"])
    if "on_done" in options:
        assert mailbox.left() == []
