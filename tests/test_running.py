"""Pipelines from Python: what they are, and running them."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import pytest

import mailflow
from mailflow import ConfigError
from mailflow.halt import Halt
from mailflow.running import describe
from mailflow.testing.pop3 import Pop3Server

SMALL = """
[[fetch]]
use = "stdin"
[[process]]
use = "filter.tag"
name = "sort"
note = { folder = ".Lists" }
[[distribute]]
use = "maildir"
path = "inbox"
"""


def test_a_pipeline_is_described_by_its_steps_in_order(tmp_path: Path) -> None:
    path = tmp_path / "red.toml"
    path.write_text(SMALL)
    steps = describe(path)
    assert [step[:3] for step in steps] == [
        ("fetch", "stdin", "stdin"),
        ("process", "sort", "filter.tag"),
        ("distribute", "maildir", "maildir"),
    ]
    assert vars(steps[2].options) == {"path": str(tmp_path / "inbox")}


def test_a_mapping_is_described_too() -> None:
    steps = describe(
        {"fetch": [{"use": "stdin"}], "distribute": [{"use": "maildir", "path": "/x"}]}
    )
    assert [step.name for step in steps] == ["stdin", "maildir"]


def test_all_that_is_wrong_is_raised(tmp_path: Path) -> None:
    path = tmp_path / "red.toml"
    path.write_text(SMALL.replace("maildir", "maildri").replace("stdin", "stdn"))
    with pytest.raises(ConfigError) as caught:
        describe(path)
    assert "stdn" in str(caught.value)
    assert "maildri" in str(caught.value)


MAILS = [f"Subject: {n}\r\nMessage-ID: <{n}@x>\r\n\r\nhello\r\n".encode() for n in ("a", "b")]


@pytest.fixture
def server(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Pop3Server]:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    monkeypatch.setenv("PASSWORD", "secret")
    with Pop3Server({"red": "secret"}, {"red": MAILS}) as server:
        yield server


def pipeline(server: Pop3Server, **words: object) -> dict[str, object]:
    source = {"use": "pop3", "host": "127.0.0.1", "port": server.port, "tls": "none"}
    return {
        "fetch": [{**source, "user": "red", "password": {"env": "PASSWORD"}, **words}],
        "distribute": [{"use": "maildir", "path": "inbox"}],
    }


def inbox(tmp_path: Path) -> int:
    return len(list(tmp_path.glob("inbox/new/*")))


class TestRun:
    def test_pml_01_a_mapping_is_run_and_what_was_fetched_is_known_the_next_time(
        self, server: Pop3Server, tmp_path: Path
    ) -> None:
        assert mailflow.run(pipeline(server)) == 0
        assert inbox(tmp_path) == 2
        server.deliver("red", MAILS[0].replace(b"<a@", b"<c@"))
        assert mailflow.run(pipeline(server)) == 0
        assert inbox(tmp_path) == 3

    def test_files_and_mappings_run_side_by_side(self, server: Pop3Server, tmp_path: Path) -> None:
        (tmp_path / "blue.toml").write_text(
            '[[fetch]]\nuse = "stdin"\n[[distribute]]\nuse = "maildir"\npath = "x"\n'
        )
        assert mailflow.run(tmp_path / "blue.toml", pipeline(server)) == 0
        assert inbox(tmp_path) == 2

    def test_the_status_is_that_of_what_nobody_resolved(self, server: Pop3Server) -> None:
        assert mailflow.run(pipeline(server, port=1)) == 75

    def test_a_source_rests_after_a_failure_unless_now(
        self, server: Pop3Server, tmp_path: Path
    ) -> None:
        assert mailflow.run(pipeline(server, port=1)) == 75
        assert mailflow.run(pipeline(server)) == 75
        assert inbox(tmp_path) == 0
        assert mailflow.run(pipeline(server), now=True) == 0
        assert inbox(tmp_path) == 2

    def test_halt_ends_it_in_order(self, server: Pop3Server, tmp_path: Path) -> None:
        halt = Halt()
        halt.set()
        mailflow.run(pipeline(server), halt=halt)
        halt.close()
        assert inbox(tmp_path) == 0

    def test_every_fault_is_raised_before_anything_starts(self, server: Pop3Server) -> None:
        with pytest.raises(ConfigError) as raised:
            mailflow.run(pipeline(server, prot=1), pipeline(server, limit=0))
        assert "fetch[1].prot: unknown key; did you mean `port`?" in raised.value.text
        assert server.connections == 0


class TestJournalBetween:
    def test_it_lies_in_the_state_directory_and_is_named_by_both(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path))
        name = Path(mailflow.journal_between("pop3s://ann@pop.example.org", "maildir:/x y"))
        assert name.parent == tmp_path / "mailflow"
        assert re.fullmatch(r"pop3s-ann@pop\.example\.org-maildir-x-y-[0-9a-f]{8}\.db", name.name)

    def test_the_same_words_give_the_same_and_others_another(self) -> None:
        between = mailflow.journal_between
        assert between("a", "b") == between("a", "b")
        assert (
            len({between(*pair) for pair in (("a", "b"), ("b", "a"), ("a b", ""), ("a", ""))}) == 4
        )
        assert len(Path(between("a" * 999, "b")).name) < 120
