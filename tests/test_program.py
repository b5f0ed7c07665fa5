"""Programs: what goes in, what comes out, how they end, and that they do end."""

from __future__ import annotations

import os
import signal
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from mailflow import secrets
from mailflow.errors import BadMailError, MailflowError, RefusedError, UnavailableError
from mailflow.halt import Halt
from mailflow.mail import OctetFile, Octets, read
from mailflow.program import Command, CommandLine, Ended, NotStartedError, failure, run
from mailflow.testing.engine import mail


@pytest.fixture
def halt() -> Iterator[Halt]:
    halt = Halt()
    yield halt
    halt.close()


class Runner:
    def __init__(self, halt: Halt, scratch: Path) -> None:
        self.halt = halt
        self.scratch = scratch

    def __call__(
        self, words: list[str], *pieces: bytes, timeout: float = 30.0, **more: Any
    ) -> Ended:
        return run(
            words, pieces, timeout=timeout, halt=self.halt, scratch=str(self.scratch), **more
        )

    def python(self, code: str, *pieces: bytes, **more: Any) -> Ended:
        return self([sys.executable, "-c", code], *pieces, **more)


@pytest.fixture
def runner(halt: Halt, tmp_path: Path) -> Runner:
    return Runner(halt, tmp_path)


def alive(pid: int) -> bool:
    """Whether a process is there that is no zombie."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


def test_octets_go_in_and_come_out(runner: Runner) -> None:
    ended = runner(["cat"], b"one\n", b"", b"two\0\xff")
    assert (ended.status, read(ended.output), ended.said) == (0, b"one\ntwo\0\xff", "")


def test_more_than_a_pipe_holds_goes_both_ways_at_once(runner: Runner, tmp_path: Path) -> None:
    pieces = [bytes([number]) * 100_000 for number in range(50)]
    ended = runner(["cat"], *pieces)
    assert isinstance(ended.output, OctetFile)
    assert os.path.dirname(ended.output.path) == str(tmp_path)
    assert read(ended.output) == b"".join(pieces)


def test_a_program_need_not_read_its_stdin(runner: Runner) -> None:
    assert runner(["true"], *[b"x" * 100_000] * 20).status == 0


def test_a_program_that_closes_its_outputs_early_still_reads(runner: Runner) -> None:
    code = (
        "import os, sys; os.close(1); os.close(2); n = len(sys.stdin.buffer.read());"
        " os._exit(n == 500000)"
    )
    assert runner.python(code, *[b"x" * 100_000] * 5).status == 1


def test_what_it_leaves_running_is_not_waited_for(runner: Runner, tmp_path: Path) -> None:
    ended = runner(["sh", "-c", "sleep 60 & echo $!"])
    pid = int(read(ended.output))
    assert alive(pid)
    os.kill(pid, signal.SIGKILL)


def test_its_last_line_on_stderr_is_what_it_said(runner: Runner) -> None:
    code = "import sys; sys.stderr.write('Traceback:\\n' * 9999 + 'Error: \\x1b[31m no\\n\\n')"
    assert runner.python(code).said == "Error: \\x1b[31m no"


@pytest.mark.parametrize(
    ("status", "kind", "temporary", "code", "said"),
    [
        (1, UnavailableError, True, "4.3.0", "x exits with status 1: oh"),
        (64, RefusedError, False, "5.3.5", "x exits with status 64 (wrong usage): oh"),
        (65, BadMailError, False, "5.6.0", "x exits with status 65 (data format error): oh"),
        (67, RefusedError, False, "5.1.1", "x exits with status 67 (addressee unknown): oh"),
        (71, UnavailableError, True, "4.3.0", "x exits with status 71 (system error): oh"),
        (75, UnavailableError, True, "4.3.0", "x exits with status 75 (temporary failure): oh"),
        (77, RefusedError, False, "5.7.0", "x exits with status 77 (permission denied): oh"),
        (79, UnavailableError, True, "4.3.0", "x exits with status 79: oh"),
        (127, UnavailableError, True, "4.3.0", "x exits with status 127: oh"),
        (-11, UnavailableError, True, "4.3.0", "x was ended by SIGSEGV: oh"),
    ],
)
def test_an_exit_status_means_what_sysexits_says(
    status: int, kind: type[MailflowError], temporary: bool, code: str, said: str
) -> None:
    error = failure(Ended("x", status, Octets(b""), "oh"))
    assert type(error) is kind
    assert (error.temporary, error.fields["code"], error.text) == (temporary, code, said)


def test_status_0_is_no_failure() -> None:
    assert failure(Ended("x", 0, Octets(b""), "a warning")) is None


def test_a_program_that_a_signal_ends_says_so(runner: Runner) -> None:
    ended = runner(["sh", "-c", "kill -SEGV $$"])
    assert str(ended) == "sh was ended by SIGSEGV"


@pytest.mark.parametrize(
    ("name", "mode", "said"),
    [
        ("nothing-here", None, "no such program"),
        ("plain", 0o600, "Permission denied"),
        ("garbage", 0o700, "Exec format error"),
    ],
)
def test_c05_a_program_that_cannot_be_run_was_not_started(
    runner: Runner, tmp_path: Path, name: str, mode: int | None, said: str
) -> None:
    path = tmp_path / name
    if mode is not None:
        path.write_bytes(b"\x7fELF no program")
        path.chmod(mode)
    with pytest.raises(NotStartedError) as raised:
        runner([str(path)])
    assert raised.value.text == f"cannot run {path}: {said}"
    assert raised.value.temporary


def test_c03_a_program_that_hangs_is_ended_with_all_it_started(
    runner: Runner, tmp_path: Path
) -> None:
    pids = tmp_path / "pids"
    script = f"sleep 60 & echo $! $$ > {pids}; wait"
    with pytest.raises(UnavailableError, match=r"^sh has not ended after 0\.3 s$"):
        runner(["sh", "-c", script], timeout=0.3)
    assert [alive(int(pid)) for pid in pids.read_text().split()] == [False, False]


def test_c03_a_program_that_ignores_sigterm_is_killed(
    runner: Runner, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("mailflow.program.MERCY", 0.1)
    pid = tmp_path / "pid"
    with pytest.raises(UnavailableError, match="has not ended"):
        runner(
            ["sh", "-c", f"trap '' TERM; echo $$ > {pid}; while :; do sleep 1; done"], timeout=0.3
        )
    assert not alive(int(pid.read_text()))


def test_c03_a_program_that_is_cut_never_sees_the_end_of_a_message(
    runner: Runner, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """At the end of its stdin it would take half a message for a whole one."""
    reads, whole = tmp_path / "reads", tmp_path / "whole"
    script = f"trap '' TERM; : > {reads}; cat > /dev/null; : > {whole}"
    monkeypatch.setattr("mailflow.program.MERCY", 0.1)

    def pieces() -> Iterator[bytes]:
        yield b"half"
        while not reads.exists():
            time.sleep(0.01)
        raise OSError(5, "the other half is on a broken disk")

    with pytest.raises(OSError, match="broken disk"):
        run(["sh", "-c", script], pieces(), timeout=30.0, halt=runner.halt)
    assert not whole.exists()


def test_c03_output_without_end_is_cut_and_leaves_no_file(runner: Runner, tmp_path: Path) -> None:
    with pytest.raises(UnavailableError, match=r"^yes printed more than 3000000 octets$"):
        runner(["yes"], most=3_000_000)
    assert list(tmp_path.iterdir()) == []


def test_when_the_engine_stops_a_program_is_ended(runner: Runner) -> None:
    timer = threading.Timer(0.2, runner.halt.set)
    timer.start()
    with pytest.raises(UnavailableError, match=r"^sleep was stopped on request$"):
        runner(["sleep", "60"])
    with pytest.raises(UnavailableError, match="stopped on request"):
        runner(["true"])
    timer.join()


def test_when_the_engine_stops_a_program_may_have_some_grace(runner: Runner) -> None:
    timer = threading.Timer(0.1, runner.halt.set)
    timer.start()
    assert read(runner(["sh", "-c", "sleep 0.4; echo done"], grace=30.0).output) == b"done\n"
    timer.join()


def test_c02_a_secret_of_ours_is_not_in_its_environment(
    runner: Runner, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("RED_SECRET", "canary")
    monkeypatch.setenv("SENDER", "somebody else")
    monkeypatch.setattr(secrets, "_from_environment", set())
    secrets.secret({"env": "RED_SECRET"}, ".")
    printed = read(runner(["env"], environment={"SENDER": None, "RECIPIENT": "ann"}).output)
    assert b"canary" not in printed
    assert b"SENDER" not in printed
    assert b"RECIPIENT=ann\n" in printed


def test_it_may_end_on_sigpipe_as_programs_do(runner: Runner) -> None:
    """Python ignores SIGPIPE; what it starts must not."""
    assert runner(["sh", "-c", "yes | head -1"]).status == 0


def test_it_leaves_no_descriptor_open(runner: Runner) -> None:
    runner(["cat"], b"x")
    before = len(os.listdir("/proc/self/fd"))
    for _ in range(5):
        runner(["cat"], b"x")
        with pytest.raises(NotStartedError):
            runner(["/nowhere"])
    assert len(os.listdir("/proc/self/fd")) == before


def command(value: object, base: str = "/base") -> CommandLine:
    return Command("").convert(value, base)


@pytest.mark.parametrize(
    ("value", "words"),
    [
        (["procmail", "-f", "x y"], ("procmail", "-f", "x y")),
        ("spamc -d 'a b'", ("spamc", "-d", "a b")),
        (["./filter.py"], ("/base/filter.py",)),
        (["~/bin/x", "~"], ("HOME/bin/x", "~")),
    ],
)
def test_a_command_is_words(value: object, words: tuple[str, ...], home: Path) -> None:
    expected = tuple(word.replace("HOME", str(home)) for word in words)
    assert command(value).words == expected


@pytest.mark.parametrize(
    "value", [[], "", [""], [1], "a 'b", ["a\0"], ["{sender}"], ["x", "{y}"], 7]
)
def test_what_is_no_command_is_told_when_it_is_read(value: object) -> None:
    with pytest.raises(ValueError, match="expected"):
        command(value)


def test_a_command_is_filled_in_for_each_mail() -> None:
    words = ["x", "-f", "{sender}", "--id={id}", "--", "{recipients}"]
    one = mail("Subject: s\n\n", sender="", to=["a@x.org", "b@x.org"])
    assert command(words).render(one) == [
        "x",
        "-f",
        "",
        f"--id={one.id}",
        "--",
        "a@x.org",
        "b@x.org",
    ]


def test_d18_no_shell_reads_what_a_mail_says(runner: Runner) -> None:
    one = mail('Subject: $(touch /tmp/x); `id` | cat > y & "\n\n')
    words = command(["printf", "%s", "{header:Subject}"]).render(one)
    assert read(runner(words).output) == b'$(touch /tmp/x); `id` | cat > y & "'


@pytest.mark.parametrize("sender", ["-oQ/tmp", "a\nb@x.org", "a\x7f"])
def test_d18_what_a_mail_says_is_no_option_and_no_line(sender: str) -> None:
    with pytest.raises(BadMailError):
        command(["x", "{sender}"]).render(mail("A: b\n\n", sender=sender))
    with pytest.raises(BadMailError):
        command(["x", "{recipients}"]).render(mail("A: b\n\n", to=[sender]))


def test_check_says_which_program_is_missing(tmp_path: Path) -> None:
    (tmp_path / "plain").write_text("")
    assert command(["cat"]).missing() == ""
    assert command(["no-such-thing"]).missing() == "no program no-such-thing"
    assert command(["./plain"], str(tmp_path)).missing() == f"{tmp_path}/plain is not executable"
