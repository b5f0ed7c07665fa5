"""`mailflow serve` and who speaks to it: reload, poke, status, the manager, listeners."""

from __future__ import annotations

import json
import re
import signal
import socket
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from mailflow.testing.serving import free_ports

from ..engine.standing import eventually
from . import parrot
from .command import CANARY, MAIL, Shop
from .serving import BOX, DROP, SERVE, Begin, another, drop, sources, told


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
        other = free_ports(1)[0]
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
        sources(shop)
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
port = {free_ports(1)[0]}
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
    eventually(lambda: events.exists() and "service.failed" in events.read_text())
    assert shop("reload").status == 0
    serving.end()
    told = dict(json.loads(line) for line in events.read_text().splitlines())
    assert list(told) == ["serve.started", "service.failed", "serve.reloaded", "serve.ended"]
    assert told["service.failed"]["error"] == "parrot: ValueError: a bug"
