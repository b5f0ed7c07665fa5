"""`mailflow completion`: what a shell offers when somebody presses the tab key.

The real shells are asked, each in the way its own line editor asks.
"""

from __future__ import annotations

import os
import subprocess
from collections.abc import Callable

import pytest

from .command import COMMAND, HOOK, MAIL, Shop
from .test_journal import held

BASH = """\
eval "$(mailflow completion bash)"
read -ra COMP_WORDS <<< "$LINE"
[[ $LINE == *" " ]] && COMP_WORDS+=("")
COMP_CWORD=$(( ${#COMP_WORDS[@]} - 1 ))
compopt() { echo "compopt $*"; }
_mailflow_completion mailflow
printf '%s\\n' "${COMPREPLY[@]}"
"""

FISH = "mailflow completion fish | source; complete --do-complete $LINE"

ZSH = """\
autoload -U compinit && compinit -u -D
eval "$(mailflow completion zsh)"
compadd() { shift 4; print -l -- ${(P)1}; }
_describe() { print -l -- ${(P)3%%:*}; }
_path_files() { print "files"; }
commands[mailflow]=1
words=(${(s: :)LINE})
[[ $LINE == *" " ]] && words+=("")
CURRENT=${#words}
_mailflow_completion
"""

SCRIPTS = {
    "bash": ["bash", "--norc", "-c", BASH],
    "fish": ["fish", "--no-config", "-c", FISH],
    "zsh": ["zsh", "-f", "-c", ZSH],
}


@pytest.fixture(
    params=[
        "bash",
        pytest.param("fish", marks=pytest.mark.interop("fish")),
        pytest.param("zsh", marks=pytest.mark.interop("zsh")),
    ]
)
def offered(request: pytest.FixtureRequest, shop: Shop) -> Callable[[str], list[str]]:
    """What that shell offers at the end of a line."""
    program = SCRIPTS[request.param]

    def complete(line: str) -> list[str]:
        path = f"{os.path.dirname(COMMAND)}:{os.defpath}"
        done = subprocess.run(
            program,
            env=shop.environment({"LINE": line, "PATH": path, "LC_ALL": "C.UTF-8"}),
            cwd=shop.home, capture_output=True, text=True, timeout=60, check=False,
        )  # fmt: skip
        assert done.stderr == ""
        return [line.partition("\t")[0] for line in done.stdout.splitlines() if line]

    return complete


def test_commands(offered: Callable[[str], list[str]]) -> None:
    assert offered("mailflow ru") == ["run"]
    assert {"check", "completion"} <= set(offered("mailflow c"))


def test_commands_of_a_group_and_their_options(offered: Callable[[str], list[str]]) -> None:
    assert set(offered("mailflow journal ")) == {"backup", "check", "restore"}
    assert offered("mailflow journal backup --dr") == ["--dry-run"]


def test_pipelines_here_and_where_they_are_found(
    offered: Callable[[str], list[str]], shop: Shop
) -> None:
    shop.write(HOOK)
    (shop.home / "notes.txt").write_text("")
    (shop.home / ".config/mailflow").mkdir(parents=True)
    (shop.home / ".config/mailflow/green.toml").write_text("")
    assert set(offered("mailflow run ")) == {"red.toml", "green"}
    assert offered("mailflow check gr") == ["green"]


def test_ids_of_mail_that_waits(offered: Callable[[str], list[str]], shop: Shop) -> None:
    held(shop, MAIL, MAIL)
    known = [str(row[0]) for row in shop.rows("SELECT id FROM mail ORDER BY id DESC")]
    assert set(offered("mailflow queue show ")) == set(known)
    assert offered(f"mailflow queue drop {known[0]}") == known[:1]
    assert offered(f"mailflow trace {known[0][:-1]}") == known[:1]


def test_plugins_and_components(offered: Callable[[str], list[str]]) -> None:
    assert set(offered("mailflow plugins list")) == {"list", "list.post"}


def test_a_file_that_is_no_pipeline_is_left_to_the_shell(shop: Shop) -> None:
    done = shop(
        "-v", env={"_MAILFLOW_COMPLETE": "bash_complete", "COMP_WORDS": "mailflow run dir/x",
                   "COMP_CWORD": "2"},
    )  # fmt: skip
    assert done == (0, "file,dir/x\n", "")


def test_a_name_with_spaces_is_quoted_for_bash(shop: Shop) -> None:
    (shop.home / "my list.toml").write_text("")
    done = shop(
        "-v", env={"_MAILFLOW_COMPLETE": "bash_complete", "COMP_WORDS": "mailflow run my",
                   "COMP_CWORD": "2"},
    )  # fmt: skip
    assert done == (0, "plain,my\\ list.toml\n", "")


def test_a_completion_that_fails_is_none(shop: Shop) -> None:
    shop.write("no toml")
    done = shop("-v", env={
        "_MAILFLOW_COMPLETE": "bash_complete", "COMP_CWORD": "5",
        "COMP_WORDS": "mailflow queue show --file red.toml ",
    })  # fmt: skip
    assert (done.status, done.out.strip(), done.err) == (0, "", "")


def test_an_unknown_command_is_no_error_in_the_middle_of_a_line(shop: Shop) -> None:
    done = shop("-v", env={
        "_MAILFLOW_COMPLETE": "bash_complete", "COMP_CWORD": "2", "COMP_WORDS": "mailflow nosuch ",
    })  # fmt: skip
    assert (done.status, done.err) == (0, "")


def test_another_shell_is_64(shop: Shop) -> None:
    assert shop("completion", "tcsh").status == 64
