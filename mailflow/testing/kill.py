"""Stop a real program at one exact step: before its n-th write, flush, link, send ...

The program runs under a seccomp(2) filter that asks here before each system call which
changes a file or leaves on the wire. strace's `inject=...:when=N` counts for each thread
apart, so that a program with threads is never stopped at most of its steps; here steps
have one order. Linux 5.5 or newer; no root.

Rule of the file: the program itself is stopped, by SIGKILL and before the step is done;
the answer to a step is given once, and the program never outlives the call.
"""

from __future__ import annotations

import ctypes
import errno
import fcntl
import os
import platform
import select
import socket
import struct
import subprocess
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from typing import IO, NamedTuple

KILL = -1
"""An answer to a step: kill the program before it. None lets it go on; 0 pretends that it
was done; a number over 0 makes it fail with that errno."""

_NUMBERS = {
    "x86_64": {
        "write": 1, "pwrite64": 18, "writev": 20, "pwritev": 296, "pwritev2": 328,
        "sendto": 44, "sendmsg": 46, "sendmmsg": 307, "sendfile": 40, "copy_file_range": 326,
        "fsync": 74, "fdatasync": 75, "sync": 162, "syncfs": 306,
        "truncate": 76, "ftruncate": 77, "fallocate": 285,
        "rename": 82, "renameat": 264, "renameat2": 316,
        "link": 86, "linkat": 265, "symlinkat": 266, "unlink": 87, "unlinkat": 263,
        "mkdir": 83, "mkdirat": 258, "rmdir": 84, "open": 2, "openat": 257,
    },
    "aarch64": {
        "write": 64, "pwrite64": 68, "writev": 66, "pwritev": 70, "pwritev2": 287,
        "sendto": 206, "sendmsg": 211, "sendmmsg": 269, "sendfile": 71, "copy_file_range": 285,
        "fsync": 82, "fdatasync": 83, "sync": 81, "syncfs": 267,
        "truncate": 45, "ftruncate": 46, "fallocate": 47,
        "renameat": 38, "renameat2": 276,
        "linkat": 37, "symlinkat": 36, "unlinkat": 35, "mkdirat": 34, "openat": 56,
    },
}  # fmt: skip
_SECCOMP = {"x86_64": 317, "aarch64": 277}
_BY_DESCRIPTOR = {
    "write", "pwrite64", "writev", "pwritev", "pwritev2", "sendto", "sendmsg", "sendmmsg",
    "sendfile", "copy_file_range", "fsync", "fdatasync", "ftruncate", "fallocate", "syncfs",
}  # fmt: skip
_PATHS_AT: dict[str, tuple[tuple[int | None, int], ...]] = {
    # which arguments are a directory's descriptor and a path in it
    "truncate": ((None, 0),), "rename": ((None, 0), (None, 1)), "renameat": ((0, 1), (2, 3)),
    "renameat2": ((0, 1), (2, 3)), "link": ((None, 0), (None, 1)), "linkat": ((0, 1), (2, 3)),
    "symlinkat": ((None, 0), (1, 2)), "unlink": ((None, 0),), "unlinkat": ((0, 1),),
    "mkdir": ((None, 0),), "mkdirat": ((0, 1),), "rmdir": ((None, 0),), "open": ((None, 0),),
    "openat": ((0, 1),),
}  # fmt: skip
_FLAGS_AT = {"open": 1, "openat": 2}

_AT_FDCWD = 0xFFFFFF9C

_CHANNEL = 1000
"""The descriptor over which the filter's own answer leaves the child, unfiltered."""

# <linux/seccomp.h>, <linux/bpf_common.h>, <linux/prctl.h>
_SET_MODE_FILTER, _NEW_LISTENER = 1, 8
_LOAD, _EQUAL, _AND, _RETURN = 0x20, 0x15, 0x45, 0x06
_ALLOW, _ASK = 0x7FFF0000, 0x7FC00000
_NO_NEW_PRIVILEGES = 38
_RECEIVE, _SEND, _CONTINUE = 0xC0502100, 0xC0182101, 1


class Step(NamedTuple):
    """A system call about to be done: its place in the run, and what it concerns."""

    number: int
    call: str
    target: str
    pid: int

    def __str__(self) -> str:
        return f"step {self.number}: {self.call} {self.target}"


class Outcome(NamedTuple):
    """What became of a watched program. `status` as in subprocess: -9 when killed."""

    status: int
    steps: list[Step]
    seconds: float
    stdout: str
    stderr: str

    @property
    def last(self) -> Step:
        """The step it was killed before."""
        return self.steps[-1]


class _Notice(NamedTuple):
    """struct seccomp_notif."""

    id: int
    pid: int
    flags: int
    call: int
    arch: int
    pointer: int
    arguments: tuple[int, ...]


def obstacle() -> str:
    """Why no program can be watched here; "" if one can."""
    if platform.system() != "Linux" or platform.machine() not in _NUMBERS:
        return "needs Linux on x86_64 or aarch64"
    try:
        status = watch(["true"]).status
    except (OSError, subprocess.SubprocessError) as error:
        return f"needs seccomp user notification (Linux 5.5): {error}"
    return "" if status == 0 else f"true exits with status {status}"


def watch(
    command: Sequence[str],
    decide: Callable[[Step], int | None] = lambda step: None,
    *,
    env: Mapping[str, str] | None = None,
    stdin: bytes = b"",
    after: float | None = None,
    before_kill: Callable[[], None] = lambda: None,
    timeout: float = 60.0,
) -> Outcome:
    """Run `command` to its end, or to the step for which `decide` answers KILL.

    With `after`, kill it so many seconds after its first step, wherever it is then.
    `before_kill` is called while the program is about to be killed: cut the power there.
    `Outcome.seconds` is the time from the first step on. Raises TimeoutError.
    """
    ours, theirs = socket.socketpair()
    with ours, tempfile.TemporaryFile() as given, _output() as out, _output() as complaints:
        given.write(stdin)
        given.seek(0)
        with theirs:
            install = _installer(theirs)
            process = subprocess.Popen(
                command, stdin=given, stdout=out, stderr=complaints, env=env, preexec_fn=install
            )
        _, (listener, *_), _, _ = socket.recv_fds(ours, 1, 1)
        try:
            steps, seconds = _serve(process, listener, decide, after, before_kill, timeout)
        finally:
            process.kill()
            process.wait()
            os.close(listener)
        return Outcome(process.returncode, steps, seconds, _text(out), _text(complaints))


def run_killed(
    command: Sequence[str],
    number: int,
    *,
    env: Mapping[str, str] | None = None,
    stdin: bytes = b"",
    before_kill: Callable[[], None] = lambda: None,
) -> Outcome:
    """Run `command` and kill it before its step `number` (from 0), if it comes so far."""
    return watch(
        command,
        lambda step: KILL if step.number == number else None,
        env=env,
        stdin=stdin,
        before_kill=before_kill,
    )


def _output() -> IO[bytes]:
    return tempfile.TemporaryFile()


def _text(file: IO[bytes]) -> str:
    file.seek(0)
    return file.read().decode("utf-8", "replace")


def _serve(
    process: subprocess.Popen[bytes],
    listener: int,
    decide: Callable[[Step], int | None],
    after: float | None,
    before_kill: Callable[[], None],
    timeout: float,
) -> tuple[list[Step], float]:
    """Answer the program's steps until it has ended."""
    names = {number: name for name, number in _NUMBERS[platform.machine()].items()}
    steps: list[Step] = []
    started = time.monotonic()
    deadline = started + timeout
    ending = os.pidfd_open(process.pid)
    try:
        poller = select.poll()
        poller.register(listener, select.POLLIN)
        poller.register(ending, select.POLLIN)
        while True:
            due = deadline if after is None or not steps else min(deadline, started + after)
            ready = dict(poller.poll(max(0.0, due - time.monotonic()) * 1000))
            if not ready:
                if due == deadline:
                    last = f"; the last was {steps[-1]}" if steps else ""
                    raise TimeoutError(f"{process.args!r} has not ended after {timeout} s{last}")
                return _killed(process, steps, started, before_kill)
            if ready.get(listener, 0) & select.POLLIN:
                notice = _receive(listener)
                if notice is None:
                    continue
                step = Step(len(steps), names[notice.call], _target(notice, names), process.pid)
                if not steps:
                    started = time.monotonic()
                steps.append(step)
                answer = decide(step)
                if answer == KILL:
                    return _killed(process, steps, started, before_kill)
                _answer(listener, notice.id, answer)
            elif ending in ready:
                return steps, time.monotonic() - started
            else:
                poller.unregister(listener)
    finally:
        os.close(ending)


def _killed(
    process: subprocess.Popen[bytes],
    steps: list[Step],
    started: float,
    before_kill: Callable[[], None],
) -> tuple[list[Step], float]:
    """No step is answered any more: under load the program would live on for a moment, and do
    what a flush allows that was cut off while it ran."""
    before_kill()
    process.kill()
    process.wait()
    return steps, time.monotonic() - started


def _receive(listener: int) -> _Notice | None:
    """The next question; None if who asked was killed meanwhile."""
    buffer = bytearray(80)
    try:
        fcntl.ioctl(listener, _RECEIVE, buffer)
    except OSError as error:
        if error.errno in (errno.ENOENT, errno.EINTR):
            return None
        raise
    identity, pid, flags, call, arch, pointer, *arguments = struct.unpack("QIIiIQ6Q", buffer)
    return _Notice(identity, pid, flags, call, arch, pointer, tuple(arguments))


def _answer(listener: int, identity: int, answer: int | None) -> None:
    error, flags = (0, _CONTINUE) if answer is None else (-answer, 0)
    try:
        fcntl.ioctl(listener, _SEND, bytearray(struct.pack("QqiI", identity, 0, error, flags)))
    except OSError as failure:
        if failure.errno != errno.ENOENT:  # killed meanwhile
            raise


def _target(notice: _Notice, names: Mapping[int, str]) -> str:
    """The paths a call names, or what its descriptor is, for a human."""
    call = names[notice.call]
    try:
        if call in _PATHS_AT:
            return " ".join(_path(notice, *places) for places in _PATHS_AT[call])
        if call in _BY_DESCRIPTOR:
            return os.readlink(f"/proc/{notice.pid}/fd/{notice.arguments[0] & 0xFFFFFFFF}")
    except OSError:
        return "?"
    return ""


def _path(notice: _Notice, directory_at: int | None, path_at: int) -> str:
    """The path an argument points to, made absolute."""
    with open(f"/proc/{notice.pid}/mem", "rb", buffering=0) as memory:
        memory.seek(notice.arguments[path_at])
        text = memory.read(4096).partition(b"\0")[0].decode("utf-8", "replace")
    if text.startswith("/"):
        return text
    above = "cwd"
    if directory_at is not None and notice.arguments[directory_at] & 0xFFFFFFFF != _AT_FDCWD:
        above = f"fd/{notice.arguments[directory_at] & 0xFFFFFFFF}"
    return f"{os.readlink(f'/proc/{notice.pid}/{above}')}/{text}"


class _Program(ctypes.Structure):
    """struct sock_fprog."""

    _fields_ = [("length", ctypes.c_ushort), ("filter", ctypes.POINTER(ctypes.c_char))]


def _instruction(code: int, operand: int, if_true: int = 0, if_false: int = 0) -> bytes:
    return struct.pack("HBBI", code, if_true, if_false, operand)


def _argument(number: int) -> bytes:
    """Load the lower half of an argument of the call (struct seccomp_data)."""
    return _instruction(_LOAD, 16 + 8 * number)


def _filter(numbers: Mapping[str, int]) -> bytes:
    """Ask about every call of the table; not about the terminal, nor of files only read."""
    allow, ask = _instruction(_RETURN, _ALLOW), _instruction(_RETURN, _ASK)
    program = _instruction(_LOAD, 0)
    for name, number in numbers.items():
        if name in _FLAGS_AT:
            creates = _instruction(_AND, os.O_CREAT, 0, 1)
            body = _argument(_FLAGS_AT[name]) + creates + ask + allow
        elif name in _BY_DESCRIPTOR:
            spared = (1, 2, _CHANNEL)
            body = _argument(0)
            for left, descriptor in enumerate(reversed(spared)):
                body += _instruction(_EQUAL, descriptor, len(spared) - left, 0)
            body += ask + allow
        else:
            body = ask
        program += _instruction(_EQUAL, number, 0, len(body) // 8) + body
    return program + allow


def _installer(channel: socket.socket) -> Callable[[], None]:
    """What the child does before it becomes the program: filter itself, hand out the listener."""
    machine = platform.machine()
    code = _filter(_NUMBERS[machine])
    program = _Program(len(code) // 8, ctypes.create_string_buffer(code, len(code)))
    libc = ctypes.CDLL(None, use_errno=True)

    def install() -> None:
        os.dup2(channel.fileno(), _CHANNEL, inheritable=False)
        libc.prctl(_NO_NEW_PRIVILEGES, 1, 0, 0, 0)
        listener = libc.syscall(
            _SECCOMP[machine], _SET_MODE_FILTER, _NEW_LISTENER, ctypes.byref(program)
        )
        if listener < 0:
            raise OSError(ctypes.get_errno(), "seccomp")
        with socket.socket(fileno=_CHANNEL) as out:
            socket.send_fds(out, [b"x"], [listener])

    return install


def undisturbed(
    command: Sequence[str], *, env: Mapping[str, str] | None = None, stdin: bytes = b""
) -> list[Step]:
    """The steps of a run that nobody disturbs."""
    outcome = watch(command, env=env, stdin=stdin)
    if outcome.status != 0:
        raise AssertionError(f"the undisturbed run ends with {outcome.status}: {outcome.stderr}")
    return outcome.steps
