"""Regular expressions over the pages of strangers, bounded in time.

Rule of the file: `re` of the standard library is not used on what a webmail sends, since it
holds the whole process for as long as it looks, and a page can be made for that.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from functools import lru_cache
from itertools import islice
from typing import TYPE_CHECKING

from mailflow_webmail.errors import LayoutError

if TYPE_CHECKING:
    from regex import Match, Pattern

SECONDS = 10.0
"""How long the patterns of a site may look at one page, all together."""

MOST = 100_000
"""Rows of one page."""


@lru_cache(1024)
def compiled(pattern: str) -> Pattern[str]:
    """Raises ValueError that says what is wrong with it."""
    import regex

    try:
        return regex.compile(pattern)
    except regex.error as error:
        raise ValueError(f"expected a regular expression: {error}") from None


class Search:
    """What is left of the time for one page."""

    def __init__(self, seconds: float = SECONDS) -> None:
        self._left = seconds

    def first(self, pattern: str, text: str) -> Match[str] | None:
        """Raises LayoutError where it takes too long."""
        with self._timed(pattern):
            return compiled(pattern).search(text, timeout=self._left)

    def value(self, pattern: str, text: str) -> str | None:
        """What the first group matches, or all of it where there is none."""
        match = self.first(pattern, text)
        if match is None:
            return None
        return (match[1] or "") if match.re.groups else match[0]

    def each(self, pattern: str, text: str) -> list[Match[str]]:
        """Raises LayoutError where it takes too long, or where there are too many."""
        with self._timed(pattern):
            every = compiled(pattern).finditer(text, timeout=self._left)
            found = list(islice(every, MOST + 1))
        if len(found) > MOST:
            raise LayoutError(f"the pattern {pattern!a} matches more than {MOST} times")
        return found

    @contextmanager
    def _timed(self, pattern: str) -> Iterator[None]:
        begin = time.monotonic()
        try:
            yield
        except TimeoutError:
            raise LayoutError(f"the pattern {pattern!a} takes too long on this page") from None
        finally:
            self._left = max(0.001, self._left - (time.monotonic() - begin))
