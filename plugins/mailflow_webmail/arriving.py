"""Messages on their way, several at once; what one of them lacks keeps none of the others.

Rule of the file: a failure is a message's own where others come; where none does, it is the
webmail's, and is raised.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait

from mailflow.errors import BadMailError, GoneError, MailflowError, PeerError, UnavailableError
from mailflow.kept import drop
from mailflow.mail import Content
from mailflow_webmail.errors import ExpiredError, ThrottledError

SOME = 3
"""After so many failures in a row the messages of the other end are asked for."""

ENOUGH = 6
"""After so many, none is."""

Came = tuple[str, Content | MailflowError]


def arriving(
    load: Callable[[str], Content],
    keys: Iterable[str],
    parallel: int,
    others_come: Callable[[str, MailflowError], bool],
) -> Iterator[Came]:
    """Each of `keys` once, as it comes, with its octets, whose file is the taker's, or with what
    it lacks. Where none came, `others_come` is asked with one of them whether others would: a
    few tell nothing of the rest. Raises what ends the session; where many failures follow each
    other, the first of them."""
    todo, waiting = deque(keys), dict[Future[Content], str]()
    lacking: list[tuple[str, MailflowError]] = []
    came = False
    pool = ThreadPoolExecutor(parallel, thread_name_prefix="webmail")
    try:
        while todo or waiting:
            while todo and len(waiting) < parallel:
                key = todo.pop() if len(lacking) >= SOME else todo.popleft()
                waiting[pool.submit(load, key)] = key
            for done in wait(waiting, return_when=FIRST_COMPLETED).done:
                key, found = waiting.pop(done), _found(done)
                if not isinstance(found, MailflowError):
                    came = True
                    yield key, found
                    yield from lacking
                    lacking.clear()
                elif isinstance(found, GoneError | BadMailError):
                    yield key, found
                else:
                    lacking.append((key, found))
            if len(lacking) >= ENOUGH:
                break
        if lacking and (len(lacking) >= ENOUGH or not (came or others_come(*lacking[0]))):
            raise lacking[0][1]
        yield from lacking
    finally:
        pool.shutdown(cancel_futures=True)
        for future in waiting:
            if not future.cancelled() and future.exception() is None:
                drop(future.result())


def _found(done: Future[Content]) -> Content | MailflowError:
    """What came, or what may be this message's alone. Raises what is not."""
    try:
        return done.result()
    except (ThrottledError, ExpiredError):
        raise
    except UnavailableError as error:
        if "errno" in error.fields:  # the disk here
            raise
        return error
    except (GoneError, BadMailError, PeerError) as error:
        return error
