"""One word means one thing on the whole command line, and every word is explained."""

from __future__ import annotations

import pytest

from mailflow.cli.commands import Command, every
from mailflow.cli.root import COMMANDS, OF_PLUGINS, root

from .command import Shop

ALL = list(every(root))
LEAVES = [command for command in ALL if not command.group]

ONLY_LOOKS = {
    "auth status",
    "check", "completion", "config show", "help", "journal check", "list members", "list show",
    "mail count", "mail folders", "mail get", "mail list",
    "maildrop hash", "maildrop list", "plugins", "query explain", "queue list",
    "queue show", "schema", "simulate",
    "spool get", "spool list", "spool show", "spool verify", "status", "trace",
    "webmail login", "webmail record", "webmail sites",
}  # fmt: skip
"""What changes nothing."""

NO_DRY_RUN = {
    "demo": "it touches nothing but a directory of its own",
    "hook": "`simulate` is that",
    "serve": "`run --dry-run` asks the same sources",
    "testbed webmail": "it never changes the files of mail that it is given",
    "pop3 serve": "it changes nothing but what its clients ask for",
    "webmail check": "it changes no message that --change does not name",
    "pop3 dl": "-n, as in cs.pop3, leaves the mailbox as it is; `copy --dry-run` asks only",
}

NO_JSON = {
    "completion": "a script", "help": "text", "schema": "JSON anyway",
    "check": "lines, not a table", "maildrop hash": "one line, to be stored",
    "spool get": "the message itself", "webmail record": "the file, to be mended",
}  # fmt: skip


def named(command: Command) -> str:
    return " ".join(command.words)


def words(command: Command) -> set[str]:
    """Every way in which its options are written."""
    return {word.split()[0] for names, _ in command.options for word in names.split(", ")}


@pytest.mark.parametrize("command", ALL, ids=lambda each: each.name)
def test_every_command_says_what_it_is_for_in_a_sentence(command: Command) -> None:
    assert command.summary[0].isupper()
    assert command.summary.endswith((".", ":"))
    for names, text in command.options:
        assert text[0].isupper(), names


@pytest.mark.parametrize("command", LEAVES, ids=lambda each: each.name)
def test_what_changes_something_can_say_so_beforehand(command: Command) -> None:
    asked = "--dry-run" in words(command)
    assert asked == (named(command) not in ONLY_LOOKS | NO_DRY_RUN.keys())


@pytest.mark.parametrize(
    "command", [each for each in LEAVES if named(each) in ONLY_LOOKS], ids=lambda each: each.name
)
def test_what_is_looked_at_can_be_had_as_json(command: Command) -> None:
    assert ("--json" in words(command)) == (named(command) not in NO_JSON)


@pytest.mark.parametrize("letter", ["-f", "-h", "-v"])
def test_a_letter_means_one_thing(letter: str) -> None:
    meanings = {
        (names, text)
        for command in ALL
        for names, text in command.options
        if letter in names.split(", ")
    }
    assert len(meanings) == 1


def test_the_list_of_commands_is_as_their_own_help(shop: Shop) -> None:
    out = shop("--help").out
    for name, text in (COMMANDS | OF_PLUGINS).items():
        assert f"  {name}" in out
        assert text.endswith(".")


@pytest.mark.parametrize("command", LEAVES, ids=lambda each: each.name)
def test_a_word_too_much_is_64_and_says_where_help_is(command: Command, shop: Shop) -> None:
    if command.words == ("hook",):
        return  # every word is an address
    done = shop(*command.words, "--no-such-option")
    assert done.status == 64
    assert f"{command.name} -h" in done.err.replace("--help", "-h")
    assert done.out == ""
