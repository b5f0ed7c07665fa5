"""A session without an engine, with whatever serves IMAP."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from mailflow.halt import Halt
from mailflow.kinds import Runtime
from mailflow.options import SecretValue
from mailflow_imap.login import connect, enter
from mailflow_imap.session import Session
from mailflow_imap.settings import ImapOptions

SECRET = "canary-7d1e"


class Log:
    """Keeps every line."""

    def __init__(self) -> None:
        self.lines: list[tuple[str, str, dict[str, object]]] = []

    def __getattr__(self, level: str) -> Callable[..., None]:
        return lambda event, **facts: self.lines.append((level, event, facts))

    def warnings(self) -> list[str]:
        return [event for level, event, _ in self.lines if level == "warning"]


@pytest.fixture
def log() -> Iterator[Log]:
    """What was logged; no test may have logged the password."""
    log = Log()
    yield log
    assert SECRET not in repr(log.lines)


@pytest.fixture
def halt() -> Iterator[Halt]:
    halt = Halt()
    yield halt
    halt.close()


@pytest.fixture
def scratch(tmp_path: Path) -> Path:
    path = tmp_path / "scratch"
    path.mkdir()
    return path


@pytest.fixture
def runtime(log: Any, halt: Halt, scratch: Path) -> Runtime:
    return Runtime("inbox", "red", halt, log, str(scratch))


@pytest.fixture
def options_of() -> Callable[..., ImapOptions]:
    """The options of the mailbox red at `server`, with more or other ones."""

    def make(server: Any, **options: object) -> ImapOptions:
        known = {
            "host": server.host,
            "port": server.port,
            "user": "red",
            "password": SecretValue(lambda: SECRET, "the test"),
            "timeout": 5.0,
        }
        return ImapOptions({name: each for name, each in (known | options).items() if each})

    return make


@pytest.fixture
def connected(
    options_of: Callable[..., ImapOptions], runtime: Runtime
) -> Iterator[Callable[..., Session]]:
    """A session with `server` where nobody is logged in."""
    sessions: list[Session] = []

    def make(server: Any, **options: object) -> Session:
        sessions.append(connect(options_of(server, **options), runtime))
        return sessions[-1]

    yield make
    for session in sessions:
        session.close()


@pytest.fixture
def entered(
    connected: Callable[..., Session], options_of: Callable[..., ImapOptions]
) -> Callable[..., Session]:
    """A session of the mailbox red at `server`, with `folder` open."""

    def make(server: Any, folder: str = "INBOX", **options: object) -> Session:
        session = connected(server, **options)
        enter(options_of(server, **options), session)
        session.select(folder).wait()
        return session

    return make
