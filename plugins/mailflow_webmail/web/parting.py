"""The word that everything ends, which a last request may put off.

Rule of the file: it is put off by nothing but a farewell, and for a moment.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager

from mailflow.halt import Halt


class Parting(Halt):
    """Says what another Halt says, but inside `put_off`."""

    def __init__(self, halt: Halt) -> None:
        self._now = halt

    def set(self) -> None:
        self._now.set()

    def is_set(self) -> bool:
        return self._now.is_set()

    def fileno(self) -> int:
        return self._now.fileno()

    def wait(self, seconds: float) -> bool:
        return self._now.wait(seconds)

    def check(self) -> None:
        self._now.check()

    def close(self) -> None:
        """The other one is somebody else's."""

    @contextmanager
    def put_off(self, seconds: float) -> Iterator[None]:
        """Where it was said already, it is said again after so many seconds."""
        if not self.is_set():
            yield
            return
        before, last = self._now, Halt()
        late = threading.Timer(seconds, last.set)
        late.daemon = True
        late.start()
        self._now = last
        try:
            yield
        finally:
            self._now = before
            late.cancel()
            late.join()
            last.close()
