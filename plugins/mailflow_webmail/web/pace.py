"""How often a webmail is asked, and how long it is left alone when it says so.

Rule of the file: every wait ends when the engine stops.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Mapping
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from mailflow.halt import Halt


class Pace:
    """Requests of all threads begin `delay` seconds after each other."""

    def __init__(self, delay: float, halt: Halt) -> None:
        self._delay = delay
        self._halt = halt
        self._guard = threading.Lock()
        self._next = 0.0

    def wait(self) -> None:
        """Until the next request may begin. Raises UnavailableError."""
        while True:
            self._halt.check()
            with self._guard:
                now = time.monotonic()
                if now >= self._next:
                    self._next = now + self._delay
                    return
                left = self._next - now
            self._halt.wait(left)

    def rest(self, seconds: float) -> None:
        """Nobody asks for so long."""
        with self._guard:
            self._next = max(self._next, time.monotonic() + seconds)


def retry_after(headers: Mapping[str, str]) -> float | None:
    """The seconds that a server asks for (RFC 9110, 10.2.3); None where it does not.

    A date is compared with the server's own clock, where it says what that shows.
    """
    said = headers.get("Retry-After", "").strip()
    if said.isascii() and said.isdecimal():
        return float(said[:9])
    until = _seconds(said)
    if until is None:
        return None
    now = _seconds(headers.get("Date", ""))
    return max(0.0, until - (time.time() if now is None else now))


def _seconds(date: str) -> float | None:
    """An HTTP-date as seconds since the epoch."""
    from email.utils import mktime_tz, parsedate_tz

    try:
        found = parsedate_tz(date)
        return None if found is None else float(mktime_tz(found))
    except (ValueError, OverflowError, TypeError, IndexError):
        return None
