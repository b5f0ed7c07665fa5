"""A plugin that misbehaves costs no mail, and is named."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest

MESSAGE = b"Subject: one\nMessage-ID: <1@example.org>\n\nhello\n"

GOOD = """
from mailflow import Options, hookimpl

class Step:
    "Passes each mail on."
    options, pure = Options, True
    def __init__(self, options, runtime): {making}
    def process(self, mail, context):
        {process}
        yield mail

{top}
@hookimpl
def mailflow_register(register):
    {register}
    register.processor(Step)
"""

WHERE = ("top", "register", "making", "process")
"""While it is imported, while it registers, while a component is made, with each mail."""


class Place:
    """A home with a pipeline of one bad plugin's step, and a good pipeline beside it."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.site = root / "site"
        self.bad, self.good = root / "bad.toml", root / "good.toml"
        self.bad.write_text(self._pipeline("bad", '[[process]]\nuse = "toy"\n'))
        self.good.write_text(self._pipeline("good", ""))

    def _pipeline(self, name: str, steps: str) -> str:
        return (
            f'[pipeline]\njournal = "{self.root}/{name}.db"\nlinger = "0s"\n'
            f'[[fetch]]\nuse = "stdin"\n{steps}'
            f'[[distribute]]\nuse = "maildir"\npath = "{self.root}/{name}"\n'
            '[[react]]\nuse = "react.retry"\nafter = "1ms"\n'
        )

    def plugin(self, where: str, what: str) -> None:
        """Install mailflow-toy, which does `what` there."""
        about = self.site / "mailflow_toy-1.dist-info"
        about.mkdir(parents=True, exist_ok=True)
        (about / "METADATA").write_text("Metadata-Version: 2.1\nName: mailflow-toy\nVersion: 1\n")
        (about / "entry_points.txt").write_text("[mailflow]\ntoy = mailflow_toy\n")
        parts = {**dict.fromkeys(WHERE, "pass"), where: what}
        (self.site / "mailflow_toy.py").write_text(GOOD.format(**parts))

    def start(self, *words: object) -> subprocess.Popen[bytes]:
        environment = {
            "HOME": str(self.root), "PATH": os.defpath, "PYTHONPATH": str(self.site),
            "XDG_STATE_HOME": f"{self.root}/state",
        }  # fmt: skip
        return subprocess.Popen(
            [sys.executable, "-m", "mailflow", *map(str, words)], env=environment,
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
        )  # fmt: skip

    def __call__(self, *words: object, stdin: bytes = b"") -> tuple[int, str, str]:
        child = self.start(*words)
        out, err = child.communicate(stdin, timeout=60)
        assert b"Traceback" not in err, err
        return child.returncode, out.decode(), err.decode()

    def arrived(self, name: str) -> Sequence[bytes]:
        return [path.read_bytes() for path in (self.root / name).glob("new/*")]


@pytest.fixture
def place(tmp_path: Path) -> Place:
    return Place(tmp_path)


FAULTS = {
    "a module that is not there": "import no_such_module",
    "an exception": "raise ZeroDivisionError('by toy')",
    "an error of ours": "from mailflow import ConfigError; raise ConfigError('by toy')",
    "the end of the program": "import sys; sys.exit(0)",
    "an interrupt": "raise KeyboardInterrupt",
    "no memory": "raise MemoryError",
}


@pytest.mark.parametrize("where", WHERE)
@pytest.mark.parametrize("what", FAULTS)
def test_c05_the_hook_keeps_the_mail_and_names_the_plugin(
    place: Place, where: str, what: str
) -> None:
    """75, and the MTA keeps it, or 0, and the journal does: once the plugin is mended, the
    mail is there, once."""
    place.plugin(where, FAULTS[what])
    status, out, err = place("hook", place.bad, stdin=MESSAGE)
    assert status in (0, 75), err
    assert out == ""
    assert "toy" in err or what == "an interrupt"
    assert place("hook", place.good, stdin=MESSAGE) == (0, "", "")
    place.plugin(where, "pass")
    if status:
        assert place("hook", place.bad, stdin=MESSAGE)[0] == 0
    else:
        place("queue", "release", "--all", "--file", place.bad)
        assert place("run", "--now", place.bad)[0] == 0
    assert (place.arrived("bad"), place.arrived("good")) == ([MESSAGE], [MESSAGE])


@pytest.mark.parametrize("where", WHERE)
def test_c05_what_a_plugin_prints_changes_nothing(place: Place, where: str) -> None:
    """An MTA would send what the hook prints back to the sender."""
    place.plugin(where, "import sys; print('noise'); sys.stdout.flush()")
    status, out, _ = place("hook", place.bad, stdin=MESSAGE)
    assert (status, out) == (0, "")
    assert place.arrived("bad") == [MESSAGE]


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
@pytest.mark.parametrize("command", ["hook", "run"])
def test_c05_a_step_that_hangs_ends_with_the_second_signal_and_is_named(
    place: Place, command: str, number: int
) -> None:
    """The first is an order that it does not hear; after the second the mail is tried again."""
    entered = place.root / "entered"
    place.plugin("process", "from mailflow import UnavailableError; raise UnavailableError('no')")
    if command == "run":
        assert place("hook", place.bad, stdin=MESSAGE)[0] == 0
    place.plugin("process", f"import time; open({str(entered)!r}, 'w'); time.sleep(600)")
    child = place.start(command, *(["--now"] if command == "run" else []), place.bad)
    assert child.stdin
    child.stdin.write(MESSAGE if command == "hook" else b"")
    child.stdin.close()
    child.stdin = None
    await_(entered.exists)
    child.send_signal(number)
    with pytest.raises(subprocess.TimeoutExpired):
        child.wait(0.3)
    child.send_signal(number)
    _, err = child.communicate(timeout=30)
    assert child.returncode == -number
    assert b"mailflow: ended at once; at work was mailflow_toy" in err
    place.plugin("process", "pass")
    if command == "hook":
        assert place("hook", place.bad, stdin=MESSAGE)[0] == 0
    await_(lambda: place("run", "--now", place.bad)[0] == 0 and bool(place.arrived("bad")))
    assert place.arrived("bad") == [MESSAGE]


def await_(true: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 20
    while not true():
        assert time.monotonic() < deadline
        time.sleep(0.01)
