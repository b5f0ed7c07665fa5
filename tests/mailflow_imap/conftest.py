"""A session or a fetcher without an engine, with whatever serves IMAP."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from mailflow.halt import Halt
from mailflow.kinds import Fetched, Runtime
from mailflow.mail import read
from mailflow.options import SecretValue
from mailflow.query import Query
from mailflow.testing.imap import ImapServer
from mailflow_imap.fetcher import ImapFetcher
from mailflow_imap.login import connect, enter
from mailflow_imap.session import Session
from mailflow_imap.settings import ImapOptions
from mailflow_imap.source import ImapSourceOptions

SECRET = "canary-7d1e"


def message(number: int, octets: int = 10) -> bytes:
    head = b"Subject: %d\r\nMessage-ID: <%d@example.org>\r\n\r\n" % (number, number)
    return head + b"x" * octets + b"\r\n"


MAIL = [message(number) for number in range(5)]

Make = Callable[..., ImapFetcher]


def visit(fetcher: ImapFetcher, mark: str = "", where: str = "", unfinished: int = 0) -> list[int]:
    """The UIDs that a visit lists, of which so many are still wanted in the end."""
    with fetcher:
        found = list(fetcher.listing(Query(where) if where else Query.always, mark))
        fetcher.unfinished([item.key for item in found[len(found) - unfinished :]])
    return [item.uid or 0 for item in found]


def asked(server: ImapServer, *keywords: str) -> list[str]:
    """The commands that begin so."""
    return [line for line in server.commands if line.startswith(keywords)]


def fetch(fetcher: ImapFetcher, keys: Sequence[str]) -> dict[str, bytes | str]:
    """What comes for each key: the message, or why not."""
    got: dict[str, bytes | str] = {}
    for each in fetcher.retrieve(keys):
        assert each.key not in got
        got[each.key] = read(each.content) if isinstance(each, Fetched) else each.error.text
    return got


def modseq(number: int) -> dict[str, bytes]:
    """What the server says before the answer to EXAMINE where it counts changes (RFC 7162)."""
    return {"EXAMINE": b"* OK [HIGHESTMODSEQ %d] highest\r\n" % number}


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


@pytest.fixture
def fetcher_of(runtime: Runtime) -> Make:
    """A fetcher of the mailbox red at `server`."""

    def make(server: Any, **options: object) -> ImapFetcher:
        table = {
            "host": server.host, "port": server.port, "user": "red",
            "password": SECRET, "timeout": "5s", **options,
        }  # fmt: skip
        return ImapFetcher(ImapSourceOptions.read(table), runtime)

    return make


@pytest.fixture
def server() -> Iterator[ImapServer]:
    """One where red has MAIL, unless the file has another."""
    with ImapServer({"red": SECRET}, {"red": MAIL}) as server:
        yield server


@pytest.fixture
def make(server: ImapServer, fetcher_of: Make) -> Make:
    """A fetcher of the mailbox red at that server."""
    return partial(fetcher_of, server)
