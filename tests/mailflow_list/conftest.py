"""A club with a list: the step from its TOML, and what it makes of a mail."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

import pytest
import tomli

from mailflow.mail import Mail
from mailflow.testing.engine import Desk, mail
from mailflow.verdicts import Discard, Hold, Reject
from mailflow_list.post import Post
from mailflow_list.settings import PostOptions

Result = Mail | Discard | Reject | Hold

RED = """
address = "Red <red@example.org>"
members = ["ann@example.org", "Bob <bob@example.net>", "cat@example.com"]
prefix = "[Red]"
"""

POST = """\
From: Ann <ann@example.org>
To: Red <red@example.org>
Subject: hello
Message-ID: <1@example.org>

body
"""


class Step:
    """A `list.post` step and its desk."""

    def __init__(self, toml: str, base: Path) -> None:
        self.desk = Desk("list.post", base=str(base))
        self.post = Post(PostOptions.read(tomli.loads(toml), str(base)), self.desk.runtime)

    def all(self, one: Mail | str | bytes, *, approved: bool = False) -> Sequence[Result]:
        one = one if isinstance(one, Mail) else mail(one)
        return self.desk.process(self.post, one, approved=approved)

    def one(self, given: Mail | str | bytes, *, approved: bool = False) -> Result:
        (result,) = self.all(given, approved=approved)
        return result

    def made(self, given: Mail | str | bytes, *, approved: bool = False) -> Mail:
        """The post that a mail became."""
        result = self.one(given, approved=approved)
        assert isinstance(result, Mail), result
        return result


@pytest.fixture
def step(tmp_path: Path) -> Callable[[str], Step]:
    """Makes a step from the TOML of its table; one list by default."""

    def make(toml: str = RED) -> Step:
        return Step(toml, tmp_path)

    return make


@pytest.fixture
def red(step: Callable[[str], Step]) -> Step:
    return step(RED)
