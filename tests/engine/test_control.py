"""The control socket: who is answered, who is believed, and what is no installation."""

from __future__ import annotations

import os
import socket
import subprocess
import tempfile
import threading
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest

from mailflow.engine import control
from mailflow.engine.control import Control, NotRunningError, ask, running
from mailflow.errors import ConfigError, MailflowError, UnavailableError

from .standing import eventually


@pytest.fixture
def directory(tmp_path: Path, home: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where the sockets of this test are."""
    monkeypatch.setattr(control, "SYSTEM", str(tmp_path / "system"))
    path = tmp_path / "r"
    path.mkdir(mode=0o700)
    monkeypatch.setenv("RUNTIME_DIRECTORY", str(path))
    return path


@pytest.fixture
def listening(directory: Path) -> Iterator[Control]:
    def answer(request: Mapping[str, Any]) -> object:
        if request["do"] == "refuse":
            raise ConfigError("there is no such thing")
        if request["do"] == "break":
            raise ZeroDivisionError
        return [request["do"]]

    made = Control(answer)
    made.start()
    yield made
    made.close()


def test_an_answer_is_what_was_given(listening: Control) -> None:
    assert running() == [listening.path]
    assert ask(listening.path, {"do": "x" * 50_000}) == ["x" * 50_000]


def test_a_refusal_is_raised_with_its_exit_status(listening: Control) -> None:
    with pytest.raises(MailflowError, match="there is no such thing") as raised:
        ask(listening.path, {"do": "refuse"})
    assert raised.value.exit_code == 78


def test_a_fault_of_ours_is_told_and_the_next_is_answered(listening: Control) -> None:
    with pytest.raises(MailflowError, match="internal error: ZeroDivisionError"):
        ask(listening.path, {"do": "break"})
    assert ask(listening.path, {"do": "x"}) == ["x"]


def test_many_ask_at_once_and_some_say_nothing(listening: Control) -> None:
    silent = []
    for _ in range(control.AT_ONCE - 1):
        client = socket.socket(socket.AF_UNIX)
        client.connect(listening.path)
        silent.append(client)
    assert ask(listening.path, {"do": "x"}) == ["x"]
    for client in silent:
        client.close()


def test_an_answer_that_takes_too_long_is_not_taken_for_nobody(
    directory: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    gate = threading.Event()
    slow = Control(lambda request: gate.wait(20))
    slow.start()
    monkeypatch.setattr(control, "ANSWER", 0.05)
    with pytest.raises(UnavailableError, match="still at it") as raised:
        ask(slow.path, {"do": "reload"})
    assert not isinstance(raised.value, NotRunningError)
    gate.set()
    slow.close()


def test_a_socket_that_nobody_answers_is_nobody(listening: Control) -> None:
    listening.close()
    Path(listening.path).touch()
    with pytest.raises(NotRunningError):
        ask(listening.path, {"do": "x"})


def test_what_dead_processes_have_left_is_swept_and_the_living_stay(directory: Path) -> None:
    child = subprocess.Popen(["/bin/true"])
    child.wait()
    dead, living = directory / f"{child.pid}.control", directory / f"{os.getppid()}.control"
    other = directory / "notes.txt"
    for path in (dead, living, other):
        path.touch()
    Control(lambda request: None).close()
    assert not dead.exists()
    assert living.exists()
    assert other.exists()


def test_a_directory_that_is_open_to_others_is_closed_to_them(directory: Path) -> None:
    directory.chmod(0o755)
    Control(lambda request: None).close()
    assert directory.stat().st_mode & 0o777 == 0o700


def test_a_link_in_place_of_the_directory_is_not_followed(directory: Path, tmp_path: Path) -> None:
    directory.rename(tmp_path / "elsewhere")
    directory.symlink_to(tmp_path / "elsewhere")
    made = Control(lambda request: None)
    assert not list((tmp_path / "elsewhere").iterdir())
    assert Path(made.path).parent != directory
    made.close()


root = pytest.mark.skipif(os.geteuid() != 0, reason="only root can be another user")


@root
def test_another_user_who_listens_is_not_believed() -> None:
    place = Path(tempfile.mkdtemp())  # one that any user can reach
    place.chmod(0o777)
    script = (
        "import socket; s = socket.socket(socket.AF_UNIX); s.bind('1.control'); s.listen();"
        'c, _ = s.accept(); c.recv(100); c.sendall(b\'{"ok": "trust me"}\\n\')'
    )
    child = subprocess.Popen(["/usr/bin/python3", "-c", script], cwd=place, user="nobody")
    try:
        eventually((place / "1.control").exists)
        with pytest.raises(UnavailableError, match="another user than its owner"):
            eventually(lambda: _asked(str(place / "1.control")))
    finally:
        child.kill()
        child.wait()
        (place / "1.control").unlink()
        place.rmdir()


def _asked(path: str) -> Any:
    """Its answer, once it listens."""
    try:
        return ask(path, {"do": "status"})
    except NotRunningError:
        return None


@root
def test_root_finds_the_machines_own_and_another_user_does_not(
    directory: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    system = tmp_path / "system"
    system.mkdir(mode=0o700)
    os.chown(system, 65534, 65534)
    (system / "7.control").touch()
    assert running() == [str(system / "7.control")]
    monkeypatch.setattr(os, "geteuid", lambda: 4711)
    assert running() == []
