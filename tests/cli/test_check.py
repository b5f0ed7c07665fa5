"""`mailflow check` and `mailflow plugins`: what a file does, what there is to write in one."""

from __future__ import annotations

import json
import os
import shlex
import shutil

from mailflow.engine.registry import BUILT_IN

from .command import FETCH, HOOK, MAIL, Shop

SMTP = """
[[fetch]]
use = "stdin"
[[distribute]]
use = "smtp"
host = "127.0.0.1"
tls = "none"
"""

SERVE = """
[maildrop.ann]
use = "spool"
secret = { env = "PATH" }
[[serve]]
use = "pop3"
"""


class TestCheck:
    def test_the_steps_in_order_the_journal_and_the_way(self, shop: Shop) -> None:
        done = shop("check", shop.write(HOOK))
        assert (done.status, done.err) == (0, "")
        assert done.out.splitlines() == [
            f"{shop.file}: in order",
            "  fetch       stdin",
            "  distribute  maildir",
            f"  journal     {shop.journal}",
            "  way         deliver first: every step can be repeated, so no body is written twice",
        ]

    def test_what_a_file_serves_and_no_journal_where_it_delivers_nothing(self, shop: Shop) -> None:
        done = shop("check", shop.write(SERVE))
        assert (done.status, done.err) == (0, "")
        assert done.out.splitlines() == [
            f"{shop.file}: in order",
            "  maildrop    ann (spool)",
            "  serve       pop3",
        ]

    def test_why_a_pipeline_goes_the_common_way(self, shop: Shop) -> None:
        done = shop("check", shop.write(SMTP))
        assert "way         journal first: distribute.smtp cannot be repeated" in done.out

    def test_names_beside_components(self, shop: Shop) -> None:
        done = shop("check", shop.write(HOOK.replace('"maildir"', '"maildir"\nname = "archive"')))
        assert "  distribute  archive (maildir)" in done.out

    def test_every_fault_has_its_line(self, shop: Shop) -> None:
        shop.write(HOOK + 'paht = "x"\n[[react]]\nuse = "retry"\n')
        done = shop("check", shop.file)
        assert (done.status, done.out) == (78, "")
        lines = done.err.splitlines()
        assert len(lines) == 2
        assert lines[0].startswith(f"mailflow: {shop.file}:10: distribute[1].paht: unknown key")
        assert "react[1].use" in lines[1]

    def test_it_makes_nothing_and_asks_nobody(self, shop: Shop) -> None:
        shop("check", shop.write(FETCH, port=1, secret=shop.secret()))
        assert sorted(path.name for path in shop.home.iterdir()) == ["red.toml", "secret"]

    def test_a_secret_that_cannot_be_had_is_a_fault(self, shop: Shop) -> None:
        file = shop.write(FETCH, port=1, secret='{ file = "~/nowhere" }')
        done = shop("check", file)
        assert done.status == 78
        assert "nowhere" in done.err

    def test_a_literal_secret_is_a_warning(self, shop: Shop) -> None:
        file = shop.write(FETCH, port=1, secret='"x"')
        shop.path.chmod(0o600)
        done = shop("check", file)
        assert done.status == 0
        assert "warning" in done.err
        assert "in order" in done.out

    def test_several_files(self, shop: Shop) -> None:
        other = shop.home / "blue.toml"
        other.write_text(HOOK.replace("{home}", str(shop.home)))
        done = shop("check", shop.write(HOOK), str(other))
        assert done.out.count(": in order") == 2


class TestPlugins:
    def test_every_component_on_a_line(self, shop: Shop) -> None:
        done = shop("plugins")
        assert (done.status, done.err) == (0, "")
        heads = {line.split()[0] for line in done.out.splitlines()[1:]}
        assert {name.partition(".")[0] for name in heads} == set(BUILT_IN)

    def test_one_plugin_with_its_options(self, shop: Shop) -> None:
        out = shop("plugins", "maildir").out
        assert "maildir, a distributor:" in out
        assert "  path: " in out
        assert "required" in out

    def test_the_shape_of_the_json(self, shop: Shop) -> None:
        entries = json.loads(shop("plugins", "--json", "maildir").out)
        (entry,) = [each for each in entries if each["kind"] == "distributor"]
        assert {"use", "kind", "distribution", "fault", "summary", "options"} == entry.keys()
        assert entry["options"]["path"]["required"] is True
        assert entry["options"]["create"] == {
            "type": "boolean", "required": False, "default": True,
            "description": entry["options"]["create"]["description"],
        }  # fmt: skip

    def test_every_default_can_be_told(self, shop: Shop) -> None:
        for entry in json.loads(shop("plugins", "--json").out):
            for name, option in entry["options"].items():
                assert " object at 0x" not in str(option["default"]), (entry["use"], name)
        assert " object at 0x" not in shop("plugins", "pop3").out

    def test_a_plugin_that_cannot_be_loaded_is_an_error_where_it_is_asked_for(
        self, shop: Shop
    ) -> None:
        shop.plugin("toy", "import a_module_that_is_not_there")
        done = shop("plugins", "toy")
        assert (done.status, done.out) == (78, "")
        assert done.err.startswith("mailflow: plugin `toy` (mailflow-toy) cannot be loaded: ")
        assert done.err.count("\n") == 1
        assert shop("plugins").status == 0

    def test_a_default_is_told_as_the_file_would_say_it(self, shop: Shop) -> None:
        out = shop("plugins", "react.retry").out
        assert 'default ["1m", "5m", "30m", "2h"]' in out
        assert 'default "5d"' in out
        assert "permanent: true or false; default false" in out

    def test_a_step_to_copy_stands_below_the_options(self, shop: Shop) -> None:
        out = shop("plugins", "maildir").out
        assert '\n\n    [[distribute]]\n    use = "maildir"\n    path = "~/Maildir"\n' in out

    def test_what_has_no_default_is_optional(self, shop: Shop) -> None:
        out = shop("plugins", "pop3").out + shop("plugins", "maildir").out
        assert "None" not in out
        assert "Pattern(" not in out
        assert "  ca_file: a path; optional" in out

    def test_an_unknown_one_is_78_with_a_hint(self, shop: Shop) -> None:
        done = shop("plugins", "maildri")
        assert (done.status, done.out) == (78, "")
        assert "did you mean `maildir`?" in done.err

    def test_a_third_partys_plugin_is_one_like_ours(self, shop: Shop) -> None:
        shop.plugin("pigeon", PIGEON)
        assert "pigeon" in shop("plugins").out
        assert "speed" in shop("plugins", "pigeon").out

    def test_a_broken_one_is_a_line_and_hides_no_other(self, shop: Shop) -> None:
        shop.plugin("pigeon", "import no_such_thing")
        done = shop("plugins")
        assert done.status == 0
        assert "no_such_thing" in done.out
        assert "maildir" in done.out


PIGEON = '''
from mailflow import hookimpl, Options
from mailflow.options import Integer

class PigeonOptions(Options):
    speed = Integer("Metres a second.", default=20)

class Pigeon:
    """Carries mail."""
    options = PigeonOptions
    pure = True
    def __init__(self, options, runtime): ...
    def process(self, mail, context): yield mail

@hookimpl
def mailflow_register(register):
    register.processor(Pigeon)
'''


def test_help_names_every_command(shop: Shop) -> None:
    done = shop("--help")
    assert done.status == 0
    for command in ("run", "hook", "check", "trace", "queue", "plugins", "demo"):
        assert f"  {command} " in done.out
        assert shop(command, "--help").status == 0


def test_an_unknown_command_is_64_with_a_hint(shop: Shop) -> None:
    done = shop("chekc")
    assert done.status == 64
    assert "did you mean `check`?" in done.err


def test_the_version(shop: Shop) -> None:
    from mailflow import __version__

    assert shop("--version").out == f"mailflow {__version__}\n"


def test_a_pipe_that_is_closed_ends_it_quietly(shop: Shop) -> None:
    done = shop.shell("$mailflow plugins | head -n 1")
    assert done.status == 0
    assert done.err == ""
    assert len(done.out.splitlines()) == 1


def test_a_full_stdout_is_74(shop: Shop) -> None:
    done = shop.shell("exec $mailflow plugins >/dev/full")
    assert done.status == 74
    assert done.err == "mailflow: cannot write to stdout: No space left on device\n"


def test_letters_that_the_language_lacks_are_written_as_their_numbers(shop: Shop) -> None:
    shop.write(HOOK)
    odd = os.fsencode(shop.home) + b"/caf\xc3\xa9-\xff.toml"
    shutil.copy(shop.file, odd)
    done = shop("check", os.fsdecode(odd), env={"PYTHONIOENCODING": "latin-1:strict"})
    assert done.status == 0, done.err
    assert "-\\udcff.toml: in order" in done.out
    where = shlex.quote(os.fsdecode(odd))
    script = os.fsencode(f"exec $mailflow check {where} >&-")
    assert shop.shell(script, env={"LC_ALL": "C"}) == (0, "", "")


def test_a_question_that_stdin_does_not_answer_says_so(shop: Shop) -> None:
    done = shop("queue", "drop", "--all", stdin=b"")
    assert (done.status, done.err) == (0, "")
    shop.write('[[process]]\nuse = "filter.hold"\n' + HOOK)
    assert shop("hook", shop.file, stdin=MAIL).status == 0
    done = shop("queue", "drop", "--all", stdin=b"")
    assert done.status == 64
    assert done.err.endswith("\nmailflow: stdin ended before it answered\n")


def test_c07_a_closed_stdout_and_another_language(shop: Shop) -> None:
    shop.write(HOOK)
    for command in (f"check {shop.file}", "queue list", "plugins", "queue list --json"):
        assert shop.shell(f"LC_ALL=C exec $mailflow {command} >&-") == (0, "", "")
        assert shop.shell(f"LC_ALL=POSIX exec $mailflow {command}").status == 0


def test_a_closed_stdin_is_nobody_to_ask_and_no_message(shop: Shop) -> None:
    for command, status, said in (
        ("copy maildir:nowhere maildir:here", 75, "no Maildir at"),
        ("webmail login roundcube https://127.0.0.1:1/", 64, "who logs in? say --user NAME"),
        ("mail insert 'imap://a@127.0.0.1:1?password_env=HOME'", 65, "stdin is empty"),
        ("maildrop hash", 64, "the password is empty"),
    ):
        done = shop.shell(f"exec $mailflow {command} <&-")
        assert (done.status, said in done.err) == (status, True), done.err


def test_what_is_wrong_with_an_expression_is_marked_wherever_one_is_given(shop: Shop) -> None:
    words = {
        "--where": (
            ("queue", "list", "--where"), ("mail", "list", "imap://a@h?password_env=HOME", "-w"),
            ("copy", "maildir:a", "maildir:b", "--where"),
        ),
        "EXPR": (("query", "explain"),),
    }  # fmt: skip
    for hint, commands in words.items():
        for command in commands:
            done = shop(*command, "from ix")
            assert done.status == 64
            assert f"{hint}: expected `is`, " in done.err
            assert done.err.endswith("\n    from ix\n         ^^\n"), done.err
