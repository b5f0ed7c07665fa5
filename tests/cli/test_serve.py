"""`mailflow serve` as a process: it fetches, delivers and serves until it is told to end."""

from __future__ import annotations

import json
import os
import pwd
import re
import signal
import socket
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest

from ..engine.standing import eventually
from . import parrot
from .command import CANARY, MAIL, Done, Shop

BOX = """
[[fetch]]
use = "maildir"
path = "{home}/in"
[[distribute]]
use = "maildir"
path = "{home}/Maildir"
"""
SERVE = """
[[serve]]
use = "parrot"
port = {port}
"""
DROP = """
[maildrop.ann]
use = "parrot"
secret = {secret}
"""
Begin = Callable[..., "Serving"]


def open_python() -> str | None:
    """A Python that any user may run: ours, or the system's where it is new enough."""
    for each in (sys.executable, "/usr/bin/python3"):
        path = Path(each).resolve()
        if path.exists() and all(one.stat().st_mode & 0o001 for one in path.parents):
            new = "import sys; sys.exit(sys.version_info < (3, 11))"
            if subprocess.run([each, "-c", new], check=False).returncode == 0:
                return each
    return None


class Serving:
    """The command `serve`, running in a shop."""

    def __init__(
        self,
        shop: Shop,
        *words: str,
        python: str | None = None,
        env: Mapping[str, str] = {},
        **more: Any,
    ) -> None:
        self.shop = shop
        if python is None:
            self.child = shop.start("serve", *words, env=env, **more)
        else:
            self.child = subprocess.Popen(
                [python, "-m", "mailflow", "serve", *words], env=shop.environment(env),
                cwd=shop.home, stdin=subprocess.DEVNULL, stderr=subprocess.PIPE,
            )  # fmt: skip

    def signal(self, number: int) -> None:
        self.child.send_signal(number)

    def ended(self) -> Done:
        """How it has ended by itself."""
        return self.shop.end(self.child)

    def end(self) -> Done:
        """Stop it in order; what it has said."""
        if self.child.poll() is None:
            self.signal(signal.SIGTERM)
        return self.shop.end(self.child)


@pytest.fixture
def begin(shop: Shop) -> Iterator[Begin]:
    """Start `mailflow serve WORDS`; whatever still runs in the end is killed."""
    begun: list[Serving] = []

    def start(*words: str, **more: Any) -> Serving:
        begun.append(Serving(shop, *words, **more))
        return begun[-1]

    yield start
    for each in begun:
        if each.child.poll() is None:
            each.child.kill()
            each.child.communicate()


@pytest.fixture
def port(shop: Shop) -> int:
    """Where the service of the test listens; its plugin is installed."""
    shop.plugin("parrot", parrot.PLUGIN)
    return parrot.free_port()


def drop(shop: Shop, name: str = "1.a", mail: bytes = MAIL, box: str = "in") -> None:
    """Mail comes into a Maildir of the shop."""
    for part in ("tmp", "new", "cur"):
        (shop.home / box / part).mkdir(parents=True, exist_ok=True)
    path = shop.home / box / "tmp" / name
    path.write_bytes(mail)
    path.rename(shop.home / box / "new" / name)


def another(number: int) -> bytes:
    """Another mail."""
    return MAIL.replace(b"<1@x>", b"<%d@y>" % number)


def told(shop: Shop) -> dict[str, Any]:
    """What `mailflow status --json` says of the one installation that runs."""

    def ask() -> Any:
        return json.loads(shop("status", "--json").out)["installations"]

    (installation,) = eventually(ask, "the installation")
    found: dict[str, Any] = installation
    return found


def sources(shop: Shop) -> dict[str, Any]:
    """The sources of the one pipeline, by step; {} as long as there is none."""
    pipelines = told(shop)["pipelines"]
    return {each["step"]: each for one in pipelines for each in one["sources"]}


class TestRunning:
    def test_pwm_24_what_comes_while_it_runs_is_delivered(self, shop: Shop, begin: Begin) -> None:
        drop(shop)
        serving = begin(shop.write(BOX))
        eventually(lambda: len(shop.maildir) == 1, "the first mail")
        drop(shop, "2.b", another(2))
        eventually(lambda: len(shop.maildir) == 2, "the second mail")
        assert serving.end() == (0, "", "")

    @pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
    def test_a_signal_ends_it_in_order(self, shop: Shop, begin: Begin, number: int) -> None:
        drop(shop)
        serving = begin(shop.write(BOX))
        eventually(lambda: shop.maildir)
        serving.signal(number)
        assert shop.end(serving.child) == (0, "", "")
        assert not list(Path(f"{shop.journal}.d").glob("*/lock"))
        assert not list((shop.home / "state/mailflow/run").iterdir())

    def test_pwm_14_the_sources_are_opened_at_the_start_and_kept(
        self, shop: Shop, begin: Begin
    ) -> None:
        second = BOX.replace('use = "maildir"\npath = "{home}/in"',
                             'use = "maildir"\nname = "more"\npath = "{home}/more"')  # fmt: skip
        drop(shop)
        drop(shop, box="more")
        begin(shop.write(BOX + second.partition("[[distribute]]")[0]))
        assert set(sources(shop)) == {"maildir", "more"}
        eventually(lambda: all(each["worked_at"] for each in sources(shop).values()))

    def test_a_fault_of_a_file_is_told_before_anything_is_begun(
        self, shop: Shop, begin: Begin
    ) -> None:
        drop(shop)
        done = begin(shop.write(BOX.replace("path", "pth", 1))).ended()
        assert done.status == 78
        assert "fetch[1].pth: unknown key; did you mean `path`?" in done.err
        assert not shop.maildir

    def test_a_login_name_that_two_files_have_is_a_fault(
        self, shop: Shop, begin: Begin, port: int
    ) -> None:
        shop.write(SERVE + DROP, port=port, secret=shop.secret())
        other = shop.home / "other.toml"
        other.write_text(shop.path.read_text().replace('name = "red"', 'name = "blue"'))
        done = begin(shop.file, str(other)).ended()
        assert done.status == 78
        assert "maildrop.ann" in done.err
        assert "has this login name too" in done.err

    def test_offline_fetches_what_is_poked_alone(self, shop: Shop, begin: Begin) -> None:
        drop(shop)
        begin("--offline", shop.write(BOX))
        eventually(lambda: sources(shop)["maildir"]["state"] == "off")
        assert not shop.maildir
        assert shop("poke", "maildir") == (0, "", "")
        eventually(lambda: shop.maildir)

    def test_two_installations_on_one_mailbox_keep_out_of_each_others_way(
        self, shop: Shop, begin: Begin
    ) -> None:
        drop(shop)
        file = shop.write(BOX)
        both = begin(file), begin(file)
        eventually(lambda: len(json.loads(shop("status", "--json").out)["installations"]) == 2)
        for number in range(2, 8):
            drop(shop, f"{number}.x", another(number))
        eventually(lambda: len(shop.maildir) >= 7)
        for each in both:
            assert each.end().status == 0
        assert len(shop.maildir) == 7


class TestServices:
    def test_clients_are_served_by_the_maildrops_of_the_file(
        self, shop: Shop, begin: Begin, port: int
    ) -> None:
        begin(shop.write(SERVE + DROP, port=port, secret=shop.secret()))
        assert parrot.ask(port, f"who ann {CANARY}") == "ann"
        assert parrot.ask(port, "who ann guess").startswith("LoginError")

    def test_an_address_that_is_taken_is_told_and_nothing_is_begun(
        self, shop: Shop, begin: Begin, port: int
    ) -> None:
        drop(shop)
        with socket.create_server(("127.0.0.1", port)):
            done = begin(shop.write(BOX + SERVE, port=port)).ended()
        assert done.status != 0
        assert "in use" in done.err
        assert not shop.maildir

    @pytest.mark.parametrize("workers", [0, 1])
    def test_a_service_that_fails_is_called_again(
        self, shop: Shop, begin: Begin, port: int, workers: int
    ) -> None:
        serving = begin(shop.write(SERVE + f"workers = {workers}", port=port))
        assert parrot.ask(port, "raise") == "as you like"
        assert parrot.ask(port, "say") == "hello"
        assert "service failed: parrot: ValueError: a bug" in serving.end().err

    def test_a_service_may_poke_a_source_and_ask_how_things_stand(
        self, shop: Shop, begin: Begin, port: int
    ) -> None:
        drop(shop)
        box = BOX.replace('path = "{home}/in"', 'path = "{home}/in"\nauto = "no"')
        begin(shop.write(box + SERVE, port=port))
        eventually(lambda: sources(shop))
        assert "drops" in parrot.ask(port, "status")
        assert parrot.ask(port, "poke nobody").startswith("ConfigError there is no source")
        assert parrot.ask(port, "poke maildir") == "None"
        eventually(lambda: shop.maildir)

    def test_status_says_what_lies_in_a_drop_and_who_is_served(
        self, shop: Shop, begin: Begin, port: int
    ) -> None:
        begin(shop.write(SERVE + DROP, port=port, secret=shop.secret()))
        line = parrot.Line(port) if parrot.ask(port, "say") else None
        eventually(lambda: told(shop)["services"][0]["sessions"] == 2)
        assert told(shop)["drops"] == [
            {"drop": "ann", "messages": 3, "octets": 4711, "sessions": 2}
        ]
        service = told(shop)["services"][0]
        assert (service["service"], service["ready"], service["said"]) == (
            "parrot", True, {"taken": 2},
        )  # fmt: skip
        out = shop("status").out
        assert "ann   3         4711    2" in out
        assert "parrot   ready  2" in out
        assert line is not None
        line.close()


class TestWorkers:
    def test_they_share_the_clients_of_one_address(
        self, shop: Shop, begin: Begin, port: int
    ) -> None:
        serving = begin(shop.write(SERVE + "workers = 2", port=port))
        pids: set[str] = set()
        eventually(lambda: pids.add(parrot.ask(port, "pid")) or len(pids) == 2)
        assert str(serving.child.pid) not in pids
        assert sorted(told(shop)["services"][0]["workers"]) == sorted(map(int, pids))

    def test_one_that_is_killed_is_replaced(self, shop: Shop, begin: Begin, port: int) -> None:
        serving = begin(shop.write(SERVE + "workers = 1", port=port))
        first = int(parrot.ask(port, "pid"))
        os.kill(first, signal.SIGKILL)
        assert int(parrot.ask(port, "pid")) != first
        assert "worker ended: was ended by SIGKILL" in serving.end().err

    def test_one_that_ends_by_itself_is_replaced(self, shop: Shop, begin: Begin, port: int) -> None:
        serving = begin(shop.write(SERVE + "workers = 1", port=port))
        first = parrot.ask(port, "pid")
        parrot.ask(port, "die")
        assert parrot.ask(port, "pid") != first
        assert "ended with status 9" in serving.end().err

    def test_one_that_is_replaced_sees_the_files_as_its_parent_does(
        self, shop: Shop, begin: Begin, port: int
    ) -> None:
        begin(shop.write(SERVE + "workers = 1", port=port))
        first = int(parrot.ask(port, "pid"))
        shop.write("[nonsense]")
        os.kill(first, signal.SIGKILL)
        assert int(parrot.ask(port, "pid")) != first

    def test_they_end_with_the_program_even_if_it_is_killed(
        self, shop: Shop, begin: Begin, port: int
    ) -> None:
        serving = begin(shop.write(SERVE + "workers = 2", port=port))
        pids: set[str] = set()
        eventually(lambda: pids.add(parrot.ask(port, "pid")) or len(pids) == 2)
        serving.child.kill()
        eventually(lambda: not any(_runs(int(pid)) for pid in pids), "the end of the workers")

    def test_they_read_the_files_for_the_accounts_and_poke_and_ask_through_their_parent(
        self, shop: Shop, begin: Begin, port: int
    ) -> None:
        drop(shop)
        box = BOX.replace('path = "{home}/in"', 'path = "{home}/in"\nauto = "no"')
        text = box + SERVE + "workers = 1" + DROP
        begin(shop.write(text, port=port, secret=shop.secret()))
        assert parrot.ask(port, f"who ann {CANARY}") == "ann"
        assert "drops" in parrot.ask(port, "status")
        eventually(lambda: sources(shop))
        assert parrot.ask(port, "poke nobody").startswith("ConfigError there is no source")
        assert parrot.ask(port, "poke maildir") == "None"
        eventually(lambda: shop.maildir)
        eventually(lambda: told(shop)["services"][0]["sessions"] >= 3)

    def test_no_list_of_processes_shows_more_than_that_they_are_workers(
        self, shop: Shop, begin: Begin, port: int
    ) -> None:
        begin(shop.write(SERVE + "workers = 1" + DROP, port=port, secret=shop.secret()))
        pid = parrot.ask(port, "pid")
        words = Path(f"/proc/{pid}/cmdline").read_text().split("\0")
        assert words[1:4] == ["-P", "-m", "mailflow.engine.worker"]
        assert words[4].isdecimal()
        assert words[5:] == [""]
        assert CANARY not in Path(f"/proc/{pid}/environ").read_text()


def _runs(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


@pytest.mark.parametrize("workers", [0, 1])
class TestReload:
    @pytest.fixture
    def text(self, shop: Shop, port: int, workers: int) -> str:
        words = f"{SERVE}workers = {workers}\n".replace("{port}", str(port))
        drop(shop)
        return words + DROP.replace("{secret}", shop.secret())

    @pytest.mark.parametrize("way", ["command", "signal"])
    def test_another_account_is_let_in_and_no_session_is_ended(
        self, shop: Shop, begin: Begin, port: int, text: str, way: str
    ) -> None:
        serving = begin(shop.write(text))
        assert parrot.ask(port, f"who bob {CANARY}").startswith("LoginError")
        line = parrot.Line(port)
        assert line.ask("say") == "hello"
        shop.write(text + text[text.index("[maildrop") :].replace("ann", "bob"))
        if way == "command":
            assert shop("reload") == (0, "maildrops changed\n", "")
            assert parrot.ask(port, f"who bob {CANARY}") == "bob"
        else:
            serving.signal(signal.SIGHUP)
            eventually(lambda: parrot.ask(port, f"who bob {CANARY}") == "bob")
        assert line.ask("say") == "hello"
        line.close()
        assert serving.end().status == 0

    def test_a_faulty_file_changes_nothing_and_says_so(
        self, shop: Shop, begin: Begin, port: int, text: str
    ) -> None:
        serving = begin(shop.write(text + BOX))
        eventually(lambda: shop.maildir)
        shop.write(text + BOX + "[nonsense]\n")
        done = shop("reload")
        assert done.status == 78
        assert "nonsense" in done.err
        assert parrot.ask(port, f"who ann {CANARY}") == "ann"
        drop(shop, "2.b", another(2))
        eventually(lambda: len(shop.maildir) == 2)
        said = serving.end().err
        assert "not reloaded; all is as before" in said
        assert "nonsense" in said

    def test_a_pipeline_that_has_changed_is_begun_anew_and_another_is_left_alone(
        self, shop: Shop, begin: Begin, port: int, text: str
    ) -> None:
        begin(shop.write(text + BOX))
        eventually(lambda: shop.maildir)
        shop.write(text + BOX.replace("{home}/Maildir", "{home}/Other"))
        assert shop("reload", "--dry-run").out == (
            "pipeline red would end\npipeline red would begin\n"
        )
        assert shop("reload").out == "pipeline red ended\npipeline red begun\n"
        assert shop("reload").out == "nothing has changed\n"
        drop(shop, "2.b", another(2))
        eventually(lambda: list(shop.home.glob("Other/new/*")))
        assert len(shop.maildir) == 1

    def test_a_service_comes_and_goes_and_a_change_of_one_waits(
        self, shop: Shop, begin: Begin, port: int, text: str
    ) -> None:
        begin(shop.write(text))
        assert parrot.ask(port, "say") == "hello"
        other = parrot.free_port()
        second = f'[[serve]]\nuse = "parrot"\nname = "second"\nport = {other}\n'
        first = text.partition("[maildrop")[0]
        shop.write(first + 'word = "bye"\n' + second)
        out = shop("reload").out
        assert "service second begun" in out
        assert "service parrot: its changes wait for the next start" in out
        assert "maildrops changed" in out
        assert parrot.ask(other, "say") == "hello"
        assert parrot.ask(port, "say") == "hello"
        shop.write(first)
        assert "service second ended" in shop("reload").out
        with pytest.raises(OSError, match="refused"):
            parrot.Line(other)
        assert parrot.ask(port, "say") == "hello"


class TestCommands:
    @pytest.mark.parametrize("words", [("poke", "x"), ("reload",), ("reload", "--dry-run")])
    def test_where_nothing_runs_they_say_so(self, shop: Shop, words: tuple[str, ...]) -> None:
        done = shop(*words)
        assert done.status == 75
        assert done.err == "mailflow: nothing runs here; `mailflow serve FILE` starts it\n"

    def test_a_source_that_is_not_there_is_said_with_those_that_are(
        self, shop: Shop, begin: Begin
    ) -> None:
        drop(shop)
        begin(shop.write(BOX))
        eventually(lambda: sources(shop))
        done = shop("poke", "x")
        assert done.status == 78
        assert done.err == "mailflow: there is no source 'x' here; there is maildir\n"
        for word in ("maildir", "red/maildir", str(shop.home / "in")):
            assert shop("poke", word).status == 0

    def test_poke_dry_run_fetches_nothing(self, shop: Shop, begin: Begin) -> None:
        drop(shop)
        begin("--offline", shop.write(BOX))
        eventually(lambda: sources(shop)["maildir"]["state"] == "off")
        assert shop("poke", "--dry-run", "maildir").out == "would fetch from maildir now\n"
        assert not shop.maildir

    def test_status_says_what_each_source_does(self, shop: Shop, begin: Begin) -> None:
        drop(shop)
        begin(shop.write(BOX))
        eventually(lambda: sources(shop)["maildir"]["state"] == "listening")
        source = sources(shop)["maildir"]
        assert source["fetched"] == 1
        assert source["octets"] == len(MAIL.replace(b"\n", b"\r\n"))
        assert (source["failures"], source["error"], source["alarm"]) == (0, "", None)
        assert source["worked_at"] > told(shop)["started"] - 1
        out = shop("status").out
        process = rf"running for [\dms ]+ as process {told(shop)['pid']}: {re.escape(shop.file)}\n"
        assert re.search(process, out)
        assert "red       maildir  listening  in" in out

    def test_an_alarm_is_told_and_waits_for_a_human(self, shop: Shop, begin: Begin) -> None:
        fetch = f"""
[[fetch]]
use = "pop3"
host = "127.0.0.1"
port = {parrot.free_port()}
tls = "none"
user = "red"
password = {shop.secret()}
alarm_after = "0s"
"""
        serving = begin(shop.write(fetch + BOX))
        eventually(lambda: sources(shop)["pop3"]["alarm"])
        done = shop("status")
        assert done.status == 1
        assert "alarm: red@127.0.0.1 has not worked for" in serving.end().err


class TestManager:
    @pytest.fixture
    def notified(self, shop: Shop) -> Iterator[tuple[dict[str, str], Callable[[], str]]]:
        """The environment that systemd gives, and all that it was told so far."""
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sock:
            path = str(shop.root / "notify")
            sock.bind(path)
            sock.setblocking(False)
            said: list[str] = []

            def heard() -> str:
                while True:
                    try:
                        said.append(sock.recv(4096).decode())
                    except BlockingIOError:
                        return "\n".join(said)

            yield {"NOTIFY_SOCKET": path, "WATCHDOG_USEC": "300000"}, heard

    def test_it_is_told_of_the_start_a_reload_and_the_end(
        self, shop: Shop, begin: Begin, port: int, notified: Any
    ) -> None:
        environment, heard = notified
        serving = begin(shop.write(SERVE, port=port), env=environment)
        eventually(lambda: "READY=1" in heard())
        assert parrot.ask(port, "say") == "hello"
        assert shop("reload").status == 0
        assert "RELOADING=1\nMONOTONIC_USEC=" in heard()
        assert heard().rindex("READY=1") > heard().rindex("RELOADING=1")
        serving.end()
        assert "STOPPING=1" in heard()

    def test_the_watchdog_is_told_that_it_lives(
        self, shop: Shop, begin: Begin, port: int, notified: Any
    ) -> None:
        environment, heard = notified
        begin(shop.write(SERVE, port=port), env=environment)
        eventually(lambda: heard().count("WATCHDOG=1") >= 3)

    def test_a_program_that_it_starts_does_not_inherit_the_manager(
        self, shop: Shop, begin: Begin, port: int, notified: Any
    ) -> None:
        environment, _ = notified
        begin(shop.write(SERVE + "workers = 1", port=port), env=environment)
        pid = parrot.ask(port, "pid")
        assert "NOTIFY_SOCKET" not in Path(f"/proc/{pid}/environ").read_text()


EAR = """
import json, os
from mailflow import hookimpl

@hookimpl
def mailflow_register(register):
    pass

@hookimpl
def mailflow_event(event, facts):
    with open(os.environ["EVENTS"], "a") as file:
        print(json.dumps([event, facts]), file=file)
"""


def test_listeners_hear_of_the_start_a_reload_and_the_end(
    shop: Shop, begin: Begin, port: int
) -> None:
    shop.plugin("ear", EAR)
    events = shop.root / "events"
    file = shop.write('plugins = ["ear"]\n' + SERVE, port=port)
    serving = begin(file, env={"EVENTS": str(events)})
    assert parrot.ask(port, "raise") == "as you like"
    assert parrot.ask(port, "say") == "hello"
    assert shop("reload").status == 0
    serving.end()
    told = dict(json.loads(line) for line in events.read_text().splitlines())
    assert list(told) == ["serve.started", "service.failed", "serve.reloaded", "serve.ended"]
    assert told["service.failed"]["error"] == "parrot: ValueError: a bug"


class TestProcess:
    def test_p3s_15_the_pid_file_holds_its_number_as_long_as_it_runs(
        self, shop: Shop, begin: Begin
    ) -> None:
        drop(shop)
        path = shop.root / "mailflow.pid"
        serving = begin("--pid-file", str(path), shop.write(BOX))
        eventually(lambda: shop.maildir)
        assert path.read_text() == f"{serving.child.pid}\n"
        second = begin("--pid-file", str(path), shop.file).ended()
        assert second.status == 75
        assert "belongs to an installation that runs" in second.err
        assert path.read_text() == f"{serving.child.pid}\n"
        assert serving.end().status == 0
        assert not path.exists()

    def test_a_pid_file_that_a_crash_has_left_is_used_again(self, shop: Shop, begin: Begin) -> None:
        drop(shop)
        path = shop.root / "mailflow.pid"
        path.write_text("99999999\n")
        serving = begin("--pid-file", str(path), shop.write(BOX))
        eventually(lambda: shop.maildir)
        assert path.read_text() == f"{serving.child.pid}\n"

    def test_a_file_that_is_no_pid_file_is_left_as_it_is(self, shop: Shop, begin: Begin) -> None:
        path = shop.root / "precious"
        path.write_text("my thesis\n")
        done = begin("--pid-file", str(path), shop.write(BOX)).ended()
        assert done.status == 78
        assert path.read_text() == "my thesis\n"

    @pytest.mark.skipif(os.geteuid() != 0, reason="only root can become somebody else")
    @pytest.mark.skipif(open_python() is None, reason="there is no Python but root's own")
    def test_p3s_15_root_binds_and_becomes_the_user_for_good(
        self, shop: Shop, begin: Begin
    ) -> None:
        shop.plugin("parrot", parrot.PLUGIN)
        port = next(each for each in range(700, 1000) if _is_free(each))
        nobody = pwd.getpwnam("nobody")
        with tempfile.TemporaryDirectory() as place:
            os.chown(place, nobody.pw_uid, nobody.pw_gid)
            shop.path.write_text(
                f'[pipeline]\njournal = "{place}/j.db"\n' + SERVE.replace("{port}", str(port))
            )
            modules = os.pathsep.join([str(shop.site), *filter(None, sys.path)])
            env = {"RUNTIME_DIRECTORY": place, "PYTHONPATH": modules}
            serving = begin("--user", "nobody", shop.file, env=env, python=open_python())
            uid = parrot.ask(port, "uid")
            status = Path(f"/proc/{serving.child.pid}/status").read_text()
            assert list(Path(place).glob("*.control"))
            done = serving.end()
        assert (uid, done.status) == (str(nobody.pw_uid), 0)
        for name, number in (("Uid", nobody.pw_uid), ("Gid", nobody.pw_gid)):
            (line,) = [each for each in status.splitlines() if each.startswith(f"{name}:")]
            assert line.split()[1:] == [str(number)] * 4
        assert f"Groups:\t{nobody.pw_gid} " in status

    def test_a_user_that_is_not_there_is_a_fault(self, shop: Shop, begin: Begin) -> None:
        done = begin("--user", "no-such-user", shop.write(BOX)).ended()
        assert done.status == 78
        assert "there is no user 'no-such-user'" in done.err


def _is_free(port: int) -> bool:
    try:
        with socket.create_server(("127.0.0.1", port)):
            return True
    except OSError:
        return False


class TestControl:
    @pytest.fixture
    def control(self, shop: Shop, begin: Begin) -> Path:
        drop(shop)
        begin(shop.write(BOX))
        eventually(lambda: shop.maildir)
        (path,) = (shop.home / "state/mailflow/run").iterdir()
        return path

    def test_the_socket_is_the_users_alone(self, control: Path) -> None:
        assert control.stat().st_mode & 0o777 == 0o600
        assert control.parent.stat().st_mode & 0o777 == 0o700

    @pytest.mark.parametrize(
        "request_",
        [b"", b"\n", b"{", b"[]\n", b"7\n", b'{"do": "nonsense"}\n', b'{"do": ["x"]}\n',
         b"x" * 100_000, b'{"do": "poke"}\n', b"\xff\xfe\n"],
    )  # fmt: skip
    def test_whatever_is_sent_harms_nobody(
        self, shop: Shop, control: Path, request_: bytes, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.chdir(control.parent)  # its whole path may be too long for an address
        with socket.socket(socket.AF_UNIX) as sock:
            sock.connect(control.name)
            try:
                sock.sendall(request_)
                sock.shutdown(socket.SHUT_WR)
                assert b'"ok"' not in sock.recv(1000)
            except (BrokenPipeError, ConnectionResetError):
                pass
        assert told(shop)["state"] == "running"

    @pytest.mark.skipif(os.geteuid() != 0, reason="only root can be another user")
    def test_another_user_is_not_answered_even_where_the_socket_is_open(
        self, shop: Shop, control: Path
    ) -> None:
        control.chmod(0o666)
        for path in (control.parent, *control.parent.parents):
            if path.stat().st_uid == 0 and path != Path("/"):
                path.chmod(path.stat().st_mode | 0o055)
        script = (
            "import socket, sys; s = socket.socket(socket.AF_UNIX); s.connect(sys.argv[1]);"
            's.sendall(b\'{"do": "status"}\\n\'); print(len(s.recv(10)))'
        )
        done = subprocess.run(
            ["/usr/bin/python3", "-c", script, control.name], user="nobody", capture_output=True,
            text=True, timeout=30, cwd=control.parent,
        )  # fmt: skip
        assert "PermissionError" not in done.stderr
        assert done.stdout == "0\n" or "ConnectionResetError" in done.stderr

    def test_a_directory_of_somebody_else_is_not_used(
        self, shop: Shop, begin: Begin, tmp_path: Path
    ) -> None:
        if os.geteuid() != 0:
            pytest.skip("only root can make one")
        session = tmp_path / "session"
        (session / "mailflow").mkdir(parents=True)
        os.chown(session / "mailflow", 65534, 65534)
        drop(shop)
        begin(shop.write(BOX), env={"XDG_RUNTIME_DIR": str(session)})
        eventually(lambda: shop.maildir)
        assert not list((session / "mailflow").iterdir())
        assert list((shop.home / "state/mailflow/run").iterdir())

    def test_the_directory_of_the_session_comes_first(
        self, shop: Shop, begin: Begin, tmp_path: Path
    ) -> None:
        session = tmp_path / "session"
        session.mkdir()
        env = {"XDG_RUNTIME_DIR": str(session)}
        drop(shop)
        begin(shop.write(BOX), env=env)
        eventually(lambda: shop.maildir)
        assert list((session / "mailflow").iterdir())
        found = json.loads(shop("status", "--json", env=env).out)
        assert len(found["installations"]) == 1

    def test_a_path_too_long_for_a_socket_is_reached_all_the_same(
        self, shop: Shop, begin: Begin
    ) -> None:
        env = {"XDG_STATE_HOME": str(shop.home / ("long" * 30))}
        drop(shop)
        begin(shop.write(BOX), env=env)
        eventually(lambda: shop.maildir)
        found = json.loads(shop("status", "--json", env=env).out)
        assert len(found["installations"]) == 1

    def test_the_socket_of_a_process_that_was_killed_is_no_installation(
        self, shop: Shop, begin: Begin
    ) -> None:
        drop(shop)
        serving = begin(shop.write(BOX))
        eventually(lambda: shop.maildir)
        serving.child.kill()
        serving.child.wait()
        assert list((shop.home / "state/mailflow/run").iterdir())
        assert json.loads(shop("status", "--json").out)["installations"] == []
        assert shop("reload").status == 75


def test_the_public_door_serves_what_a_program_describes(tmp_path: Path, shop: Shop) -> None:
    """mailflow.serve, in a thread, with a halt of the program's own."""
    drop(shop)
    script = f"""
import threading
from pathlib import Path
import mailflow
from mailflow.halt import Halt
halt = Halt()
home = Path({str(shop.home)!r})
pipeline = {{
    "pipeline": {{"name": "mine", "journal": str(home / "j.db")}},
    "fetch": [{{"use": "maildir", "path": str(home / "in")}}],
    "distribute": [{{"use": "maildir", "path": str(home / "Maildir")}}],
}}
thread = threading.Thread(target=mailflow.serve, args=(pipeline,), kwargs={{"halt": halt}})
thread.start()
while not list(home.glob("Maildir/new/*")):
    halt.wait(0.02)
halt.set()
thread.join()
"""
    done = subprocess.run(
        [sys.executable, "-c", script], env=shop.environment(), timeout=60, check=False
    )
    assert done.returncode == 0
    assert len(shop.maildir) == 1
