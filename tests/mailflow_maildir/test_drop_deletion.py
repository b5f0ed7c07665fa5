"""What a QUIT deletes in a Maildir: all or nothing, and on what disks."""

from __future__ import annotations

import errno
import os
from collections.abc import Callable
from typing import Any

import pytest

from mailflow.errors import (
    InUseError,
    UnavailableError,
)
from mailflow_maildir import ledger, maildrop
from mailflow_maildir.opened import OpenMaildir

from .conftest import LIST, Drop

ROOT = os.geteuid() == 0

# Deletion


def test_086_what_is_deleted_is_written_down_flushed_removed_and_flushed(
    drop: Drop, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("new/a", "cur/b:2,S", "new/c"):
        drop.add(name)
    session = drop.enter()
    steps: list[str] = []
    for call in ("fsync", "unlink"):
        real = getattr(os, call)

        def told(what: Any, *, call: str = call, real: Any = real) -> None:
            path = os.readlink(f"/proc/self/fd/{what}") if isinstance(what, int) else what
            steps.append(f"{call} {os.path.relpath(path, drop.path)}")
            real(what)

        monkeypatch.setattr(os, call, told)
    session.close(["a", "b"])
    assert steps[:4] == [f"fsync {LIST}", "fsync .", "unlink new/a", "unlink cur/b:2,S"]
    assert sorted(steps[4:]) == ["fsync cur", "fsync new"]


def test_085_what_was_begun_is_finished_at_the_next_login(drop: Drop) -> None:
    """By inode: a file that came from a backup under the same name is another message."""
    for name in ("new/a", "cur/b:2,S", "new/c"):
        drop.add(name)
    session = drop.enter()
    session._condemn({number: session._inode(number) for number in range(3)})
    session.close()
    (drop.path / "new" / "c").rename(drop.path.parent / "held")  # its inode is used by no other
    drop.add("new/c").rename(drop.path / "cur" / "c:2,")
    assert list(drop.listed()) == ["c"]
    assert drop.files() == ["cur/c:2,"]


def put_back(drop: Drop, monkeypatch: pytest.MonkeyPatch) -> None:
    """The messages a and b come from a backup, and get the inodes that they had."""
    inodes = {"a": 7, "b": 8}
    monkeypatch.setattr(
        ledger.Ledger, "_inode", lambda self, path: inodes.get(path.partition("/")[2], 0)
    )
    for name in "ab":
        drop.add(f"new/{name}")


def condemned(drop: Drop, monkeypatch: pytest.MonkeyPatch) -> OpenMaildir:
    """A session in which the messages a and b have the inodes 7 and 8."""
    for name in "abc":
        drop.add(f"new/{name}")
    session = drop.enter()
    monkeypatch.setattr(session, "_inode", lambda number: 7 + number)
    return session


def test_what_comes_back_from_a_backup_with_its_old_inode_is_not_deleted_again(
    drop: Drop, monkeypatch: pytest.MonkeyPatch
) -> None:
    condemned(drop, monkeypatch).close(["a", "b"])
    assert drop.files() == ["new/c"]
    put_back(drop, monkeypatch)
    assert sorted(drop.listed()) == ["a", "b", "c"]
    assert drop.files() == ["new/a", "new/b", "new/c"]


def test_what_comes_back_after_a_kill_and_a_login_is_not_deleted_again(
    drop: Drop, monkeypatch: pytest.MonkeyPatch
) -> None:
    session = condemned(drop, monkeypatch)
    monkeypatch.setattr(ledger.Ledger, "done", lambda self: None)
    session.close(["a", "b"])
    monkeypatch.undo()
    monkeypatch.setattr(maildrop, "SETTLED", -1.0)
    assert list(drop.listed()) == ["c"]
    put_back(drop, monkeypatch)
    assert sorted(drop.listed()) == ["a", "b", "c"]


@pytest.mark.parametrize("cut", [1, 5, 12])
def test_a_deletion_that_was_not_written_whole_is_none(drop: Drop, cut: int) -> None:
    for name in "abc":
        drop.add(f"new/{name}")
    session = drop.enter()
    session._condemn({number: session._inode(number) for number in range(3)})
    session.close()
    file = drop.path / LIST
    file.write_bytes(file.read_bytes()[:-cut])
    assert list(drop.listed()) == list("abc")
    drop.add("new/d")
    assert list(drop.listed()) == list("abcd")
    assert list(drop.listed()) == list("abcd")


def test_085_where_nothing_can_be_removed_nothing_is_and_the_next_login_shows_all(
    drop: Drop, fails: Callable[..., None], monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in "abc":
        drop.add(f"new/{name}")
    session = drop.enter()
    with monkeypatch.context():
        fails("unlink", errno.EROFS)
        with pytest.raises(UnavailableError, match=r"cannot delete messages of .*: Read-only"):
            session.close(["a", "b"])
        monkeypatch.undo()
    assert list(drop.listed()) == list("abc")
    assert len(drop.files()) == 3


def test_085_where_one_cannot_be_removed_the_rest_is_and_it_is_not_served_again(
    drop: Drop, fails: Callable[..., None], monkeypatch: pytest.MonkeyPatch
) -> None:
    """All or nothing as a client sees it: the next session finishes what it can."""
    for name in "abc":
        drop.add(f"new/{name}")
    session = drop.enter()
    fails("unlink", errno.EIO, "new/b")
    with pytest.raises(UnavailableError, match="Input/output error"):
        session.close(["a", "b"])
    assert drop.files() == ["new/b", "new/c"]
    assert list(drop.listed()) == ["c"]
    assert drop.log.said("warning") == ["deleted messages cannot be removed; they are not served"]
    monkeypatch.undo()
    assert list(drop.listed()) == ["c"]
    assert drop.files() == ["new/c"]


def test_d01_a_full_disk_keeps_nobody_from_making_room(
    drop: Drop, fails: Callable[..., None], monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in "abc":
        drop.add(f"new/{name}")
    drop.listed()
    session = drop.enter()

    def full(descriptor: int, data: bytes) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(ledger, "write_whole", full)
    session.close(["a", "b"])
    assert drop.files() == ["new/c"]
    assert drop.log.said("warning") == ["a full disk: messages are deleted one by one"]


def test_d01_on_a_full_disk_mail_is_served_but_no_uidl_told_that_may_change(
    drop: Drop, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(descriptor: int, data: bytes) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(ledger, "write_whole", full)
    drop.add("new/1")
    assert list(drop.listed()) == ["1"]
    (drop.path / "dovecot-uidlist").write_text("3 V1 N1\n")
    with pytest.raises(UnavailableError, match="No space left"):
        drop.enter()


@pytest.mark.skipif(ROOT, reason="root may write anywhere")
def test_a_maildir_that_is_read_only_is_served(drop: Drop) -> None:
    drop.add("new/1")
    drop.path.chmod(0o500)
    try:
        session = drop.enter()
        with pytest.raises(InUseError):
            drop.enter()
        with pytest.raises(UnavailableError, match="read-only"):
            session.close(["1"])
    finally:
        drop.path.chmod(0o700)


def test_a_maildir_whose_list_cannot_be_made_is_served_and_nothing_is_deleted(
    drop: Drop, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = os.open

    def refused(path: Any, flags: int, *more: Any, **named: Any) -> int:
        if flags & os.O_CREAT:
            raise OSError(errno.EROFS, os.strerror(errno.EROFS), path)
        return real(path, flags, *more, **named)

    monkeypatch.setattr(os, "open", refused)
    drop.add("new/1")
    session = drop.enter()
    with pytest.raises(InUseError):
        drop.enter()
    with pytest.raises(UnavailableError, match="read-only: nothing was deleted"):
        session.close(["1"])
    assert drop.files() == ["new/1"]
