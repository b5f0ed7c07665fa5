"""Hostile clients: they get what the RFC says or the door, and nobody else notices."""

from __future__ import annotations

import json
import os
import select
import socket
import statistics
import threading
import time
from contextlib import suppress
from pathlib import Path

import pytest

from mailflow.accounts import Account, Accounts, Pace
from mailflow.log import configure, get_logger
from mailflow.testing.gateway import Gateway, plain

from .apart import Apart
from .dialogue import Dialogue
from .memory import Memory
from .ours import AT_ONCE, Component

MAIL = b"Subject: one\r\n\r\nbody\r\n"
PATIENCE = 30


def eventually(holds, what: str) -> None:
    deadline = time.monotonic() + PATIENCE
    while not holds():
        assert time.monotonic() < deadline, what
        time.sleep(0.02)  # another process: nothing tells


def test_g01_ten_thousand_who_say_one_octet_now_and_then_keep_nobody_out():
    """They cost little, are cut when their time to log in is over, and meanwhile others work."""
    count = 9_900
    with Apart(options={"login_timeout": "8s"}) as apart:
        before, files = apart.resident(), apart.descriptors()
        slow = []
        for _ in range(count):
            sock = apart.connect()
            sock.send(b"U")
            slow.append(sock)
        other = Dialogue(apart.connect())
        assert other.log_in("user0", "sesame").ok
        assert other.stat()[0] == 1
        eventually(lambda: apart.descriptors() >= min(count, files + count // 2), "taken")
        assert apart.resident() - before < 20_000 * count
        eventually(lambda: apart.descriptors() <= files + 2, "they are not cut")
        assert other.ask("RETR 1").ok
        assert other.quit().ok
        for sock in slow:
            sock.close()


def test_g02_a_flood_of_connections_meets_the_limit_and_leaves_nothing():
    with Apart(accounts=400, options={"connections": 450}) as apart:
        files = apart.descriptors()
        idle = []
        for number in range(400):
            dialogue = Dialogue(apart.connect())
            assert dialogue.log_in(f"user{number}", "sesame").ok
            idle.append(dialogue)
        greetings = []
        flood = [Dialogue(apart.connect()) for _ in range(200)]
        greetings = [each.greeting[:4] for each in flood]
        assert greetings.count(b"+OK ") == 50
        assert greetings.count(b"-ERR") == 150
        assert all(each.say("NOOP").ok for each in idle)
        for each in [*flood, *idle]:
            each.drop()
        eventually(lambda: apart.descriptors() <= files + 1, "descriptors are not returned")
        assert Dialogue(apart.connect()).log_in("user0", "sesame").ok


def test_g03_a_wrong_password_is_answered_late_and_others_meanwhile(gateway):
    running = gateway(MAIL, pace=Pace(first=3.0, most=3.0))
    guessing = running.connect()
    assert guessing.say("USER ann").ok
    guessing.send(b"PASS wrong\r\n")
    other = running.enter()
    assert other.retrieve(1) == MAIL
    assert other.quit().ok
    ready, _, _ = select.select([guessing.sock], [], [], 0)
    assert not ready, "the answer came before another's whole session"
    assert guessing.status().code == "AUTH"


def test_g03_guesses_in_one_packet_wait_for_each_other(gateway):
    running = gateway(MAIL, pace=Pace(first=0.3, most=10.0))
    dialogue = running.connect()
    start = time.monotonic()
    dialogue.send(b"USER ann\r\nPASS wrong\r\n" * 4)
    codes = [dialogue.status().code for _ in range(8)]
    assert codes == ["", "AUTH"] * 4
    assert time.monotonic() - start >= 4 * 0.3


def test_g03_who_is_guessed_at_may_still_log_in_and_the_log_tells_of_each_guess(gateway):
    running = gateway(MAIL, pace=Pace(first=0.001, most=0.001, account=3))
    running.enter().quit()  # this address is known from now on
    for _ in range(30):
        running.connect().log_in("ann", "guess")
    assert running.connect().log_in(*running.drop).ok
    told = [line for line in running.logged() if "login failed from 127.0.0.1" in line]
    assert len(told) == 30
    assert not any("guess" in line.replace("guessed", "") for line in told)


def test_g04_a_line_of_a_gigabyte_takes_no_memory_and_no_turn_of_others():
    with Apart() as apart:
        dialogue, other = Dialogue(apart.connect()), Dialogue(apart.connect())
        piece = b"x" * (1 << 20)
        with Memory(apart.pid) as memory:
            for number in range(1 << 10):
                dialogue.send(piece)
                if number % 100 == 0:
                    assert other.alive()
            dialogue.send(b"\r\n")
            assert not dialogue.status().ok
        assert memory.grown < 4 << 20
        assert dialogue.alive()


def test_g04_a_million_empty_lines_end_after_ten(gateway):
    dialogue = gateway(MAIL).connect()
    with suppress(BrokenPipeError, ConnectionResetError):
        dialogue.send(b"\r\n" * 1_000_000)
    assert dialogue.rest().count(b"-ERR") <= 10


def test_g04_a_million_noops_take_no_memory_and_leave_others_their_turn():
    count, lump = 1_000_000, b"NOOP\r\n" * 1000
    with Apart(accounts=2) as apart:
        busy, other = Dialogue(apart.connect()), Dialogue(apart.connect())
        assert busy.log_in("user0", "sesame").ok
        assert other.log_in("user1", "sesame").ok

        def write():
            for _ in range(count // 1000):
                busy.send(lump)
            busy.send(b"QUIT\r\n")

        writer = threading.Thread(target=write)
        with Memory(apart.pid) as memory:
            writer.start()
            served = answers = 0
            while data := busy.sock.recv(1 << 16):
                answers += data.count(b"\n")
                if answers > served * 100_000:
                    assert other.say("NOOP").ok
                    served += 1
            writer.join()
        assert answers == count + 1
        assert served >= 10
        assert memory.grown < 4 << 20


NAMES = [
    "../../x", "/", ".", "..", "", "a/b", "a\\b", "%s%n", "{}", "{login}", "{0.__class__}", "$(id)",
    "`id`", "~root", "ann/", "/ann", "./ann", "ann/../ann", "ann ", " ann", "ann\t", "*", "?nn",
    "[a]nn", "a*", "Ann", "ANN", "\u0430nn", "\uff41\uff4e\uff4e", "ann\u200b", "ann@",
    "@ann", "a" * 200,
]  # fmt: skip


@pytest.mark.parametrize("name", NAMES)
def test_g05_a_login_name_is_looked_up_and_nothing_else(gateway, name):
    running = gateway(MAIL)
    dialogue = running.connect()
    assert not dialogue.log_in(name, "sesame").ok
    assert running.shelf.entered == []
    assert dialogue.alive()


@pytest.mark.parametrize("name", [b"\0", b"ann\0", b"a" * 4096, b"ann\rPASS sesame"])
def test_g05_what_cannot_be_a_name_is_refused(gateway, name):
    running = gateway(MAIL)
    dialogue = running.connect()
    assert not dialogue.say(b"USER " + name).ok
    assert not dialogue.say("PASS sesame").ok
    assert running.shelf.entered == []


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("create", [False, True], ids=["existing", "created"])
def test_118_a_login_name_leads_nowhere_but_to_its_own_maildir(tmp_path, name, create):
    """Where every name is let in, and stands in the path."""
    base = tmp_path / "mail"
    for folder in ("tmp", "new", "cur"):
        (base / "ann" / folder).mkdir(parents=True)
    outside = files_of(tmp_path, but=base)
    make = Component(tmp_path)
    drop = make("maildrop", "maildir", path=f"{base}/{{login}}", create=create)
    with Gateway([]) as gateway:
        everybody = Account("*", drop, secret=plain("sesame"))
        gateway.service_host.accounts = Accounts([everybody], pace=AT_ONCE, log=gateway.log)
        dialogue = Dialogue(socket.create_connection(("127.0.0.1", gateway.port), PATIENCE))
        if dialogue.log_in(name, "sesame").ok:
            dialogue.quit()
    assert files_of(tmp_path, but=base) == outside
    assert {path.name for path in base.iterdir()} <= {"ann", name}


def files_of(place: Path, but: Path) -> set[Path]:
    return {path for path in place.rglob("*") if but not in (path, *path.parents)}


@pytest.mark.parametrize("what", ["symlink", "dangling", "fifo", "device", "socket", "directory"])
def test_g06_what_is_no_file_of_its_own_is_not_followed(maildir, what, tmp_path):
    secret = tmp_path / "secret"
    secret.write_bytes(b"Subject: canary-91d0\r\n\r\nsecret\r\n")
    drop = maildir.fill(MAIL, MAIL)
    place = maildir.maildir(drop) / "new" / "1600000000.bad.test"
    if what == "symlink":
        place.symlink_to(secret)
    elif what == "dangling":
        place.symlink_to(tmp_path / "nothing")
    elif what == "fifo":
        os.mkfifo(place)
    elif what == "device":
        if os.geteuid() != 0:
            pytest.skip("needs root: mknod")
        os.mknod(place, 0o600 | 0o020000, os.makedev(1, 5))  # /dev/zero
    elif what == "socket":
        sock = socket.socket(socket.AF_UNIX)
        sock.bind(os.path.relpath(place))
        sock.close()
    else:
        place.mkdir()
    dialogue = maildir.enter(drop)
    got = []
    for number in dialogue.listing():
        answer = dialogue.ask(f"RETR {number}")
        got.append(answer.octets if answer.ok else None)
    assert [octets for octets in got if octets is not None] == [MAIL, MAIL]
    assert dialogue.quit().ok


def test_g07_a_nest_of_parts_and_a_million_fields_are_octets_like_others(gateway):
    """Nothing here reads MIME."""
    nest = b"".join(
        b'Content-Type: multipart/mixed; boundary="%d"\r\n\r\n--%d\r\n' % (n, n)
        for n in range(10_000)
    )
    fields = b"".join(b"X-%d: y\r\n" % n for n in range(1_000_000)) + b"\r\nbody\r\n"
    wide = b"Subject: " + "ü".encode() * 500_000 + b"\r\n" + fields
    boundaries = b"Subject: b\r\n\r\n" + b"--b\r\n" * 2_000_000
    running = gateway(nest, fields, boundaries, wide, MAIL)
    dialogue = running.connect()
    assert dialogue.say("UTF8").ok
    assert dialogue.log_in(*running.drop).ok
    for number, octets in enumerate((nest, fields, boundaries, wide), 1):
        assert dialogue.retrieve(number) == octets
    assert dialogue.ask("TOP 2 0").octets == fields[: -len(b"body\r\n")]
    dialogue.quit()
    plain_client = running.enter()
    sizes = plain_client.listing()
    answer = plain_client.ask("RETR 4")
    assert not answer.ok or len(answer.octets) == int(sizes[4])
    assert plain_client.retrieve(5) == MAIL


@pytest.mark.parametrize("as_json", [False, True], ids=["text", "json"])
def test_g08_a_line_of_the_log_is_one_line_whatever_a_client_says(gateway, capsys, as_json):
    configure(level="debug", json=as_json)
    running = gateway(MAIL, log=get_logger())
    accounts = [Account("ann", running.shelf, secret=plain("sesame"))]
    running.gateway.service_host.accounts = Accounts(accounts, pace=AT_ONCE, log=get_logger())
    capsys.readouterr()
    for evil in ("x\u2028[error] forged", "x\u202e", "x\x1b[2J", '"}\t{"level"', "x\x85y\x0b"):
        dialogue = running.connect()
        dialogue.log_in(evil, "canary-51aa")
        dialogue.say(f"RETR {evil}")
        dialogue.drop()
    running.gateway.stop()
    lines = capsys.readouterr().err.split("\n")[:-1]
    assert len(lines) >= 15
    for line in lines:
        assert line.isprintable(), ascii(line)
        assert "canary" not in line
        if as_json:
            assert isinstance(json.loads(line), dict)


def test_g09_an_unknown_user_and_a_wrong_password_take_the_same_time(gateway):
    """The means of many tries differ by less than they vary: by four standard errors."""
    running = gateway(MAIL)
    dialogue = running.connect()
    times: dict[str, list[float]] = {"ann": [], "eve": []}
    for number in range(3000):
        for login in ("ann", "eve") if number % 2 else ("eve", "ann"):
            dialogue.say(f"USER {login}")
            start = time.perf_counter()
            assert dialogue.say("PASS wrong").code == "AUTH"
            times[login].append(time.perf_counter() - start)
    trimmed = {name: sorted(each)[: len(each) * 3 // 4] for name, each in times.items()}
    means = [statistics.mean(each) for each in trimmed.values()]
    error = sum(statistics.variance(each) / len(each) for each in trimmed.values()) ** 0.5
    assert abs(means[0] - means[1]) < max(4 * error, 5e-6)
