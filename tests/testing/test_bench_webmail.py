"""The bench of a webmail: the script beside us gets every message, and polls are counted."""

from __future__ import annotations

import sys
from functools import partial
from pathlib import Path

import pytest

from bench import fetchers
from bench.figures import Measured
from bench.measure import Launcher
from bench.row import Options, Row, Within
from bench.rows import webmail

pytestmark = pytest.mark.interop("dovecot-imapd", "roundcube-core", "lighttpd", "php8.2-cgi")

ROW = Row("a-row", "A row", "", lambda row, options: NotImplemented, Within(30))


def test_the_script_beside_us_fetches_all_of_several_pages(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    soup = fetchers.soup(Path(sys.executable))
    monkeypatch.setattr(webmail, "programs", lambda options: [soup])
    with Launcher() as launcher:
        options = Options(launcher, tmp_path, tmp_path / "none", tmp_path, repetitions=1)
        found = partial(webmail.run, messages=53, delay=0)(ROW, options)
    (series,) = found.series
    assert series.fault == ""


def test_requests_of_a_source_that_stays_logged_in_are_counted_apart_from_its_first_visit(
    tmp_path: Path,
) -> None:
    with webmail.Mailbox(tmp_path, 0, "webmail") as box:
        account = box.account(webmail.corpus.messages(webmail.POLLED))
        measured = Measured("mailflow")
        with webmail.HttpWay(f"http://127.0.0.1:{account.port}/") as way:
            options = Options(Launcher(), tmp_path, tmp_path, tmp_path, repetitions=2)
            webmail.poll_living(measured, way, account, options)
    assert (measured.fault, measured.values["requests"]) == ("", [1, 1])
