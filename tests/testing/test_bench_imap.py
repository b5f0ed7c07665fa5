"""The bench of IMAP: what counts as fetched, what counts as a visit, and the limit itself."""

from __future__ import annotations

from functools import partial
from pathlib import Path

import pytest

from bench import corpus, fetchers_imap, mailbox, report
from bench.measure import Command, Launcher, Sample, Series
from bench.row import Contender, Options, Outcome, Row, Within
from bench.rows import imap


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
    monkeypatch.setattr(imap, "contenders", lambda options, delay: [fetchers_imap.limit()])
    with Launcher() as launcher:
        options = Options(launcher, tmp_path, tmp_path / "none", tmp_path, repetitions=1, scale=20)
        found = partial(imap.run, messages=2000, delay=0)(row(Within(30)), options)
    (series,) = found.series
    assert series.fault == ""
