"""`mailflow demo`, as a newcomer runs it."""

from __future__ import annotations

import errno
import json
import os
import poplib
import re
import subprocess
import sys
from pathlib import Path

import pytest

from mailflow import log
from mailflow.cli import root
from mailflow.engine import supervisor
from mailflow.halt import Halt
from mailflow.testing.serving import Serving

COMMAND = Path(sys.executable).parent / "mailflow"


def demo(home: Path, *arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [COMMAND, "demo", *arguments],
        cwd=home,
        env={"HOME": str(home), "PATH": os.defpath, **environment},
        check=False,
        capture_output=True,
        text=True,
        timeout=60,
    )


OUTCOMES = {
    "a post": "sent to 5 members, archived",
    "8-bit text": "sent to 5 members, archived",
    "lines of dots": "sent to 5 members, archived",
    "no subject": "sent to 5 members, archived",
    "an answer": "sent to 4 members, 1 later, archived",
    "not a member": "held for a human",
    "the first once more": "thrown away",
    "a post that comes back": "thrown away",
    "a vacation note": "thrown away",
    "no header to speak of": "held for a human",
}


def test_it_tells_what_became_of_every_mail(home: Path) -> None:
    done = demo(home, COLUMNS="200")
    assert (done.returncode, done.stderr) == (0, "")
    table = done.stdout.split("\n\n")[1].splitlines()[1:]
    assert len(table) == len(OUTCOMES)
    for line, (post, outcome) in zip(table, OUTCOMES.items(), strict=True):
        assert line.startswith(post)
        assert outcome in line
    assert "sent 24 copies" in done.stdout
    assert "sent 1 more and nothing twice" in done.stdout


@pytest.mark.interop("curl")
def test_it_serves_the_posts_to_poplib_and_to_curl(home: Path) -> None:
    done = demo(home)
    assert "Python's poplib and curl logged in as ann and read 5 messages, " in done.stdout
    assert "each as it was" in done.stdout


def test_without_curl_it_serves_them_to_poplib_alone(home: Path) -> None:
    done = demo(home, PATH="/nowhere")
    assert (done.returncode, done.stderr) == (0, "")
    assert "\nPython's poplib logged in as ann and read 5 messages, " in done.stdout


def test_it_reads_a_webmail(home: Path) -> None:
    done = demo(home, "--keep", "demo")
    assert "read 10 messages from a webmail, " in done.stdout
    assert len(list((home / "demo/page.maildir/new").iterdir())) == 10


def test_without_flask_it_says_how_to_read_a_webmail(home: Path) -> None:
    program = (
        "import importlib.util as util; find = util.find_spec\n"
        "util.find_spec = lambda name, *_: None if name == 'flask' else find(name)\n"
        "from mailflow.__main__ import main; main()"
    )
    done = subprocess.run(
        [sys.executable, "-c", program, "demo"], cwd=home, check=False, capture_output=True,
        env={"HOME": str(home), "PATH": os.defpath}, text=True, timeout=60,
    )  # fmt: skip
    assert (done.returncode, done.stderr) == (0, "")
    assert "pip install 'mailflow[testbed]'" in done.stdout
    assert "webmail, with" not in done.stdout


def test_the_drop_that_is_kept_can_be_served_again(home: Path) -> None:
    assert demo(home, "--keep", "demo").returncode == 0
    file = home / "demo" / "red.toml"
    port = int(re.search(r"127\.0\.0\.1:(\d+)\"", file.read_text())[1])  # type: ignore[index]
    with Serving(file, arguments=["--offline"]):
        box = poplib.POP3("127.0.0.1", port, timeout=10)
        box.user("ann")
        box.pass_((home / "demo" / "ann.secret").read_text().strip())
        assert box.stat()[0] == 5
        box.quit()


def test_it_leaves_nothing_behind(home: Path, tmp_path: Path) -> None:
    temporary = tmp_path / "tmp"
    temporary.mkdir()
    assert demo(home, TMPDIR=str(temporary)).returncode == 0
    assert [*home.rglob("*"), *temporary.rglob("*")] == []


def test_json_has_a_row_for_each_post(home: Path) -> None:
    rows = json.loads(demo(home, "--json").stdout)
    assert {row["post"]: row["outcome"] for row in rows} == OUTCOMES
    assert {"post", "id", "subject", "author", "outcome", "why"} == rows[0].keys()


def test_what_is_kept_can_be_looked_at(home: Path) -> None:
    assert demo(home, "--keep", "demo").returncode == 0
    listed = subprocess.run(
        [COMMAND, "queue", "list", "--file", "demo/red.toml"],
        cwd=home,
        env={"HOME": str(home), "PATH": os.defpath},
        check=True,
        capture_output=True,
        text=True,
    )
    assert "max@example.com is not a member of red@example.org" in listed.stdout
    assert len(list((home / "demo/red.archive/new").iterdir())) == 5


def test_a_directory_with_files_in_it_is_not_touched(home: Path) -> None:
    (home / "mine").mkdir()
    (home / "mine" / "file").write_text("mine")
    done = demo(home, "--keep", "mine")
    assert done.returncode == 78
    assert "is not empty" in done.stderr
    assert [path.name for path in (home / "mine").iterdir()] == ["file"]


@pytest.mark.parametrize("columns", ["40", "80"])
def test_it_fits_the_terminal(home: Path, columns: str) -> None:
    done = demo(home, COLUMNS=columns)
    table = done.stdout.partition("\n\n")[2].partition("\n\n")[0]
    assert max(map(len, table.splitlines())) <= max(80, int(columns))


def test_an_interrupt_ends_it_and_is_no_fault_to_report(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def interrupted(pipelines: object, registry: object, *, halt: Halt) -> int:
        halt.set()
        return 75

    monkeypatch.setattr(supervisor, "run", interrupted)
    monkeypatch.setattr(log, "configure", lambda **_: None)
    monkeypatch.setattr(sys, "argv", ["mailflow", "demo"])
    with pytest.raises(SystemExit) as ended:
        root.main()
    assert ended.value.code == 130
    assert "report" not in capsys.readouterr().err


def test_a_disk_that_is_full_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def full(path: Path, text: str) -> None:
        raise OSError(errno.ENOSPC, "full")

    monkeypatch.setattr(Path, "write_text", full)
    monkeypatch.setattr(log, "configure", lambda **_: None)
    monkeypatch.setattr(sys, "argv", ["mailflow", "demo", "--keep", str(tmp_path / "kept")])
    with pytest.raises(SystemExit) as ended:
        root.main()
    assert ended.value.code == 75
    said = f"mailflow: cannot write into {tmp_path}/kept: No space left on device\n"
    assert capsys.readouterr().err == said
