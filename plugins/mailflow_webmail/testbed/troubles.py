"""What can go wrong at a webmail, as switches of the test bed.

Rule of the file: a trouble is declared here, with where it strikes; what it does is done where
the page is made. One that strikes so many times is over then, so that a test, or a person who
tries something, sees the recovery too.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

from mailflow.values import nearest

STEPS = ("login", "folders", "list", "source", "message", "change", "compose", "logout")
"""What a request is for."""


class Trouble(NamedTuple):
    """`at` are the steps that it can strike, `after` so many requests that go well first,
    `times` how often it strikes (0: for ever), `seconds` what it waits or asks to wait."""

    what: str
    at: tuple[str, ...] = STEPS
    after: int = 0
    times: int = 0
    seconds: float = 1.0


INSIDE = ("folders", "list", "source", "message", "change", "compose")

KNOWN: Mapping[str, Trouble] = {
    "expired": Trouble("sessions end after so many requests", INSIDE, after=10),
    "usurped": Trouble("a second login ends the first one's session", ("login",)),
    "layout": Trouble("classes and ids of the list are renamed", ("list",)),
    "throttled": Trouble("status 429, with Retry-After", times=2),
    "throttled-page": Trouble("a page that asks to wait, with status 200", times=2),
    "slow": Trouble("every answer waits", seconds=5.0),
    "stalled": Trouble("sources stop in the middle and wait", ("source",), seconds=5.0),
    "truncated": Trouble("sources end in the middle", ("source",)),
    "error": Trouble("status 500", INSIDE),
    "unavailable": Trouble("status 503"),
    "maintenance": Trouble("a page about maintenance, with status 200"),
    "challenge": Trouble("a page that asks for a human", ("login",)),
    "interstitial": Trouble("an advertisement in the place of the list", ("list",)),
    "gzip": Trouble("gzip is announced, and plain text sent"),
    "pre": Trouble("sources are shown in a page", ("source",)),
    "twice": Trouble("octets of sources are encoded once more", ("source",)),
    "unsized": Trouble("neither sources nor rows have a length", ("list", "source")),
    "blank": Trouble("sources have no octets", ("source",)),
    "positions": Trouble("sources have no other name than their place in the list", ("list",)),
    "overlap": Trouble("the last page begins with rows of the one before", ("list",)),
    "arriving": Trouble("a message comes to the top while pages are turned", ("list",), times=1),
    "leaving": Trouble("a message goes from the top while pages are turned", ("list",), times=1),
    "uncounted": Trouble("no number of messages is shown", ("list",)),
    "empty": Trouble("an outage looks like an empty folder", ("list",)),
    "subject": Trouble("every subject is the text of an error", ("list",)),
    "stubborn": Trouble("deletions are confirmed, and not done", ("change",)),
    "dropped": Trouble("connections are kept alive, and end at the next request"),
    "unanswered": Trouble("changes are made, and not answered", ("change", "compose")),
}


class Troubles:
    """Those that are switched on. Any thread may ask."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._on: dict[str, Trouble] = {}
        self._asked: dict[str, int] = {}

    def add(self, name: str, **changes: Any) -> None:
        """Switch one on. Raises ValueError."""
        known = KNOWN.get(name)
        if known is None:
            raise ValueError(f"there is no trouble {name!r}{nearest(name, sorted(KNOWN))}")
        trouble = known._replace(**changes)
        with self._lock:
            self._on[name], self._asked[name] = trouble, 0

    def end(self, *names: str) -> None:
        """Switch these off; all, where none is given."""
        with self._lock:
            for name in names or list(self._on):
                self._on.pop(name, None)

    def get(self, name: str) -> Trouble | None:
        return self._on.get(name)

    def strikes(self, name: str, step: str) -> Trouble | None:
        """The trouble, where this request meets it; asked once for each request."""
        with self._lock:
            trouble = self._on.get(name)
            if trouble is None or step not in trouble.at:
                return None
            self._asked[name] += 1
            nth = self._asked[name] - trouble.after
            return trouble if nth > 0 and (not trouble.times or nth <= trouble.times) else None


def read(text: str) -> tuple[str, dict[str, Any]]:
    """A trouble as a user writes it, NAME or NAME:after=3,times=1,seconds=2,at=list. Raises
    ValueError saying what was expected."""
    name, _, rest = text.partition(":")
    if name not in KNOWN:
        raise ValueError(f"there is no trouble {name!r}{nearest(name, sorted(KNOWN))}")
    return name, dict(_changes(rest)) if rest else {}


def _changes(text: str) -> Iterator[tuple[str, Any]]:
    for each in text.split(","):
        key, _, value = each.partition("=")
        if key == "at":
            yield key, _steps(value)
        elif key in ("after", "times", "seconds") and value:
            try:
                yield key, float(value) if key == "seconds" else int(value)
            except ValueError:
                raise ValueError(f"expected a number, not {value!r}") from None
        else:
            raise ValueError(f"expected after=N, times=N, seconds=N or at=STEP, not {each!r}")


def _steps(text: str) -> tuple[str, ...]:
    steps = tuple(text.split("+"))
    for each in steps:
        if each not in STEPS:
            raise ValueError(f"expected steps of {', '.join(STEPS)}, not {each!r}")
    return steps
