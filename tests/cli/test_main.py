"""Before any command: what whoever started us has left closed."""

from __future__ import annotations

import shlex
import subprocess

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
