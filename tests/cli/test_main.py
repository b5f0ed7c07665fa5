"""Before any command: what whoever started us has left closed."""

from __future__ import annotations

import shlex
import subprocess
import sys

import pytest

from mailflow import __main__

from .command import COMMAND, HOOK, MAIL, Shop


def test_c07_no_file_takes_the_number_of_a_closed_stderr(shop: Shop) -> None:
    file = shop.write(HOOK + '[[process]]\nuse = "filter.tag"\nnote = { x = "y" }\n')
    words = " ".join(shlex.quote(word) for word in (COMMAND, "-vv", "run", file))
    hook = " ".join(shlex.quote(word) for word in (COMMAND, "hook", file))
    for command in (f"{hook} >&- 2>&-", f"{words} >&- 2>&-", f"{words} <&- >&- 2>&-"):
        done = subprocess.run(
            ["sh", "-c", command], input=MAIL, env=shop.environment(), check=False
        )
        assert done.returncode == 0
    [path] = (shop.home / "Maildir" / "new").iterdir()
    assert path.read_bytes() == MAIL


@pytest.mark.parametrize(("command", "status"), [("status", 130), ("run", 130), ("hook", 75)])
def test_an_interrupt_before_a_command_is_there_ends_it_without_a_traceback(
    monkeypatch: pytest.MonkeyPatch, command: str, status: int
) -> None:
    def interrupted() -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(__main__, "_leave_no_core", interrupted)
    monkeypatch.setattr(sys, "argv", ["mailflow", command])
    with pytest.raises(SystemExit) as ended:
        __main__.main()
    assert ended.value.code == status
