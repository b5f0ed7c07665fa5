"""The gateway as a process: killed, cut from its power, told to end, to read anew, to be less."""

from __future__ import annotations

import os
import pwd
import shutil
import signal
import socket
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

import pytest

from mailflow.testing import power
from mailflow.testing.serving import Serving, environment, free_ports

from ...cli.serving import is_open, open_python
from .dialogue import EndedError
from .servers import Drop, MaildirServer

MAIL = b"Subject: one\r\n\r\nbody\r\n"
DROP = Drop("ann", "sesame")

FILE = """\
[pipeline]
journal = "{home}/journal.db"

[maildrop.ann]
use = "maildir"
path = "{home}/Maildir"
secret = {{ env = "SECRET" }}

[[serve]]
use = "pop3"
listen = ["127.0.0.1:{port}"]
"""


class Served(MaildirServer):
    """`mailflow serve` with one Maildir, in a process of its own."""

    name = "process"

    def __init__(self, home: Path, *, port: int = 0, arguments: Sequence[str] = ()) -> None:
        self.home = home
        self._maildir = home / "Maildir"
        for folder in ("tmp", "new", "cur"):
            (self._maildir / folder).mkdir(parents=True, exist_ok=True)
        self.port = port or free_ports(1)[0]
        file = home / "home.toml"
        file.write_text(FILE.format(home=home, port=self.port))
        facts = {"SECRET": DROP.password, "RUNTIME_DIRECTORY": str(home / "run")}
        self.process = Serving(file, arguments=arguments, environ=environment(home) | facts)

    def fill(self, *messages: bytes, password: str = DROP.password) -> Drop:
        assert password == DROP.password, "there is one maildrop, as the file has it"
        for message in messages:
            self.deliver(DROP, message)
        return DROP

    def maildir(self, drop: Drop) -> Path:
        return self._maildir


@pytest.fixture
def served(tmp_path):
    """One with three messages, running."""
    served = Served(tmp_path / "home")
    served.fill(*(MAIL + b"%d\r\n" % number for number in range(3)))
    with served.process:
        yield served


def test_057_a_killed_server_leaves_no_lock(served):
    dialogue = served.enter(DROP)
    before = dialogue.listing("UIDL")
    dialogue.say("DELE 1")
    served.process.kill()
    assert dialogue.closes()
    served.process.start()
    after = served.connect()
    assert after.log_in(*DROP).ok, "the first try: nothing stale is waited for"
    assert after.listing("UIDL") == before


def test_g10_a_server_that_is_killed_in_mid_retr_has_sent_no_end(served):
    served.deliver(DROP, b"Subject: large\r\n\r\n" + (b"x" * 76 + b"\r\n") * 400_000)
    dialogue = served.enter(DROP)
    dialogue.say("DELE 1")
    dialogue.send(b"RETR 4\r\nQUIT\r\n")
    assert dialogue.status().ok
    served.process.kill()
    assert b"\r\n.\r\n" not in dialogue.rest()
    served.process.start()
    assert served.enter(DROP).stat()[0] == 4


@pytest.mark.parametrize("answered", [False, True], ids=["before-the-answer", "after-it"])
def test_g10_a_server_that_is_killed_in_mid_quit_has_removed_all_or_nothing(served, answered):
    dialogue = served.enter(DROP)
    dialogue.send(b"DELE 1\r\nDELE 2\r\nQUIT\r\n")
    if answered:
        assert [dialogue.status().ok for _ in range(3)] == [True] * 3
    served.process.kill()
    served.process.start()
    after = served.enter(DROP)
    left = after.stat()[0]
    assert left == 1 if answered else left in (1, 3)
    assert after.retrieve(left) == MAIL + b"2\r\n"


def test_115_sigterm_ends_in_order(served):
    idle, busy = served.enter(DROP), served.connect()
    idle.say("DELE 1")
    assert served.process.stop() == 0
    assert idle.closes()
    assert busy.closes()
    assert served.left(DROP) == 3


def test_116_sighup_keeps_sessions(served):
    dialogue = served.enter(DROP)
    dialogue.say("DELE 1")
    os.kill(served.process.pid, signal.SIGHUP)
    for _ in range(3):
        other = served.connect()
        assert other.log_in(*DROP).code == "IN-USE"
        other.drop()
    assert dialogue.retrieve(2) == MAIL + b"1\r\n"
    assert dialogue.quit().ok
    assert served.left(DROP) == 2


@pytest.mark.skipif(os.geteuid() != 0, reason="needs root: there is nothing to give up")
def test_117_what_listens_at_a_port_of_root_s_serves_as_somebody_else(monkeypatch):
    if (python := open_python()) is None:
        pytest.skip("there is no Python, or no mailflow, but root's own")
    monkeypatch.setattr(sys, "executable", python)
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join(filter(is_open, filter(None, sys.path))))
    nobody = pwd.getpwnam("nobody")
    home = Path(tempfile.mkdtemp(prefix="mailflow-117-"))  # a test's own is closed to others
    try:
        served = Served(home, port=low_port(), arguments=["--user", "nobody"])
        served.fill(MAIL)
        (home / "run").mkdir(mode=0o700)
        for path in (home, *home.rglob("*")):
            os.chown(path, nobody.pw_uid, nobody.pw_gid)
        with served.process:
            dialogue = served.enter(DROP)
            assert dialogue.retrieve(1) == MAIL
            status = Path(f"/proc/{served.process.pid}/status").read_text()
            ids = dict(line.split(":", 1) for line in status.splitlines() if ":" in line)
            assert set(ids["Uid"].split()) == {str(nobody.pw_uid)}
            assert set(ids["Gid"].split()) == {str(nobody.pw_gid)}
            assert "0" not in ids["Groups"].split()
            assert int(ids["CapEff"], 16) == 0
    finally:
        shutil.rmtree(home)


def low_port() -> int:
    """A port below 1024 that nobody listens at."""
    for port in range(1023, 600, -1):
        try:
            with socket.create_server(("127.0.0.1", port)):
                return port
        except OSError:
            continue
    raise AssertionError("no port below 1024 is free")


@pytest.mark.crash
@pytest.mark.skipif(bool(power.obstacle()), reason=power.obstacle() or "can be done")
@pytest.mark.parametrize("kind", ["ext4", "xfs"])
def test_086_what_quit_said_is_removed_is_not_back_after_a_power_cut(tmp_path, kind):
    with power.Disk(tmp_path / "disk", kind) as disk:
        served = Served(disk.path / "home")
        served.fill(*(MAIL + b"%d\r\n" % number for number in range(5)))
        os.sync()
        with served.process:
            before = served.enter(DROP)
            names = before.listing("UIDL")
            before.say("DELE 2")
            before.say("DELE 4")
            assert before.say("QUIT").ok
            disk.off()
            served.process.kill()
            disk.on()
            served.process.start()
            after = served.enter(DROP)
            assert list(after.listing("UIDL").values()) == [names[1], names[3], names[5]]
            after.quit()


@pytest.mark.crash
@pytest.mark.skipif(bool(power.obstacle()), reason=power.obstacle() or "can be done")
def test_086_a_power_cut_before_quit_is_answered_leaves_all_or_nothing(tmp_path):
    with power.Disk(tmp_path / "disk") as disk:
        served = Served(disk.path / "home")
        served.fill(*(MAIL + b"%d\r\n" % number for number in range(40)))
        os.sync()
        with served.process:
            dialogue = served.enter(DROP)
            dialogue.send(b"".join(b"DELE %d\r\n" % n for n in range(1, 40)) + b"QUIT\r\n")
            answered = True
            try:
                for _ in range(39):
                    dialogue.status()
                disk.off()
                answered = dialogue.status().ok
            except EndedError:
                answered = False
            served.process.kill()
            disk.on()
            served.process.start()
            after = served.enter(DROP)
            assert after.stat()[0] in ((1,) if answered else (1, 40))
            after.quit()
