"""What opens a door: a verifier for each login name, wherever it is kept.

Rule of the file: a secret is looked up again when its file has changed; what has no file is
asked for once, and again only where that failed.
"""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable, Iterable

from mailflow.accounts.networks import Networks
from mailflow.accounts.verifiers import Verifier, read
from mailflow.errors import MailflowError, UnavailableError
from mailflow.log import Logger
from mailflow.record import NamedTuple
from mailflow.typed import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from mailflow.options import SecretValue

LATER = "no password can be checked now"

RETRY = 10.0
"""Seconds before a secret that could not be had is asked for again."""

Stamp = tuple[int, int, int, int]


def stamp(path: str | int) -> Stamp | None:
    """What changes whenever a file does; None where there is none."""
    try:
        status = os.stat(path)
    except OSError:
        return None
    return status.st_mtime_ns, status.st_ctime_ns, status.st_size, status.st_ino


class Lock(NamedTuple):
    """What opens a door for one login name: `verifier`, or None where nothing does, and
    `why`. `networks` are further limits."""

    verifier: Verifier | None
    why: str = ""
    networks: Networks | None = None


ABSENT = Lock(None, "no such login name")


class Locks(Protocol):
    """Where the locks of one or more login names are."""

    def quick(self) -> bool:
        """Whether `lock` takes microseconds now."""
        ...

    def lock(self, login: str) -> Lock:
        """Raises UnavailableError where it cannot be told now."""
        ...

    def samples(self) -> Iterable[Verifier]:
        """A verifier of each kind that there is, as far as is known."""
        ...


class OneSecret:
    """The `secret` of one account, by any of its names."""

    def __init__(
        self, name: str, secret: SecretValue, log: Logger, changed: Callable[[], None]
    ) -> None:
        self._name = name
        self._secret = secret
        self._log = log
        self._changed = changed
        self._guard = threading.Lock()
        self._stamp: Stamp | None = None
        self._found: Lock | None = None
        self._again = 0.0

    def quick(self) -> bool:
        return self._found is not None or self._secret.watched is not None

    def lock(self, login: str) -> Lock:  # one for all of its names
        path = self._secret.watched
        now = None if path is None else stamp(path)
        if self._found is None or now != self._stamp:
            with self._guard:
                if self._found is None or now != self._stamp:
                    self._found, self._stamp = None, now
                    self._found = self._looked_up()
                    self._changed()
        return self._found

    def samples(self) -> Iterable[Verifier]:
        found = self._found
        return () if found is None or found.verifier is None else (found.verifier,)

    def _looked_up(self) -> Lock:
        if time.monotonic() < self._again:
            raise UnavailableError(LATER)
        try:
            return Lock(read(self._secret.reveal()))
        except ValueError as error:
            why = f"the secret of maildrop `{self._name}`: {error}"
            self._log.error(why)
            return Lock(None, why)
        except MailflowError as error:
            why = f"the secret of maildrop `{self._name}` cannot be had: {error.text}"
            self._log.error(why)
            self._again = time.monotonic() + RETRY
            raise UnavailableError(LATER) from None
