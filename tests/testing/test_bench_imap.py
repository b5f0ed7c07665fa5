"""The bench of IMAP: what counts as fetched, what counts as a visit, and the limit itself."""

from __future__ import annotations

import socket
import threading
from functools import partial
from pathlib import Path

import pytest

from bench import corpus, fetchers, mailbox, report, visits
from bench.measure import Command, Launcher, Sample, Series
from bench.row import Contender, Options, Outcome, Row, Within
from bench.rows import imap, live


def outcome(*seconds: float, fault: str = "") -> Outcome:
    samples = [Sample(each, 0, 0, each, fault) for each in seconds]
    return Outcome([Series("mailflow", samples)], [Contender("mailflow", "ours", Command)])


def row(target: Within) -> Row:
    return Row("a-row", "A row", "What was measured.", lambda row, options: outcome(), target)


def test_a_time_is_met_by_the_median_below_it() -> None:
    said = report.verdict(row(Within(1.0)), outcome(0.4, 0.9, 5.0))
    assert (said["met"], said["reached"]) == (True, "900.0 ms")
    assert not report.verdict(row(Within(0.9)), outcome(0.4, 0.9, 5.0))["met"]


def test_a_void_run_meets_no_time() -> None:
    assert not report.verdict(row(Within(1.0)), outcome(0.1, fault="lost one"))["met"]


@pytest.mark.parametrize(
    "line",
    [
        b"Delivered-To: unknown\n",
        b"X-getmail-retrieved-from-mailbox: INBOX\n",
        b"X-TUID: b3kGxcbDT6p1\n",
        b"X-OfflineIMAP: 1234-abc-v8.0.0\n",
    ],
)
def test_a_line_that_a_peer_cannot_but_add_is_no_fault(line: bytes) -> None:
    assert mailbox.as_sent(b"Subject: a\n" + line + b"\nbody\n") == b"Subject: a\n\nbody\n"


def test_such_a_line_in_a_long_message_is_no_fault_either(tmp_path: Path) -> None:
    (tmp_path / "new").mkdir()
    pieces = list(corpus.long_message(3_000_000))
    head, _, body = pieces[0].partition(b"\n\n")
    added = head + b"\nX-TUID: b3kGxcbDT6p1\n\n" + body
    (tmp_path / "new" / "1").write_bytes(b"".join([added, *pieces[1:]]))
    assert visits.arrived(tmp_path) == [visits.digest(pieces)]


def test_any_other_line_is_kept() -> None:
    assert mailbox.as_sent(b"Subject: a\nX-Mine: b\n\nc\n") == b"Subject: a\nX-Mine: b\n\nc\n"


@pytest.mark.parametrize(
    ("names", "word"),
    [
        ((0, 1), ""),
        ((0,), "1 messages instead of 2"),
        ((0, 1, 2), "3 messages instead of 2"),
        ((0, 2), "other messages than those that came"),
    ],
)
def test_a_visit_counts_when_it_brought_what_came_since(
    tmp_path: Path, names: tuple[int, ...], word: str
) -> None:
    mails = list(corpus.messages(3))
    (tmp_path / "before").write_bytes(b"an old one")
    for number in names:
        (tmp_path / f"m{number}").write_bytes(mails[number])
    assert imap.fault_of_poll(tmp_path, {"before"}, mails[:2]) == word


@pytest.mark.interop
def test_the_limit_fetches_everything_over_imap(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(imap, "contenders", lambda options, delay: [fetchers.limit()])
    with Launcher() as launcher:
        options = Options(launcher, tmp_path, tmp_path / "none", tmp_path, repetitions=1, scale=20)
        found = partial(imap.run, messages=2000, delay=0)(row(Within(30)), options)
    (series,) = found.series
    assert series.fault == ""


@pytest.mark.interop
def test_the_limit_fetches_a_long_message_and_who_does_not_is_void(tmp_path: Path) -> None:
    lazy = Contender("lazy", "gauge", lambda where, account: idle(where))
    known = [fetchers.limit(), lazy]
    with Launcher() as launcher:
        options = Options(launcher, tmp_path, tmp_path / "none", tmp_path, repetitions=1)
        found = visits.run_long(row(Within(30)), options, known, 3_000_000, protocol="imap")
    assert [series.fault for series in found.series] == ["", "the message is not there"]


def idle(where: Path) -> Command:
    fetchers.maildir(where)
    return Command(["/bin/true"], where)


def answering(said: bytes, size: int) -> live.Line:
    """A line to a server that says this, `size` octets at a time."""
    listener = socket.create_server(("127.0.0.1", 0))
    line = live.Line(listener.getsockname()[1])
    server, _ = listener.accept()
    listener.close()

    def say() -> None:
        with server:
            for start in range(0, len(said), size):
                server.sendall(said[start : start + size])
            while server.recv(1000):
                pass

    threading.Thread(target=say, daemon=True).start()
    return line


@pytest.mark.parametrize("size", [1, 7, 1000])
def test_the_client_of_a_live_maildrop_takes_messages_as_they_were_sent(size: int) -> None:
    line = answering(b"+OK\r\n..a\r\n\r\n...\r\nb\r\n.\r\n+OK\r\n.\r\n+OK bye\r\n", size)
    assert line.pop3("RETR 1") == b"+OK\r\n"
    assert line.body() == b".a\r\n\r\n..\r\nb\r\n"
    line.pop3("UIDL")
    assert line.body() == b""
    assert line.pop3("QUIT") == b"+OK bye\r\n"
    line.close()


@pytest.mark.parametrize("size", [1, 7, 1000])
def test_the_client_of_bare_imap_takes_literals(size: int) -> None:
    line = answering(b"* 1 FETCH (UID 7 BODY[] {6}\r\na\r\na b)\r\na OK done\r\na NO\r\n", size)
    found = line.imap("UID FETCH 7 BODY.PEEK[]")
    assert found[1] == b"a\r\na b"
    with pytest.raises(OSError, match="NOOP"):
        line.imap("NOOP")
    line.close()
