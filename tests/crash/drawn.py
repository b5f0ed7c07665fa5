"""Which of many steps a run kills before, where it has not the time for all of them.

Rule of the file: the seed draws, so that other steps are tried each time and any run can be
made again; `make crash` tries every one.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TypeVar

from .conftest import KILLS, SEED

T = TypeVar("T")


def drawn(points: Sequence[T], parts: int) -> Sequence[T]:
    """One of `parts`, from one on that the seed draws, and the last; all with `make crash`."""
    if KILLS >= 100:
        return points
    share = [*points[SEED % parts :: parts]]
    return share if share[-1:] == [*points[-1:]] else [*share, *points[-1:]]
