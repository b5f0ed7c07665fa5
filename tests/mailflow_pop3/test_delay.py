"""LOGIN-DELAY: how long until the same name may log in again (RFC 2449, 6.5)."""

from __future__ import annotations

import os
import time
from pathlib import Path

import pytest

from mailflow.errors import LoginError
from mailflow_pop3.delay import LoginDelay


def test_052_the_first_login_is_free_and_the_next_must_wait(tmp_path: Path) -> None:
    delay = LoginDelay(str(tmp_path / "delay"), 60)
    delay.check("ann")
    delay.note("ann")
    with pytest.raises(LoginError, match="less often"):
        delay.check("ann")
    delay.check("bob")


def test_052_it_is_over_after_its_time(tmp_path: Path) -> None:
    delay = LoginDelay(str(tmp_path), 60)
    delay.note("ann")
    (file,) = tmp_path.iterdir()
    os.utime(file, (0, time.time() - 61))
    delay.check("ann")
    delay.note("ann")
    with pytest.raises(LoginError):
        delay.check("ann")


def test_052_it_holds_for_all_processes_and_over_a_restart(tmp_path: Path) -> None:
    LoginDelay(str(tmp_path), 60).note("ann")
    with pytest.raises(LoginError):
        LoginDelay(str(tmp_path), 60).check("ann")


def test_052_a_clock_that_was_set_back_locks_nobody_out(tmp_path: Path) -> None:
    delay = LoginDelay(str(tmp_path), 60)
    delay.note("ann")
    (file,) = tmp_path.iterdir()
    os.utime(file, (0, time.time() + 3600))
    delay.check("ann")


@pytest.mark.parametrize("login", ["../../x", "a/b", "", "\0", "x" * 4096, "ä{}$()%"])
def test_g05_a_name_never_becomes_a_path(tmp_path: Path, login: str) -> None:
    delay = LoginDelay(str(tmp_path / "delay"), 60)
    delay.note(login)
    (file,) = (tmp_path / "delay").iterdir()
    assert file.name.isalnum()
    assert os.listdir(tmp_path) == ["delay"]
