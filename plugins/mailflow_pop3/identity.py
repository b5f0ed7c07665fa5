"""Keys for the messages of a maildrop that stay the same from session to session.

Rule of the file: the key is the UIDL. A message whose UIDL is missing, or the same as
another's, is told by a digest of its header; equal digests are numbered. An octet
count says nothing: servers change it.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Container, Iterable, Iterator, Sequence

from mailflow.digests import sha256
from mailflow.record import NamedTuple
from mailflow_pop3.wire import numbered

UIDL_LIMIT = 70
"""Octets of a unique-id (RFC 1939, 7)."""

_UIDL = re.compile(rb"[\x21-\x7e]+\Z")
_VOLATILE = re.compile(rb"^(?:X-)?Status:[^\n]*\n", re.I | re.M)

Headers = Callable[[list[int]], Iterable[tuple[int, bytes]]]
"""Gives (number, header section) for those of the numbers that can still be had."""


class Catalogue(NamedTuple):
    """What is in the maildrop: the number by key, in order, and `sizes` by number where LIST
    says them.

    `faults` are the oddities of the listing, with how often each was met.
    """

    numbers: dict[str, int]
    sizes: dict[int, int]
    faults: Counter[str]


def catalogue(uidl: bytes | None, listing: bytes | None, headers: Headers) -> Catalogue:
    """From the answers to UIDL and LIST (None: refused, but not both of them)."""
    faults: Counter[str] = Counter()
    sizes, unsized = _sizes(listing or b"", faults)
    listed = None if listing is None else (sizes, unsized)
    keys = _uidls(uidl or b"", listed, faults)
    numbers = sorted(keys) if listing is None else sorted([*sizes, *unsized])
    unnamed = sum(number not in keys for number in numbers)
    if unnamed and uidl is not None:
        faults["UIDL leaves out a message"] += unnamed
    found = {keys[number]: number for number in numbers if number in keys}
    if unnamed or len(found) < len(keys):
        counts = Counter(keys.values())
        shared = [n for n in numbers if n not in keys or counts[keys[n]] > 1]
        named = {n: keys.pop(n) for n in shared if n in keys}
        faults["UIDL gives one id to several messages"] += len(named)
        keys.update(_told_apart(shared, named, set(keys.values()), headers))
        found = {keys[number]: number for number in numbers if number in keys}
    return Catalogue(found, sizes, +faults)


def _sizes(listing: bytes, faults: Counter[str]) -> tuple[dict[int, int], set[int]]:
    """(size by number, the numbers without one) of LIST."""
    sizes: dict[int, int] = {}
    unsized: set[int] = set()
    for number, rest in numbered(listing):
        size = rest.split(b" ", 1)[0]
        if not number or number in sizes or number in unsized:
            faults["a line of LIST cannot be read"] += 1
        elif size.isdigit() and len(size) < 16:
            sizes[number] = int(size)
        else:
            unsized.add(number)
    return sizes, unsized


def _uidls(
    uidl: bytes, listed: Sequence[Container[int]] | None, faults: Counter[str]
) -> dict[int, str]:
    """The unique-id by number, as far as it is usable; `listed`, if known, are all there are."""
    keys: dict[int, str] = {}
    for number, rest in numbered(uidl):
        text = rest.strip(b" ")
        if not number or not text or number in keys:
            faults["a line of UIDL cannot be read"] += 1
        elif listed is not None and not any(number in each for each in listed):
            faults["UIDL names a message that LIST does not"] += 1
        elif _UIDL.match(text) and len(text) <= UIDL_LIMIT:
            keys[number] = text.decode("ascii")
        else:
            faults["UIDL has an id that is not 1 to 70 printable characters"] += 1
            keys[number] = "~" + sha256(text).hexdigest()[:40]
    return keys


def _told_apart(
    shared: list[int], named: dict[int, str], taken: set[str], headers: Headers
) -> Iterator[tuple[int, str]]:
    """Keys for messages without an id of their own. One that is gone by now gets none."""
    found = dict(headers(shared))
    for number in shared:
        if number in found:
            stem = key = f"{named.get(number, '')}~{digest(found[number])}"
            again = 1
            while key in taken:
                again += 1
                key = f"{stem}~{again}"
            taken.add(key)
            yield number, key


def digest(header: bytes) -> str:
    """Of a header section, without what servers change in it."""
    fields = _VOLATILE.sub(b"", header.partition(b"\r\n\r\n")[0])
    return sha256(fields.rstrip(b"\r\n")).hexdigest()[:32]
