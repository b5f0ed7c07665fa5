"""What this process has used, and on which disk: nothing is made in its place while that is away.

What is made where a disk is mounted is hidden as soon as the disk is back.
"""

from __future__ import annotations

import os
from contextlib import suppress

from mailflow.errors import UnavailableError

_DEVICES: dict[str, int] = {}
"""The device of each path that this process has used."""


def used(path: str) -> None:
    """Know `path` again, and its disk."""
    with suppress(OSError):  # gone meanwhile: the next to look will see
        _DEVICES[path] = os.stat(path).st_dev


def is_gone(path: str) -> bool:
    """Whether this process has used what is not there any more."""
    return path in _DEVICES and not os.path.lexists(path)


def look_for_disk(path: str) -> None:
    """Raises UnavailableError where what this process has used is gone, and its disk with it;
    what was removed from a disk that is there may be made again."""
    if not is_gone(path):
        return
    there = os.path.abspath(path)
    while not os.path.exists(there):
        there = os.path.dirname(there)
    if os.stat(there).st_dev != _DEVICES[path]:
        raise UnavailableError(f"{path} is gone, and its disk too; is it mounted?")
