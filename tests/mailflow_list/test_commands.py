"""`mailflow list`: who is on a list, for whoever looks after it."""

from __future__ import annotations

import errno
import json
import subprocess
import sys
from pathlib import Path

import click
import pytest
from click.testing import CliRunner, Result

import mailflow_list
from mailflow import durable
from mailflow.errors import MailflowError

TOML = """
[[fetch]]
use = "stdin"

[[process]]
use = "list.post"
owner = "olga@example.org"

[[process.list]]
address = "Red Club <red@example.org>"
aliases = ["rot@example.org"]
members = "red.members"
moderators = "red.moderators"
prefix = "[Red]"

[[process.list]]
address = "green@example.org"
members = ["ann@example.org", "Bob <bob@example.net>"]
posting = { others = "reject" }

[[distribute]]
use = "maildir"
path = "archive"
"""
MEMBERS = "# our members\nAnn <ann@example.org>\nben@example.com   # since May\nno address\n"


class Club:
    def __init__(self, directory: Path) -> None:
        self.file = directory / "club.toml"
        self.file.write_text(TOML)
        self.members = directory / "red.members"
        self.members.write_text(MEMBERS)
        self.moderators = directory / "red.moderators"
        self.group = click.Group("list")
        mailflow_list.mailflow_commands(self.group)

    def __call__(self, word: str, *words: str, file: str | None = None) -> Result:
        return CliRunner().invoke(self.group, [word, file or str(self.file), *words])

    def fails(self, *words: str) -> MailflowError:
        error = self(*words).exception
        assert isinstance(error, MailflowError)
        return error


@pytest.fixture
def club(tmp_path: Path) -> Club:
    return Club(tmp_path)


def test_members_prints_a_line_for_each_and_says_what_is_none(club: Club) -> None:
    done = club("members", "red@example.org")
    assert done.stdout == "Ann <ann@example.org>\nben@example.com   # since May\n"
    assert done.stderr == (f"mailflow: {club.members}:4: not an address, left out: no address\n")
    assert club("members", "green").stdout == "ann@example.org\nbob@example.net\n"


def test_members_as_json(club: Club) -> None:
    assert json.loads(club("members", "red", "--json").stdout) == [
        {"address": "ann@example.org", "written": "Ann <ann@example.org>"},
        {"address": "ben@example.com", "written": "ben@example.com   # since May"},
    ]


@pytest.mark.parametrize(
    "name", ["red@example.org", "RED@Example.org", "rot@example.org", "red", "red club"]
)
def test_a_list_is_known_by_its_address_an_alias_or_its_name(club: Club, name: str) -> None:
    assert club("members", name).stdout.startswith("Ann")


def test_a_list_that_is_none_is_said_with_those_there_are(club: Club) -> None:
    error = club.fails("members", "blue")
    assert error.exit_code == 64
    assert error.text == (
        f"{club.file} has no list 'blue'; there is red@example.org, green@example.org"
    )
    assert "did you mean `red@example.org`?" in club.fails("members", "red@exmple.org").text


def test_a_name_of_two_lists_is_said(club: Club) -> None:
    club.file.write_text(TOML.replace("green@example.org", "red@example.com"))
    assert club.fails("members", "red").text == (
        f"2 lists of {club.file} are called 'red': red@example.org, red@example.com"
    )


def test_a_file_without_a_list_is_said(club: Club) -> None:
    club.file.write_text('[[fetch]]\nuse = "stdin"\n[[distribute]]\nuse = "maildir"\npath = "m"\n')
    assert (
        "has no list: none of its [[process]] steps is list.post"
        in club.fails("members", "red").text
    )


def test_addresses_are_added_once(club: Club) -> None:
    done = club("add", "red", "Cleo <cleo@example.net>", "ANN@example.org", "cleo@example.net")
    assert done.output == "cleo@example.net: added\nANN@example.org: on it already\n"
    assert club.members.read_text() == MEMBERS + "Cleo <cleo@example.net>\n"
    assert club("add", "red", "cleo@example.net").output == "cleo@example.net: on it already\n"
    assert club.members.read_text() == MEMBERS + "Cleo <cleo@example.net>\n"


def test_addresses_are_removed_and_the_rest_stays(club: Club) -> None:
    done = club("remove", "red", "ben@EXAMPLE.com", "dan@example.org")
    assert done.output == "ben@EXAMPLE.com: removed\ndan@example.org: not on it\n"
    assert club.members.read_text() == "# our members\nAnn <ann@example.org>\nno address\n"
    assert club("remove", "red", "ben@example.com").output == "ben@example.com: not on it\n"


def test_that_nobody_is_left_is_said(club: Club) -> None:
    done = club("remove", "red", "ann@example.org", "ben@example.com")
    assert done.exit_code == 0
    assert done.stderr == (
        f"mailflow: nobody is left in {club.members}: posts wait until somebody is\n"
    )


@pytest.mark.parametrize("word", ["add", "remove"])
def test_a_dry_run_changes_nothing(club: Club, word: str) -> None:
    before = club.members.stat()
    done = club(word, "red", "--dry-run", "ann@example.org", "new@example.org")
    assert club.members.stat() == before
    assert done.output == (
        "ann@example.org: on it already\nnew@example.org: would be added\n"
        if word == "add"
        else "ann@example.org: would be removed\nnew@example.org: not on it\n"
    )
    club("add", "red", "--moderators", "--dry-run", "new@example.org")
    assert not club.moderators.exists()


@pytest.mark.parametrize("word", ["add", "remove"])
@pytest.mark.parametrize("bad", ["cleo", "a@x.org, b@x.org", "Cleo\n<c@x.org>", "c@x.org\x00", ""])
def test_d18_where_one_is_no_address_none_is_changed(club: Club, word: str, bad: str) -> None:
    done = club(word, "red", "ann@example.org", "new@example.org", bad)
    assert done.exit_code == 2
    assert "is no address; nothing was changed" in done.output
    assert club.members.read_text() == MEMBERS


def test_moderators_are_changed_likewise_and_their_file_made(club: Club) -> None:
    assert club("add", "red", "--moderators", "dora@example.com").exit_code == 0
    assert club.moderators.read_text() == "dora@example.com\n"
    assert club("members", "red", "--moderators").output == "dora@example.com\n"
    club("remove", "red", "--moderators", "dora@example.com")
    assert club.moderators.read_text() == ""
    assert club.members.read_text() == MEMBERS


def test_members_in_the_toml_are_not_changed_and_it_is_said_what_to_do(club: Club) -> None:
    error = club.fails("add", "green", "cleo@example.net")
    assert error.exit_code == 78
    assert error.text == (
        f"the members of green@example.org stand in {club.file} itself: edit it, or move them"
        ' into a file and say members = "~/green@example.org.members"'
    )
    assert (
        "green@example.org has no moderators; give it a file"
        in club.fails("add", "green", "--moderators", "x@x.org").text
    )


def test_a_file_of_members_that_is_not_there_is_said_and_may_be_made(club: Club) -> None:
    club.members.unlink()
    assert f"cannot read the addresses in {club.members}" in club.fails("members", "red").text
    added = club("add", "red", "ann@example.org")
    assert added.stdout == "ann@example.org: added\n"
    assert added.stderr == f"mailflow: there was no {club.members}; it is made now\n"
    assert club("members", "red").output == "ann@example.org\n"


def test_what_cannot_be_made_is_not_said_to_be(club: Club, monkeypatch: pytest.MonkeyPatch) -> None:
    club.members.unlink()

    def full(path: str, *_: object) -> None:
        raise OSError(errno.ENOSPC, "full")

    monkeypatch.setattr(durable, "replace", full)
    done = club("add", "red", "ann@example.org")
    assert str(done.exception) == f"cannot change {club.members}: No space left on device"
    assert done.output == ""


def test_show_says_how_the_list_is_set_up(club: Club) -> None:
    lines = dict([*line.split("  ", 1), ""][:2] for line in club("show", "red").output.splitlines())
    said = {key: value.strip() for key, value in lines.items()}
    assert said["address"] == "Red Club <red@example.org>"
    assert said["step"] == "list.post"
    assert said["members"] == f"2 in {club.members}"
    assert said["moderators"] == f"cannot be read in {club.moderators}"
    assert said["posting"] == "members = accept, moderators = accept, others = hold"
    assert said["owner"] == "olga@example.org"
    assert said["bounces"] == "Red Club <red@example.org>"
    assert said["list_id"] == "red.example.org"
    assert said["prefix"] == "[Red]"
    assert said["remember"] == "1w"


def test_show_says_spans_as_the_file_does(club: Club) -> None:
    for span in ("forever", "90s", "36h"):
        club.file.write_text(TOML.replace("owner =", f'remember = "{span}"\nowner ='))
        assert f"remember        {span}\n" in club("show", "red").output
    assert json.loads(club("show", "red", "--json").stdout)["remember"] == 36 * 3600
    club.file.write_text(TOML.replace("owner =", 'remember = "forever"\nowner ='))
    assert '"remember": "forever"' in club("show", "red", "--json").stdout


def test_show_as_json_has_every_option(club: Club) -> None:
    from mailflow_list.settings import ListOptions

    shown = json.loads(club("show", "green", "--json").stdout)
    assert {*ListOptions.declared(), "pipeline", "step"} == {*shown}
    assert shown["members"] == {"count": 2}
    assert shown["posting"] == {"members": "accept", "moderators": "accept", "others": "reject"}
    assert shown["aliases"] == []
    assert shown["max_hops"] == 25


def test_what_others_wrote_moves_no_cursor(club: Club) -> None:
    club.members.write_text("\x1b[2J <ann@example.org>\nb\x1b[2J\n")
    assert not set(club("members", "red").output) & set("\x1b\x9b")


def test_the_program_has_the_command(club: Club) -> None:
    def call(*words: str) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, "-m", "mailflow", *words]
        return subprocess.run(command, capture_output=True, text=True, timeout=60)

    assert "list " in call("--help").stdout
    done = call("list", "add", str(club.file), "red", "cleo@example.net")
    assert (done.returncode, done.stdout) == (0, "cleo@example.net: added\n")
    assert call("list", "add", str(club.file), "red", "cleo").returncode == 64
    done = call("list", "members", str(club.file), "blue")
    assert (done.returncode, done.stdout) == (64, "")
    assert done.stderr.startswith("mailflow: ")
