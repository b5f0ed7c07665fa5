"""What every test may rely on: a home of its own, and real servers or the reason why not.

Rule of the file: no test reads or writes a file of the user who runs it, and a
test that needs a program says so with `@pytest.mark.interop("postfix", ...)`,
naming packages of tests/debian-packages.txt, or cyrus-imapd (tests/unpack-cyrus.sh).
"""

from __future__ import annotations

import os
import random
import tracemalloc
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import settings

from mailflow.log import _State
from mailflow.testing.cyrus import BINARY

settings.register_profile("mailflow", deadline=None, derandomize="CI" in os.environ)
settings.load_profile("mailflow")

FOREIGN = (
    "EXTENSION", "LOCAL", "MAIL", "NETRC", "ORIGINAL_RECIPIENT", "RECIPIENT", "SENDER",
    "XDG_CACHE_HOME", "XDG_CONFIG_DIRS", "XDG_CONFIG_HOME", "XDG_DATA_HOME", "XDG_RUNTIME_DIR",
    "XDG_STATE_HOME",
    "CREDENTIALS_DIRECTORY", "NOTIFY_SOCKET", "RUNTIME_DIRECTORY", "WATCHDOG_USEC",
)  # fmt: skip
"""What mailflow or a library reads from the environment, and no test inherits."""


# One seed for the random kills and cuts of a run, in whatever process they are drawn.
os.environ.setdefault("MAILFLOW_SEED", str(random.SystemRandom().randrange(1, 1 << 32)))


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    seed = os.environ["MAILFLOW_SEED"]
    terminalreporter.write_line(f"MAILFLOW_SEED={seed} draws the same kills and cuts again")


@pytest.fixture(scope="session", autouse=True)
def _isolated(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """No test meets the home or the environment of whoever runs it."""
    with pytest.MonkeyPatch.context() as patch:
        for name in FOREIGN:
            patch.delenv(name, raising=False)
        home = tmp_path_factory.mktemp("home")
        patch.setenv("HOME", str(home))
        patch.setenv("XDG_STATE_HOME", str(home / ".local" / "state"))  # root's is /var/lib
        yield


@pytest.fixture(autouse=True)
def _forgetful(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """What one test makes the log mask, or how much it lets it say, is not the next one's; nor
    is its memory traced where this one has failed, which would be ten times as slow."""
    for name in ("level", "json", "logger", "secrets", "pattern"):
        monkeypatch.setattr(_State, name, getattr(_State, name))
    yield
    tracemalloc.stop()


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty home directory, in $HOME."""
    directory = tmp_path / "home"
    directory.mkdir(mode=0o700)
    monkeypatch.setenv("HOME", str(directory))
    monkeypatch.setenv("XDG_STATE_HOME", str(directory / ".local" / "state"))
    return directory


def packages() -> dict[str, Path]:
    """The Debian packages the tests know, each with the program that shows it is there."""
    text = (Path(__file__).parent / "debian-packages.txt").read_text()
    lines = (line.partition("#")[0].split() for line in text.splitlines())
    return {line[0]: Path(line[1]) for line in lines if line} | {"cyrus-imapd": Path(BINARY)}


def pytest_runtest_setup(item: pytest.Item) -> None:
    """A missing server fails the test where `make test` should have installed it."""
    needed = {name for mark in item.iter_markers("interop") for name in mark.args}
    if not needed:
        return
    known = packages()
    if unknown := needed - known.keys():
        pytest.fail(f"not in tests/debian-packages.txt: {' '.join(sorted(unknown))}")
    missing = sorted(name for name in needed if not os.access(known[name], os.X_OK))
    if not missing:
        return
    reason = f"not installed: {' '.join(missing)}"
    if os.environ.get("CI") == "true" or os.geteuid() == 0:
        pytest.fail(f"{reason} (`make test` installs it)")
    pytest.skip(f"{reason} (`make test` says how to have it)")
