"""Keys for the messages of a maildrop that stay the same from session to session.

Rule of the file: the key is the UIDL. A message whose UIDL is missing, or the same as
another's, is told by a digest of its header; equal digests are numbered. An octet
count says nothing: servers change it.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Iterable, Iterator

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
    """What is in the maildrop: `keys` by number, in order, and `sizes` where LIST says them.

    `faults` are the oddities of the listing, with how often each was met.
    """

    keys: dict[int, str]
    sizes: dict[int, int]
    faults: Counter[str]


def catalogue(uidl: bytes | None, listing: bytes | None, headers: Headers) -> Catalogue:
    """From the answers to UIDL and LIST (None: refused, but not both of them)."""
    faults: Counter[str] = Counter()
    sizes, numbers = _sizes(listing or b"", faults)
    keys = _uidls(uidl or b"", None if listing is None else numbers, faults)
    if listing is None:
        numbers = set(keys)
    elif uidl is not None and (unnamed := len(numbers - keys.keys())):
        faults["UIDL leaves out a message"] += unnamed
    counts = Counter(keys.values())
    shared = sorted(n for n in numbers if n not in keys or counts[keys[n]] > 1)
    if shared:
        named = {n: keys.pop(n) for n in shared if n in keys}
        faults["UIDL gives one id to several messages"] += len(named)
        keys.update(_told_apart(shared, named, set(keys.values()), headers))
    return Catalogue({n: keys[n] for n in sorted(keys)}, sizes, +faults)


def _sizes(listing: bytes, faults: Counter[str]) -> tuple[dict[int, int], set[int]]:
    """(size by number, all numbers) of LIST."""
    sizes: dict[int, int] = {}
    numbers: set[int] = set()
    for number, rest in numbered(listing):
        if not number or number in numbers:
            faults["LIST has a line that is none"] += 1
            continue
        numbers.add(number)
        size = rest.split(b" ", 1)[0]
        if size.isdigit() and len(size) < 16:
            sizes[number] = int(size)
    return sizes, numbers


def _uidls(uidl: bytes, numbers: set[int] | None, faults: Counter[str]) -> dict[int, str]:
    """The unique-id by number, as far as it is usable; `numbers`, if known, are all there are."""
    keys: dict[int, str] = {}
    for number, rest in numbered(uidl):
        text = rest.strip(b" ")
        if not number or not text or number in keys:
            faults["UIDL has a line that is none"] += 1
        elif numbers is not None and number not in numbers:
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
