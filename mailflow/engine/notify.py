"""What is told to systemd (sd_notify(3)): ready, reloading, stopping, still alive.

Rule of the file: where no manager listens, and whatever it does, nothing happens here.
"""

from __future__ import annotations

import os
import socket
import time
from contextlib import suppress


class Notifier:
    """The socket that the manager named in NOTIFY_SOCKET, if it did. The variables are taken
    out of the environment: programs that we start are not the service."""

    def __init__(self) -> None:
        self._path = os.environ.pop("NOTIFY_SOCKET", "")
        self.watchdog = _watchdog()
        self._said = ""
        self._next = 0.0

    def ready(self, status: str) -> None:
        self._said = status
        self._send(f"READY=1\nSTATUS={status}")

    def reloading(self) -> None:
        self._send(f"RELOADING=1\nMONOTONIC_USEC={time.monotonic_ns() // 1000}")

    def stopping(self) -> None:
        self._send("STOPPING=1\nSTATUS=ending what is at work")

    def status(self, text: str) -> None:
        """Say it, unless it was said already."""
        if text != self._said:
            self._said = text
            self._send(f"STATUS={text}")

    def alive(self) -> None:
        """To be called far more often than `watchdog` seconds, as long as all is well."""
        now = time.monotonic()
        if self.watchdog and now >= self._next:
            self._next = now + self.watchdog / 3
            self._send("WATCHDOG=1")

    def _send(self, text: str) -> None:
        if not self._path.startswith(("/", "@")):
            return
        address = "\0" + self._path[1:] if self._path.startswith("@") else self._path
        with suppress(OSError), socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sock:
            sock.connect(address)
            sock.send(text.encode("utf-8", "replace"), socket.MSG_DONTWAIT)


def _watchdog() -> float:
    """Seconds after which the manager would kill us; 0 where it watches not, or another."""
    given = os.environ.pop("WATCHDOG_USEC", "")
    whose = os.environ.pop("WATCHDOG_PID", "")
    if not given.isdecimal() or (whose and whose != str(os.getpid())):
        return 0.0
    return int(given) / 1e6
