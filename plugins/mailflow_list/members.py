"""Who is on a list: addresses from a file, which may change at any time, or the TOML.

Rule of the file: a bad line is said with its file and number and stops nobody else;
a file that cannot be read stops the post, for it is not a list without members
(nor is an empty one: see post.py).
"""

from __future__ import annotations

import os
import re
import time
from collections.abc import Iterable, Iterator

from mailflow.addresses import addresses, same
from mailflow.errors import from_os
from mailflow.log import clean
from mailflow.options import ElementsError, Option, path
from mailflow.record import NamedTuple
from mailflow.typed import TYPE_CHECKING

if TYPE_CHECKING:
    from mailflow.log import Logger

_SAID = 10  # bad lines of a file that `check` names

_SETTLED = 2.0
"""Seconds after which a change of the file is seen by its times for certain."""


class People(NamedTuple):
    """Addresses in the order they were written; `known` holds them in the form of `same`."""

    addresses: tuple[str, ...] = ()
    known: frozenset[str] = frozenset()


class Roll:
    """The people of a list. `read` gives who is on it now."""

    def __init__(self, written: Iterable[str] = (), file: str = "") -> None:
        """`written` are addr-specs; `file` is the path of one that is read instead."""
        self.file = file
        self._people = _people(written)
        self._state: tuple[int, ...] = ()
        self._settled = not file

    def read(self, log: Logger) -> People:
        """Raises UnavailableError where the file cannot be read."""
        if not self.file:
            return self._people
        try:
            status = os.stat(self.file)
            state = (status.st_mtime_ns, status.st_ctime_ns, status.st_size, status.st_ino)
            if state == self._state and self._settled:
                return self._people
            now = time.time()
            lines = _lines(self.file)
        except OSError as error:
            raise from_os(error, f"read the addresses in {self.file}") from error
        found = list(entries(lines))
        if state != self._state:
            for each in found:
                if not each.address:
                    log.warning(
                        "not an address, left out", file=self.file, line=each.line,
                        text=each.text[:200],
                    )  # fmt: skip
        self._people = _people(each.address for each in found if each.address)
        self._state, self._settled = state, now - status.st_mtime > _SETTLED
        return self._people

    def faults(self, *, needed: bool) -> Iterator[str]:
        """What is wrong with the file, if there is one: it cannot be read, has lines that are
        left out or, where people are `needed`, holds nobody."""
        if not self.file:
            return
        try:
            found = list(entries(_lines(self.file)))
        except OSError as error:
            why = os.strerror(error.errno) if error.errno else str(error)
            yield f"cannot read {self.file}: {why}; it is to hold an address a line"
            return
        if needed and not any(each.address for each in found):
            yield f"{self.file} holds no address, so that no post goes out"
        for each in [each for each in found if not each.address][:_SAID]:
            text = clean(each.text[:100])
            yield f"{self.file}:{each.line}: not an address, and so left out: {text}"


class Entry(NamedTuple):
    """A line of the file that is for somebody, from 1; `address` is "" where it is none."""

    line: int
    text: str
    address: str


def entries(lines: Iterable[str]) -> Iterator[Entry]:
    """What the lines of a file hold besides comments and blank ones."""
    for number, line in enumerate(lines, 1):
        text = line.strip()
        if text and not text.startswith("#"):
            yield Entry(number, text, one_address(text) or one_address(_COMMENT.sub("", text)))


def _lines(file: str) -> list[str]:
    with open(file, encoding="utf-8-sig", errors="surrogateescape", newline="") as opened:
        return opened.read().split("\n")


_COMMENT = re.compile(r"\s#.*")


def _people(written: Iterable[str]) -> People:
    each: dict[str, str] = {}
    for address in written:
        each.setdefault(same(address), address)
    return People(tuple(each.values()), frozenset(each))


def one_address(text: str) -> str:
    """The addr-spec of "Ann <ann@example.org>" or "ann@example.org", "" if it is neither."""
    named = addresses(text)
    return named.found[0] if named.clean and len(named.found) == 1 else ""


class Rolled(Option[Roll]):
    """A file with an address a line, or an array of addresses."""

    expected = 'the path of a file with an address a line, or an array such as ["ann@example.org"]'
    json_type = {"anyOf": [{"type": "string"}, {"type": "array", "items": {"type": "string"}}]}

    def convert(self, value: object, base: str) -> Roll:
        if isinstance(value, str):
            return Roll(file=path(value, base))
        if not isinstance(value, list):
            raise self.reject()
        wrong = [
            ((number,), ValueError('expected an address such as "ann@example.org"'))
            for number, each in enumerate(value)
            if not isinstance(each, str) or not one_address(each)
        ]
        if wrong:
            raise ElementsError(wrong)
        return Roll([one_address(each) for each in value])
