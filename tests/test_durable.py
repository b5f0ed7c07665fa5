"""Names that a power cut does not take back."""

from __future__ import annotations

import errno
import os
import stat
from pathlib import Path

import pytest

from mailflow import durable


@pytest.fixture
def steps(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """What is flushed and renamed, in order."""
    done: list[str] = []
    fsync, rename = os.fsync, os.rename

    def flush(descriptor: int) -> None:
        done.append("flush " + os.path.basename(os.readlink(f"/proc/self/fd/{descriptor}")))
        fsync(descriptor)

    def take_name(old: str, new: str) -> None:
        done.append("rename")
        rename(old, new)

    monkeypatch.setattr(os, "fsync", flush)
    monkeypatch.setattr(os, "rename", take_name)
    return done


def test_octets_are_flushed_before_the_name_and_the_name_after(
    tmp_path: Path, steps: list[str]
) -> None:
    durable.replace(str(tmp_path / "a"), b"new")
    assert (tmp_path / "a").read_bytes() == b"new"
    assert steps == ["flush a.new", "rename", f"flush {tmp_path.name}"]


def test_a_replaced_file_is_for_this_user_alone_unless_told_otherwise(tmp_path: Path) -> None:
    for mode in (0o600, 0o644):
        durable.replace(str(tmp_path / "a"), b"new", mode)
        assert stat.S_IMODE((tmp_path / "a").stat().st_mode) == mode


@pytest.mark.skipif(os.geteuid() != 0, reason="needs root, to give a file away")
def test_the_owner_can_be_that_of_another_file(tmp_path: Path) -> None:
    (tmp_path / "a").write_bytes(b"old")
    os.chown(tmp_path / "a", 65534, 65534)
    durable.replace(str(tmp_path / "a"), b"new", like=(tmp_path / "a").stat())
    assert (tmp_path / "a").stat().st_uid == 65534


def test_what_a_kill_has_left_is_no_hindrance(tmp_path: Path) -> None:
    (tmp_path / "a.new").write_bytes(b"half of something long")
    durable.replace(str(tmp_path / "a"), b"new")
    assert os.listdir(tmp_path) == ["a"]


def test_what_fails_leaves_the_old_file_and_nothing_else(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(descriptor: int) -> None:
        raise OSError(errno.ENOSPC, "no room")

    (tmp_path / "a").write_bytes(b"old")
    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OSError, match="no room"):
        durable.replace(str(tmp_path / "a"), b"new")
    assert os.listdir(tmp_path) == ["a"]
    assert (tmp_path / "a").read_bytes() == b"old"


def test_where_a_directory_cannot_be_flushed_all_is(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def no_such_thing(descriptor: int) -> None:
        raise OSError(errno.EINVAL, "not for directories")

    done: list[str] = []
    monkeypatch.setattr(os, "fsync", no_such_thing)
    monkeypatch.setattr(os, "sync", lambda: done.append("sync"))
    durable.flush_directory(str(tmp_path))
    assert done == ["sync"]


def test_a_descriptor_that_was_given_stays_open(tmp_path: Path) -> None:
    descriptor = os.open(tmp_path, os.O_RDONLY)
    durable.flush_directory(descriptor)
    os.close(descriptor)


def test_a_directory_and_those_above_it_are_made_each_flushed_for_this_user(
    tmp_path: Path, steps: list[str]
) -> None:
    for _ in range(2):
        durable.make_directory(str(tmp_path / "a" / "b"))
    assert stat.S_IMODE((tmp_path / "a" / "b").stat().st_mode) == 0o700
    assert steps == [f"flush {tmp_path.name}", "flush a"]
