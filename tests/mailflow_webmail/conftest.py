"""What tests of the webmail share."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing
from typing import Any

import pytest

from mailflow.halt import Halt
from mailflow.testing.tls import Authority
from mailflow_webmail.web.browser import Browser


@pytest.fixture
def halt() -> Iterator[Halt]:
    with closing(Halt()) as halt:
        yield halt


@pytest.fixture
def browse(halt: Halt) -> Iterator[Callable[..., Browser]]:
    """Makes browsers, which end with the test."""
    with ExitStack() as stack:

        def made(url: str, **options: Any) -> Browser:
            return stack.enter_context(
                closing(Browser(url, halt=halt, **{"timeout": 20.0, **options}))
            )

        yield made


@pytest.fixture(scope="session")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    return Authority(tmp_path_factory.mktemp("authority"))
