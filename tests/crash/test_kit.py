"""The tools of this directory do what they say: a step is a step, a cut is a cut."""

from __future__ import annotations

import errno
import os
import subprocess
import sys
from collections.abc import Sequence
from contextlib import ExitStack, suppress
from pathlib import Path

import pytest

from mailflow.testing import kill, power

from .conftest import demand
from .drawn import drawn

pytestmark = [pytest.mark.crash, pytest.mark.usefixtures("watched")]

PROGRAM = """
import os, sys, threading
os.chdir(sys.argv[1])
def work(name):
    descriptor = os.open(name, os.O_CREAT | os.O_WRONLY)
    os.write(descriptor, sys.stdin.buffer.read() or b"x")
    os.fsync(descriptor)
    os.rename(name, name + ".done")
for name in sys.argv[2:]:
    thread = threading.Thread(target=work, args=(name,))
    thread.start()
    thread.join()
print("ended")
"""


def command(directory: Path, *names: str) -> list[str]:
    return [sys.executable, "-B", "-c", PROGRAM, str(directory), *names]


def test_the_steps_of_a_program_are_told_in_one_order_over_its_threads(tmp_path: Path) -> None:
    outcome = kill.watch(command(tmp_path, "a", "b"), stdin=b"octets")
    assert (outcome.status, outcome.stdout, outcome.stderr) == (0, "ended\n", "")
    assert [(step.number, step.call, step.target) for step in outcome.steps] == [
        (0, "openat", f"{tmp_path}/a"),
        (1, "write", f"{tmp_path}/a"),
        (2, "fsync", f"{tmp_path}/a"),
        (3, "rename", f"{tmp_path}/a {tmp_path}/a.done"),
        (4, "openat", f"{tmp_path}/b"),
        (5, "write", f"{tmp_path}/b"),
        (6, "fsync", f"{tmp_path}/b"),
        (7, "rename", f"{tmp_path}/b {tmp_path}/b.done"),
    ]
    assert (tmp_path / "a.done").read_bytes() == b"octets"


@pytest.mark.parametrize("number", range(8))
def test_a_killed_program_has_done_the_steps_before_and_no_other(
    tmp_path: Path, number: int
) -> None:
    outcome = kill.run_killed(command(tmp_path, "a", "b"), number)
    assert (outcome.status, outcome.stdout, outcome.last.number) == (-9, "", number)
    done = [["a"], ["a"], ["a"], ["a.done"], ["a.done", "b"]]
    expected = [[], *done, done[-1], done[-1]][number]
    assert sorted(os.listdir(tmp_path)) == expected
    if number in (1, 2):
        assert (tmp_path / "a").read_bytes() == b"x" * (number - 1)


def test_a_number_beyond_the_end_kills_nothing(tmp_path: Path) -> None:
    assert kill.run_killed(command(tmp_path, "a"), 4).status == 0


def test_a_step_may_fail_or_be_pretended(tmp_path: Path) -> None:
    failing = kill.watch(
        command(tmp_path, "a"), lambda step: errno.ENOSPC if step.call == "write" else None
    )
    assert "OSError: [Errno 28] No space left on device" in failing.stderr
    pretending = kill.watch(
        command(tmp_path, "b"), lambda step: 0 if step.call == "rename" else None
    )
    assert pretending.status == 0
    assert sorted(os.listdir(tmp_path)) == ["a", "b"]


def test_a_program_is_killed_so_many_seconds_after_its_first_step(tmp_path: Path) -> None:
    sleeper = "import os, sys, time; os.mkdir(sys.argv[1]); time.sleep(60)"
    struck: list[str] = []
    outcome = kill.watch(
        [sys.executable, "-B", "-c", sleeper, str(tmp_path / "a")],
        after=0.05,
        before_kill=lambda: struck.append("now"),
    )
    assert (outcome.status, struck) == (-9, ["now"])
    assert 0.05 <= outcome.seconds < 5


def test_a_program_that_does_not_end_is_ended() -> None:
    with pytest.raises(TimeoutError, match="has not ended after"):
        kill.watch(["sleep", "60"], timeout=0.1)


def test_nothing_is_asked_of_what_goes_to_the_terminal_or_is_only_read(tmp_path: Path) -> None:
    (tmp_path / "a").write_text("text")
    program = (
        f"print(open({str(tmp_path / 'a')!r}).read()); import sys; print('e', file=sys.stderr)"
    )
    outcome = kill.watch([sys.executable, "-B", "-c", program])
    assert (outcome.steps, outcome.stdout, outcome.stderr) == ([], "text\n", "e\n")


@pytest.fixture(params=["ext4", "xfs"])
def kind(request: pytest.FixtureRequest) -> str:
    demand(power.obstacle(request.param))
    return str(request.param)


def put(path: Path, *, flushed: bool, linked: bool) -> None:
    with open(path, "wb") as file:
        file.write(b"octets")
        file.flush()
        if flushed:
            os.fsync(file.fileno())
    if linked:
        directory = os.open(path.parent, os.O_RDONLY)
        os.fsync(directory)
        os.close(directory)


def test_a_cut_keeps_what_was_flushed_and_nothing_else(tmp_path: Path, kind: str) -> None:
    with power.Disk(tmp_path / "disk", kind) as disk:
        put(disk.path / "kept", flushed=True, linked=True)
        os.rename(disk.path / "kept", disk.path / "renamed")
        put(disk.path / "lost", flushed=False, linked=False)
        disk.cut()
        assert [f.name for f in disk.path.iterdir() if f.is_file()] == ["kept"]
        assert (disk.path / "kept").read_bytes() == b"octets"


def test_d08_without_power_every_call_fails_and_afterwards_none(tmp_path: Path, kind: str) -> None:
    with power.Disk(tmp_path / "disk", kind) as disk:
        disk.off()
        with pytest.raises(OSError, match=r"Input/output error|Read-only"):
            put(disk.path / "a", flushed=True, linked=True)
        disk.on()
        put(disk.path / "a", flushed=True, linked=True)


@pytest.mark.parametrize("busy", [False, True])
def test_nothing_stays_mounted_whatever_a_test_does(
    tmp_path: Path, kind: str, busy: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(power, "PATIENCE", 0.1)
    with ExitStack() as holder:
        disk = power.Disk(tmp_path / "disk", kind)
        with suppress(ZeroDivisionError), disk:
            if busy:
                holder.enter_context(open(disk.path / "held", "w"))
            raise ZeroDivisionError
        assert str(disk.path) not in Path("/proc/mounts").read_text()
    image = str(tmp_path / "disk" / f"{kind}.image")
    assert image not in subprocess.run(
        ["losetup", "--all"], capture_output=True, text=True, check=True
    ).stdout.replace(f"{image} (deleted)", "")


@pytest.mark.parametrize("points", [range(11), [*range(11)]])
def test_no_step_is_drawn_twice_and_the_last_always(points: Sequence[int]) -> None:
    for parts in range(1, 12):
        share = [*drawn(points, parts)]
        assert share == sorted({*share, 10})
