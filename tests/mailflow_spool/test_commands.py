"""`mailflow spool`: what is there is shown, and what a human says is done, or said first."""

from __future__ import annotations

import json
import os
import time
from pathlib import Path

import click
import pytest
from click.testing import CliRunner, Result

import mailflow_spool
from mailflow.errors import ConfigError, GoneError, InUseError, MailflowError

from .conftest import LARGE, Spool, text


class Commands:
    """The command, on one spool."""

    def __init__(self, spool: Spool) -> None:
        self.spool = spool
        self.group = click.Group("spool")
        mailflow_spool.mailflow_commands(self.group)

    def __call__(self, *words: str) -> Result:
        return CliRunner().invoke(self.group, [*words, "--spool", str(self.spool.path)])

    def ended(self, *words: str) -> Result:
        """With its exit status as `return_value`."""
        words = (*words, "--spool", str(self.spool.path))
        return CliRunner().invoke(self.group, words, standalone_mode=False)

    def says(self, *words: str) -> str:
        result = self(*words)
        assert result.exception is None, result.exception
        return result.output

    def json(self, *words: str) -> list[dict[str, object]]:
        found: list[dict[str, object]] = json.loads(self.says(*words, "--json"))
        return found

    def fails(self, *words: str) -> MailflowError:
        error = self(*words).exception
        assert isinstance(error, MailflowError)
        return error


@pytest.fixture
def run(spool: Spool) -> Commands:
    spool.fill(text(1), text(2), LARGE, expire="30d", expire_over="1MB")
    spool.fill(text(3), drop="bob")
    return Commands(spool)


def test_every_drop_is_listed_with_what_it_holds(run: Commands) -> None:
    ann, bob = run.json("list")
    assert (ann["drop"], ann["messages"], ann["expire"]) == ("ann", 3, 30 * 86400)
    assert (bob["drop"], bob["messages"], bob["octets"]) == ("bob", 1, len(text(3)))
    assert "after 30d, over 1000000 octets" in run.says("list")


def test_pwm_31_a_drop_is_listed_without_any_connection(run: Commands) -> None:
    """The sources are not known to the command at all, and no server runs."""
    found = run.json("list", "ann")
    assert [each["uidl"] for each in found] == run.spool.uidls()
    assert [each["size"] for each in found] == [len(text(1)), len(text(2)), len(LARGE)]
    assert "<bob@example.org>" in run.says("list", "ann")


def test_mail_of_a_mailbox_is_listed_with_whom_it_says_it_is_from(run: Commands) -> None:
    """Its envelope has no sender: POP3 knows none."""
    run.spool.fill(
        b"From: Ben <ben@example.com>,\r\n cleo@example.net\r\n\r\n",
        b"From: \x1b]0;owned\x07\r\n\r\n",
        b"From: Ben <ben@example.com>\r\n\r\n" + b"x" * 300_000,
        drop="cat", sender=None,
    )  # fmt: skip
    lines = [line.split() for line in run.says("list", "cat").splitlines()[1:]]
    assert [line[5:] for line in lines] == [
        ["ben@example.com,", "cleo@example.net"], [], ["ben@example.com"],
    ]  # fmt: skip


def test_mail_that_is_damaged_is_listed_all_the_same(run: Commands) -> None:
    run.spool.fill(LARGE, drop="cat", sender=None)
    for body in run.spool.bodies():
        os.unlink(body)
    assert len(run.says("list", "cat").splitlines()) == 2


def test_a_message_is_shown_and_had(run: Commands) -> None:
    uidl = run.spool.uidls()[1]
    assert "Subject: 2" in run.says("show", "ann", uidl)
    (shown,) = [json.loads(run.says("show", "ann", "3", "--json"))]
    assert shown["header"] == ["Subject: large"]
    assert Path(shown["file"]).exists()
    result = run("get", "ann", uidl)
    assert result.stdout_bytes == text(2)


def test_what_a_mail_says_cannot_write_to_the_terminal(run: Commands) -> None:
    run.spool.fill(b"Subject: \x1b]0;owned\x07\xe2\x80\xae\r\n\r\n", drop="bob")
    said = run.says("show", "bob", "2")
    assert "\x1b" not in said
    assert "\u202e" not in said


def test_messages_are_dropped_by_their_uidl(run: Commands) -> None:
    keys = run.spool.uidls()
    assert "would be removed" in run.says("drop", "ann", keys[0], "--dry-run")
    assert len(run.spool.uidls()) == 3
    run.says("drop", "ann", keys[0], keys[2])
    assert run.spool.uidls() == keys[1:2]
    run.says("drop", "ann", keys[1])
    assert run.spool.bodies() == []


def test_a_drop_is_removed_whole_only_where_that_is_said(run: Commands) -> None:
    assert run("drop", "bob").exit_code == 2
    assert run("drop", "bob", "1", "--all").exit_code == 2
    run.says("drop", "bob", "--all", "--dry-run")
    assert run.spool.messages("bob") == [text(3)]
    run.says("drop", "bob", "--all")
    assert [each["drop"] for each in run.json("list")] == ["ann"]


def test_nothing_is_taken_from_under_a_client(run: Commands) -> None:
    drop = run.spool.login()
    assert isinstance(run.fails("drop", "ann", "1"), InUseError)
    assert isinstance(run.fails("drop", "ann", "--all"), InUseError)
    result = run.ended("expire", "ann", "--over", "0")
    assert result.return_value == 75
    assert "ann is in use" in result.output
    drop.close()
    assert len(run.spool.messages()) == 3


def test_expiry_says_what_it_would_do_and_does_it(run: Commands) -> None:
    wanted = [each["uidl"] for each in run.json("expire", "ann", "--over", "1k", "--dry-run")]
    assert wanted == run.spool.uidls()[2:]
    assert [each["uidl"] for each in run.json("expire", "ann", "--over", "1k")] == wanted
    assert run.spool.messages() == [text(1), text(2)]
    assert run.spool.messages("bob") == [text(3)]


def test_expiry_follows_what_the_pipelines_say(
    run: Commands, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert run.json("expire") == []
    now = time.time()
    monkeypatch.setattr(time, "time", lambda: now + 31 * 86400)
    assert "ann: 3 messages" in run.says("expire")
    assert run.spool.messages("bob") == [text(3)]


@pytest.mark.parametrize("word", ["--older", "--over"])
def test_an_age_or_a_size_that_is_none_is_refused(run: Commands, word: str) -> None:
    assert run("expire", word, "often").exit_code == 2


def test_verify_says_that_all_is_whole_or_what_is_not(run: Commands) -> None:
    assert run.says("verify") == "4 messages, all of them whole\n"
    assert "ann/nowhere is not there" in run.fails("import", "cleo", "ann/nowhere").text
    run.spool.bodies()[0].unlink()
    result = run.ended("verify")
    assert result.return_value == 74
    assert "ann" in result.output
    assert "is gone" in result.output


def test_a_drop_is_exported_and_imported(run: Commands, tmp_path: Path) -> None:
    out = str(tmp_path / "out")
    run.says("export", "ann", out, "--dry-run")
    assert not Path(out).exists()
    assert run.says("export", "ann", out).endswith("3 messages\n")
    assert "3 messages would be imported" in run.says("import", "cleo", out, "--dry-run")
    assert run.spool.messages("cleo") == []
    assert "3 messages imported, 3 with the UIDLs they had" in run.says("import", "cleo", out)
    assert run.spool.uidls("cleo") == run.spool.uidls("ann")
    assert "3 were here already" in run.says("import", "cleo", out)


def test_what_is_not_there_is_said(run: Commands, tmp_path: Path) -> None:
    assert "did you mean `ann`" in run.fails("list", "anm").text
    said = run.fails("list", "\u00e4\u202e").text
    assert said == "there is no drop '\u00e4\\u202e'; there are ann, bob"
    assert isinstance(run.fails("show", "ann", "no-such"), GoneError)
    run.spool.path = tmp_path / "nowhere"
    error = run.fails("list")
    assert isinstance(error, ConfigError)
    assert "there is no spool" in error.text
    assert not run.spool.path.exists()
