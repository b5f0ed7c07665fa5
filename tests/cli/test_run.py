"""`mailflow run`: exit statuses by sysexits(3), one line each, and an orderly end."""

from __future__ import annotations

import os
import resource
import signal
import subprocess
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from mailflow.testing.pop3 import Faults, Pop3Server
from mailflow.testing.smtp import STALL, SmtpSink

from .command import CANARY, COMMAND, FETCH, HOOK, MAIL, Shop, pop3

POST = MAIL.replace(b"\n", b"\r\n")

SEND = """
[[fetch]]
use = "pop3"
host = "127.0.0.1"
port = {port}
tls = "none"
user = "red"
password = {secret}
keep = "0d"
start = "all"
[[process]]
use = "toy"
[[distribute]]
use = "smtp"
host = "127.0.0.1"
port = {smtp}
tls = "none"
"""

TOY = """
from mailflow import Envelope, Options, hookimpl

class Toy:
    options = Options
    pure = True

    def __init__(self, options, runtime):
        pass

    def process(self, mail, context):
        yield mail.replace(envelope=Envelope("ann@example.org", ("bob@example.org",)))

@hookimpl
def mailflow_register(register):
    register.processor(Toy)
"""


def await_(condition: Callable[[], object]) -> None:
    deadline = time.monotonic() + 20
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.005)


def test_0_and_silence_when_all_is_done(shop: Shop) -> None:
    with pop3(POST, POST) as server:
        file = shop.write(FETCH, port=server.port, secret=shop.secret())
        assert shop("run", file) == (0, "", "")
        assert shop.maildir == [MAIL, MAIL]
        assert server.messages("red") == []
        assert shop("run", file) == (0, "", "")


def test_verbose_says_what_is_done(shop: Shop) -> None:
    with pop3(POST) as server:
        file = shop.write(FETCH, port=server.port, secret=shop.secret())
        said = shop("-vv", "run", file)
        assert said.status == 0
        assert said.out == ""
        assert "session ended" in said.err
        assert len(said.err.splitlines()) > 1


def test_log_lines_as_json(shop: Shop) -> None:
    import json

    with pop3(POST) as server:
        file = shop.write(FETCH, port=server.port, secret=shop.secret())
        said = shop("-vv", "--log-json", "run", file)
        lines = [json.loads(line) for line in said.err.splitlines()]
        assert all({"event", "level", "timestamp"} <= line.keys() for line in lines)


class TestStatus:
    def ends(self, shop: Shop, status: int, said: str, *files: str) -> None:
        done = shop("run", *(files or (shop.file,)))
        assert (done.status, done.out) == (status, "")
        assert said in done.err

    def test_64_without_a_file(self, shop: Shop) -> None:
        done = shop("run")
        assert done.status == 64
        assert "FILE" in done.err

    def test_78_for_a_fault_in_the_file_and_nothing_is_started(self, shop: Shop) -> None:
        with pop3(POST) as server:
            shop.write(FETCH + "colour = 1\n", port=server.port, secret=shop.secret())
            self.ends(shop, 78, "red.toml:")
            assert server.connections == 0

    def test_78_for_every_fault_of_every_file_at_once(self, shop: Shop) -> None:
        other = shop.home / "blue.toml"
        other.write_text("[[fetch]]\n")
        shop.write(FETCH.replace('user = "red"', "usr = 1"), port=1, secret=shop.secret())
        done = shop("run", shop.file, str(other))
        assert done.status == 78
        assert "red.toml" in done.err
        assert "blue.toml" in done.err

    def test_75_for_a_server_that_is_down(self, shop: Shop) -> None:
        shop.write(FETCH, port=1, secret=shop.secret())
        self.ends(shop, 75, "127.0.0.1:1")

    def test_77_for_a_wrong_password_and_then_it_rests(self, shop: Shop) -> None:
        with pop3(POST) as server:
            secret = shop.secret(value="wrong-" + CANARY)
            shop.write(FETCH, port=server.port, secret=secret)
            self.ends(shop, 77, "fetch failed")
            self.ends(shop, 75, "")
            assert server.connections == 1
            assert shop("run", "--now", shop.file).status == 77
            assert server.connections == 2

    def test_a_delivery_that_waits_is_tried_now_and_no_other_pipeline_s(self, shop: Shop) -> None:
        shop.write(HOOK)
        (shop.home / "Maildir").write_text("in the way")
        assert shop("hook", shop.file, stdin=MAIL).status == 0
        assert shop("run", "--now", shop.file).status == 75
        due = shop.rows("SELECT due, attempt FROM delivery")
        assert shop("run", shop.file).status == 0
        assert shop.rows("SELECT due, attempt FROM delivery") == due
        shop.change("UPDATE mail SET pipeline = 'other'")
        assert shop("run", "--now", shop.file).status == 0
        assert shop.rows("SELECT due, attempt FROM delivery") == due
        shop.change("UPDATE mail SET pipeline = 'red'")
        (shop.home / "Maildir").unlink()
        assert shop("run", "--now", shop.file).status == 0
        assert len(shop.maildir) == 1

    def test_76_for_a_server_that_speaks_another_protocol(self, shop: Shop) -> None:
        with pop3(POST) as server:
            server.faults = Faults(answers={"": b"220 mail.example.org ESMTP\r\n"})
            shop.write(FETCH, port=server.port, secret=shop.secret())
            self.ends(shop, 76, "fetch failed")

    def test_78_for_a_full_mailbox_that_would_all_be_sent(self, shop: Shop) -> None:
        shop.plugin("toy", TOY)
        with pop3(*[POST] * 101) as server:
            text = SEND.replace('start = "all"\n', "")
            shop.write(text, port=server.port, secret=shop.secret(), smtp=1)
            self.ends(shop, 78, 'add start = "all" to send them, or start = "new"')
            assert len(server.messages("red")) == 101

    def test_69_for_a_recipient_refused_for_good_where_nobody_decides(self, shop: Shop) -> None:
        shop.plugin("toy", TOY)
        with pop3(POST) as server, SmtpSink() as sink:
            sink.on("RCPT", "550 5.1.1 no such user")
            shop.write(SEND, port=server.port, secret=shop.secret(), smtp=sink.port)
            self.ends(shop, 69, "no such user")
            assert shop.rows("SELECT state FROM delivery") == [("held",)]
            assert shop("run", shop.file) == (0, "", "")

    def test_74_for_a_journal_that_is_none(self, shop: Shop) -> None:
        with pop3(POST) as server:
            shop.write(FETCH, port=server.port, secret=shop.secret())
            shop.journal.write_bytes(b"dear diary\n" * 100)
            self.ends(shop, 74, "damaged or no journal")
            assert len(server.messages("red")) == 1

    def test_one_pipeline_that_cannot_start_does_not_stop_the_other(self, shop: Shop) -> None:
        with pop3(POST) as server:
            shop.write(FETCH, port=server.port, secret=shop.secret())
            bad = shop.home / "bad.toml"
            bad.write_text(f'[pipeline]\njournal = "{shop.home}"\n' + HOOK.replace("{home}", "."))
            done = shop("run", str(bad), shop.file)
            assert done.status == 74
            assert "pipeline not started" in done.err
            assert shop.maildir == [MAIL]

    def test_a_permanent_status_counts_more_than_75(self, shop: Shop) -> None:
        down = shop.home / "down.toml"
        with pop3(POST) as server:
            secret = shop.secret(value="wrong-" + CANARY)
            shop.write(FETCH, port=1, secret=secret)
            down.write_text(shop.path.read_text().replace('"red"', '"down"', 1))
            shop.write(FETCH, port=server.port, secret=secret)
            assert shop("run", str(down), shop.file).status == 77

    def test_d01_a_full_disk_leaves_the_mail_at_its_source(self, shop: Shop) -> None:
        def limit() -> None:
            signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
            resource.setrlimit(resource.RLIMIT_FSIZE, (150_000, 150_000))

        large = POST + b"x" * 400_000 + b"\r\n"
        with pop3(POST, large, POST) as server:
            file = shop.write(FETCH, port=server.port, secret=shop.secret())
            done = shop("run", file, preexec_fn=limit)
            assert done.status in (74, 75)
            assert len(server.messages("red")) >= 1
            assert shop("run", "--now", file).status == 0
            assert sorted(map(len, shop.maildir)) == sorted([len(MAIL)] * 2 + [len(MAIL) + 400_001])
            assert server.messages("red") == []


def test_c05_a_plugin_that_is_broken_is_named_and_harms_nobody(shop: Shop) -> None:
    shop.plugin("toy", "import no_such_module")
    shop.write('[[process]]\nuse = "toy"\n' + HOOK)
    done = shop("run", shop.file)
    assert done.status == 78
    assert "mailflow-toy" in done.err
    assert shop("plugins").status == 0


class TestSigterm:
    def terminate(self, shop: Shop, child: subprocess.Popen[bytes]) -> tuple[int, float]:
        began = time.monotonic()
        child.send_signal(signal.SIGTERM)
        done = shop.end(child)
        return done.status, time.monotonic() - began

    def test_while_a_server_is_silent(self, shop: Shop) -> None:
        with pop3(POST) as server:
            server.faults = Faults(stall_at=10)
            file = shop.write(FETCH, port=server.port, secret=shop.secret())
            child = shop.start("run", file)
            await_(lambda: server.connections)
            time.sleep(0.2)
            status, seconds = self.terminate(shop, child)
            assert seconds < 10
            assert status in (0, 75)
            server.faults = Faults()
            assert shop("run", "--now", file).status == 0
            assert shop.maildir == [MAIL]

    def test_between_many_mails_nothing_is_lost_or_doubled(self, shop: Shop) -> None:
        mails = [POST.replace(b"one", b"m%04d" % number) for number in range(400)]
        with pop3(*mails) as server:
            file = shop.write(FETCH, port=server.port, secret=shop.secret())
            child = shop.start("run", file)
            await_(lambda: any(shop.home.glob("Maildir/new/*")))
            _, seconds = self.terminate(shop, child)
            assert seconds < 10
            assert shop("run", "--now", file).status == 0
            assert server.messages("red") == []
        assert sorted(shop.maildir) == sorted(mail.replace(b"\r\n", b"\n") for mail in mails)

    def test_while_an_answer_to_mail_is_due_nothing_is_in_doubt(self, shop: Shop) -> None:
        shop.plugin("toy", TOY)
        with pop3(POST, POST) as server, SmtpSink() as sink:
            sink.on("MAIL", STALL)
            file = shop.write(SEND, port=server.port, secret=shop.secret(), smtp=sink.port)
            child = shop.start("run", file)
            await_(lambda: any("MAIL" in command for command in sink.commands))
            status, seconds = self.terminate(shop, child)
            assert seconds < 10
            assert status == 0
            assert shop.rows("SELECT state, attempt, doubt FROM delivery") == [("due", 0, 0)] * 2
            assert shop.rows("SELECT owner, working, crashes FROM mail") == [(None, 0, 0)] * 2
            with SmtpSink() as other:
                shop.write(SEND, port=server.port, secret=shop.secret(), smtp=other.port)
                assert shop("run", "--now", file).status == 0
                assert len(other.messages) == 2


def test_a_mailbox_that_another_run_is_at_work_on_is_left_with_0(shop: Shop) -> None:
    with pop3(POST) as server:
        server.faults = Faults(stall_at=200)
        file = shop.write(FETCH, port=server.port, secret=shop.secret())
        child = shop.start("run", file)
        await_(lambda: server.connections)
        time.sleep(0.2)
        assert shop("run", "--now", file) == (0, "", "")
        assert server.connections == 1
        child.kill()
        child.communicate()


class TestSurroundings:
    def test_c07_umask_0_no_home_no_directory_no_locale_no_stdout(
        self, shop: Shop, tmp_path: Path
    ) -> None:
        gone = tmp_path / "gone"
        with pop3(POST) as server:
            file = shop.write(FETCH, port=server.port, secret=shop.secret())
            done = shop.shell(
                f"mkdir {gone}; cd {gone}; rmdir {gone}; umask 0; unset HOME;"
                f" LC_ALL=C exec $mailflow run {file} >&-"
            )
            assert done == (0, "", "")
        assert shop.maildir == [MAIL]
        made = [*shop.home.glob("journal.db*"), *shop.home.glob("Maildir/**/*"),
                *shop.home.glob("state/**/*")]  # fmt: skip
        assert [
            path for path in made if path.lstat().st_mode & 0o077 and not path.is_symlink()
        ] == []

    def test_c07_a_user_without_a_home_that_can_be_written(self, shop: Shop) -> None:
        with pop3(POST) as server:
            file = shop.write(FETCH, port=server.port, secret=shop.secret())
            nowhere = {"HOME": "/proc/nonexistent", "XDG_STATE_HOME": "/proc/nonexistent"}
            assert shop("run", file, env=nowhere) == (0, "", "")
        assert shop.maildir == [MAIL]

    @pytest.mark.parametrize("where", ["/dev/full", "&-"])
    def test_c07_a_stderr_that_takes_nothing_changes_no_status(
        self, shop: Shop, where: str
    ) -> None:
        shop.write(FETCH, port=1, secret=shop.secret())
        assert shop.shell(f"exec $mailflow run {shop.file} 2>{where}").status == 75
        assert shop.shell(f"exec $mailflow run /nowhere 2>{where}").status == 78
        assert shop.shell(f"exec $mailflow nonsense 2>{where}").status == 64

    def test_c07_odd_bytes_in_names_and_messages(self, shop: Shop) -> None:
        odd = POST.replace(b"one", b"caf\xe9 \x1b[31m \xe2\x80\xae")
        with pop3(odd) as server:
            file = shop.write(FETCH, port=server.port, secret=shop.secret())
            path = os.path.join(os.fsencode(shop.home), b"caf\xe9.toml")
            with open(path, "w") as copy:
                copy.write(shop.path.read_text())
            done = subprocess.run(
                [COMMAND, "-vv", "run", path], env=shop.environment({"LC_ALL": "C"}),
                capture_output=True, check=False,
            )  # fmt: skip
            assert (done.returncode, file) == (0, shop.file)
            assert b"\x1b" not in done.stderr
        assert shop.maildir == [odd.replace(b"\r\n", b"\n")]


def test_c02_the_password_is_in_no_output_and_no_file(shop: Shop) -> None:
    """The server repeats it, the log is as wordy as can be; Shop looks at all output."""
    with Pop3Server({"red": "other"}, {"red": [POST]}) as server:
        server.faults = Faults(
            answers={"PASS": b"-ERR no such password: " + CANARY.encode() + b"\r\n"}
        )
        file = shop.write(FETCH, port=server.port, secret=shop.secret())
        assert shop("-vv", "run", file).status == 77
        assert shop("-vv", "--log-json", "run", "--now", file).status == 77
        for arguments in (
            ("check", file),
            ("queue", "list", "--json"),
            ("plugins", "pop3"),
            ("--help",),
        ):
            assert shop(*arguments).status == 0
    for path in shop.home.rglob("*"):
        if path.is_file() and path.name != "secret":
            assert CANARY.encode() not in path.read_bytes(), path


def test_c02_a_literal_password_is_in_no_output_either(shop: Shop) -> None:
    file = shop.write(FETCH, port=1, secret=f'"{CANARY}"')
    os.chmod(file, 0o600)
    for arguments in (("-vv", "run", file), ("check", file), ("-vv", "run", "--now", file)):
        shop(*arguments)
    os.chmod(file, 0o644)
    os.chmod(shop.home, 0o755)
    os.chmod(shop.root, 0o755)
    shop("run", file)
    file = shop.write(FETCH + "colour = 1", port=1, secret=f'"{CANARY}')
    assert shop("run", file).status == 78
