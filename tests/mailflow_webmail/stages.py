"""The end of maildrops that a test has made, with the sessions that they keep for a while.

Rule of the file: nothing of them is asked of the webmail afterwards, where the next test counts.
"""

from __future__ import annotations

import threading
from collections.abc import Iterable

from mailflow.testing.contracts.component import Stage


def end(stages: Iterable[Stage]) -> None:
    """Stop them, and wait until what they kept is logged out."""
    for stage in stages:
        stage.halt.set()
    for thread in threading.enumerate():
        if thread.name == "spare sessions":
            thread.join(20)
