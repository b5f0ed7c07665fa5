"""The reader of documents: what it takes for an example, and what it complains of."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from mailflow.testing.documents import Block, Shell, alike, blocks, commands

DOCUMENT = """\
Title
=====

.. code-block:: toml
   :caption: not part of it

   # ~/lists/red.toml
   [[fetch]]

   use = "stdin"

Text between.

.. given: red has a.eml

  .. code:: console

     $ one \\
     > more
     $ two
     shown
"""


@pytest.fixture
def found(tmp_path: Path) -> list[Block]:
    document = tmp_path / "a.rst"
    document.write_text(DOCUMENT)
    return blocks(document)


@pytest.fixture
def shell(tmp_path: Path) -> Shell:
    return Shell(tmp_path, {"PATH": os.environ["PATH"]})


def console(text: str) -> Block:
    return Block("a.rst", 1, "console", text)


def test_a_block_is_what_is_indented_below_its_directive(found: list[Block]) -> None:
    assert found[0].text == '# ~/lists/red.toml\n[[fetch]]\n\nuse = "stdin"\n'
    assert (found[0].language, found[0].line) == ("toml", 7)


def test_a_first_line_with_a_path_names_the_file(found: list[Block]) -> None:
    assert found[0].file == "~/lists/red.toml"
    assert found[2].file is None


def test_what_a_test_prepares_is_found_in_its_place(found: list[Block]) -> None:
    assert (found[1].language, found[1].text) == ("given", "red has a.eml")


def test_a_command_may_go_on_and_shows_what_stands_below_it(found: list[Block]) -> None:
    first, second = commands(found[2])
    assert (first.text, first.shown) == ("one \\\nmore", "")
    assert (second.text, second.shown) == ("two", "shown\n")


def test_a_console_block_without_a_prompt_is_refused() -> None:
    with pytest.raises(ValueError, match=r"a\.rst:1: .* begins with '\$ '"):
        commands(console("shown\n"))


def test_commands_share_one_shell_and_one_home(shell: Shell, tmp_path: Path) -> None:
    ran = shell.run(console('$ x=1; cd /; touch ~/here\n$ echo "$x $PWD"\n'))
    assert ran[1].output == "1 /\n"
    assert (tmp_path / "here").exists()


def test_output_that_differs_is_complained_of(shell: Shell) -> None:
    assert shell.check(console("$ echo one\none\n")) == []
    assert "a.rst:1: `echo one` shows\ntwo\n" in shell.check(console("$ echo one\ntwo\n"))[0]


def test_a_command_that_fails_is_complained_of_unless_its_status_is_shown(shell: Shell) -> None:
    assert "`false` exits 1" in shell.check(console("$ false\n"))[0]
    assert shell.check(console("$ false\n$ echo $?\n1\n")) == []


def test_names_of_the_document_stand_for_what_is_here(shell: Shell, tmp_path: Path) -> None:
    shell.names["server.example.org"] = "localhost"
    assert (
        shell.check(console("$ echo server.example.org $HOME\nserver.example.org /home/ann\n"))
        == []
    )
    assert shell.run(console("$ test server.example.org = localhost\n"))[0].status == 0


def test_moments_spans_and_columns_may_differ() -> None:
    assert alike("2026-01-01 10:00:00  a   in 2m\n", "2026-11-21 02:10:17 a in 1h 3s\n")
    assert not alike("a in 2m\n", "a at 2m\n")


def test_three_dots_stand_for_anything() -> None:
    assert alike("one ... three\n", "one two three\n")
    assert not alike("one ... three\n", "one two\n")


def test_three_dots_alone_stand_for_any_lines() -> None:
    assert alike("one\n...\nthree\n", "one\nthree\n")
    assert alike("one\n...\nthree\n...\n", "one\ntwo\ntwo\nthree\n")
    assert not alike("one\n...\nthree\n", "one\ntwo\n")
