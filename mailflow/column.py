"""Many short texts in little memory: half of what so many strings take in Python.

Rule of the file: a column is never changed; no text in it has a line end.
"""

from __future__ import annotations

from array import array
from bisect import bisect_left
from collections.abc import Iterable, Iterator, Sequence
from itertools import accumulate

from mailflow.typed import overload

BLOCK = 1024


class Column(Sequence[str]):
    """Texts in one run of octets, a LF around each, and where each begins."""

    __slots__ = ("_octets", "_starts")

    def __init__(self, texts: Sequence[str]) -> None:
        lengths: Iterable[int] = map(len, texts)
        self._octets = _encoded("".join(f"\n{text}" for text in texts) + "\n")
        if len(self._octets) != sum(map(len, texts)) + len(texts) + 1:
            lengths = (len(_encoded(text)) for text in texts)
        self._starts = array("Q", accumulate((length + 1 for length in lengths), initial=1))

    def __len__(self) -> int:
        return len(self._starts) - 1

    @overload
    def __getitem__(self, index: int) -> str: ...
    @overload
    def __getitem__(self, index: slice) -> Sequence[str]: ...
    def __getitem__(self, index: int | slice) -> str | Sequence[str]:
        chosen = range(len(self))[index]
        if isinstance(chosen, int):
            return self._between(chosen, chosen + 1)
        if chosen.step != 1:
            return [self._between(number, number + 1) for number in chosen]
        return self._between(chosen.start, chosen.stop).split("\n") if chosen else []

    def __iter__(self) -> Iterator[str]:
        for start in range(0, len(self), BLOCK):
            yield from self[start : start + BLOCK]

    def number(self, text: str, near: int = 0) -> int:
        """Where it stands; quick where that is soon behind `near`. Raises KeyError."""
        wanted = _encoded(f"\n{text}\n")
        at = self._octets.find(wanted, self._starts[near] - 1)
        if at < 0:
            at = self._octets.find(wanted)
        if at < 0:
            raise KeyError(text)
        return bisect_left(self._starts, at + 1)

    def _between(self, first: int, end: int) -> str:
        octets = self._octets[self._starts[first] : self._starts[end] - 1]
        return octets.decode("utf-8", "surrogateescape")


def _encoded(text: str) -> bytes:
    return text.encode("utf-8", "surrogateescape")
