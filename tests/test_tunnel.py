"""A connection through a program, and that nothing of it is left behind."""

from __future__ import annotations

import os
import sys
import time

import pytest

from mailflow.errors import ConfigError, UnavailableError
from mailflow.halt import Halt
from mailflow.secrets import secret
from mailflow.tunnel import Tunnel


@pytest.fixture
def halt():
    halt = Halt()
    yield halt
    halt.close()


@pytest.fixture
def through(halt):
    """A Tunnel through a program, closed at the end."""
    made = []

    def make(*words, timeout=5.0):
        made.append(Tunnel.through(words, peer="pop.example.org", timeout=timeout, halt=halt))
        return made[-1]

    yield make
    for wire in made:
        if not wire._complaints.closed:
            wire.close()


def alive(number):
    """Whether a process runs; one that nobody has waited for yet does not."""
    try:
        with open(f"/proc/{number}/stat") as file:
            return file.read().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


def gone(number):
    deadline = time.monotonic() + 5
    while alive(number) and time.monotonic() < deadline:
        time.sleep(0.01)
    return not alive(number)


def shell(text):
    return ("sh", "-c", text)


def test_what_is_written_goes_in_and_what_it_prints_comes_out(through):
    wire = through("cat")
    wire.write(b"CAPA\r\n")
    assert wire.read() == b"CAPA\r\n"


def test_a_megabyte_each_way_does_not_dead_lock(through):
    wire = through("cat")
    wire.write(b"x" * 1_000_000)
    got = 0
    while got < 1_000_000:
        got += len(wire.read())
    assert got == 1_000_000


def test_errors_name_the_server_and_the_program(through):
    assert through("cat").peer == "pop.example.org through cat"


def test_the_end_of_a_program_in_order_is_the_end_of_the_connection(through):
    wire = through("sh", "-c", "echo bye")
    assert wire.read() == b"bye\n"
    assert wire.read() == b""


def test_why_a_program_has_failed_is_told_in_its_own_words(through):
    wire = through(*shell("echo warning >&2; echo no route to gateway >&2; exit 255"))
    with pytest.raises(UnavailableError) as caught:
        wire.read()
    assert str(caught.value) == (
        "the connection to pop.example.org through sh is lost:"
        " sh exits with status 255 (no route to gateway)"
    )


def test_what_a_program_complains_of_is_fit_for_a_terminal(through):
    wire = through(*shell(r"printf 'a\033[2Jb\n' >&2; exit 1"))
    with pytest.raises(UnavailableError) as caught:
        wire.read()
    assert r"(a\x1b[2Jb)" in str(caught.value)


def test_a_program_that_was_killed_is_told_as_that(through):
    with pytest.raises(UnavailableError, match="sh was ended by signal 9"):
        through(*shell("kill -9 $$")).read()


def test_a_program_that_is_not_there_is_a_fault_of_the_file(through):
    with pytest.raises(ConfigError, match="cannot run /no/such/program: No such file"):
        through("/no/such/program")


def test_a_silent_program_is_given_up_in_time(through):
    wire = through("sh", "-c", "echo asking the agent >&2; exec sleep 60", timeout=0.3)
    with pytest.raises(UnavailableError, match="keeps silent: no answer in time: asking the agent"):
        wire.read()


def test_closing_ends_the_program_and_all_that_it_started(through, monkeypatch):
    monkeypatch.setattr("mailflow.tunnel.MERCY", 0.1)
    wire = through(*shell("trap '' TERM; sleep 60 & echo $!; wait; wait"))
    child = int(wire.read())
    wire.close()
    assert gone(child)
    assert wire._process.returncode is not None


def test_closing_lets_a_program_end_in_order(through, tmp_path):
    wire = through(*shell(f"cat >{tmp_path}/heard; echo done >{tmp_path}/end"))
    wire.write(b"QUIT\r\n")
    wire.flush()
    wire.close()
    assert (tmp_path / "heard").read_bytes() == b"QUIT\r\n"
    assert (tmp_path / "end").read_text() == "done\n"


def test_a_halt_ends_the_wait_and_the_program(through, halt):
    wire = through("sleep", "60")
    halt.set()
    with pytest.raises(UnavailableError, match="stopped on request"):
        wire.read()
    began = time.monotonic()
    wire.close()
    assert time.monotonic() - began < 0.9
    assert gone(wire._process.pid)


def test_nothing_starts_after_a_halt(through, halt):
    halt.set()
    with pytest.raises(UnavailableError, match="stopped on request"):
        through("cat")


def test_c02_a_secret_of_our_environment_is_not_handed_on(through, monkeypatch):
    monkeypatch.setenv("POP_PASSWORD", "canary")
    secret({"env": "POP_PASSWORD"}, ".")
    assert b"canary" not in through(sys.executable, "-c", "import os; print(os.environ)").read()


def test_no_descriptor_is_left(through):
    before = os.listdir("/proc/self/fd")
    through("cat").close()
    assert os.listdir("/proc/self/fd") == before
