"""The bench: figures are void unless the work was done, and are reckoned as the page says."""

from __future__ import annotations

import sys
from dataclasses import replace
from functools import partial
from pathlib import Path

import pytest

from bench import corpus, fetchers, mailbox, report
from bench.measure import Command, Launcher, Sample, Series, take_turns
from bench.row import Bound, Contender, Options, Outcome, Ratio, Row
from bench.rows import pop3


def sample(seconds: float, *, peak: int = 0, fault: str = "") -> Sample:
    return Sample(seconds, 0, peak, seconds, fault)


def contender(name: str, role: str) -> Contender:
    return Contender(name, role, Command)


def outcome(**seconds: list[float]) -> Outcome:
    roles = {"mailflow": "ours", "limit": "floor"}
    return Outcome(
        [Series(name, [sample(s) for s in found]) for name, found in seconds.items()],
        [contender(name, roles.get(name, "gauge")) for name in seconds],
    )


def row(target: Ratio | Bound) -> Row:
    return Row("a-row", "A row", "What was measured.", lambda row, options: outcome(), target)


@pytest.fixture
def delivered(tmp_path: Path) -> tuple[Path, list[bytes]]:
    mails = list(corpus.messages(5))
    for folder in ("tmp", "new", "cur"):
        (tmp_path / folder).mkdir()
    for number, mail in enumerate(mails):
        (tmp_path / "new" / str(number)).write_bytes(mail.replace(b"\n", b"\r\n"))
    return tmp_path, mails


def fault(maildir: Path, mails: list[bytes], on_server: int = 5, kept: int = 5) -> str:
    return mailbox.fault(maildir, mailbox.digests(mails), on_server, kept)


def test_a_run_counts_when_every_message_arrived(delivered: tuple[Path, list[bytes]]) -> None:
    assert fault(*delivered) == ""


def test_a_lost_message_voids_the_run(delivered: tuple[Path, list[bytes]]) -> None:
    (delivered[0] / "new" / "3").unlink()
    assert fault(*delivered) == "1 of 5 messages missing or changed"


def test_a_changed_octet_voids_the_run(delivered: tuple[Path, list[bytes]]) -> None:
    path = delivered[0] / "new" / "3"
    path.write_bytes(path.read_bytes().replace(b"Subject: m", b"Subject: M"))
    assert "missing or changed" in fault(*delivered)


def test_a_copy_voids_the_run(delivered: tuple[Path, list[bytes]]) -> None:
    (delivered[0] / "cur" / "again").write_bytes(delivered[1][0])
    assert fault(*delivered) == "1 messages more than there were"


def test_a_file_left_in_tmp_voids_the_run(delivered: tuple[Path, list[bytes]]) -> None:
    (delivered[0] / "tmp" / "half").write_bytes(b"")
    assert fault(*delivered) == "1 files left in tmp"


def test_mail_left_on_the_server_voids_a_deleting_run(delivered: tuple[Path, list[bytes]]) -> None:
    assert fault(*delivered, on_server=1, kept=0) == "1 messages on the server instead of 0"


def test_the_corpus_is_the_same_each_time_and_holds_no_message_twice() -> None:
    mails = list(corpus.messages(300))
    assert mails == list(corpus.messages(300))
    assert max(mailbox.digests(mails).values()) == 1
    assert 18_000 < sum(map(len, mails)) / 300 < 22_000
    assert any(b"\n." in mail for mail in mails)


def test_every_repetition_begins_with_another_contender() -> None:
    turns = list(take_turns("abc", lambda name: 3))
    assert [name for _, name in turns] == list("abcbcacab")


def test_who_runs_once_runs_in_the_first_repetition() -> None:
    turns = list(take_turns("abc", lambda name: 1 if name == "b" else 2))
    assert [name for number, name in turns if number] == ["c", "a"]


def test_the_launcher_tells_status_time_and_memory(tmp_path: Path) -> None:
    (tmp_path / "in").write_bytes(b"one")
    code = "import sys, time; time.sleep(0.1); b = b'x' * 50_000_000; sys.exit(len(input()))"
    command = Command([sys.executable, "-I", "-S", "-c", code], tmp_path, stdin=tmp_path / "in")
    with Launcher() as launcher:
        found = launcher.run(command)
        seconds, together = launcher.run_all([command] * 3)
    assert found.status == 3
    assert found.seconds >= 0.1
    assert 40_000_000 < found.peak < 100_000_000
    assert [one.status for one in together] == [3, 3, 3]
    assert seconds >= max(one.seconds for one in together)


def test_a_ratio_is_that_of_medians_and_to_the_fastest_gauge() -> None:
    found = outcome(mailflow=[1.0, 1.2, 9.0], mpop=[2.0, 2.0, 2.0], slow=[4.0], limit=[0.1])
    said = report.verdict(row(Ratio(0.6, ("mpop", "slow"))), found)
    assert said["ratio"] == pytest.approx(0.6)
    assert said["met"]
    assert not report.verdict(row(Ratio(0.59, ("mpop", "slow"))), found)["met"]


def test_a_void_gauge_is_no_gauge() -> None:
    found = outcome(mailflow=[1.0], mpop=[2.0], slow=[4.0])
    found.series[1].samples[0] = replace(found.series[1].samples[0], fault="lost one")
    said = report.verdict(row(Ratio(0.6, ("mpop", "slow"))), found)
    assert said["ratio"] == pytest.approx(0.25)
    assert "mpop is void: lost one" in report.notes(
        report.record(row(Ratio(0.6, ("mpop", "slow"))), found, {})
    )


@pytest.mark.parametrize(("most", "said"), [(0.6, False), (0.4, True)])
def test_a_target_that_is_missed_says_why(most: float, said: bool) -> None:
    target = replace(row(Ratio(most, ("mpop",))), why="It is far.")
    entry = report.record(target, outcome(mailflow=[1.0], mpop=[2.0]), {})
    assert report.outcome_text(entry).endswith(": missed. It is far.") is said


def test_our_own_void_run_meets_no_target() -> None:
    found = outcome(mailflow=[1.0], mpop=[2.0])
    found.series[0].samples[0] = replace(found.series[0].samples[0], fault="lost one")
    assert not report.verdict(row(Ratio(0.6, ("mpop",))), found)["met"]
    assert not report.verdict(row(Bound(1 << 40)), found)["met"]


def test_the_page_is_written_between_its_markers_only(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    page = tmp_path / "page.rst"
    page.write_text(f"before\n{report.BEGIN}old\n{report.END}after\n")
    monkeypatch.setattr(report, "PAGE", page)
    found = outcome(mailflow=[1.0], mpop=[2.0])
    entry = report.record(row(Ratio(0.6, ("mpop",))), found, {"kernel": "Linux 6"})
    report.publish([entry])
    report.publish([entry])
    text = page.read_text()
    assert text.startswith(f"before\n{report.BEGIN}")
    assert text.endswith(f"{report.END}after\n")
    assert text.count("Reached: 0.50 x mpop") == 1
    assert "old" not in text
    assert text.count(".. image:: benchmarks/") == 1
    (picture,) = (tmp_path / "benchmarks").iterdir()
    assert f".. image:: benchmarks/{picture.name}\n" in text


@pytest.mark.interop
def test_the_limit_fetches_everything_from_a_real_server(tmp_path: Path) -> None:
    with Launcher() as launcher:
        options = Options(launcher, tmp_path, tmp_path / "none", tmp_path, repetitions=1, scale=20)
        found = partial(pop3.run, messages=2000, delay=0, delete=True)
        only = [fetchers.limit()]
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(pop3, "contenders", lambda options, delay: only)
            result = found(row(Bound(0)), options)
    (series,) = result.series
    assert series.fault == ""
    assert 0 < series.seconds < 30


def test_what_a_program_said_is_shown_and_not_read_as_markup() -> None:
    found = outcome(mailflow=[1.0], mpop=[2.0])
    found.series[1].samples[0] = sample(2.0, fault="exit status 1: `x`_ and\n|y|")
    text = report.as_rst(report.record(row(Ratio(0.6, ("mpop",))), found, {}))
    assert "``mpop is void: exit status 1: 'x'_ and |y|``" in text
