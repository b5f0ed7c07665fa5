"""What a reload leaves alone: steps that would do the same."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import pytest

from mailflow.engine.config import Pipeline, load_dict
from mailflow.engine.sameness import same

FILE: dict[str, Any] = {
    "fetch": [
        {"use": "pop3", "host": "pop.example.org", "user": "ann", "password": "secret",
         "where": "size < 100 kB", "every": "10m"},
    ],
    "process": [
        {"use": "filter.tag", "when": 'subject contains "x"', "note": {"folder": "{sender|x}"}},
    ],
    "distribute": [{"use": "maildir", "path": "box", "folder": "{note:folder|}"}],
    "react": [{"use": "react.retry", "after": ["1m", "2m"]}],
}  # fmt: skip


def pipeline(*changes: tuple[tuple[str | int, ...], object]) -> Pipeline:
    """The pipeline, each value at a path changed."""
    data = copy.deepcopy(FILE)
    for path, value in changes:
        place: Any = data
        for part in path[:-1]:
            place = place[part]
        place[path[-1]] = value
    return load_dict(data, base="/tmp")


def test_what_is_read_twice_is_the_same() -> None:
    assert same(pipeline(), pipeline())


@pytest.mark.parametrize(
    ("path", "value"),
    [
        (("fetch", 0, "host"), "mail.example.org"),
        (("fetch", 0, "password"), "another"),
        (("fetch", 0, "password"), {"env": "PASSWORD"}),
        (("fetch", 0, "where"), "size < 200 kB"),
        (("fetch", 0, "every"), "11m"),
        (("fetch", 0, "name"), "other"),
        (("fetch", 0, "limit"), 7),
        (("process", 0, "when"), 'subject contains "y"'),
        (("process", 0, "note"), {"folder": "{sender|y}"}),
        (("distribute", 0, "path"), "other"),
        (("distribute", 0, "folder"), "{note:folder|x}"),
        (("distribute", 0, "parallel"), 2),
        (("react", 0, "after"), ["1m", "3m"]),
        (("react",), []),
        (("pipeline",), {"history": "2d"}),
    ],
)
def test_what_is_changed_is_not(path: tuple[str | int, ...], value: object) -> None:
    assert not same(pipeline(), pipeline((path, value)))


def test_a_secret_in_a_file_is_asked_for_at_each_use_so_its_place_says_enough(
    tmp_path: Path,
) -> None:
    file = tmp_path / "secret"
    file.write_text("one\n")
    file.chmod(0o600)
    change = (("fetch", 0, "password"), {"file": str(file)})
    before = pipeline(change)
    file.write_text("two\n")
    assert same(before, pipeline(change))
    assert not same(before, pipeline((("fetch", 0, "password"), {"file": "/elsewhere"})))


def test_values_of_a_plugins_own_kind_are_looked_into() -> None:
    class Own:
        __slots__ = ("word",)

        def __init__(self, word: object) -> None:
            self.word = word

    class Open:
        def __init__(self, **words: object) -> None:
            vars(self).update(words)

    assert same(Own("x"), Own("x"))
    assert not same(Own("x"), Own("y"))
    assert same(Open(a=1, b=[Own(2)]), Open(a=1, b=[Own(2)]))
    assert not same(Open(a=1), Open(a=1, b=None))
    assert not same(Own("x"), "x")
    assert not same(Own(lambda: 1), Own(lambda: 1))
