from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from mailflow.testing.serving import free_ports

from . import parrot
from .command import Shop
from .serving import Begin, Serving


@pytest.fixture
def shop(tmp_path: Path) -> Shop:
    return Shop(tmp_path)


@pytest.fixture
def begin(shop: Shop) -> Iterator[Begin]:
    """Start `mailflow serve WORDS`; whatever still runs in the end is killed."""
    begun: list[Serving] = []

    def start(*words: str, **more: Any) -> Serving:
        begun.append(Serving(shop, *words, **more))
        return begun[-1]

    yield start
    for each in begun:
        if each.child.poll() is None:
            each.child.kill()
            each.child.communicate()


@pytest.fixture
def port(shop: Shop) -> int:
    """Where the service of the test listens; its plugin is installed."""
    shop.plugin("parrot", parrot.PLUGIN)
    return free_ports(1)[0]
