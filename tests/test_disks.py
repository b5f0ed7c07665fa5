"""Disks that are away."""

from __future__ import annotations

import os
import stat
from pathlib import Path
from typing import Any

import pytest

from mailflow import disks
from mailflow.errors import UnavailableError


def test_nothing_may_be_made_where_what_was_used_is_gone_with_its_disk(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    mounted = tmp_path / "mount"
    (mounted / "box").mkdir(parents=True)
    stat_as_it_is = os.stat

    def stat_of_a_disk(path: str, **how: Any) -> os.stat_result:
        found = list(stat_as_it_is(path, **how))
        if "box" in os.fspath(path):
            found[stat.ST_DEV] += 1
        return os.stat_result(found)

    monkeypatch.setattr(os, "stat", stat_of_a_disk)
    disks.used(str(mounted / "box"))
    disks.look_for_disk(str(mounted / "box"))
    (mounted / "box").rmdir()
    with pytest.raises(UnavailableError, match=r"mount/box is gone, and its disk too; is it mou"):
        disks.look_for_disk(str(mounted / "box"))


def test_what_was_removed_on_a_disk_that_is_there_may_be_made_again(tmp_path: Path) -> None:
    (tmp_path / "a" / "box").mkdir(parents=True)
    disks.used(str(tmp_path / "a" / "box"))
    (tmp_path / "a" / "box").rmdir()
    (tmp_path / "a").rmdir()
    disks.look_for_disk(str(tmp_path / "a" / "box"))


def test_what_was_never_used_may_be_made_on_any_disk(tmp_path: Path) -> None:
    disks.look_for_disk(str(tmp_path / "new" / "box"))


def test_a_path_is_found_wherever_it_is_seen_from(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("box").mkdir()
    disks.used("box")
    Path("box").rmdir()
    assert disks.is_gone("box")
    disks.look_for_disk("box")
