"""The public harness strikes each step once, and sees loss, copies and mangling."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import ClassVar

import pytest

from mailflow.testing import kill
from mailflow.testing.crash import Session, Strike, Trip, killed_at_random, killed_before_each_step

pytestmark = pytest.mark.skipif(bool(kill.obstacle()), reason=kill.obstacle())

PROGRAM = """
import os, sys
near, far, after = sys.argv[-3:]
for name in sorted(os.listdir(near)):
    with open(f"{near}/{name}", "rb") as file:
        octets = file.read()
    if after == "first":
        os.unlink(f"{near}/{name}")
    target = name if after != "pid" else f"{os.getpid()}.{name}"
    with open(f"{far}/{target}", "wb") as file:
        file.write(octets)
    if after != "first":
        os.unlink(f"{near}/{name}")
"""
"""Moves files, deleting each one first, or last, or last under a name of its own."""


class Move(Trip):
    program: ClassVar[list[str]] = [sys.executable, "-c", PROGRAM]
    deletes = "last"

    def prepare(self) -> str:
        for name in ("near", "far"):
            (self.home / name).mkdir()
        for number in range(2):
            (self.home / "near" / f"{number}").write_bytes(b"%d" % number)
        return ""

    def session(self, strike: Strike) -> None:
        arguments = [str(self.home / "near"), str(self.home / "far"), self.deletes]
        for each in (strike, None):
            self.start(each, *arguments)

    def expected(self) -> Sequence[bytes]:
        return [b"0", b"1"]

    def left(self) -> Sequence[bytes]:
        return [path.read_bytes() for path in (self.home / "near").iterdir()]

    def arrived(self) -> Sequence[bytes]:
        return [path.read_bytes() for path in (self.home / "far").iterdir()]


class MoveFirst(Move):
    deletes = "first"


class MoveUnderAnotherName(Move):
    deletes = "pid"


class MoveNothing(Move):
    program: ClassVar[list[str]] = [sys.executable, "-c", "pass"]


def test_a_program_that_can_be_killed_anywhere_has_no_complaints(tmp_path: Path) -> None:
    assert killed_before_each_step(Move, tmp_path / "a", thorough=True) == []
    assert killed_at_random(Move, tmp_path / "b", times=3, seed=1) == []


def test_what_is_lost_is_found_with_the_step_it_was_lost_at(tmp_path: Path) -> None:
    found = killed_before_each_step(MoveFirst, tmp_path, thorough=True)
    assert any(": openat " in text and "lost: b'0'" in text for text in found)


def test_copies_and_halves_are_found_unless_a_copy_is_allowed(tmp_path: Path) -> None:
    found = killed_before_each_step(MoveUnderAnotherName, tmp_path / "a", thorough=True)
    assert any("there 2 times: b'0'" in text for text in found)
    assert any("not as it was: b''" in text for text in found)

    class Allowed(MoveUnderAnotherName):
        copies = 2

    found = killed_before_each_step(Allowed, tmp_path / "b", thorough=True)
    assert not any("times" in text for text in found)


def test_the_shares_of_a_test_are_all_of_it(tmp_path: Path) -> None:
    shares = [
        killed_before_each_step(MoveFirst, tmp_path / str(n), thorough=True, share=(n, 2))
        for n in range(2)
    ]
    whole = killed_before_each_step(MoveFirst, tmp_path / "all", thorough=True)
    assert sum(map(len, shares)) == len(whole)


def test_what_is_wrong_without_a_kill_is_said_as_that(tmp_path: Path) -> None:
    with pytest.raises(AssertionError, match="undisturbed, it is wrong already"):
        killed_before_each_step(MoveNothing, tmp_path)


def test_a_session_gets_a_home_and_not_the_environment_of_the_tests(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SENDER", "ann@example.org")
    session: Session = Move(tmp_path)
    assert session.environment["HOME"] == str(tmp_path)
    assert "SENDER" not in session.environment
