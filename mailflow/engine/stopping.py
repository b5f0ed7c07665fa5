"""Signals: the first ends a run in order, the second at once.

Rule of the file: to end at once is to be killed, which is safe at every step; whoever
keeps the program from ending is named, as far as Python can tell.
"""

from __future__ import annotations

import os
import signal
import sys
from contextlib import suppress

from mailflow.typed import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from mailflow.halt import Halt

OURS = "mailflow"


def stop_on(halt: Halt, *numbers: int) -> dict[int, Any]:
    """Set `halt` at the first of these signals, and die of the second. Gives the handlers
    that were there before. SIGALRM, our own clock's, is neither first nor second."""
    told: list[int] = []

    def stop(number: int, _: object) -> None:
        if told and number != signal.SIGALRM:
            with suppress(OSError, ValueError, AttributeError, RuntimeError):  # it was writing
                sys.stderr.write(f"mailflow: ended at once; at work was {at_work()}\n")
                sys.stderr.flush()
            signal.signal(number, signal.SIG_DFL)
            os.kill(os.getpid(), number)
        told.extend([number] if number != signal.SIGALRM else [])
        halt.set()

    return {number: signal.signal(number, stop) for number in numbers}


def at_work() -> str:
    """The plugins in whose code a thread is now."""
    found = set()
    for frame in sys._current_frames().values():
        each = frame
        while each is not None:
            package = str(each.f_globals.get("__name__")).partition(".")[0]
            if package.startswith(f"{OURS}_"):
                found.add(package)
            each = each.f_back  # type: ignore[assignment]
    return ", ".join(sorted(found)) or "none of the plugins"
