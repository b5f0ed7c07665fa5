"""What the libraries raise, as one line of ours.

Rule of the file: nothing of their texts is shown, since they quote addresses, headers and bodies.
"""

from __future__ import annotations

import ssl
from collections.abc import Iterator
from http.client import BadStatusLine, HTTPException, IncompleteRead, RemoteDisconnected

from requests import RequestException, Timeout
from urllib3.exceptions import HTTPError, InvalidChunkLength
from urllib3.exceptions import TimeoutError as WireTimeoutError

from mailflow.errors import MailflowError, PeerError, UnavailableError

CAUGHT = (RequestException, HTTPError, HTTPException, OSError, ValueError)
"""What a request or an answer can raise; requests' own is an OSError, too."""

_EARLY = (
    RemoteDisconnected, ConnectionResetError, ConnectionAbortedError, BrokenPipeError,
    ssl.SSLEOFError, ssl.SSLZeroReturnError,
)  # fmt: skip
"""How a connection ends that the other side has closed before it heard us."""

_DEEPEST = 50


def is_early(error: BaseException) -> bool:
    """Whether nothing of an answer has come."""
    return any(isinstance(each, _EARLY) for each in _chain(error))


def told(error: BaseException, name: str) -> MailflowError:
    """One line about it; `name` is the host."""
    found = list(_chain(error))
    for each in found:
        if isinstance(each, MailflowError):
            return each
    for each in found:
        if isinstance(each, TimeoutError | Timeout | WireTimeoutError):
            return UnavailableError(f"{name} keeps silent: no answer in time")
        if isinstance(each, RemoteDisconnected):
            return UnavailableError(f"{name} closed the connection without an answer")
        if isinstance(each, InvalidChunkLength | BadStatusLine):
            return PeerError(f"{name} does not answer as HTTP has it")
        if isinstance(each, IncompleteRead):
            return UnavailableError(f"{name} broke off in the middle of an answer")
        if isinstance(each, ssl.SSLError | ConnectionError):
            reason = getattr(each, "reason", None) or each.strerror or "closed"
            return UnavailableError(f"the connection to {name} is lost: {reason}")
    if any(isinstance(each, HTTPException | ValueError) for each in found):
        return PeerError(f"{name} does not answer as HTTP has it")
    return UnavailableError(f"the connection to {name} is lost: {type(found[-1]).__name__}")


def _chain(error: BaseException) -> Iterator[BaseException]:
    """An error, and those that it wraps."""
    todo, seen = [error], 0
    while todo and seen < _DEEPEST:
        each = todo.pop(0)
        seen += 1
        yield each
        inner = (*each.args, getattr(each, "reason", None), each.__cause__, each.__context__)
        todo += [one for one in inner if isinstance(one, BaseException)]
