"""A real `mailflow serve FILE` in a process of its own, from its start to its end.

    with Serving(home / "home.toml"):
        poplib.POP3("127.0.0.1", 1110)

Rule of the file: it is started as its owner would, with nothing of the environment of
the tests; it ends the one process that it started, and says what that said.
"""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from functools import cache
from itertools import cycle, islice
from pathlib import Path
from typing import Self

PATIENCE = 20.0
"""Seconds to wait until it is ready, and for its end."""

LOOK = 0.1
"""How often is looked whether it has ended instead."""

LOWEST, BLOCK = 10_000, 400
"""The first port given to a server, and how many a process holds for its servers."""

_holders: list[socket.socket] = []


def environment(home: Path) -> dict[str, str]:
    """What the program gets, and a test's other commands about the same installation."""
    return {
        "PATH": os.environ.get("PATH", os.defpath),
        "HOME": str(home),
        "XDG_STATE_HOME": str(home / "state"),
        "PYTHONDONTWRITEBYTECODE": "1",
        "PYTHONPATH": os.environ.get("PYTHONPATH", ""),
    }


def free_ports(count: int) -> list[int]:
    """Ports of 127.0.0.1 that nobody listens on now, for servers that are to be started.

    Until they are, no client gets one of them from the system, and no other process from here.
    """
    return list(islice(filter(_unused, _own_ports()), count))


def _unused(port: int) -> bool:
    try:
        socket.create_server(("127.0.0.1", port)).close()
    except OSError:
        return False
    return True


@cache
def _own_ports() -> Iterator[int]:
    """The ports of this process, in turn: a block below those that the system gives to clients
    (ip(7), ip_local_port_range), held while it lives by an abstract socket (unix(7)).

    Raises RuntimeError where each block is another process's.
    """
    clients = int(Path("/proc/sys/net/ipv4/ip_local_port_range").read_text().split()[0])
    for first in range(LOWEST, clients - BLOCK, BLOCK):
        holder = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        try:
            holder.bind(f"\0mailflow-ports-{first}")
        except OSError:
            holder.close()
            continue
        _holders.append(holder)
        return cycle(range(first, first + BLOCK))
    raise RuntimeError(f"all ports between {LOWEST} and {clients} are held by others")


class Serving:
    """Runs from `__enter__` to `__exit__`, in the directory of `file`, its pipeline;
    `arguments` stand behind the file. It is there once it tells its manager that it is ready."""

    def __init__(
        self,
        file: Path,
        *,
        arguments: Sequence[str] = (),
        environ: Mapping[str, str] | None = None,
        program: Sequence[str] | None = None,
    ) -> None:
        self.program = program or (sys.executable, "-m", "mailflow")
        self.file = file
        self.home = file.parent
        self.arguments = list(arguments)
        self.environment = dict(environ or environment(self.home))
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def pid(self) -> int:
        assert self._process is not None, "it is not running"
        return self._process.pid

    @property
    def said(self) -> str:
        """What it wrote so far, on both outputs."""
        path = self.home / "serve.log"
        return path.read_text(errors="replace") if path.exists() else ""

    def __enter__(self) -> Self:
        try:
            self.start()
        except BaseException:
            self.kill()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        if self._process is not None:
            self.stop()

    def start(self) -> None:
        """Start, and wait until it says that it is ready. Raises RuntimeError with what it said."""
        command = [*self.program, "serve", str(self.file), *self.arguments]
        with (
            (self.home / "serve.log").open("ab") as log,
            tempfile.TemporaryDirectory(prefix="mf-") as directory,  # a socket's path is short
            socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as manager,
        ):
            manager.bind(os.path.join(directory, "s"))
            os.chmod(directory, 0o711)  # who gives up privileges still reaches its manager
            os.chmod(os.path.join(directory, "s"), 0o666)
            self._process = subprocess.Popen(
                command, env={**self.environment, "NOTIFY_SOCKET": os.path.join(directory, "s")},
                cwd=self.home, stdin=subprocess.DEVNULL, stdout=log, stderr=log,
            )  # fmt: skip
            if not self._ready(manager, self._process):
                raise RuntimeError(f"it has not become ready:\n{self.said}")

    def _ready(self, manager: socket.socket, process: subprocess.Popen[bytes]) -> bool:
        """Wait for sd_notify(3); False where the process has ended, or after PATIENCE."""
        deadline = time.monotonic() + PATIENCE
        manager.settimeout(LOOK)
        while time.monotonic() < deadline:
            with suppress(TimeoutError):
                if manager.recv(4096).startswith(b"READY=1"):
                    return True
            if process.poll() is not None:
                return False
        return False

    def stop(self) -> int:
        """End it in order, and give its exit status; start() may follow."""
        return self._end(signal.SIGTERM)

    def kill(self) -> int:
        """End it with SIGKILL, as a crash would."""
        return self._end(signal.SIGKILL)

    def _end(self, number: signal.Signals) -> int:
        process, self._process = self._process, None
        if process is None:
            return 0
        if process.poll() is None:
            process.send_signal(number)
        try:
            return process.wait(timeout=PATIENCE)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
            raise RuntimeError(f"it does not end within {PATIENCE} s:\n{self.said}") from None

    def command(self, *words: str | Path) -> subprocess.CompletedProcess[str]:
        """Run `mailflow WORDS...` about the same installation."""
        return subprocess.run(
            [*self.program, *map(str, words)],
            env=self.environment, cwd=self.home, stdin=subprocess.DEVNULL,
            capture_output=True, text=True, timeout=60, check=False,
        )  # fmt: skip


__all__ = ["Serving", "environment", "free_ports"]
