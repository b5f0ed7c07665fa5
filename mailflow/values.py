"""What text in a file means: durations, sizes, paths and addresses.

Rule of the file: each function takes what TOML gave and raises ValueError that says
what was expected, with an example.
"""

from __future__ import annotations

import os
from collections.abc import Collection, Iterable

from mailflow.record import NamedTuple

DURATION_UNITS = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0, "d": 86400.0, "w": 604800.0}
SIZE_UNITS = {"": 1, "b": 1, "k": 1024, "kb": 1000, "kib": 1024, "m": 1 << 20, "mb": 10**6,
              "mib": 1 << 20, "g": 1 << 30, "gb": 10**9, "gib": 1 << 30}  # fmt: skip
FOREVER = float("inf")


def _quantity(value: object) -> tuple[float, str] | None:
    """("10", "m") of "10m"; None if it is no number with a unit."""
    if isinstance(value, bool):
        return None
    if isinstance(value, int | float):
        return float(value), ""
    if not isinstance(value, str):
        return None
    number = value.strip().rstrip("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ ")
    unit = value.strip()[len(number) :].strip().lower()
    try:
        return float(number), unit
    except ValueError:
        return None


def duration(value: object) -> float:
    """Seconds of "90s", "10m", "2h", "14d", "1w", "forever" or 0. Raises ValueError."""
    expected = 'expected a duration such as "30s", "10m", "2h", "14d" or "forever"'
    if value == "forever":
        return FOREVER
    quantity = _quantity(value)
    if quantity is None or not 0 <= quantity[0] < FOREVER:
        raise ValueError(expected)
    number, unit = quantity
    if number == 0 and not unit:
        return 0.0
    if unit not in DURATION_UNITS:
        raise ValueError(expected)
    return number * DURATION_UNITS[unit]


def size(value: object) -> int:
    """Octets of "2MB" (10**6), "2MiB" (2**20), "64k" (1024) or 1000. Raises ValueError."""
    quantity = _quantity(value)
    if quantity is None or not 0 <= quantity[0] < FOREVER or quantity[1] not in SIZE_UNITS:
        raise ValueError('expected a size such as 4096, "64k", "2MB" or "1GiB"')
    return int(quantity[0] * SIZE_UNITS[quantity[1]])


def path(value: object, base: str) -> str:
    """An absolute path. Raises ValueError."""
    if not isinstance(value, str) or not value or "\0" in value:
        raise ValueError("expected a path")
    expanded = os.path.expanduser(value)
    if expanded.startswith("~"):
        raise ValueError(f"no home directory is known for {value!r}")
    return os.path.normpath(os.path.join(base, expanded))


_QUOTED = frozenset('[]\\()<>@,:;".')
"""What a display name may hold within quotes only (RFC 5322, 3.2.3)."""


class Mailbox(NamedTuple):
    """A display name and an addr-spec (RFC 5322, 3.4)."""

    name: str
    address: str

    @property
    def domain(self) -> str:
        return self.address.rpartition("@")[2]

    def __str__(self) -> str:
        if not self.name:
            return self.address
        if not _QUOTED & set(self.name) and f"{self.name}{self.address}".isascii():
            return f"{self.name} <{self.address}>"
        from email.utils import formataddr

        return formataddr((self.name, self.address))


def mailbox(value: object) -> Mailbox:
    """A Mailbox of "Ann <ann@example.org>" or "ann@example.org". Raises ValueError."""
    expected = 'expected an address such as "ann@example.org" or "Ann <ann@example.org>"'
    if not isinstance(value, str):
        raise ValueError(expected)
    name, address = "", value.strip()
    if address.endswith(">"):
        name, _, address = address[:-1].rpartition("<")
        name = name.strip().strip('"').strip()
    local, at, domain = address.rpartition("@")
    if (
        not (local and at and domain)
        or "@" in local
        or any(c <= " " or c in '<>(),;:"[]\x7f' for c in address)
    ):
        raise ValueError(expected)
    if any(c in name for c in "\r\n\0"):
        raise ValueError(expected)
    return Mailbox(name, address)


def nearest(word: str, known: Iterable[str]) -> str:
    """ "; did you mean `host`?" where a known word is like `word`, else ""."""
    from difflib import get_close_matches

    close = get_close_matches(word, list(known), n=1, cutoff=0.6)
    return f"; did you mean `{close[0]}`?" if close else ""


def instead(word: str, known: Iterable[str]) -> str:
    """What to write instead of `word`, to stand behind an error: the nearest of the known words,
    else all of them; "" where there is none."""
    words = list(dict.fromkeys(known))
    return nearest(word, words) or listed(words)


def listed(words: Collection[str]) -> str:
    """ "; there is a", "; there are a, b", "" for none."""
    return f"; there {'is' if len(words) == 1 else 'are'} {', '.join(words)}" if words else ""


def counted(number: int, what: str) -> str:
    """ "1 message", "2 messages"."""
    return f"{number} {what}{'' if number == 1 else 's'}"
