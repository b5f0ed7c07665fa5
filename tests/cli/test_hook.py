"""`mailflow hook`: one message on stdin, and an exit status that is the truth (C6)."""

from __future__ import annotations

import os
import pty
import resource
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from mailflow.testing.smtp import STALL, SmtpSink

from .command import HOOK, MAIL, Shop

SMTP = """
[[fetch]]
use = "stdin"
sender = "ann@example.org"
[[distribute]]
use = "smtp"
host = "127.0.0.1"
port = {port}
tls = "none"
"""

TOY = '''
import os, signal, time
from mailflow import hookimpl, Options, Hold, Reject, Discard
from mailflow.options import Text

class ToyOptions(Options):
    act = Text("What it does.")

class Toy:
    """A step that does as it is told."""
    options = ToyOptions
    pure = True

    def __init__(self, options, runtime):
        self.act = options.act

    def process(self, mail, context):
        if self.act == "die": os.kill(os.getpid(), signal.SIGKILL)
        if self.act == "raise": raise ZeroDivisionError("a bug")
        if self.act == "exit": raise SystemExit(0)
        if self.act == "print": print("chatter")
        if self.act == "wait":
            open(os.environ["INSIDE"], "w").close()
            while not os.path.exists(os.environ["GO"]): time.sleep(0.005)
        yield {"reject": Reject("not for us"), "hold": Hold("for olga"),
               "discard": Discard("an echo")}.get(self.act, mail)

@hookimpl
def mailflow_register(register):
    register.processor(Toy)
'''


def with_toy(shop: Shop, act: str, text: str = HOOK, **words: object) -> str:
    shop.plugin("toy", TOY)
    return shop.write(f'[[process]]\nuse = "toy"\nact = "{act}"\n{text}', **words)


def await_(condition: Callable[[], object]) -> None:
    deadline = time.monotonic() + 20
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.005)


def test_0_and_silence_when_the_mail_is_in_the_maildir(shop: Shop) -> None:
    assert shop("hook", shop.write(HOOK), stdin=MAIL) == (0, "", "")
    assert shop.maildir == [MAIL]


def test_options_of_the_program_may_stand_before_it(shop: Shop) -> None:
    assert shop("-v", "hook", shop.write(HOOK), stdin=MAIL).status == 0
    assert shop.maildir == [MAIL]


def test_arguments_are_the_recipients(shop: Shop) -> None:
    with SmtpSink() as sink:
        file = shop.write(SMTP, port=sink.port)
        done = shop("hook", file, "bob@example.org", "cleo@example.org", stdin=MAIL)
        assert done == (0, "", "")
        assert sink.messages[0].recipients == ("bob@example.org", "cleo@example.org")


class TestTheMtaTriesAgain:
    """75, whatever is wrong with what we were given or where we live."""

    def refused(self, shop: Shop, *arguments: str, said: str, stdin: bytes = MAIL) -> None:
        done = shop("hook", *arguments, stdin=stdin)
        assert done.status == 75
        assert done.out == ""
        assert said in done.err
        assert all(line.startswith("mailflow: ") for line in done.err.splitlines())

    def test_no_arguments(self, shop: Shop) -> None:
        assert shop("hook").status == 75

    def test_no_such_file(self, shop: Shop) -> None:
        self.refused(shop, "/nowhere.toml", said="/nowhere.toml: cannot be read: No such file")

    def test_a_file_that_is_no_toml(self, shop: Shop) -> None:
        self.refused(shop, shop.write("[[fetch"), said="red.toml:4: not TOML")

    def test_an_unknown_key(self, shop: Shop) -> None:
        self.refused(shop, shop.write(HOOK + "paht = 1\n"), said="did you mean `path`?")

    def test_a_plugin_that_is_not_there(self, shop: Shop) -> None:
        self.refused(shop, shop.write(HOOK.replace("maildir", "maildri")), said="maildri")

    def test_a_plugin_that_cannot_be_imported(self, shop: Shop) -> None:
        shop.plugin("toy", "import a_module_that_is_not_there")
        file = shop.write('[[process]]\nuse = "toy"\n' + HOOK)
        self.refused(shop, file, said="`toy` (mailflow-toy) cannot be loaded: ModuleNotFoundError")

    def test_a_plugin_that_exits(self, shop: Shop) -> None:
        shop.plugin("toy", "raise SystemExit(0)")
        file = shop.write('[[process]]\nuse = "toy"\n' + HOOK)
        self.refused(shop, file, said="SystemExit")

    def test_no_fetch_step_that_takes_stdin(self, shop: Shop) -> None:
        text = """
        [[fetch]]
        use = "pop3"
        host = "127.0.0.1"
        tls = "none"
        user = "red"
        password = "x"
        [[distribute]]
        use = "maildir"
        path = "{home}/Maildir"
        """
        file = shop.write(text)
        os.chmod(file, 0o600)
        self.refused(shop, file, said='add use = "stdin"')

    def test_c06_an_empty_message(self, shop: Shop) -> None:
        self.refused(shop, shop.write(HOOK), stdin=b"", said="stdin is empty")

    def test_c06_stdin_closed(self, shop: Shop) -> None:
        shop.write(HOOK)
        done = shop.shell(f"exec $mailflow hook {shop.file} <&-")
        assert done.status == 75
        assert "stdin is closed" in done.err

    def test_c06_stdin_a_terminal(self, shop: Shop) -> None:
        ours, theirs = pty.openpty()
        child = shop.start("hook", shop.write(HOOK), stdin=theirs)
        done = shop.end(child)
        os.close(ours)
        os.close(theirs)
        assert done.status == 75
        assert "stdin is a terminal" in done.err

    def test_an_address_that_cannot_be_one(self, shop: Shop) -> None:
        self.refused(shop, shop.write(HOOK), "a b\nc@x", said="command line")

    def test_a_journal_that_is_none(self, shop: Shop) -> None:
        shop.journal.write_bytes(b"dear diary\n" * 100)
        self.refused(shop, shop.write(HOOK), said="damaged or no journal")

    def test_a_disk_that_is_full(self, shop: Shop) -> None:
        """The journal's and the Maildir's: nothing may be written beyond 20 kB."""

        def limit() -> None:
            signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
            resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, 20_000))

        file = shop.write(HOOK)
        done = shop("hook", file, stdin=MAIL + b"x" * 60_000, preexec_fn=limit)
        assert done.status == 75
        assert len(done.err.splitlines()) >= 1
        assert shop.maildir == []
        done = shop("hook", file, stdin=MAIL + b"x" * 60_000)
        assert done.status == 0
        assert len(shop.maildir) == 1

    def test_everything_closed_but_stdin(self, shop: Shop) -> None:
        shop.write("[[fetch")
        done = shop.shell(f"exec $mailflow hook {shop.file} >&- 2>&-", stdin=MAIL)
        assert done.status == 75
        shop.write(HOOK)
        done = shop.shell(f"exec $mailflow hook {shop.file} >&- 2>&-", stdin=MAIL)
        assert done.status == 0
        assert shop.maildir == [MAIL]

    def test_help_and_no_file_without_a_stdout(self, shop: Shop) -> None:
        assert shop.shell("exec $mailflow hook --help >&-") == (0, "", "")
        done = shop.shell("exec $mailflow hook >&-")
        assert done == (75, "", "mailflow: hook: which FILE? `mailflow hook --help` says more\n")

    def test_stderr_full(self, shop: Shop) -> None:
        shop.write("[[fetch")
        assert shop.shell(f"exec $mailflow hook {shop.file} 2>/dev/full", stdin=MAIL).status == 75


class TestDurableAllTheSame:
    """0, since the journal has it: deliveries that cannot be done wait for the next run."""

    def test_a_maildir_that_cannot_be_made(self, shop: Shop) -> None:
        (shop.home / "Maildir").write_text("a file")
        file = shop.write(HOOK + "[[react]]\nuse = 'react.log'\n")
        done = shop("hook", file, stdin=MAIL)
        assert done.status == 0
        assert "Not a directory" in done.err
        assert shop.rows("SELECT state FROM delivery") == [("due",)]
        (shop.home / "Maildir").unlink()
        shop.change("UPDATE delivery SET due = 0")
        assert shop("run", file).status == 0
        assert shop.maildir == [MAIL]

    def test_a_step_that_raises(self, shop: Shop) -> None:
        assert shop("hook", with_toy(shop, "raise"), stdin=MAIL).status == 0
        assert shop.rows("SELECT state, reason FROM copy") == [
            ("held", "step toy: ZeroDivisionError: a bug")
        ]

    def test_a_step_that_ends_the_program(self, shop: Shop) -> None:
        assert shop("hook", with_toy(shop, "exit"), stdin=MAIL).status == 0
        assert shop.rows("SELECT state, reason FROM copy") == [("held", "step toy: SystemExit: 0")]

    def test_a_hold(self, shop: Shop) -> None:
        assert shop("hook", with_toy(shop, "hold"), stdin=MAIL) == (0, "", "")
        assert shop.rows("SELECT state, reason FROM copy") == [("held", "for olga")]

    def test_a_discard(self, shop: Shop) -> None:
        assert shop("hook", with_toy(shop, "discard"), stdin=MAIL) == (0, "", "")
        assert shop.maildir == []
        assert shop.rows("SELECT state FROM mail") == [("done",)]

    def test_a_server_that_is_down(self, shop: Shop) -> None:
        done = shop("hook", shop.write(SMTP, port=1), "bob@example.org", stdin=MAIL)
        assert done.status == 0
        assert shop.rows("SELECT state FROM delivery") == [("due",)]

    def test_a_server_that_is_silent_is_left_after_linger(self, shop: Shop) -> None:
        with SmtpSink() as sink:
            sink.on("CONNECT", STALL)
            file = shop.write('linger = "300ms"\n' + SMTP, port=sink.port)
            began = time.monotonic()
            done = shop("hook", file, "bob@example.org", stdin=MAIL)
            assert done.status == 0
            assert time.monotonic() - began < 10
        with SmtpSink() as sink:
            shop.write(SMTP, port=sink.port)
            assert shop("run", file).status == 0
            assert len(sink.messages) == 1

    def test_what_a_step_prints_is_no_answer(self, shop: Shop) -> None:
        done = shop("hook", with_toy(shop, "print"), stdin=MAIL)
        assert done.status == 0
        assert shop.maildir == [MAIL]


class TestReject:
    def test_77_and_the_reason_and_nothing_is_kept(self, shop: Shop) -> None:
        done = shop("hook", with_toy(shop, "reject"), stdin=MAIL)
        assert done == (77, "", "mailflow: not for us\n")
        assert shop.rows("SELECT state, open FROM mail") == [("done", None)]
        assert shop.rows("SELECT count(*) FROM body") == [(0,)]
        assert shop("queue", "list", "--json").out == "[]\n"

    def test_where_a_reactor_takes_it_over_it_is_taken(self, shop: Shop) -> None:
        file = with_toy(shop, "reject", HOOK + "[[react]]\nuse = 'react.hold'\n")
        assert shop("hook", file, stdin=MAIL).status == 0
        assert shop.rows("SELECT state FROM copy") == [("held",)]

    def test_where_refuses_as_well(self, shop: Shop) -> None:
        file = shop.write(HOOK.replace('"stdin"\n', '"stdin"\nwhere = \'subject is "two"\'\n'))
        done = shop("hook", file, stdin=MAIL)
        assert done.status == 77
        assert "`where` does not hold" in done.err

    def test_a_second_try_of_the_same_message_is_refused_as_well(self, shop: Shop) -> None:
        file = with_toy(shop, "reject")
        for _ in range(2):
            assert shop("hook", file, stdin=MAIL).status == 77


class TestEqualMessages:
    def test_behind_a_closed_row_it_is_new_mail(self, shop: Shop) -> None:
        file = shop.write(HOOK)
        for _ in range(3):
            assert shop("hook", file, stdin=MAIL).status == 0
        assert shop.maildir == [MAIL] * 3

    def test_behind_the_open_row_of_a_dead_process_it_is_the_same_mail(self, shop: Shop) -> None:
        shop.plugin("toy", TOY)
        text = '[[process]]\nuse = "toy"\nact = "{act}"\n' + HOOK
        assert shop("hook", shop.write(text, act="die"), stdin=MAIL).status == -9
        assert shop("hook", shop.write(text, act="pass"), stdin=MAIL).status == 0
        assert shop.maildir == [MAIL]
        assert shop.rows("SELECT count(*) FROM mail") == [(1,)]
        assert shop("hook", shop.file, stdin=MAIL).status == 0
        assert len(shop.maildir) == 2

    def test_also_the_common_way(self, shop: Shop) -> None:
        shop.plugin("toy", TOY)
        text = '[[process]]\nuse = "toy"\nact = "{act}"\n' + SMTP
        with SmtpSink() as sink:
            file = shop.write(text, act="die", port=sink.port)
            assert shop("hook", file, "bob@example.org", stdin=MAIL).status == -9
            shop.write(text, act="pass", port=sink.port)
            for count in (1, 2):
                assert shop("hook", file, "bob@example.org", stdin=MAIL).status == 0
                assert len(sink.messages) == count
        assert shop.rows("SELECT count(*) FROM mail") == [(2,)]

    def test_after_a_run_has_delivered_it_the_retry_is_answered_and_not_delivered(
        self, shop: Shop
    ) -> None:
        shop.plugin("toy", TOY)
        text = '[[process]]\nuse = "toy"\nact = "{act}"\n' + SMTP
        with SmtpSink() as sink:
            file = shop.write(text, act="die", port=sink.port)
            assert shop("hook", file, "bob@example.org", stdin=MAIL).status == -9
            shop.write(text, act="pass", port=sink.port)
            assert shop("run", file).status == 0
            assert len(sink.messages) == 1
            assert shop("hook", file, "bob@example.org", stdin=MAIL).status == 0
            assert len(sink.messages) == 1

    def test_behind_a_living_process_it_is_new_mail(self, shop: Shop, tmp_path: Path) -> None:
        shop.plugin("toy", TOY)
        text = '[[process]]\nuse = "toy"\nact = "{act}"\n' + HOOK
        env = {"INSIDE": str(tmp_path / "inside"), "GO": str(tmp_path / "go")}
        child = shop.start("hook", shop.write(text, act="wait"), env=env)
        child.stdin.write(MAIL)
        child.stdin.close()
        child.stdin = None
        await_((tmp_path / "inside").exists)
        assert shop("hook", shop.write(text, act="pass"), stdin=MAIL).status == 0
        (tmp_path / "go").touch()
        assert shop.end(child).status == 0
        assert shop.maildir == [MAIL] * 2

    def test_with_another_envelope_it_is_another_mail(self, shop: Shop) -> None:
        shop.plugin("toy", TOY)
        text = '[[process]]\nuse = "toy"\nact = "{act}"\n' + HOOK
        assert shop("hook", shop.write(text, act="die"), "a@x.org", stdin=MAIL).status == -9
        assert shop("hook", shop.write(text, act="pass"), "b@x.org", stdin=MAIL).status == 0
        assert shop.rows("SELECT count(*) FROM mail") == [(2,)]

    def test_three_deaths_hold_it_and_the_mta_has_its_answer(self, shop: Shop) -> None:
        file = with_toy(shop, "die")
        for _ in range(3):
            assert shop("hook", file, stdin=MAIL).status == -9
        assert shop("hook", file, stdin=MAIL).status == 0
        assert shop.rows("SELECT state FROM copy") == [("held",)]
        assert shop.maildir == []

    def test_what_no_mta_tries_again_is_ended_with_the_history(self, shop: Shop) -> None:
        file = with_toy(shop, "die")
        assert shop("hook", file, stdin=MAIL).status == -9
        shop("run", file)
        assert "intent" in shop("queue", "list").out
        shop.change("UPDATE mail SET arrived = arrived - 31 * 86400")
        shop("run", file)
        assert shop("queue", "list", "--json").out == "[]\n"
        ((mail,),) = shop.rows("SELECT id FROM mail")
        assert "did not try again" in shop("trace", mail).out
        with_toy(shop, "pass")
        assert shop("hook", file, stdin=MAIL).status == 0  # and if it does, it is new mail
        assert shop.maildir == [MAIL]

    def test_a_run_between_two_deaths_does_not_count_twice(self, shop: Shop) -> None:
        file = with_toy(shop, "die")
        for _ in range(2):
            assert shop("hook", file, stdin=MAIL).status == -9
            shop("run", file)
        with_toy(shop, "pass")
        assert shop("hook", file, stdin=MAIL).status == 0
        assert shop.maildir == [MAIL]

    def test_many_equal_ones_at_once_are_all_delivered(self, shop: Shop) -> None:
        """None is taken for another's retry while that one ends."""
        file = shop.write(HOOK)
        children = [shop.start("hook", file) for _ in range(10)]
        for child in children:
            child.stdin.write(MAIL)
            child.stdin.close()
            child.stdin = None
        assert [shop.end(child).status for child in children] == [0] * 10
        assert len(shop.maildir) == 10


class TestSignals:
    def test_c06_sigterm_while_reading_leaves_it_to_the_mta(self, shop: Shop) -> None:
        child = shop.start("hook", shop.write(HOOK))
        child.stdin.write(MAIL)
        child.stdin.flush()
        await_(shop.journal.exists)
        time.sleep(0.1)
        child.send_signal(signal.SIGTERM)
        assert child.wait(10) == 75
        child.stdin.close()
        child.stdin = None
        assert "stopped on request" in shop.end(child).err
        assert shop.maildir == []

    def test_sigterm_while_delivering_ends_with_the_truth(self, shop: Shop) -> None:
        with SmtpSink() as sink:
            sink.on("MAIL", STALL)
            child = shop.start("hook", shop.write(SMTP, port=sink.port), "bob@example.org")
            child.stdin.write(MAIL)
            child.stdin.close()
            child.stdin = None
            await_(lambda: any("MAIL" in command for command in sink.commands))
            child.send_signal(signal.SIGTERM)
            began = time.monotonic()
            assert shop.end(child).status == 0
            assert time.monotonic() - began < 10
        assert shop.rows("SELECT state, attempt FROM delivery") == [("due", 0)]
        assert shop.rows("SELECT owner, open, working FROM mail") == [(None, None, 0)]


def test_50_at_once_on_one_journal_that_is_not_there_yet(shop: Shop) -> None:
    file = shop.write(HOOK)
    mails = [MAIL.replace(b"one", b"m%02d" % number) for number in range(50)]
    children = [shop.start("hook", file) for _ in mails]
    for child, mail in zip(children, mails, strict=True):
        child.stdin.write(mail)
        child.stdin.close()
        child.stdin = None
    assert [shop.end(child) for child in children] == [(0, "", "")] * 50
    assert sorted(shop.maildir) == mails


BUDGET = (
    "asyncio click dataclasses email imapclient importlib.metadata inspect json logging pluggy"
    " requests rich smtplib ssl structlog subprocess typing bs4 lxml mailflow_webmail urllib3"
)


def test_the_import_budget(shop: Shop) -> None:
    """One message on its way from stdin to a Maildir loads nothing heavy."""
    program = f"""
import os, sys
def tell(status):
    heavy = {BUDGET!r}.split()
    found = [name for name in sys.modules if name in heavy or name.partition(".")[0] in heavy]
    os.write(2, " ".join(sorted(found)).encode())
    leave(status)
leave, os._exit = os._exit, tell
sys.argv = ["mailflow", "hook", {shop.write(HOOK)!r}]
from mailflow.__main__ import main
main()
"""
    done = subprocess.run(
        [sys.executable, "-I", "-c", program], input=MAIL, capture_output=True, check=False,
        env=shop.environment(),
    )  # fmt: skip
    assert (done.returncode, done.stdout, done.stderr) == (0, b"", b"")
    assert shop.maildir == [MAIL]


@pytest.mark.parametrize(
    "octets",
    [b"\xff\xfe\0h\0i\0", b"no header at all", b"Subject: x\n\n" + b"\0" * 1000,
     b"Subject: " + b"y" * 3_000_000 + b"\n\nlong line\n", b"Subject: x\n\n" + b"z" * 20_000_000],
    ids=["utf-16", "no header", "nul", "3 MB of subject", "20 MB"],
)  # fmt: skip
def test_f11_whatever_the_octets_they_are_kept(shop: Shop, octets: bytes) -> None:
    assert shop("hook", shop.write(HOOK), stdin=octets) == (0, "", "")
    assert shop.maildir == [octets]
    assert not list((shop.home / "journal.db.d").glob("*/stdin*"))


def test_c07_umask_0_no_home_no_directory_no_locale(shop: Shop, tmp_path: Path) -> None:
    gone = tmp_path / "gone"
    script = (
        f"mkdir {gone}; cd {gone}; rmdir {gone}; umask 0; unset HOME;"
        f" LC_ALL=C exec $mailflow hook {shop.file}"
    )
    shop.write(HOOK)
    os.chmod(shop.file, 0o600)
    done = shop.shell(script, stdin=MAIL)
    assert done == (0, "", "")
    assert shop.maildir == [MAIL]
    modes = {
        path: path.stat().st_mode & 0o777
        for path in [shop.journal, *shop.home.glob("Maildir/**/*"), *shop.home.glob("journal*")]
    }
    assert {str(path): oct(mode) for path, mode in modes.items() if mode & 0o077} == {}
