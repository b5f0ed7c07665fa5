"""What others on the machine may see of a run or slip into it: processes, remains, modules.

Rule of the file: what is looked at is what a stranger could look at, never what we mean it
to be.
"""

from __future__ import annotations

import resource
from collections.abc import Iterator
from pathlib import Path

import pytest

from . import parrot
from .command import CANARY, FETCH, HOOK, MAIL, Shop, pop3
from .serving import SERVE, Begin

LOOK = """
[[process]]
use = "filter.command"
output = "ignore"
command = ["/bin/sh", "-c", "cd /proc; cat $PPID/cmdline $$/cmdline $$/environ > {home}/seen"]
"""

MOANS = """
from mailflow import Options, UnavailableError, hookimpl

class Moans:
    options = Options
    source = "moans"
    mark = ""

    def __init__(self, options, runtime):
        pass

    def __enter__(self):
        raise UnavailableError("it says \\x1b[2J and \\u202e")

    def __exit__(self, *_):
        pass

    listing = heads = retrieve = settle = __exit__

@hookimpl
def mailflow_register(register):
    register.fetcher(Moans)
"""


@pytest.fixture
def cores() -> Iterator[None]:
    """Whoever starts us is given core files as large as may be."""
    soft, hard = resource.getrlimit(resource.RLIMIT_CORE)
    if hard == 0:
        pytest.skip("this machine allows no core files")
    resource.setrlimit(resource.RLIMIT_CORE, (hard, hard))
    yield
    resource.setrlimit(resource.RLIMIT_CORE, (soft, hard))


@pytest.mark.parametrize("words", [["hook"], ["-v", "hook"]], ids=["at once", "by click"])
def test_c02_a_crash_leaves_no_core_file(shop: Shop, cores: None, words: list[str]) -> None:
    ask = 'command = ["/bin/sh", "-c", "ulimit -c > {home}/core.limit"]\n'
    file = shop.write(HOOK + '[[distribute]]\nuse = "command"\n' + ask)
    assert shop(*words, file, stdin=MAIL).status == 0
    assert (shop.home / "core.limit").read_text() == "0\n"


@pytest.mark.skipif(not Path("/proc/self/environ").exists(), reason="needs /proc")
def test_c02_no_list_of_processes_shows_a_secret(shop: Shop) -> None:
    """Neither ours nor that of a program we start, while the password is in use."""
    with pop3(MAIL.replace(b"\n", b"\r\n")) as server:
        file = shop.write(FETCH + LOOK, port=server.port, secret='{ env = "POP3_PASSWORD" }')
        assert shop("run", file, env={"POP3_PASSWORD": CANARY}).status == 0
    seen = (shop.home / "seen").read_bytes()
    assert b"mailflow\0run\0" in seen
    assert b"MAILFLOW_ID=" in seen
    assert CANARY.encode() not in seen
    assert shop.maildir == [MAIL]


@pytest.mark.parametrize("words", [["run", "--dry-run"], ["run"]])
def test_g08_what_a_server_says_moves_no_cursor(shop: Shop, words: list[str]) -> None:
    shop.plugin("moans", MOANS)
    file = shop.write('[[fetch]]\nuse = "moans"\n[[distribute]]\nuse = "maildir"\npath = "x"\n')
    done = shop(*words, file)
    assert done.status == 75
    assert "it says \\x1b[2J and \\u202e" in done.err
    assert not set(done.out + done.err) & set("\x1b\u202e")


@pytest.fixture
def planted(shop: Shop) -> Path:
    """Modules in the directory where commands are started; what one of them makes if it is run."""
    taken = shop.home / "taken"
    for name in (
        "mailflow",
        "mailflow_stdin",
        "mailflow_parrot",
        "resource",
        "signal",
        "structlog",
    ):
        (shop.home / f"{name}.py").write_text(f"open({str(taken)!r}, 'a').write(__name__)\n")
    return taken


def test_a_command_imports_nothing_that_lies_where_it_is_started(shop: Shop, planted: Path) -> None:
    assert shop("-vv", "hook", shop.write(HOOK), stdin=MAIL).status == 0
    assert not planted.exists()


def test_nor_does_a_worker(shop: Shop, planted: Path, begin: Begin, port: int) -> None:
    begin(shop.write(SERVE + "workers = 1", port=port))
    assert parrot.ask(port, "uid").isdigit()
    assert not planted.exists()
