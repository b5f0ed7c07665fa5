"""Starts commands for the bench and measures them; a process of its own, kept small.

    python -I -S launcher.py    reads and writes marshalled values, one after the other

Rule of the file: no import that is not built in. A child's peak memory begins with
that of the process it was forked from, so this one must stay small (about 8 MiB).
A request is a list of (argv, environment, directory, stdin, stdout, user); all are
started at once. The answer is (seconds until the last ended, a list of (seconds,
status, peak KiB, CPU seconds) in the order of the request).
"""

from __future__ import annotations

import marshal
import os
import sys
import time

TYPE_CHECKING = False  # importing typing would cost more memory than all the rest
if TYPE_CHECKING:
    from typing import Any


def start(
    argv: list[str],
    environment: dict[str, str],
    directory: str,
    stdin: str | None,
    stdout: str,
    user: tuple[int, int] | None,
) -> int:
    pid = os.fork()
    if pid:
        return pid
    try:
        if user is not None:
            os.setgroups([])
            os.setgid(user[1])
            os.setuid(user[0])
        os.chdir(directory)
        os.dup2(os.open(stdin or "/dev/null", os.O_RDONLY), 0)
        log = os.open(stdout, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)
        os.dup2(log, 1)
        os.dup2(log, 2)
        os.execve(argv[0], argv, environment)
    except OSError as error:
        os.write(2, f"{argv[0]}: {error}\n".encode())
    finally:
        os._exit(126)


def run(jobs: list[Any]) -> tuple[float, list[tuple[float, int, int, float] | None]]:
    begin = time.perf_counter()
    started = {}
    for number, job in enumerate(jobs):
        at = time.perf_counter()
        started[start(*job)] = number, at
    answers: list[tuple[float, int, int, float] | None] = [None] * len(jobs)
    while started:
        pid, status, usage = os.wait4(-1, 0)
        now = time.perf_counter()
        if pid not in started:
            continue
        number, at = started.pop(pid)
        cpu = usage.ru_utime + usage.ru_stime
        answers[number] = (now - at, os.waitstatus_to_exitcode(status), usage.ru_maxrss, cpu)
    return time.perf_counter() - begin, answers


if __name__ == "__main__":
    answers = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)
    while True:
        try:
            request = marshal.load(sys.stdin.buffer)
        except EOFError:
            break
        marshal.dump(run(request), answers)
        answers.flush()
