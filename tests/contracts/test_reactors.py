"""Every reactor of ours keeps the contract of its kind."""

from __future__ import annotations

import pytest

from mailflow.testing.contracts import ReactorContract
from mailflow_react.bounce import BounceReactor
from mailflow_react.hold import HoldReactor
from mailflow_react.log import LogReactor
from mailflow_react.notify import NotifyReactor
from mailflow_react.retry import RetryReactor


class TestBounce(ReactorContract):
    component = BounceReactor

    @pytest.fixture
    def table(self) -> dict[str, object]:
        return {"from": "postmaster@example.org"}


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
