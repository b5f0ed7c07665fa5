"""What every component promises, and the stage on which the suites make one play.

Rule of the file: a component is made as the engine makes it, of a table as a file would
have it, and what it opens is counted before and after.
"""

from __future__ import annotations

import json
import multiprocessing
import os
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, ClassVar

import pytest

from mailflow.halt import Halt
from mailflow.kinds import Runtime
from mailflow.testing.engine import LogDouble

PATIENCE = 5.0
"""Seconds in which a thread that was told to end, or a server in this process, has ended."""

STEP = "contract"


class Stage:
    """Makes components on `table`, each with the same runtime; `log` keeps what they say."""

    def __init__(self, component: type[Any], table: Mapping[str, object], home: Path) -> None:
        self.component = component
        self.table = table
        self.home = home
        self.log = LogDouble()
        self.halt = Halt()
        self.progress: list[int] = []
        self._made: list[Any] = []  # so that what they leave open stays so
        scratch = home / "scratch"
        scratch.mkdir(parents=True, exist_ok=True)
        log: Any = self.log
        self.runtime = Runtime(
            STEP, "suite", self.halt, log, str(scratch), str(home), self.progress.append
        )

    def make(self) -> Any:
        """One more of it, as the engine makes it."""
        options = self.component.options.read(self.table, self.runtime.base)
        self._made.append(self.component(options, self.runtime))
        return self._made[-1]

    @property
    def said(self) -> str:
        """All that was logged, to look for what must not be there."""
        return repr(self.log.lines)

    @contextmanager
    def halting(self, after: float) -> Iterator[None]:
        """Set `halt` after so many seconds, as a signal would; no time-out comes first."""
        self.table = {**self.table, "timeout": "60s"}
        timer = threading.Timer(after, self.halt.set)
        timer.start()
        try:
            yield
        finally:
            timer.cancel()
            timer.join()


@contextmanager
def nothing_left() -> Iterator[None]:
    """What is opened inside is closed: descriptors, threads, processes. AssertionError."""
    before = _open()
    yield
    deadline = time.monotonic() + PATIENCE
    while left := _open() - before:
        assert time.monotonic() < deadline, f"left open: {', '.join(sorted(left))}"
        time.sleep(0.005)


def _open() -> set[str]:
    """What this process has open, in words."""
    found = {f"thread {each.name}" for each in threading.enumerate()}
    found |= {f"process {each.pid}" for each in multiprocessing.active_children()}
    with suppress(FileNotFoundError):  # a kernel that does not tell
        children = Path(f"/proc/self/task/{os.getpid()}/children").read_text()
        found |= {f"process {each}" for each in children.split()}
    with suppress(FileNotFoundError):  # no /proc: descriptors are not counted
        for number in os.listdir("/proc/self/fd"):
            with suppress(OSError):  # the descriptor of the listing itself
                found.add(f"descriptor {number} of {os.readlink(f'/proc/self/fd/{number}')}")
    return found


class ComponentContract:
    """The promises of all four kinds. A suite names `component`, and has a fixture `table`:
    the options, as a pipeline's file would have them."""

    component: ClassVar[type[Any]]
    kind: ClassVar[str]

    secrets: ClassVar[tuple[str, ...]] = ()
    """What `table` holds and nobody may see."""

    @pytest.fixture
    def stage(self, table: Mapping[str, object], tmp_path: Path) -> Iterator[Stage]:
        stage = Stage(self.component, table, tmp_path / "stage")
        yield stage
        stage.halt.close()
        for secret in self.secrets:
            assert secret not in stage.said, "a secret is in the log"

    def test_its_class_is_what_its_kind_must_be(self) -> None:
        from mailflow.engine.registry import check_contract

        check_contract(self.component.__name__, self.kind, self.component)

    def test_its_docstring_says_what_it_does(self) -> None:
        assert (self.component.__doc__ or "").strip(), "`mailflow plugins` shows its first line"

    def test_each_option_says_what_it_means(self) -> None:
        for name, option in self.component.options.declared().items():
            assert option.doc.strip(), f"option {name} has no meaning"
            json.dumps(option.schema())

    def test_each_default_can_be_read(self, stage: Stage) -> None:
        options = self.component.options.read(stage.table, stage.runtime.base)
        for name in self.component.options.declared():
            attribute = name if hasattr(options, name) else f"{name}_"
            getattr(options, attribute)

    def test_making_it_opens_nothing(self, stage: Stage) -> None:
        """`mailflow check` makes no connection, and a pipeline that waits holds nothing."""
        with nothing_left():
            made = stage.make()
        for secret in self.secrets:
            assert secret not in repr(made)
            assert secret not in repr(vars(made))


def one_line(text: str) -> bool:
    """Whether a user sees it as one clear line."""
    return bool(text.strip()) and not any(character in text for character in "\r\n\0")


def lasting(act: Callable[[], object]) -> float:
    """How many seconds it takes."""
    started = time.monotonic()
    act()
    return time.monotonic() - started
