"""What is likely to be new, so that it can be asked for together with the log-in.

Rule of the file: a guess names numbers, never messages. What a number stands for is
told by the UIDL listing of the same session; a wrong guess costs octets and no more.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from mailflow.record import NamedTuple
from mailflow_pop3.wire import Command

MOST = 250
"""Messages that are asked for unseen: about 2 KB of commands."""

STRIDE = 8
"""A NOOP follows so many of them: servers part from a client that is wrong too often in
a row (Dovecot: 20 times)."""

FRESH = 36 * 3600.0
"""Seconds for which what a visit learnt is believed. A visit that fails learns nothing:
should guessing be what makes it fail, that ends after this time."""

_FORM = "1"


class Guess(NamedTuple):
    """Messages 1 to `below` are known; `likely` more are expected behind them.

    `way` is how the last visit logged in: with a way that the server may refuse, nothing
    is asked for ahead.
    """

    below: int = 0
    likely: int = 0
    way: str = ""

    @classmethod
    def of(cls, mark: str, now: float) -> Guess:
        """What the last visit left; nothing where there was none, or long ago."""
        try:
            form, at, below, likely, way = mark.split(" ")
            told = cls(int(below), min(int(likely), MOST), way)
            recent = 0 <= now - int(at) <= FRESH
        except ValueError:
            return cls()
        return told if form == _FORM and recent and told.below >= 0 else cls()

    def mark(self, now: float) -> str:
        return f"{_FORM} {int(now)} {self.below} {self.likely} {self.way}"

    def commands(self) -> list[Command]:
        """The RETRs, with what keeps a server patient between them."""
        asked: list[Command] = []
        for number in range(self.below + 1, self.below + self.likely + 1):
            asked.append(Command("RETR", number))
            if not (number - self.below) % STRIDE:
                asked.append(Command("NOOP"))
        return asked

    def next(self, left: int, new: int, unwanted: int, way: str) -> Guess:
        """For the next visit: `left` messages stay, `new` ones behind `below` were wanted
        by this one, `unwanted` ones were asked for ahead in vain though they are there."""
        likely = new if unwanted else max(new, self.likely // 2, 1)
        return Guess(left, min(likely, MOST), way)


def may_delete(capabilities: Mapping[str, Sequence[str]]) -> bool:
    """Whether the server may delete what was merely read (RFC 2449, 6.7: EXPIRE 0)."""
    return "0" in capabilities.get("EXPIRE", ())
