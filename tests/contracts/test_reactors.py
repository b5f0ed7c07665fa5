"""Every reactor of ours keeps the contract of its kind."""

from __future__ import annotations

import pytest

from mailflow.testing.contracts import ReactorContract
from mailflow_react.bounce import BounceReactor
from mailflow_react.command import CommandReactor
from mailflow_react.discard import DiscardReactor
from mailflow_react.hold import HoldReactor
from mailflow_react.log import LogReactor
from mailflow_react.notify import NotifyReactor
from mailflow_react.retry import RetryReactor
from mailflow_react.stop import StopReactor


class TestBounce(ReactorContract):
    component = BounceReactor

    @pytest.fixture
    def table(self) -> dict[str, object]:
        return {"from": "postmaster@example.org"}


class TestCommand(ReactorContract):
    """A program that says what to do by the trouble that it reads."""

    component = CommandReactor
    every = 15

    @pytest.fixture
    def table(self) -> dict[str, object]:
        script = "case $(cat) in *5.1.1*) echo bounce;; *fetch*) exit 75;; *) exit 0;; esac"
        return {"command": ["/bin/sh", "-c", script], "status": {"0": "none", "75": "retry"}}


class TestDiscard(ReactorContract):
    component = DiscardReactor


class TestHold(ReactorContract):
    component = HoldReactor


class TestLog(ReactorContract):
    component = LogReactor


class TestNotify(ReactorContract):
    component = NotifyReactor

    @pytest.fixture
    def table(self) -> dict[str, object]:
        return {"to": "owner@example.org"}


class TestRetry(ReactorContract):
    component = RetryReactor

    @pytest.fixture
    def table(self) -> dict[str, object]:
        return {"after": ["1m", "5m"], "for": "5d", "permanent": True}


class TestStop(ReactorContract):
    component = StopReactor
