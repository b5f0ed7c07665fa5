"""`mailflow run FILE...`: started without click, and no other than the command is."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from tests.cli.command import MAIL, Shop

PIPELINE = """
[[fetch]]
use = "maildir"
path = "{home}/source"

[[distribute]]
use = "maildir"
path = "{home}/Maildir"
"""
HEAVY = (
    "asyncio click email hashlib importlib.metadata inspect json platform ssl structlog typing"
    " urllib"
)


@pytest.fixture
def shop(tmp_path: Path) -> Shop:
    made = Shop(tmp_path)
    for folder in ("new", "cur", "tmp"):
        (made.home / "source" / folder).mkdir(parents=True)
    (made.home / "source" / "new" / "1.one.host").write_bytes(MAIL)
    return made


def test_a_run_by_files_alone_loads_nothing_of_a_command_line(shop: Shop) -> None:
    program = f"""
import os, sys
def tell(status):
    heavy = {HEAVY!r}.split()
    found = [name for name in sys.modules if name in heavy or name.partition(".")[0] in heavy]
    os.write(2, " ".join(sorted(found)).encode())
    leave(status)
leave, os._exit = os._exit, tell
sys.argv = ["mailflow", "run", {shop.write(PIPELINE)!r}]
from mailflow.__main__ import main
main()
"""
    done = subprocess.run(
        [sys.executable, "-I", "-c", program], capture_output=True, check=False,
        env=shop.environment(),
    )  # fmt: skip
    assert (done.returncode, done.stdout, done.stderr) == (0, b"", b"")
    assert shop.maildir == [MAIL]


@pytest.mark.parametrize(
    "text",
    ['[[fetch]]\nuse = "stdn"\n', "[[fetch\n", PIPELINE.replace("source", "nowhere")],
    ids=["unknown plugin", "no TOML", "no source"],
)
def test_what_ends_a_run_is_told_in_the_same_words_either_way(shop: Shop, text: str) -> None:
    shop.write(text)
    plain, whole = shop("run", shop.file), shop("run", "--now", shop.file)
    assert plain.status == whole.status != 0
    words = [line.partition("[")[2] or line for line in plain.err.splitlines()]
    assert words == [line.partition("[")[2] or line for line in whole.err.splitlines()]
    assert words


def test_a_missing_file_is_told_and_no_fault_of_ours(shop: Shop) -> None:
    done = shop("run", str(shop.home / "none.toml"))
    assert done.status == 78
    assert done.err.startswith("mailflow: ")
    assert "none.toml" in done.err


def test_options_and_help_are_the_commands(shop: Shop) -> None:
    assert "--now" in shop("run", "--help").out
    assert shop("run").status == 64
    assert shop("run", shop.write(PIPELINE), "--dry-run").status == 0
