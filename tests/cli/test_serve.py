"""`mailflow serve` as a process: it fetches, delivers and serves until it is told to end."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from ..engine.standing import eventually
from . import parrot
from .command import CANARY, Shop
from .serving import BOX, DROP, SERVE, Begin, another, drop, sources, told


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
        sources(shop)
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
        sources(shop)
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
