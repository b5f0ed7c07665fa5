"""Sets of UIDs, as IMAP writes them (RFC 3501, 9: sequence-set).

Rule of the file: a range that a server names is never expanded beyond what there can be.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Sequence

SET_LIMIT = 7000
"""Octets of a set in one command: servers read lines of 8,000 (RFC 7162, 4)."""

UID_LIMIT = (1 << 32) - 1

MESSAGES_LIMIT = 1 << 22
"""Messages of one folder, whatever a server says of how many it has."""

ARRIVING = 100_000
"""So many more messages than a folder had may be found in it meanwhile."""

_SET = re.compile(r"\d{1,10}(?::\d{1,10})?(?:,\d{1,10}(?::\d{1,10})?)*")


def ranges(uids: Iterable[int]) -> Iterator[tuple[int, int]]:
    """First and last of each run, ascending."""
    first = last = 0
    for uid in sorted(uids):
        if not 0 < uid <= UID_LIMIT:
            raise ValueError(f"{uid} is no UID")
        if first and uid <= last + 1:
            last = uid
            continue
        if first:
            yield first, last
        first = last = uid
    if first:
        yield first, last


def spelled(first: int, last: int) -> str:
    return str(first) if first == last else f"{first}:{last}"


def sets(uids: Iterable[int], limit: int = SET_LIMIT) -> Iterator[str]:
    """As few sets as hold them all, each of at most `limit` octets."""
    words: list[str] = []
    size = 0
    for first, last in ranges(uids):
        word = spelled(first, last)
        if words and size + len(word) > limit:
            yield ",".join(words)
            words, size = [], 0
        words.append(word)
        size += len(word) + 1
    if words:
        yield ",".join(words)


def number(text: str) -> int:
    """One UID, or UIDVALIDITY. Raises ValueError."""
    [(first, last)] = parse(text)
    if first != last:
        raise ValueError("no number")
    return first


def parse(text: str) -> list[tuple[int, int]]:
    """First and last of each range, in the order given. Raises ValueError."""
    if not text:
        return []
    if not _SET.fullmatch(text):
        raise ValueError("no set of numbers")
    found = []
    for word in text.split(","):
        first, _, last = word.partition(":")
        low, high = sorted((int(first), int(last or first)))
        if not 0 < low <= high <= UID_LIMIT:
            raise ValueError("no set of numbers")
        found.append((low, high))
    return found


def at_most(exists: int) -> int:
    """How many messages a server can tell of in a folder with so many."""
    return min(exists, MESSAGES_LIMIT) + ARRIVING


def count(found: Sequence[tuple[int, int]]) -> int:
    return sum(last - first + 1 for first, last in found)


def expand(text: str, most: int) -> list[int]:
    """The numbers in the order given. Raises ValueError where there are more than `most`."""
    if text.count(",") > most or count(found := parse(text)) > most:
        raise ValueError(f"a set of more than {most} numbers")
    return [uid for first, last in found for uid in range(first, last + 1)]
