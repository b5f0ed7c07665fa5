"""The units that we ship: systemd finds nothing wrong with them, and they hold what they say."""

from __future__ import annotations

import os
import poplib
import re
import shutil
import socket
import subprocess
from pathlib import Path

import pytest

from ..cli.command import CANARY, COMMAND, Shop
from ..engine.standing import eventually

UNITS = Path(__file__).parents[2] / "packaging" / "systemd"
ALL = sorted(path.name for path in UNITS.iterdir() if path.suffix != ".sysusers" and path.is_file())
SERVICES = [name for name in ALL if name.endswith(".service")]

pytestmark = pytest.mark.interop("systemd")


@pytest.fixture
def units(tmp_path: Path) -> Path:
    """The units, with the program where this one is."""
    for path in [*UNITS.iterdir(), *(UNITS / "user").iterdir()]:
        if path.is_file():
            target = tmp_path / "units" / path.relative_to(UNITS)
            target.parent.mkdir(parents=True, exist_ok=True)
            text = path.read_text()
            target.write_text(re.sub(r"(/usr/local|%h/mailflow)/bin/mailflow", COMMAND, text))
    return tmp_path / "units"


def verify(unit: Path, *words: str) -> str:
    """What systemd finds wrong with a unit."""
    environment = {**os.environ, "XDG_RUNTIME_DIR": str(unit.parent)}
    done = subprocess.run(
        ["systemd-analyze", *words, "verify", "--man=no", "--recursive-errors=no", str(unit)],
        capture_output=True, text=True, timeout=60, env=environment, check=False,
    )  # fmt: skip
    said = done.stdout + done.stderr
    assert done.returncode == 0 or said
    return said


@pytest.mark.parametrize("name", ALL)
def test_pwm_25_systemd_finds_nothing_wrong_with_a_unit(units: Path, name: str) -> None:
    assert verify(units / name) == ""


def test_pwm_25_nor_with_that_of_a_user(units: Path) -> None:
    assert verify(units / "user" / "mailflow.service", "--user") == ""


def test_the_line_that_makes_its_user_does() -> None:
    """A relative path would be looked for among the configuration of systemd."""
    root = UNITS.parents[1]
    for place in (UNITS / "mailflow.service", root / "docs" / "serve.rst"):
        (line,) = re.findall(r"systemd-sysusers .*", place.read_text())
        dry = line.replace("systemd-sysusers", "systemd-sysusers --dry-run")
        done = subprocess.run(
            ["/bin/sh", "-c", dry], cwd=root, capture_output=True, text=True, check=False
        )
        assert done.returncode == 0, done.stderr
        assert "Failed to open" not in done.stderr


def test_pwm_25_how_windows_starts_it_is_documented() -> None:
    text = (UNITS.parents[1] / "docs" / "serve.rst").read_text()
    section = text.partition("On Windows\n----------")[2].partition("\n---")[0]
    assert "schtasks /Create" in section
    assert "systemd=true" in section


def test_what_is_wrong_would_be_found(units: Path) -> None:
    unit = units / "mailflow.service"
    unit.write_text(unit.read_text().replace("WatchdogSec", "WatchdgSec"))
    assert "WatchdgSec" in verify(unit)


@pytest.mark.parametrize("name", SERVICES)
def test_a_service_is_exposed_as_little_as_its_work_allows(units: Path, name: str) -> None:
    done = subprocess.run(
        ["systemd-analyze", "security", "--offline=true", "--threshold=20", "--no-pager",
         str(units / name)],
        capture_output=True, text=True, timeout=60, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout


@pytest.mark.parametrize("name", [*SERVICES, "user/mailflow.service"])
def test_every_command_line_of_a_unit_is_one_that_mailflow_takes(
    units: Path, shop: Shop, name: str
) -> None:
    lines = re.findall(r"^Exec\w+=\S+ (.*)$", (units / name).read_text(), re.MULTILINE)
    assert lines
    for line in lines:
        words = [word for word in line.split() if word.endswith(".toml") or word == "home"]
        command = [word for word in line.split() if word not in words]
        assert shop(*command, "--help").status == 0


def test_the_timer_and_the_socket_start_a_unit_that_is_there() -> None:
    assert "Service=mailflow.service" in (UNITS / "mailflow.socket").read_text()
    assert (UNITS / "mailflow-run@.timer").stem == (UNITS / "mailflow-run@.service").stem


@pytest.fixture
def shop(tmp_path: Path) -> Shop:
    return Shop(tmp_path)


GATEWAY = """
[maildrop.ann]
use = "pop3.probe"
secret = {secret}
[[serve]]
use = "pop3"
listen = ["systemd:pop3"]
"""


def test_a_socket_that_systemd_has_bound_is_taken_over(shop: Shop) -> None:
    """By the program that systemd ships to try just that."""
    with socket.create_server(("127.0.0.1", 0)) as sock:
        port = sock.getsockname()[1]
    activate = shutil.which("systemd-socket-activate")
    assert activate is not None
    file = shop.write(GATEWAY, secret=shop.secret())
    words = [activate, "-l", f"127.0.0.1:{port}", "--fdname=pop3"]
    words += [f"-E{name}={value}" for name, value in shop.environment().items()]
    with subprocess.Popen(
        [*words, COMMAND, "serve", file], env=shop.environment(), stderr=subprocess.PIPE
    ) as child:
        try:
            client = eventually(lambda: _connected(port), "the socket")
            client.user("ann")
            assert client.pass_(CANARY).startswith(b"+OK")
            client.quit()
        finally:
            child.terminate()
        assert child.wait(30) == 0


def _connected(port: int) -> poplib.POP3 | None:
    try:
        return poplib.POP3("127.0.0.1", port, timeout=20)
    except OSError:
        return None


def test_a_credential_that_systemd_has_loaded_is_private_enough(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is root's, 0440: the group's bit is the mask of a list that names the service's user."""
    from mailflow.secrets import secret

    path = tmp_path / "credentials" / "work"
    path.parent.mkdir()
    path.write_text("wonderland\n")
    path.chmod(0o440)
    with pytest.raises(Exception, match="can be read by others"):
        secret({"file": str(path)}, ".").reveal()
    monkeypatch.setenv("CREDENTIALS_DIRECTORY", str(path.parent))
    assert secret({"file": str(path)}, ".").reveal() == "wonderland"
    path.chmod(0o444)
    with pytest.raises(Exception, match="can be read by others"):
        secret({"file": str(path)}, ".").reveal()
    outside = tmp_path / "work"
    outside.write_text("x\n")
    outside.chmod(0o440)
    with pytest.raises(Exception, match="can be read by others"):
        secret({"file": str(outside)}, ".").reveal()
