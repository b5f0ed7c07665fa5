"""A file of addresses, changed: one line for each change, all other octets stay.

Rule of the file: whoever reads the file, and whatever is cut at whatever moment, it is
the old one or the new one; two that change it take turns.
"""

from __future__ import annotations

import fcntl
import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager

from mailflow import durable
from mailflow.addresses import same
from mailflow.errors import from_os
from mailflow_list.members import entries, one_address

Change = Callable[[bytes], bytes]

_BOM = b"\xef\xbb\xbf"


def change(path: str, how: Change) -> bool:
    """Make of the file's octets what `how` gives for them; whether that is another thing.

    Where there is no file it is made, for this user alone. Raises UnavailableError.
    """
    real = os.path.realpath(path)
    try:
        with _turn(os.path.dirname(real)):
            try:
                with open(real, "rb") as file:
                    before, status = file.read(), os.fstat(file.fileno())
            except FileNotFoundError:
                before, status = b"", None
            after = how(before)
            if after == before:
                return False
            mode = 0o600 if status is None else status.st_mode & 0o7777
            durable.replace(real, after, mode, status)
            return True
    except OSError as error:
        raise from_os(error, f"change {path}") from error


@contextmanager
def _turn(directory: str) -> Iterator[None]:
    """The directory is locked; a file's own lock would go with the file replaced."""
    descriptor = os.open(directory, os.O_RDONLY | os.O_DIRECTORY)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
    finally:
        os.close(descriptor)


def lines(octets: bytes) -> list[str]:
    """The lines of a file's octets, without their ends."""
    return octets.removeprefix(_BOM).decode("utf-8", "surrogateescape").split("\n")


def known(octets: bytes) -> frozenset[str]:
    """Who is in the file, in the form of `same`."""
    return frozenset(same(each.address) for each in entries(lines(octets)) if each.address)


def with_added(octets: bytes, written: Iterable[str]) -> bytes:
    """The file with a line more for each of `written` that is not in it yet."""
    there = set(known(octets))
    end = b"\r\n" if b"\r\n" in octets else b"\n"
    for text in written:
        address = same(one_address(text))
        if address in there:
            continue
        there.add(address)
        if octets not in (b"", _BOM) and not octets.endswith(b"\n"):
            octets += end
        octets += _line(text).encode("utf-8", "surrogateescape") + end
    return octets


def without(octets: bytes, addresses: Sequence[str]) -> bytes:
    """The file without the lines of these addresses; comments and the others stay."""
    gone = {same(each) for each in addresses}
    numbers = {e.line for e in entries(lines(octets)) if e.address and same(e.address) in gone}
    begin = _BOM if octets.startswith(_BOM) else b""
    kept = octets.removeprefix(_BOM).split(b"\n")
    last = len(kept)
    rest = [line for number, line in enumerate(kept, 1) if number not in numbers]
    if last in numbers and rest:  # it had no line end: the one before keeps its own
        rest.append(b"")
    return begin + b"\n".join(rest)


def _line(text: str) -> str:
    """`text` as a line that is read as it is meant: "#ann@example.org" alone would be a
    comment."""
    found = [each.address for each in entries([text])]
    address = one_address(text)
    return text if found == [address] else f"<{address}>"
