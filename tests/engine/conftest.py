from __future__ import annotations

from pathlib import Path

import pytest

from .parts import Works


@pytest.fixture
def works(tmp_path: Path, home: Path) -> Works:
    """An empty place for pipelines and their journal."""
    return Works(tmp_path)
