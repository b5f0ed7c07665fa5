"""The flags of a message that anybody may change.

Rule of the file: each has one name here, whatever a server calls it.
"""

from __future__ import annotations

from collections.abc import Iterable

WRITABLE = ("answered", "deleted", "draft", "flagged", "seen")


def check(names: Iterable[str]) -> None:
    """Raises ValueError for names that are none of these."""
    if unknown := [name for name in names if name not in WRITABLE]:
        raise ValueError(f"expected flags among {', '.join(WRITABLE)}; found {', '.join(unknown)}")


__all__ = ["WRITABLE", "check"]
