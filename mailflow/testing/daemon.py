"""A server that others wrote, as a process of ours: started, awaited, ended.

Rule of the file: it works in a directory of its own, listens on free ports only, and ends the
process that it started, with all that that one started, and no other.
"""

from __future__ import annotations

import os
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from contextlib import ExitStack, suppress
from typing import ClassVar, Self

PATIENCE = 30.0
"""Seconds to wait for a greeting, and half of them for an end."""

GREETINGS = (b"+OK", b"* OK", b"220")
"""Of POP3, IMAP and SMTP."""


def greets(process: subprocess.Popen[bytes], *ports: int) -> bool:
    """Wait until a server greets on each port; False as soon as its process has ended."""
    left = list(ports)
    deadline = time.monotonic() + PATIENCE
    while left and time.monotonic() < deadline and process.poll() is None:
        with suppress(OSError), socket.create_connection(("127.0.0.1", left[0]), 5) as sock:
            if sock.recv(64).startswith(GREETINGS):
                left.pop(0)
                continue
        time.sleep(0.02)  # nothing tells when a port begins to listen
    return not left


def listens(process: subprocess.Popen[bytes], *ports: int) -> bool:
    """As `greets`, for servers that let their clients speak first."""
    left = list(ports)
    deadline = time.monotonic() + PATIENCE
    while left and time.monotonic() < deadline and process.poll() is None:
        with suppress(OSError), socket.create_connection(("127.0.0.1", left[0]), 5):
            left.pop(0)
            continue
        time.sleep(0.02)  # nothing tells when a port begins to listen
    return not left


def end(process: subprocess.Popen[bytes]) -> None:
    """End a process that leads a session of its own, and whatever else is in that."""
    if process.poll() is None:
        process.send_signal(signal.SIGTERM)
    try:
        process.wait(PATIENCE / 2)
    except subprocess.TimeoutExpired:
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()


class Daemon(ABC):
    """Runs from `__enter__` to `__exit__`. The log is kept in `directory`; all else lies in
    `_base`, which ends with it, since a test's own directory is closed to other users."""

    name: ClassVar[str]
    host = "127.0.0.1"

    def __init__(self, directory: str | os.PathLike[str]) -> None:
        self.directory = os.path.abspath(directory)
        os.makedirs(self.directory, exist_ok=True)
        self._log = os.path.join(self.directory, f"{self.name.lower()}.log")
        # short: the path of a socket ends at 108 octets
        self._base = tempfile.mkdtemp(prefix=f"{self.name.lower()}-")
        os.chmod(self._base, 0o755)
        self._environment: Mapping[str, str] | None = None
        self._process: subprocess.Popen[bytes] | None = None
        self._afterwards = ExitStack()
        self._afterwards.callback(shutil.rmtree, self._base, ignore_errors=True)

    def _prepare(self) -> None:  # noqa: B027  # some need nothing
        """What is done once; `_afterwards` undoes it."""

    @abstractmethod
    def _configure(self) -> Sequence[int]:
        """Write the configuration, with ports that are free now: those that will greet."""

    @abstractmethod
    def _command(self) -> Sequence[str]:
        """What starts it, in the foreground."""

    def _answers(self, process: subprocess.Popen[bytes], *ports: int) -> bool:
        """Whether it has come up on all of its ports; False as soon as its process has ended."""
        return greets(process, *ports)

    @property
    def pid(self) -> int:
        """The first process; whoever kills it ends the whole server."""
        assert self._process is not None, f"{self.name} is not running"
        return self._process.pid

    @property
    def log(self) -> str:
        """What it wrote so far."""
        try:
            with open(self._log, errors="replace") as file:
                return file.read()
        except FileNotFoundError:
            return ""

    def __enter__(self) -> Self:
        try:
            self._prepare()
            self.start()
        except BaseException:
            self.__exit__(None, None, None)
            raise
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()
        self._afterwards.close()

    def start(self) -> None:
        """Start, and wait until every port greets. Raises RuntimeError with its log."""
        for _ in range(3):  # another program may take a free port before this one does
            ports = self._configure()
            with open(self._log, "ab") as log:
                self._process = subprocess.Popen(
                    self._command(),
                    stdin=subprocess.DEVNULL,
                    stdout=log,
                    stderr=log,
                    env=self._environment,
                    start_new_session=True,  # on SIGTERM some signal their process group
                )
            if self._answers(self._process, *ports):
                return
            self.stop()
        raise RuntimeError(f"{self.name} does not start:\n{self.log}")

    def stop(self) -> None:
        """End it; start() may follow, on other ports, with the same mail."""
        process, self._process = self._process, None
        if process is not None:
            end(process)

    def _write(self, name: str, text: str) -> None:
        """Replace a file of the configuration whole."""
        path = os.path.join(self._base, name)
        with open(f"{path}.new", "w") as file:
            file.write(text)
        os.chmod(f"{path}.new", 0o644)
        os.replace(f"{path}.new", path)
