"""Pipelines of parts kept at work as `serve` does, and what can be waited for.

    with standing(works, works.pipeline([fetch(box)], [distribute(post)])) as station:
        eventually(lambda: post.sent)

Rule of the file: nothing is slept through that can be seen to happen.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from mailflow.engine.pipeline import Pipeline
from mailflow.engine.station import Station

from .parts import BoxFetcher, Mailbox, Works

PATIENCE = 20.0


def eventually(holds: Callable[[], Any], what: str = "it") -> Any:
    """What `holds` gives once that is true."""
    deadline = time.monotonic() + PATIENCE
    while not (found := holds()):
        assert time.monotonic() < deadline, f"{what} never came"
        time.sleep(0.005)
    return found


@contextmanager
def standing(works: Works, pipeline: Pipeline) -> Iterator[Station]:
    """A station at work; in the end it is stopped in order."""
    station = Station(pipeline, works.registry)
    station.start()
    try:
        yield station
    finally:
        station.stop()
        station.join()


class PushedBox(Mailbox):
    """A mailbox that says when mail has come; `waits` counts how often it was asked to."""

    def __init__(self, name: str = "box", **messages: bytes) -> None:
        super().__init__(name, **messages)
        self.waits = 0
        self.on_wait: Callable[[], None] = lambda: None


class PushedFetcher(BoxFetcher):
    """It keeps the contract of PushFetcher: `wait` says what the last listing did not have."""

    box: PushedBox
    listed: frozenset[str] = frozenset()

    def listing(self, *words: Any, **more: Any) -> Any:
        self.listed = frozenset(self.box.messages)
        return super().listing(*words, **more)

    def wait(self, seconds: float) -> bool:
        self.box.waits += 1
        self.box.on_wait()
        deadline = time.monotonic() + seconds
        while self.box.messages.keys() <= self.listed:
            left = deadline - time.monotonic()
            if left <= 0 or self.runtime.halt.wait(min(left, 0.005)):
                return False
        return True


class StayingBox(Mailbox):
    """A mailbox that knows who is logged in."""

    def __init__(self, name: str = "box", **messages: bytes) -> None:
        super().__init__(name, **messages)
        self.logins = 0
        self.inside = 0


class StayingFetcher(BoxFetcher):
    """It keeps the contract of StayingFetcher: who is logged in stays so until `close`."""

    box: StayingBox
    inside = False
    stays = False

    def stay(self) -> None:
        self.stays = True

    def close(self) -> None:
        self.box.inside -= self.inside
        self.inside = False

    def __enter__(self) -> BoxFetcher:
        if not self.inside:
            self.box.logins += 1
            self.box.inside += 1
            self.inside = True
        return super().__enter__()

    def __exit__(self, kind: object, error: object, trace: object) -> None:
        super().__exit__(kind, error, trace)
        if error is not None or not self.stays:
            self.close()
