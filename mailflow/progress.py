"""Octets, rate and messages on a terminal, and nowhere else.

Rule of the file: the engine only counts; a thread of its own draws.
"""

from __future__ import annotations

import sys
import threading
import time

from mailflow import log
from mailflow.engine.flow import Meter
from mailflow.typed import Self
from mailflow.values import counted

EVERY = 0.2
CLEAR = "\r\x1b[K"


class Progress:
    """Draws `meter` on stderr while it is entered, if that is a terminal."""

    def __init__(self) -> None:
        self.meter = Meter()
        self._began = time.monotonic()
        self._over = threading.Event()
        self._thread: threading.Thread | None = None

    def __enter__(self) -> Self:
        if sys.stderr is not None and sys.stderr.isatty():
            self._thread = threading.Thread(target=self._draw, name="progress", daemon=True)
            self._thread.start()
            log.write_over(CLEAR)
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        if self._thread is not None:
            self._thread.join()
            log.write_over("")
            sys.stderr.write(CLEAR)
            sys.stderr.flush()

    def _draw(self) -> None:
        while not self._over.wait(EVERY):
            seconds = time.monotonic() - self._began
            octets, messages = self.meter.octets, self.meter.messages
            line = f"{counted(messages, 'message')}, {human(octets)}, {human(octets / seconds)}/s"
            sys.stderr.write(CLEAR + line)
            sys.stderr.flush()


def human(octets: float) -> str:
    """1234567 -> "1.2 MB"."""
    for unit in ("B", "kB", "MB", "GB"):
        if octets < 1000 or unit == "GB":
            return f"{octets:.0f} {unit}" if unit == "B" else f"{octets:.1f} {unit}"
        octets /= 1000
    raise AssertionError("unreachable")
