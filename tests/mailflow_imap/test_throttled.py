"""A server that has enough of us for now: what came stays here, and it is left alone."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

import mailflow
from mailflow.testing.imap import ImapServer
from mailflow.testing.imap_link import NO_FAULTS, Faults

POSTS = [b"Subject: %d\r\n\r\n%b\r\n" % (n, b"x" * 300_000) for n in range(6)]

Visit = Callable[..., int]


@pytest.fixture
def server() -> Iterator[ImapServer]:
    with ImapServer({"ann": "secret"}, {"ann": POSTS}) as running:
        yield running


@pytest.fixture
def visit(server: ImapServer, tmp_path: Path) -> Visit:
    """One run of a pipeline from there into a Maildir; gives its exit status."""

    def run(*, now: bool = False) -> int:
        pipeline = {
            "pipeline": {"name": "ann", "journal": str(tmp_path / "journal.db")},
            "fetch": [
                {
                    "use": "imap", "host": server.host, "port": server.port, "user": "ann",
                    "password": "secret", "timeout": "5s", "keep": "0d", "batch": "64k",
                }
            ],
            "distribute": [{"use": "maildir", "path": str(tmp_path / "Mail")}],
        }  # fmt: skip
        return mailflow.run(pipeline, now=now)

    return run


def arrived(tmp_path: Path) -> list[bytes]:
    files = (tmp_path / "Mail").glob("new/*")
    return sorted(file.read_bytes().replace(b"\n", b"\r\n") for file in files)


@pytest.mark.parametrize("command", ["LOGIN", "EXAMINE", "UID FETCH 1:*", "UID FETCH 4 "])
@pytest.mark.parametrize(
    "answer",
    [
        b"<tag> NO [THROTTLED] too many requests\r\n",
        b"<tag> NO [UNAVAILABLE] the store is down\r\n",
        b"<tag> NO [LIMIT] enough\r\n",
        b"<tag> BAD Request is throttled. Suggested Backoff Time: 92415 milliseconds\r\n",
    ],
    ids=["throttled", "unavailable", "limit", "backoff"],
)
def test_what_came_before_stays_and_the_rest_comes_later_once(
    server: ImapServer, visit: Visit, tmp_path: Path, command: str, answer: bytes
) -> None:
    server.faults = Faults(answers={command: answer})
    assert visit() == 75
    assert len(server.messages("ann")) + len(arrived(tmp_path)) >= len(POSTS)
    server.faults = NO_FAULTS
    assert visit(now=True) == 0
    assert arrived(tmp_path) == POSTS
    assert server.messages("ann") == []


def test_it_is_left_alone_as_long_as_it_asks_for(
    server: ImapServer, visit: Visit, monkeypatch: pytest.MonkeyPatch
) -> None:
    answer = b"<tag> NO [THROTTLED] Suggested Backoff Time: 5000000 ms\r\n"
    server.faults = Faults(answers={"EXAMINE": answer})
    visit()
    connections, clock = server.connections, time.time
    monkeypatch.setattr(time, "time", lambda: clock() + 4900)
    assert visit() == 75
    assert server.connections == connections
    server.faults = NO_FAULTS
    monkeypatch.setattr(time, "time", lambda: clock() + 5100)
    assert visit() == 0
    assert server.connections == connections + 1


def test_an_alert_is_shown_once_and_stops_nothing(
    server: ImapServer, visit: Visit, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    alert = b"* OK [ALERT] the disk is nearly full\r\n"
    server.faults = Faults(before={"EXAMINE": alert, "UID FETCH": alert})
    assert visit() == 0
    assert arrived(tmp_path) == POSTS
    (line,) = [each for each in capfd.readouterr().err.splitlines() if "nearly full" in each]
    assert server.host in line
