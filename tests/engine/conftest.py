from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from textwrap import dedent
from typing import Any

import pytest

from mailflow.engine.config import ConfigFaults, Pipeline, load

from .lofts import Loft, Write
from .parts import Works


@pytest.fixture
def works(tmp_path: Path, home: Path) -> Works:
    """An empty place for pipelines and their journal."""
    return Works(tmp_path)


@pytest.fixture
def write(tmp_path: Path) -> Write:
    def write(text: str, name: str = "red.toml") -> str:
        path = tmp_path / name
        path.write_text(dedent(text))
        return str(path)

    return write


@pytest.fixture
def read(write: Write) -> Callable[[str], Pipeline]:
    def read(text: str) -> Pipeline:
        [pipeline] = load([write(text)], Loft())
        return pipeline

    return read


@pytest.fixture
def faults(write: Write) -> Callable[..., list[str]]:
    """The faults of a text, each without the file's name."""

    def faults(text: str, **more: Any) -> list[str]:
        path = write(text)
        with pytest.raises(ConfigFaults) as raised:
            load([path], Loft(), **more)
        return [line.removeprefix(f"{path}:") for line in str(raised.value).splitlines()]

    return faults
