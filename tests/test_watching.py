"""A wait for files ends as they change, wherever the kernel says so or not."""

from __future__ import annotations

import ctypes
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from mailflow import watching
from mailflow.halt import Halt
from mailflow.watching import wait_for_change

LONG = 60.0


@pytest.fixture
def halt() -> Iterator[Halt]:
    halt = Halt()
    yield halt
    halt.close()


class Looks:
    """Asks `there` each time, and does `then` after the first look."""

    def __init__(self, there: Callable[[], bool], then: Callable[[], object]) -> None:
        self._there, self._then = there, then
        self.count = 0

    def __call__(self) -> bool:
        self.count += 1
        found = self._there()
        if self.count == 1:
            threading.Thread(target=self._then).start()
        return found


@pytest.fixture(params=["notices", "looks"])
def way(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    if request.param == "looks":  # as on macOS
        monkeypatch.setattr(watching, "LOOK", 0.01)
        monkeypatch.setattr(ctypes, "CDLL", lambda *_, **__: object())


@pytest.mark.usefixtures("way")
@pytest.mark.timeout(30)
@pytest.mark.parametrize("what", ["a directory", "a file", "a file that was missing"])
def test_it_ends_when_one_of_the_paths_has_changed(tmp_path: Path, halt: Halt, what: str) -> None:
    path = tmp_path / "x"
    if what == "a file":
        path.write_text("")
    paths = [str(path)] if what == "a file" else [str(tmp_path), str(path)]
    looks = Looks(lambda: path.exists() and path.read_text() == "!", lambda: path.write_text("!"))
    assert wait_for_change(lambda: paths, looks, LONG, halt)


@pytest.mark.usefixtures("way")
@pytest.mark.timeout(30)
def test_it_ends_when_it_is_told_to(tmp_path: Path, halt: Halt) -> None:
    looks = Looks(lambda: False, halt.set)
    assert not wait_for_change(lambda: [str(tmp_path)], looks, LONG, halt)


@pytest.mark.usefixtures("way")
def test_it_ends_when_the_time_is_over(tmp_path: Path, halt: Halt) -> None:
    assert not wait_for_change(lambda: [str(tmp_path)], lambda: False, 0.01, halt)


def test_what_is_there_already_is_seen_without_any_wait(tmp_path: Path, halt: Halt) -> None:
    assert wait_for_change(lambda: [str(tmp_path)], lambda: True, 0, halt)


@pytest.mark.timeout(30)
def test_a_path_that_comes_later_is_watched_from_then_on(tmp_path: Path, halt: Halt) -> None:
    folder = tmp_path / ".Lists"

    def paths() -> list[str]:
        return [str(tmp_path), *([str(folder)] if folder.exists() else [])]

    class Steps:
        """At the first look the folder is made, at the next something in it."""

        count = 0

        def __call__(self) -> bool:
            self.count += 1
            if self.count == 1:
                folder.mkdir()
            elif self.count == 2:
                threading.Thread(target=(folder / "x").touch).start()
            return (folder / "x").exists()

    assert wait_for_change(paths, Steps(), LONG, halt)


@pytest.mark.timeout(30)
def test_where_no_more_may_be_watched_it_looks_more_often(
    tmp_path: Path, halt: Halt, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As where a user's inotify watches are used up."""
    monkeypatch.setattr(watching, "LOOK", 0.01)
    monkeypatch.setattr(watching._Notices, "watch", lambda self, paths: False)
    looks = Looks(lambda: (tmp_path / "x").exists(), (tmp_path / "x").touch)
    assert wait_for_change(lambda: [str(tmp_path)], looks, LONG, halt)
