"""Messages on their way, several at once; what one of them lacks keeps none of the others.

Rule of the file: a failure is a message's own where others come; where none does, it is the
webmail's, and is raised.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor

from mailflow.errors import (
    BadMailError,
    GoneError,
    InUseError,
    MailflowError,
    PeerError,
    RefusedError,
    UnavailableError,
)
from mailflow.kept import drop
from mailflow.mail import Content
from mailflow_webmail.errors import ExpiredError, ThrottledError

SOME = 3
"""After so many failures in a row the messages of the other end are asked for; after so many
connections that were lost, none is."""

OWN = (GoneError, BadMailError)
"""What a message lacks for itself: it tells nothing of the others."""

Came = tuple[str, Content | MailflowError]


def arriving(
    load: Callable[[str], Content],
    keys: Iterable[str],
    parallel: int,
    others_come: Callable[[str, MailflowError], bool],
) -> Iterator[Came]:
    """Each of `keys` once, in this order but for what failed, with its octets, whose file is the
    taker's, or with what it lacks. Where none came, `others_come` is asked with one of them
    whether others would: a few tell nothing of the rest. Raises what ends the session; where many
    failures follow each other, the first of them."""
    todo, flying = deque(keys), deque[tuple[str, Future[Content]]]()
    lacking: list[tuple[str, MailflowError]] = []
    came = False
    window = 2 * parallel
    pool = ThreadPoolExecutor(parallel, thread_name_prefix="webmail")
    try:
        while todo or flying:
            while todo and len(flying) < window:
                key = todo.pop() if len(lacking) >= SOME else todo.popleft()
                flying.append((key, pool.submit(load, key)))
            key, future = flying[0]
            found = what_came(future)
            flying.popleft()
            if not isinstance(found, MailflowError):
                came = True
                yield key, found
                yield from lacking
                lacking.clear()
            elif isinstance(found, OWN):
                yield key, found
            else:
                lacking.append((key, found))
                if _is_enough(lacking, window):
                    raise lacking[0][1]
        if lacking and not (came or others_come(*lacking[0])):
            raise lacking[0][1]
        yield from lacking
    finally:
        pool.shutdown(cancel_futures=True)
        for _, future in flying:
            if not future.cancelled() and future.exception() is None:
                drop(future.result())


def _is_enough(lacking: Sequence[tuple[str, MailflowError]], window: int) -> bool:
    """Whether nobody is asked any more: some of the other end have been tried by then."""
    lost = sum("sent" in error.fields for _, error in lacking)
    return lost >= SOME or len(lacking) >= SOME + window


def what_came(future: Future[Content]) -> Content | MailflowError:
    """What came, or what may be this message's alone. Raises what is not."""
    try:
        return future.result()
    except (ThrottledError, ExpiredError, InUseError):
        raise
    except UnavailableError as error:
        if "errno" in error.fields:  # the disk here
            raise
        return error
    except (GoneError, BadMailError, PeerError, RefusedError) as error:
        return error
