"""What goes wrong with the small IMAP server on demand."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple

Answer = bytes | Callable[[bytes], bytes | None]


class Faults(NamedTuple):
    """What goes wrong. Octets are counted over all that one connection is sent.

    `answers` maps the beginning of a command without its tag ("UID FETCH 2"; "" is the
    greeting) to octets sent instead of the right answer, or to a function of the right answer
    that gives them. `before` maps it to octets sent first. In both "<tag>" stands for the tag.
    """

    cut_at: int | None = None
    """Close after this many octets."""
    reset: bool = False
    """Close with a reset instead of an end."""
    stall_at: int | None = None
    """Send nothing more after this many octets, and keep the connection."""
    trickle: float = 0.0
    """Seconds before each octet."""
    cut_before: Sequence[str] = ()
    """Close instead of answering these commands."""
    answers: Mapping[str, Answer] = {}
    before: Mapping[str, bytes] = {}


NO_FAULTS = Faults()
